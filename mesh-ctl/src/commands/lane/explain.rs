//! `mesh-ctl lane explain`: what the entry decides about a request given by method, URL and headers, which instances serve it
//! at each service, and which are passed over: by discovery's word, or by that of a connected proxy.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

const PATH: &str = "/api/v1/explain";

/// Explains a request.
///
/// # Errors
/// When the controller cannot be reached or knows no such service.
pub(super) async fn run(controller: &Controller, explain: &args::Explain) -> Result<Exit, Failure> {
    let headers: BTreeMap<&str, &str> =
        explain.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let question = json!({
        "method": explain.method,
        "url": explain.url.to_string(),
        "headers": headers,
        "entry": explain.entry,
        "chain": explain.chain,
        "sourceIp": explain.source_ip,
        "identity": explain.identity,
        "zone": explain.zone,
        "from": if explain.outside { "outside" } else { "mesh" },
    });
    let answer = controller.send(PATH, question.to_string().into_bytes()).await?;
    let whole: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        StatusCode::OK => (),
        StatusCode::BAD_REQUEST => {
            let said = whole["error"].as_str().unwrap_or("no reason given").to_owned();
            return Err(Failure::plain(said)
                .advise("write http://SERVICE.NAMESPACE/PATH, or give --entry; `mesh-ctl get services` lists them"));
        }
        _ => return Err(controller.refused(PATH, &answer)),
    }
    let text = match output::structured(&whole, explain.output)? {
        Some(text) => text,
        None => described(&whole),
    };
    output::print(&text);
    let hops = whole["services"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(if hops.iter().any(is_refused) { Exit::NotWell } else { Exit::Well })
}

fn is_refused(hop: &Value) -> bool {
    matches!(hop["reason"].as_str(), Some("lane_missing" | "lane_unhealthy"))
}

fn described(whole: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let request = &whole["request"];
    let label = match &whole["label"] {
        Value::Null => "no label".to_owned(),
        label => format!("label {} ({})", text(&label["value"]), text(&label["source"])),
    };
    let hops = whole["services"].as_array().into_iter().flatten();
    let zones: String = hops.clone().filter_map(zones).collect();
    let aside: String = hops.clone().flat_map(aside).collect();
    format!(
        "{} {} enters at {}\nentry: {}\ngoes on with {label}\n\n{}{zones}{aside}health: reported by {} connected proxies; not known: \
         {}\n",
        text(&request["method"]),
        text(&request["url"]),
        text(&request["entry"]),
        text(&whole["entry"]["reason"]),
        output::lines(&output::table(
            &["SERVICE", "SERVED BY", "REASON", "INSTANCES", "LEVELS LOOKED AT"],
            hops.map(row)
        )),
        whole["health"]["reportingProxies"],
        text(&whole["health"]["notKnown"]),
    )
}

/// A line for the zones of a hop, where the caller's was given.
fn zones(hop: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let zone = |share: &Value| format!("{} {} % ({})", text(&share["zone"]), share["percent"], text(&share["reason"]));
    let shares: Vec<String> = hop["zones"].as_array()?.iter().map(zone).collect();
    Some(format!("zones of {}: {}\n", text(&hop["service"]), shares.join(", ")))
}

/// A line for each instance of a hop that is passed over.
fn aside(hop: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let reason = |reason: &Value| match texts(&reason["reportedBy"]).as_str() {
        "" => text(&reason["reason"]),
        by => format!("{} (says {by})", text(&reason["reason"])),
    };
    let line = |one: &Value| {
        let reasons: Vec<String> = one["reasons"].as_array().into_iter().flatten().map(reason).collect();
        format!("passed over: {} of {}: {}\n", text(&one["address"]), text(&hop["service"]), reasons.join(", "))
    };
    hop["aside"].as_array().into_iter().flatten().map(line).collect()
}

fn row(hop: &Value) -> Vec<Text> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let instances: Vec<String> = hop["instances"].as_array().into_iter().flatten().map(text).collect();
    let step = |step: &Value| {
        let (level, verdict) = (text(&step["level"]), text(&step["verdict"]));
        format!("{level} {verdict} ({}/{})", step["usable"], step["members"])
    };
    let steps: Vec<String> = hop["lookedAt"].as_array().into_iter().flatten().map(step).collect();
    let served = text(&hop["servedBy"]);
    let served = if is_refused(hop) { format!("nobody: 503, {served}") } else { served };
    let tone = if instances.is_empty() { Tone::Bad } else { Tone::Good };
    vec![
        plain(text(&hop["service"])),
        (served, tone),
        plain(text(&hop["reason"])),
        plain(instances.join(",")),
        plain(steps.join(", then ")),
    ]
}
