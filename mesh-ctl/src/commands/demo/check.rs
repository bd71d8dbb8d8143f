//! The fixed scenario of `demo --check`: named checks in a row, each with what it saw.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{
    answers::{self, Wish, walk},
    changes,
    guard::Stop,
    mesh::{CONTROLLER, Mesh},
    strangers,
    streams::{EventStream, WebSocket},
    topology::{LANE, Place},
    traffic::{Traffic, as_wished},
};
use crate::output::{self, Text, Tone, plain};

/// Requests of a check that wants every one answered.
const REQUESTS: usize = 50;
/// Requests while the controller is gone.
const REQUESTS_ALONE: usize = 200;
/// Configuration changes under open streams.
const CHANGES: usize = 100;

/// What the checks found.
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    outcome: Result<String, String>,
    took: Duration,
}

impl Report {
    /// Nothing found yet.
    pub(crate) fn new() -> Report {
        Report { rows: Vec::new() }
    }

    /// Notes the outcome of a check that began at `began`.
    pub(crate) fn note(&mut self, name: &'static str, began: Instant, outcome: anyhow::Result<String>) {
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        self.rows.push(Row { name, outcome, took: began.elapsed() });
    }

    /// Whether every check passed.
    pub(crate) fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.outcome.is_ok())
    }

    /// The table of checks.
    pub(crate) fn table(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let (verdict, detail): (Text, &str) = match &row.outcome {
                Ok(detail) => (("pass".to_owned(), Tone::Good), detail),
                Err(why) => (("FAIL".to_owned(), Tone::Bad), why),
            };
            let took = format!("{:.1} s", row.took.as_secs_f64());
            vec![verdict, plain(row.name), plain(took), plain(detail)]
        });
        output::lines(&output::table(&["", "CHECK", "TIME", "DETAIL"], rows))
    }
}

/// Runs every check in order; one that fails does not keep the next from running.
pub(crate) async fn run(mesh: &mut Mesh, report: &mut Report) {
    macro_rules! check {
        ($name:literal, $check:expr) => {
            output::progress($name);
            let began = Instant::now();
            let outcome = $check.await;
            report.note($name, began, outcome);
        };
    }
    check!("plain requests are served by baseline everywhere", plain_requests(mesh));
    check!("x-mesh-lane: canary is served by canary at b and d, baseline at a and c", lane_requests(mesh));
    check!("every hop sees its caller's mesh identity", identities(mesh));
    check!("caller without mesh identity is refused: plaintext", strangers::plaintext(mesh));
    check!("caller without mesh identity is refused: TLS without certificate", strangers::without_certificate(mesh));
    check!("WebSocket and event stream stay open across 100 changes, traffic goes on", changes_under_streams(mesh));
    check!("controller killed: traffic goes on", without_controller(mesh));
    check!("sidecar restarted without controller serves from its snapshot", restart_alone(mesh));
    check!("restarted sidecar still refuses strangers", strangers::plaintext(mesh));
}

async fn plain_requests(mesh: &Mesh) -> anyhow::Result<String> {
    for number in 1..=REQUESTS {
        let visits = walk(mesh.topology.entry(), Wish::Plain).await.with_context(|| format!("request {number}"))?;
        ensure!(as_wished(Wish::Plain, &visits), "request {number} went {}", path(&visits));
    }
    Ok(format!("{REQUESTS} of {REQUESTS}: a b c d all baseline"))
}

async fn lane_requests(mesh: &Mesh) -> anyhow::Result<String> {
    for number in 1..=REQUESTS {
        let visits = walk(mesh.topology.entry(), Wish::Lane).await.with_context(|| format!("request {number}"))?;
        ensure!(as_wished(Wish::Lane, &visits), "request {number} went {}", path(&visits));
        let label = visits.last().and_then(|visit| visit.lane.clone()).unwrap_or_default();
        ensure!(label.rsplit('/').next() == Some(LANE), "request {number}: d got the label {label:?}");
    }
    Ok(format!("{REQUESTS} of {REQUESTS}; the label {LANE} is still there at d"))
}

async fn identities(mesh: &Mesh) -> anyhow::Result<String> {
    let mut expected = "gateway";
    let visits = walk(mesh.topology.entry(), Wish::Lane).await?;
    for visit in &visits {
        let peer = visit.peer.as_deref().unwrap_or_default();
        let named = peer.starts_with(&format!("{expected}.")) || peer.ends_with(&format!("/sa/{expected}"));
        ensure!(named, "{} was told that {peer:?} called it, and {expected} did", visit.service);
        expected = &visit.service;
    }
    Ok("gateway to a, a to b, b to c, c to d".to_owned())
}

async fn changes_under_streams(mesh: &mut Mesh) -> anyhow::Result<String> {
    let entry = mesh.topology.entry();
    let mut socket = WebSocket::open(entry, "d").await.context("WebSocket")?;
    let mut events = EventStream::open(entry, "d").await.context("event stream")?;
    socket.echo("before").await.context("WebSocket before the changes")?;
    let before = events.next().await.context("event stream before the changes")?;
    let traffic = Traffic::start(entry);
    for number in 1..=CHANGES {
        changes::apply(mesh, number).await.with_context(|| format!("change {number} of {CHANGES}"))?;
        if number % 10 == 0 {
            socket.echo(&number.to_string()).await.with_context(|| format!("WebSocket after change {number}"))?;
            events.next().await.with_context(|| format!("event stream after change {number}"))?;
        }
    }
    let after = events.next().await.context("event stream after the changes")?;
    socket.echo("after").await.context("WebSocket after the changes")?;
    socket.close().await.context("WebSocket at its end")?;
    let seen = traffic.seen();
    let why = seen.last_failure.unwrap_or_default();
    ensure!(seen.failed == 0, "{} of {} requests failed: {why}", seen.failed, seen.failed + seen.answered);
    ensure!(seen.astray == 0, "{} requests were served by a wrong instance", seen.astray);
    let proxies = mesh.topology.pods.len();
    Ok(format!(
        "{CHANGES} changes in force at {proxies} proxies each; {} events, {} requests, 0 failed",
        after - before,
        seen.answered
    ))
}

async fn without_controller(mesh: &mut Mesh) -> anyhow::Result<String> {
    mesh.processes.stop(&[CONTROLLER.to_owned()], Stop::Kill).await?;
    mixed(mesh, REQUESTS_ALONE).await?;
    Ok(format!("{REQUESTS_ALONE} requests, 0 failed"))
}

async fn restart_alone(mesh: &mut Mesh) -> anyhow::Result<String> {
    for name in ["c", "d-canary"] {
        let pod = &mesh.topology.pod(name)?.clone();
        mesh.processes.stop(&[pod.proxy()], Stop::Kill).await?;
        mesh.start_proxy(pod).await?;
        mesh.proxy_ready(pod).await?;
    }
    mixed(mesh, REQUESTS).await?;
    Ok(format!("sidecars of c and d-canary killed and started; then {REQUESTS} requests, 0 failed"))
}

async fn mixed(mesh: &Mesh, requests: usize) -> anyhow::Result<()> {
    for number in 1..=requests {
        let wish = if number % 2 == 0 { Wish::Plain } else { Wish::Lane };
        let visits = walk(mesh.topology.entry(), wish).await.with_context(|| format!("request {number}"))?;
        ensure!(as_wished(wish, &visits), "request {number} went {}", path(&visits));
    }
    Ok(())
}

fn path(visits: &[answers::Visit]) -> String {
    visits.iter().map(|visit| format!("{}/{}", visit.service, visit.version)).collect::<Vec<_>>().join(" → ")
}

/// Whether connections to an application's own port are captured in this place.
pub(crate) fn captured(place: Place) -> bool {
    match place {
        Place::Loopback => false,
        Place::Namespaces => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_passes_only_when_every_check_did() {
        let mut report = Report::new();
        assert!(!report.passed());
        report.note("first", Instant::now(), Ok("seen".to_owned()));
        assert!(report.passed());
        report.note("second", Instant::now(), Err(anyhow::anyhow!("went wrong")));
        assert!(!report.passed());
        let table = report.table();
        assert!(
            table.contains("pass  first") && table.contains("FAIL  second") && table.contains("went wrong"),
            "{table}"
        );
    }
}
