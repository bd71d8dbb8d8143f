//! The live table: one row per instance, from what its sidecar counts and what applications answer.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal as _, stdout},
    time::Duration,
};

use futures_util::future::join_all;
use http::StatusCode;
use mesh_core::identity::Identity;
use tokio::time::{Instant, timeout};

use super::{
    scrape::Times,
    topology::{Pod, Topology},
    traffic::Seen,
};
use crate::{
    cluster,
    output::{self, Text, Tone, plain},
};

/// Most of a failure that is shown, characters: the line must not wrap, or drawing over it goes wrong.
const FAILURE_WIDTH: usize = 64;
/// Longest wait for one proxy's figures.
const SCRAPE_WAIT: Duration = Duration::from_millis(800);

/// The table, redrawn in place on a terminal.
pub(crate) struct View {
    topology: Topology,
    terminal: bool,
    drawn: usize,
    earlier: BTreeMap<String, Times>,
    at: Instant,
}

impl View {
    /// An empty view.
    pub(crate) fn new(topology: Topology) -> View {
        View { topology, terminal: stdout().is_terminal(), drawn: 0, earlier: BTreeMap::new(), at: Instant::now() }
    }

    /// Asks every proxy and draws.
    pub(crate) async fn refresh(&mut self, seen: &Seen) {
        let figures = join_all(self.topology.pods.iter().map(|pod| scrape(&self.topology, pod))).await;
        let elapsed = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        let rows: Vec<Vec<Text>> = (self.topology.pods)
            .iter()
            .zip(figures)
            .map(|(pod, times)| {
                let added = times.as_ref().map(|times| match self.earlier.get(&pod.name) {
                    Some(earlier) => times.since(earlier),
                    None => Times::default(),
                });
                if let Some(times) = times {
                    self.earlier.insert(pod.name.clone(), times);
                }
                row(pod, added.as_ref(), elapsed, seen)
            })
            .collect();
        self.draw(rows, seen);
    }

    fn draw(&mut self, rows: Vec<Vec<Text>>, seen: &Seen) {
        let table = output::table(&["SERVICE", "LANE", "REQ/S", "P50", "P99", "MTLS PEER"], rows);
        let mut text = String::new();
        if self.terminal && self.drawn > 0 {
            // Back to the first line of the last drawing, and clear from there.
            write!(text, "\x1b[{}A\x1b[J", self.drawn).expect("a String takes any text");
        }
        let body = output::lines(&table) + &summary(seen) + "\n";
        self.drawn = body.lines().count();
        output::print(&(text + &body));
    }
}

fn summary(seen: &Seen) -> String {
    let mut line = format!("{} answered, {} failed, {} by a wrong instance", seen.answered, seen.failed, seen.astray);
    if let Some(failure) = &seen.last_failure {
        let short: String = failure.chars().take(FAILURE_WIDTH).collect();
        line.push_str(&format!("\nlast failure: {short}"));
    }
    line + "\n"
}

fn row(pod: &Pod, added: Option<&Times>, elapsed: f64, seen: &Seen) -> Vec<Text> {
    let milliseconds = |share| {
        let time = added.and_then(|times| times.quantile(share));
        plain(time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} ms")))
    };
    let rate = match added {
        Some(times) => plain(format!("{:.0}", times.count / elapsed.max(0.001))),
        None => ("down".to_owned(), Tone::Bad),
    };
    let key = (pod.service.to_owned(), pod.version.clone());
    let peer = match seen.peers.get(&key) {
        Some(peer) => (account(peer), Tone::Good),
        None if pod.has_application() => plain("-"),
        None => plain("(entry, from outside)"),
    };
    vec![plain(pod.service), plain(pod.version.clone()), rate, milliseconds(0.5), milliseconds(0.99), peer]
}

/// Service account and namespace of an identity; the rest is the same for all of a mesh.
fn account(identity: &str) -> String {
    match identity.parse::<Identity>() {
        Ok(identity) => format!("{}.{}", identity.service_account(), identity.namespace()),
        Err(_) => identity.to_owned(),
    }
}

async fn scrape(topology: &Topology, pod: &Pod) -> Option<Times> {
    let answer = timeout(SCRAPE_WAIT, cluster::admin(topology.admin(pod), "/metrics")).await.ok()?.ok()?;
    let direction = if pod.has_application() { "inbound" } else { "outbound" };
    let text = String::from_utf8_lossy(&answer.body);
    (answer.status == StatusCode::OK).then(|| Times::read(&text, direction))
}
