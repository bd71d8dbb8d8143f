//! `mesh-ctl zone`: see which zones serve, move the traffic of one away and back. Everything is asked of the controller.

use http::StatusCode;
use mesh_core::{query, resources::edit::moment};
use serde_json::{Value, json};

use super::validate;
use crate::{
    args::{Zone, ZoneChange},
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format, Text, Tone, plain},
};

const PATH: &str = "/api/v1/zone";

/// Carries out one of the commands.
///
/// # Errors
/// When the controller cannot be reached, or refuses.
pub(crate) async fn run(controller: &Controller, zone: Zone) -> Result<Exit, Failure> {
    match zone {
        Zone::List { service: None, output } => list(controller, output).await,
        Zone::List { service: Some(service), output } => shares(controller, &service, output).await,
        Zone::Drain(change) => send(controller, "drain", &change).await,
        Zone::Restore(change) => send(controller, "restore", &change).await,
    }
}

async fn list(controller: &Controller, format: Format) -> Result<Exit, Failure> {
    let zones = controller.items("zones").await?;
    let text = match output::structured(&json!({ "items": zones }), format)? {
        Some(text) => text,
        None if zones.is_empty() => "no zones: no instance names one\n".to_owned(),
        None => {
            let headings = ["ZONE", "STATE", "SINCE", "SERVICES", "IN TRAFFIC", "SHARE NOW", "REASON"];
            output::lines(&output::table(&headings, zones.iter().map(row)))
        }
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} %"))
}

fn row(zone: &Value) -> Vec<Text> {
    let tone = if zone["state"] == "drained" { Tone::Odd } else { Tone::Good };
    vec![
        plain(text(&zone["zone"])),
        (text(&zone["state"]), tone),
        plain(zone["since"].as_u64().map_or_else(|| "-".to_owned(), moment)),
        plain(zone["services"].to_string()),
        plain(format!("{}/{}", zone["inTraffic"], zone["instances"])),
        plain(percent(&zone["shareNow"])),
        plain(text(&zone["reason"])),
    ]
}

async fn shares(controller: &Controller, service: &str, format: Format) -> Result<Exit, Failure> {
    let query = query::query([("service", service)]);
    let whole = controller.read(&format!("/api/v1/zones/shares?{query}")).await?;
    let items = whole["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = |item: &Value| {
        vec![
            plain(item["port"].to_string()),
            plain(text(&item["from"])),
            plain(text(&item["to"])),
            plain(percent(&item["percent"])),
            plain(text(&item["reason"])),
        ]
    };
    let text = match output::structured(&whole, format)? {
        Some(text) => text,
        None if items.is_empty() => format!("no caller is known to be in a zone, or {service} has no instance\n"),
        None => output::lines(&output::table(
            &["PORT", "CALLERS IN", "SERVED BY", "SHARE", "REASON"],
            items.iter().map(shown),
        )),
    };
    output::print(&text);
    Ok(Exit::Well)
}

async fn send(controller: &Controller, verb: &str, change: &ZoneChange) -> Result<Exit, Failure> {
    let order = json!({ "zone": change.zone, "verb": verb, "reason": change.reason });
    let answer = controller.send(PATH, order.to_string().into_bytes()).await?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        StatusCode::OK => {
            let text = match output::structured(&body, change.output)? {
                Some(text) => text,
                None => {
                    format!("zone {} is {} now; connected proxies are being told\n", change.zone, text(&body["state"]))
                }
            };
            output::print(&text);
            Ok(Exit::Well)
        }
        StatusCode::NOT_FOUND if body["error"].is_string() => {
            Err(Failure::plain(text(&body["error"])).advise("`mesh-ctl zone list` shows what there is"))
        }
        StatusCode::UNPROCESSABLE_ENTITY => {
            for problem in validate::from_answer(&answer.body, "the zone").unwrap_or_default() {
                output::print(&format!("{problem}\n"));
            }
            output::print("the zone stays as it is\n");
            Ok(Exit::NotWell)
        }
        _ => Err(controller.refused(PATH, &answer)),
    }
}
