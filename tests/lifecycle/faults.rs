//! Instances that fail hard while they are called: nothing fails where a retry is allowed, and callers are soon as quick as
//! before. Each failure is made in the network namespace of the instance's pod, where the kernel drops or refuses packets.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use mesh_tests::{
    client::{Connection, LIMIT, Version, full, request},
    netns::Inside,
    programs,
    wait::{PATIENCE, pace, until_true, within},
};
use tokio::{sync::oneshot, task::JoinSet, time::Instant};

use crate::{
    applications::Pace,
    callers::HOST,
    world::{World, pod},
};

/// Instances of the service.
const INSTANCES: usize = 4;
/// Callers at the same time, half of them with HTTP/2.
const CALLERS: usize = 24;
/// How long it is measured what is usual.
const QUIET: Duration = Duration::from_secs(3);
/// Within this time callers are as quick as before …
const RECOVERY: Duration = Duration::from_secs(3);
/// … which is measured for so long.
const AFTERWARDS: Duration = Duration::from_secs(4);
/// As quick: the 99th percentile is at most so many times the usual one.
const AS_QUICK: f64 = 1.2;
/// Port of the sidecar that takes calls.
const INBOUND: u16 = 4_143;

/// These tests measure times: one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[derive(Clone, Debug)]
struct Sample {
    started: Instant,
    took: Duration,
    failure: Option<String>,
}

/// Callers that may be answered by anybody: GET, again and again.
struct Load {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
    _callers: Inside,
}

impl Load {
    fn start(space: &str, to: SocketAddr) -> Load {
        let (samples, stop) = (Arc::<Mutex<Vec<Sample>>>::default(), Arc::new(AtomicBool::new(false)));
        let (taken, stopped, (done, ended)) = (Arc::clone(&samples), Arc::clone(&stop), oneshot::channel());
        let callers = Inside::run(space, move || async move {
            let mut callers = JoinSet::new();
            for number in 0..CALLERS {
                let version = if number % 2 == 0 { Version::Http1 } else { Version::Http2 };
                callers.spawn(call(to, version, Arc::clone(&taken), Arc::clone(&stopped)));
            }
            while let Some(ended) = callers.join_next().await {
                ended.expect("a caller does not panic");
            }
            // Nobody may wait for the end.
            let _ = done.send(());
        });
        Load { samples, stop, ended, _callers: callers }
    }

    fn count(&self) -> usize {
        self.samples.lock().expect("no panic while held").len()
    }

    /// All samples; every request that was begun has ended.
    async fn end(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        within("the end of the callers", 2 * LIMIT, self.ended).await.expect("callers do not panic");
        self.samples.lock().expect("no panic while held").clone()
    }
}

async fn call(to: SocketAddr, version: Version, samples: Arc<Mutex<Vec<Sample>>>, stop: Arc<AtomicBool>) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answered = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(to, version).await?,
            };
            let answer = open.send(request(Method::GET, HOST, "/paced", &[], full(""))).await?;
            anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            connection = Some(open);
            Ok(())
        };
        let failure = answered.await.err().map(|error: anyhow::Error| format!("{error:#}"));
        let sample = Sample { started, took: started.elapsed(), failure };
        samples.lock().expect("no panic while held").push(sample);
    }
}

/// The 99th percentile of those that were begun between these moments.
fn slowest(samples: &[Sample], from: Instant, to: Instant) -> Duration {
    let begun = samples.iter().filter(|sample| sample.started >= from && sample.started < to);
    let mut times: Vec<Duration> = begun.map(|sample| sample.took).collect();
    times.sort();
    assert!(times.len() >= 200, "only {} requests to judge by", times.len());
    times[times.len() * 99 / 100]
}

/// Has the kernel of a pod do this with packets of its inbound port.
fn rules(space: &str, rules: &str) {
    let table = format!("table inet fault {{\n{rules}\n}}");
    let done = Command::new(programs::system("ip")).args(["netns", "exec", space, "nft", &table]).output();
    let done = done.expect("ip can be run");
    assert!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
}

/// What an instance suffers.
enum Fault {
    /// Rules of nftables in its pod.
    Rules(String),
    /// Its application takes so long for each answer.
    Slow(Duration),
    /// Its sidecar is killed.
    Killed,
}

impl Fault {
    fn strike(&self, world: &mut World, instance: usize) {
        match self {
            Fault::Rules(text) => {
                let space = world.mesh.pod(&pod(instance)).namespace.clone().expect("pods have namespaces here");
                rules(&space, text);
            }
            Fault::Slow(length) => world.paces[instance].set(*length),
            Fault::Killed => world.mesh.pod_mut(&pod(instance)).proxy().signal("KILL"),
        }
    }
}

/// One instance fails under load. Returns its part of the requests from [`RECOVERY`] on.
async fn survive(what: &str, fault: Fault) -> f64 {
    let _alone = ALONE.lock().await;
    let mut world = World::start_captured(INSTANCES, &[]).await;
    let caller = world.mesh.pod("a");
    let load = Load::start(caller.namespace.as_deref().expect("pods have namespaces here"), caller.outbound());
    until_true("everybody calls", PATIENCE, || load.count() > 20 * CALLERS).await;
    let begun = Instant::now();
    pace(QUIET).await;
    fault.strike(&mut world, 0);
    let struck = Instant::now();
    pace(RECOVERY).await;
    let (all, at_it) = (load.count(), world.requests(0));
    pace(AFTERWARDS).await;
    let (all, at_it) = (load.count() - all, world.requests(0) - at_it);
    let over = Instant::now();
    let samples = load.end().await;
    let failures: Vec<&Sample> = samples.iter().filter(|sample| sample.failure.is_some()).collect();
    assert!(failures.is_empty(), "{what}: {} of {} failed: {:?}", failures.len(), samples.len(), failures.first());
    let before = slowest(&samples, begun, struck - Pace::ORDINARY);
    let after = slowest(&samples, struck + RECOVERY, over);
    let share = at_it as f64 / all as f64;
    println!("{what}: p99 {before:?} before, {after:?} after, {share:.4} of {all} at it, {} in all", samples.len());
    let limit = before.mul_f64(AS_QUICK);
    assert!(after <= limit, "{what}: {after:?} instead of {limit:?} ({before:?} before)");
    share
}

fn both_ways(verdict: &str) -> String {
    format!(
        "chain into {{ type filter hook input priority -10; tcp dport {INBOUND} {verdict}; }}\n\
         chain from {{ type filter hook output priority -10; tcp sport {INBOUND} {verdict}; }}"
    )
}

#[tokio::test]
async fn instance_that_drops_every_syn_and_has_lost_its_connections_fails_nothing() {
    // What is open is reset, so that everybody must dial.
    let fault = format!(
        "chain into {{ type filter hook input priority -10; tcp dport {INBOUND} tcp flags & (syn | ack) == syn drop; \
         tcp dport {INBOUND} reject with tcp reset; }}"
    );
    survive("SYN dropped", Fault::Rules(fault)).await;
}

#[tokio::test]
async fn instance_whose_open_connections_go_silent_fails_nothing() {
    survive("silence", Fault::Rules(both_ways("drop"))).await;
}

#[tokio::test]
async fn instance_that_takes_two_seconds_gets_less_than_a_tenth() {
    let share = survive("two seconds", Fault::Slow(Duration::from_secs(2))).await;
    assert!(share < 0.1, "{share} of the traffic");
}

#[tokio::test]
async fn instance_that_is_killed_fails_nothing() {
    survive("kill -9", Fault::Killed).await;
}

#[tokio::test]
async fn instance_that_resets_every_connection_fails_nothing() {
    let fault =
        format!("chain into {{ type filter hook input priority -10; tcp dport {INBOUND} reject with tcp reset; }}");
    survive("resets", Fault::Rules(fault)).await;
}
