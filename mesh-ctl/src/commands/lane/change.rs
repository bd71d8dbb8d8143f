//! `mesh-ctl lane set|activate|drain|close|promote|rollback`: one order to the controller, which says how the lane is then.

use http::StatusCode;
use mesh_core::model::lane::LaneRef;
use serde_json::{Map, Value, json};

use super::{stage as stage_of, unknown};
use crate::{
    args,
    cluster::Controller,
    commands::validate,
    exit::{Exit, Failure},
    output::{self, Format},
};

const PATH: &str = "/api/v1/lane";

/// Takes a lane to another stage.
///
/// # Errors
/// When the controller cannot be reached, or the lane's stage does not allow it.
pub(super) async fn stage(controller: &Controller, verb: &str, change: &args::Change) -> Result<Exit, Failure> {
    let order = json!({ "lane": change.lane, "verb": verb, "reason": change.reason });
    send(controller, &change.lane, &order, change.output).await
}

/// Sets single fields of a lane.
///
/// # Errors
/// When nothing is set, or as for [`stage`].
pub(super) async fn set(controller: &Controller, set: &args::Set) -> Result<Exit, Failure> {
    let fields = fields(set)?;
    if fields.is_empty() {
        return Err(Failure::usage("nothing to set").advise("give --percentage, --ramp, --match, --ttl, --state, …"));
    }
    let order = json!({ "lane": set.change.lane, "verb": "set", "reason": set.change.reason, "fields": fields });
    send(controller, &set.change.lane, &order, set.change.output).await
}

fn fields(set: &args::Set) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    let mut share = Map::new();
    if let Some(value) = set.percentage {
        share.insert("value".to_owned(), json!(value));
    }
    if !set.keys.is_empty() {
        share.insert("key".to_owned(), json!(set.keys));
    }
    if !share.is_empty() {
        fields.insert("percentage".to_owned(), Value::Object(share));
    }
    if let Some(ramp) = &set.ramp {
        let curve = if ramp.exponential { "exponential" } else { "linear" };
        let ramp = json!({ "from": ramp.from, "to": ramp.to, "over": ramp.over, "curve": curve });
        fields.insert("ramp".to_owned(), ramp);
    }
    if let Some(rule) = &set.rule {
        let rule: Value = serde_yaml_ng::from_str(rule).map_err(|error| {
            Failure::usage(format!("--match is no YAML: {error}"))
                .advise("for example --match '{any: [{on: header, name: x-beta, operator: present}]}'")
        })?;
        fields.insert("match".to_owned(), rule);
    }
    let single = [
        ("priority", set.priority.map(|priority| json!(priority))),
        ("ttl", set.ttl.as_ref().map(|ttl| json!(ttl))),
        ("state", set.state.map(|state| json!(state.word()))),
    ];
    fields.extend(single.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    fields.extend(set.clear.iter().map(|field| (field.word().to_owned(), Value::Null)));
    Ok(fields)
}

async fn send(controller: &Controller, lane: &LaneRef, order: &Value, format: Format) -> Result<Exit, Failure> {
    let answer = controller.send(PATH, order.to_string().into_bytes()).await?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = || body["error"].as_str().unwrap_or("no reason given").to_owned();
    match answer.status {
        StatusCode::OK => {
            let text = match output::structured(&body, format)? {
                Some(text) => text,
                None => format!("{lane} is {} now; connected proxies are being told\n", stage_of(&body["lane"])),
            };
            output::print(&text);
            Ok(Exit::Well)
        }
        StatusCode::NOT_FOUND if body["error"].is_string() => Err(unknown(lane)),
        StatusCode::CONFLICT => Err(Failure::plain(format!("{lane} stays as it is: {}", said()))
            .advise(format!("`mesh-ctl lane show {lane}` shows its stage and history"))),
        StatusCode::BAD_REQUEST => Err(Failure::usage(format!("{lane} stays as it is: {}", said()))),
        StatusCode::UNPROCESSABLE_ENTITY => {
            for problem in validate::from_answer(&answer.body, "the lane").unwrap_or_default() {
                output::print(&format!("{problem}\n"));
            }
            output::print("the lane stays as it is\n");
            Ok(Exit::NotWell)
        }
        _ => Err(controller.refused(PATH, &answer)),
    }
}
