//! `mesh-ctl lane probe`: one labelled request through a real chain. Its trace id tells proxies that it is a probe; what
//! each saw of it comes from the controller, and shows at which hop the label is lost.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use mesh_core::{lane::probe, model::lane::LaneRef, names};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    args,
    cluster::{self, Controller},
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

/// Largest answer of the application that is read, bytes.
const ANSWER_MAX: usize = 16 << 20;
/// Proxies report at once; what came no later than this after the last report belongs to the probe.
const QUIET: Duration = Duration::from_millis(1_500);
/// How often the controller is asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Sends a probe and says where its label came to.
///
/// # Errors
/// When the sidecar or the controller cannot be reached.
pub(super) async fn run(controller: &Controller, probe: &args::Probe) -> Result<Exit, Failure> {
    let trace = probe::trace(RandomState::new().build_hasher().finish());
    let status = send(probe, &trace).await.map_err(|error| {
        Failure::unreachable(format!("no answer through {}", probe.via), error)
            .advise("--via takes the outbound address of a sidecar, or the address of a gateway")
    })?;
    let seen = seen(controller, &trace, probe.wait).await?;
    let verdict = judge(&probe.lane, &seen, &probe.expect);
    let whole = json!({
        "lane": probe.lane, "url": probe.url.to_string(), "trace": trace, "status": status,
        "well": verdict.is_ok(), "verdict": verdict.as_ref().unwrap_or_else(|lost| lost), "hops": seen,
    });
    let text = match output::structured(&whole, probe.output)? {
        Some(text) => text,
        None => format!(
            "{} answered {status}; trace {trace}\n\n{}\n{}\n",
            probe.url,
            output::lines(&output::table(
                &["POD", "DIRECTION", "SERVICE", "LABEL", "FOUND IN", "SERVED BY", "REASON", "STATUS"],
                seen.iter().map(row)
            )),
            verdict.as_ref().unwrap_or_else(|lost| lost)
        ),
    };
    output::print(&text);
    Ok(if verdict.is_ok() { Exit::Well } else { Exit::NotWell })
}

async fn send(probe: &args::Probe, trace: &str) -> anyhow::Result<u16> {
    let authority = probe.url.authority().context("the URL names no host")?;
    let path = probe.url.path_and_query().map_or("/", |path| path.as_str());
    let span = &trace[trace.len() / 2..];
    let mut request = Request::builder()
        .method("GET")
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(names::LANE_HEADER, probe.lane.to_string())
        .header("traceparent", format!("00-{trace}-{span}-00"))
        .header("b3", format!("{trace}-{span}-0"));
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let (host, port) = (probe.via.ip().to_string(), probe.via.port());
    let answer = timeout(probe.wait, cluster::send(&host, port, request.body(Full::new(Bytes::new()))?, ANSWER_MAX));
    let answer = answer.await.with_context(|| format!("nothing within {} s", probe.wait.as_secs()))??;
    Ok(answer.status.as_u16())
}

/// What proxies saw, in order of time; asked for until nothing more comes.
async fn seen(controller: &Controller, trace: &str, wait: Duration) -> Result<Vec<Value>, Failure> {
    let (begun, mut since, mut seen) = (Instant::now(), Instant::now(), Vec::new());
    while begun.elapsed() < wait && since.elapsed() < QUIET {
        sleep(INTERVAL).await;
        let now = controller.items(&format!("probes/{trace}")).await?;
        if now.len() != seen.len() {
            (since, seen) = (Instant::now(), now);
        }
    }
    seen.sort_by_key(|note| note["start"].as_u64());
    Ok(seen)
}

/// That the label came through, or where it is lost. `expect` are services that the request should visit.
fn judge(lane: &LaneRef, seen: &[Value], expect: &[String]) -> Result<String, String> {
    let text = |note: &Value, field: &str| note[field].as_str().unwrap_or_default().to_owned();
    let labelled = |note: &Value| {
        let label = text(note, "label");
        label == lane.to_string() || label == lane.lane.as_str()
    };
    if seen.is_empty() {
        return Err(
            "no proxy saw the probe: is the address of --via that of a sidecar or gateway which the controller \
                    knows, and does the controller know the proxies (`mesh-ctl proxy status`)?"
                .to_owned(),
        );
    }
    if let Some(lost) = seen.iter().find(|note| !labelled(note)) {
        let (pod, service) = (text(lost, "pod"), text(lost, "service"));
        return Err(match text(lost, "direction").as_str() {
            "outbound" => format!(
                "the label is lost at {pod}: its application calls {service} with the trace id and without the label"
            ),
            _ => format!("the label is lost before {pod}: what reaches its application carries none"),
        });
    }
    let called = |service: &String| {
        seen.iter().any(|note| {
            let name = text(note, "service");
            note["direction"] == "outbound" && (&name == service || name.split('.').next() == Some(service))
        })
    };
    if let Some(missing) = expect.iter().find(|service| !called(service)) {
        let last = seen.iter().rev().find(|note| note["direction"] == "inbound").or(seen.last());
        let pod = last.map(|note| text(note, "pod")).unwrap_or_default();
        return Err(format!(
            "the label is lost at {pod}: its application calls {missing} with neither label nor trace id, or not at all"
        ));
    }
    let by_table = seen.iter().filter(|note| note["source"] == "trace").count();
    let note = if by_table == 0 { String::new() } else { format!(", {by_table} times found by its trace id alone") };
    Ok(format!("the label came through {} hops{note}", seen.len()))
}

fn row(note: &Value) -> Vec<Text> {
    let text = |field: &str| match note[field].as_str() {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    };
    let tone = if note["label"] == "" { Tone::Bad } else { Tone::Good };
    vec![
        plain(text("pod")),
        plain(text("direction")),
        plain(text("service")),
        (text("label"), tone),
        plain(text("source")),
        plain(text("level")),
        plain(text("reason")),
        plain(note["status"].to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(pod: &str, direction: &str, service: &str, label: &str) -> Value {
        json!({"pod": pod, "direction": direction, "service": service, "label": label, "source": "header"})
    }

    fn said(seen: &[Value], expect: &[&str]) -> Result<String, String> {
        let expect: Vec<String> = expect.iter().map(|service| (*service).to_owned()).collect();
        judge(&"shop/canary".parse().unwrap(), seen, &expect)
    }

    #[test]
    fn hop_that_loses_the_label_is_named() {
        let whole = [
            note("client", "outbound", "a.demo", "shop/canary"),
            note("a", "inbound", "8080", "canary"),
            note("a", "outbound", "b.demo", "canary"),
            note("b", "inbound", "8080", "canary"),
        ];
        assert!(said(&whole, &["a", "b.demo"]).unwrap().contains("4 hops"));
        let mut dropped = whole.clone();
        dropped[2] = note("a", "outbound", "b.demo", "");
        dropped[3] = note("b", "inbound", "8080", "");
        assert!(said(&dropped, &[]).unwrap_err().starts_with("the label is lost at a:"));
        assert!(said(&whole[..2], &["a", "b"]).unwrap_err().starts_with("the label is lost at a:"));
        assert!(said(&whole[..2], &[]).is_ok());
        assert!(said(&[], &[]).unwrap_err().contains("no proxy saw"));
    }
}
