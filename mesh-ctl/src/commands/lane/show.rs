//! `mesh-ctl lane list` and `lane show`.

use mesh_core::{model::lane::LaneRef, resources::edit::moment};
use serde_json::{Value, json};

use super::{lanes, stage, unknown};
use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format, Text, Tone, plain},
};

/// Every lane, one line each.
///
/// # Errors
/// When the controller cannot be reached, or there is no such group.
pub(super) async fn list(
    controller: &Controller,
    group: Option<&args::Group>,
    output: Format,
) -> Result<Exit, Failure> {
    let lanes = lanes(controller, group).await?;
    let text = match output::structured(&json!({ "items": whole(&lanes) }), output)? {
        Some(text) => text,
        None if lanes.is_empty() => "no lanes\n".to_owned(),
        None => table(&lanes),
    };
    output::print(&text);
    Ok(Exit::Well)
}

/// Lanes with their group among the fields.
pub(super) fn whole(lanes: &[(String, Value)]) -> Vec<Value> {
    let one = |(group, lane): &(String, Value)| {
        let mut lane = lane.clone();
        lane["group"] = json!(group);
        lane
    };
    lanes.iter().map(one).collect()
}

/// The table of lanes.
pub(super) fn table(lanes: &[(String, Value)]) -> String {
    let headings = ["GROUP", "LANE", "PARENT", "STATE", "SHARE", "IN TRAFFIC", "REQ/S", "ERRORS", "GUARD"];
    output::lines(&output::table(&headings, lanes.iter().map(|(group, lane)| row(group, lane))))
}

fn row(group: &str, lane: &Value) -> Vec<Text> {
    let text = |value: &Value, otherwise: &str| plain(value.as_str().unwrap_or(otherwise));
    let share = lane["shareNow"].as_f64().map_or_else(|| "-".to_owned(), |share| format!("{share:.2} %"));
    let tone = match lane["effectiveState"].as_str() {
        Some("active") => Tone::Good,
        Some("draining") => Tone::Odd,
        _ => Tone::Plain,
    };
    let own = &lane["traffic"]["lane"];
    let rate = own["requestsPerSecond"].as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    vec![
        plain(group),
        text(&lane["name"], "-"),
        text(&lane["parent"], "baseline"),
        (stage(lane), tone),
        plain(share),
        plain(members(lane)),
        plain(rate),
        errors(own),
        plain(lane["verdict"].as_str().unwrap_or(if lane["guard"].is_null() { "-" } else { "not judged" })),
    ]
}

fn errors(own: &Value) -> Text {
    match own["errorRatio"].as_f64() {
        None => plain("-"),
        Some(ratio) => (format!("{:.2} %", ratio * 100.0), if ratio > 0.0 { Tone::Odd } else { Tone::Good }),
    }
}

/// `service in traffic/registered`, by commas.
fn members(lane: &Value) -> String {
    let services = lane["services"].as_array().into_iter().flatten();
    let one = |service: &Value| {
        let registered = service["instances"].as_array().map_or(0, Vec::len);
        format!("{} {}/{registered}", service["service"].as_str().unwrap_or("-"), service["inTraffic"])
    };
    let members: Vec<String> = services.map(one).collect();
    if members.is_empty() { "none".to_owned() } else { members.join(", ") }
}

/// One lane with its rules, history and instances.
///
/// # Errors
/// When the controller cannot be reached, or there is no such lane.
pub(super) async fn one(controller: &Controller, lane: &LaneRef, output: Format) -> Result<Exit, Failure> {
    let all = lanes(controller, None).await?;
    let is_wanted =
        |(group, shown): &&(String, Value)| group == lane.group.as_str() && shown["name"] == lane.lane.as_str();
    let found: Vec<(String, Value)> = all.iter().filter(is_wanted).cloned().collect();
    let shown = whole(&found).pop().ok_or_else(|| unknown(lane))?;
    let text = match output::structured(&shown, output)? {
        Some(text) => text,
        None => described(lane, &shown),
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn described(lane: &LaneRef, shown: &Value) -> String {
    let mut text = format!("{lane}: {}\n", stage(shown));
    let time = |value: &Value| value.as_u64().filter(|moment| *moment > 0).map(moment);
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<14}{value}\n"));
        }
    };
    line("since", time(&shown["stateSince"]));
    line("made", time(&shown["created"]));
    line("ends", time(&shown["ends"]));
    line("parent", Some(shown["parent"].as_str().unwrap_or("baseline").to_owned()));
    line("priority", Some(shown["priority"].to_string()));
    line("match", written(&shown["rule"]));
    line("share now", shown["shareNow"].as_f64().map(|share| format!("{share:.2} %")));
    line("share", written(&shown["share"]));
    line("on missing", shown["onMissing"].as_str().map(str::to_owned));
    let unhealthy = format!("{}, below {} usable", shown["onUnhealthy"].as_str().unwrap_or("-"), shown["minHealthy"]);
    line("on unhealthy", Some(unhealthy));
    line("guard", written(&shown["guard"]));
    line("guard says", shown["verdict"].as_str().map(str::to_owned));
    line("traffic", written(&shown["traffic"]));
    let services = shown["services"].as_array().into_iter().flatten();
    for service in services {
        let instances = service["instances"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let instances = instances.collect::<Vec<_>>().join(", ");
        line("instances", Some(format!("{}: {instances}", service["service"].as_str().unwrap_or("-"))));
    }
    for past in shown["history"].as_array().into_iter().flatten() {
        let until = time(&past["until"]).unwrap_or_default();
        let reason = past["reason"].as_str().unwrap_or_default();
        line("history", Some(format!("{} until {until}: {reason}", past["state"].as_str().unwrap_or("-"))));
    }
    text
}

fn written(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_is_one_line_with_what_time_has_made_of_it() {
        let lane = json!({
            "name": "canary", "parent": null, "state": "draining", "effectiveState": "closed", "shareNow": 12.5,
            "services": [{"service": "b.demo", "instances": ["127.1.0.4:8080", "127.1.0.5:8080"], "inTraffic": 1}],
            "traffic": {"lane": {"requestsPerSecond": 3.25, "errorRatio": 0.5}},
        });
        let text = table(&[("shop".to_owned(), lane)]);
        let line = text.lines().nth(1).unwrap();
        for part in ["shop", "baseline", "draining, closed by time", "12.50 %", "b.demo 1/2", "3.2", "50.00 %"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}
