//! Changes of a lane's stage under load: nothing fails, every hop of a request sees the same label, each hop is served on
//! the level that the label means in that stage, and every proxy has the change in less than a second: as it says, and as
//! the instances see it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_tests::{
    length,
    wait::{PATIENCE, until},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    chain::{Chain, LABEL, PODS},
    link::{Behaviour, Forward, Idle},
    stages::change,
    words::Protocol,
};

/// Proxies that are connected: those of the chain, its client's, and more that call b.
const PROXIES: usize = 50;
/// Requests through the chain per second, of all clients together.
const RATE: u32 = 500;
/// Clients of the load, each with a connection of its own.
const CLIENTS: u32 = 20;
/// Requests of each other proxy per second.
const WATCH_RATE: u32 = 4;
/// How fast a change must be known everywhere.
const LIMIT: Duration = Duration::from_secs(1);

/// Stage of the lane, as far as it matters to who serves.
const LANE: usize = 0;
const MOVING: usize = 1;
const PROMOTED: usize = 2;

/// Pods beside the chain's, without application: they call.
fn watchers() -> Vec<String> {
    (PODS.len() + 1..PROXIES).map(|number| format!("watcher{number}")).collect()
}

async fn start() -> Chain {
    let watchers = watchers();
    let pods: Vec<&str> = PODS.into_iter().chain(watchers.iter().map(String::as_str)).collect();
    let mut chain = Chain::with_lanes(&pods, "", &[("canary", "")], &[]).await;
    // One request hands on the header, the next baggage, the next its trace context.
    let forward = |path: &str| match path.bytes().last() {
        Some(b'h') => Forward::Header,
        Some(b'b') => Forward::Baggage,
        Some(_) | None => Forward::TraceParent,
    };
    chain.links(&PODS, Behaviour::Now, Arc::new(forward)).await;
    chain.ready().await;
    chain
}

/// What every client of the load knows and says.
#[derive(Clone, Default)]
struct Book {
    stage: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    watched: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
    /// Beginnings of requests without label that an instance of the lane served.
    by_lane: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
}

impl Book {
    /// Takes in an answer `a[label] b[label] …` to a request that began at `began` in the stage `before`.
    fn take(&self, (began, before): (Instant, usize), labelled: bool, answer: anyhow::Result<String>) {
        let after = self.stage.load(Ordering::SeqCst);
        let stage = if before == after { before } else { MOVING };
        let found = match answer {
            Ok(answer) => {
                if !labelled && answer.contains("-canary[") {
                    self.by_lane.lock().expect("no panic while held").push(began);
                }
                crossed(&answer.replace("shop/canary", "canary"), labelled, stage)
            }
            Err(error) => Some(format!("{error:#}")),
        };
        self.wrong.lock().expect("no panic while held").extend(found);
    }

    fn begin(&self) -> (Instant, usize) {
        (Instant::now(), self.stage.load(Ordering::SeqCst))
    }

    async fn more(&self, counter: &AtomicUsize, requests: usize) {
        let wanted = counter.load(Ordering::Relaxed) + requests;
        until(&format!("{requests} more requests"), PATIENCE, || async {
            (counter.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Requests without label that began after `moment` and were served by an instance of the lane.
    fn by_lane_since(&self, moment: Instant) -> usize {
        self.by_lane.lock().expect("no panic while held").iter().filter(|began| **began >= moment).count()
    }

    /// How long after `moment` the last request without label began that an instance of the lane served.
    fn by_lane_until(&self, moment: Instant) -> Duration {
        let served = self.by_lane.lock().expect("no panic while held");
        served.iter().map(|began| began.saturating_duration_since(moment)).max().unwrap_or_default()
    }
}

/// The load, and what was wrong with its answers.
struct Load {
    book: Book,
    clients: JoinSet<()>,
}

impl Load {
    fn start(chain: &Chain) -> Load {
        let mut load = Load { book: Book::default(), clients: JoinSet::new() };
        let to = chain.mesh.pod("client").outbound();
        for number in 0..CLIENTS {
            load.clients.spawn(through_the_chain(load.book.clone(), number, to));
        }
        for pod in watchers() {
            load.clients.spawn(to_b(load.book.clone(), chain.mesh.pod(&pod).outbound()));
        }
        load
    }

    async fn end(mut self) -> usize {
        self.book.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
        let wrong = self.book.wrong.lock().expect("no panic while held");
        let sent = self.book.sent.load(Ordering::Relaxed);
        assert!(wrong.is_empty(), "{} of {sent} requests: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        sent
    }
}

/// Requests through the chain, every other one labelled.
async fn through_the_chain(book: Book, number: u32, to: SocketAddr) {
    let idle = Idle::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1) * CLIENTS / RATE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let labelled = number.is_multiple_of(2);
    let labels = if labelled { &[LABEL][..] } else { &[] };
    for round in 0_usize.. {
        if book.stop.load(Ordering::Relaxed) {
            return;
        }
        tick.tick().await;
        let path = ["/h", "/b", "/t"][round % 3];
        let begun = book.begin();
        let answer = idle.call(Protocol::Http1, to, "a", path, labels).await;
        book.take(begun, labelled, answer);
        book.sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Requests without label to b alone: its part of the chain.
async fn to_b(book: Book, to: SocketAddr) {
    let idle = Idle::default();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / WATCH_RATE);
    while !book.stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let begun = book.begin();
        let answer = idle.call(Protocol::Http1, to, "b", "/h", &[]).await;
        book.take(begun, false, answer);
        book.watched.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is wrong with a chain `a[label] b[label] …`: two labels in one request, or a hop on another level than the label
/// means in this stage. While the lane changes, a hop may be on the level of either stage. The lane's instances serve its
/// requests alone until it is promoted, and from then on they are baseline like the others.
fn crossed(chain: &str, labelled: bool, stage: usize) -> Option<String> {
    let hops: Vec<(&str, &str)> =
        chain.split(' ').filter_map(|hop| hop.strip_suffix(']').and_then(|hop| hop.split_once('['))).collect();
    let label = if labelled { "canary" } else { "-" };
    let services: &[&str] = if chain.starts_with('a') { &["a", "b", "c", "d"] } else { &["b", "c", "d"] };
    let labels_agree = hops.len() == services.len() && hops.iter().all(|(_, found)| *found == label);
    let is_on_level = |(service, (pod, _)): (&&str, &(&str, &str))| {
        let own = labelled && PODS.contains(&format!("{service}-canary").as_str());
        match stage {
            LANE if own => *pod == format!("{service}-canary"),
            LANE => pod == service,
            _ => *pod == *service || *pod == format!("{service}-canary"),
        }
    };
    let is_well = labels_agree && services.iter().zip(&hops).all(is_on_level);
    (!is_well).then(|| format!("stage {stage}, labelled {labelled}: {chain}"))
}

/// Requests between two changes, through the chain and of the other proxies.
async fn pause(book: &Book) {
    book.more(&book.sent, length::of(1, 5) * RATE as usize).await;
    book.more(&book.watched, 2 * (PROXIES - PODS.len())).await;
}

#[tokio::test]
async fn drain_promote_and_rollback_under_load_fail_nothing_and_cross_no_lanes_full_length() {
    let chain = start().await;
    let load = Load::start(&chain);
    let book = load.book.clone();
    let begun = Instant::now();
    pause(&book).await;
    let rounds = [("drain", LANE), ("rollback", LANE), ("drain", LANE), ("promote", PROMOTED), ("rollback", LANE)];
    let again = [("promote", PROMOTED), ("rollback", LANE)];
    let repeated = again.iter().cycle().take(2 * length::of(2, 10));
    let (mut slowest, mut at_instances) = (Duration::ZERO, Duration::ZERO);
    for (verb, after) in rounds.iter().chain(repeated) {
        let was = book.stage.load(Ordering::SeqCst);
        if was != *after {
            book.stage.store(MOVING, Ordering::SeqCst);
        }
        let ordered = Instant::now();
        let took = change(&chain.mesh, PROXIES, "shop/canary", verb).await;
        book.stage.store(*after, Ordering::SeqCst);
        let known = Instant::now();
        pause(&book).await;
        let since = book.by_lane_since(known);
        let mut said = format!("{verb}: {PROXIES} proxies (processes) have it {} ms after the order", took.as_millis());
        if *verb == "rollback" {
            slowest = slowest.max(took);
            at_instances = at_instances.max(book.by_lane_until(ordered));
            said += &format!(", the lane's instances notice it after {} ms", book.by_lane_until(ordered).as_millis());
        }
        assert_eq!(since > 0, *after == PROMOTED, "{verb}: {since} requests without label by instances of the lane");
        println!("{said}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let sent = load.end().await;
    let watched = book.watched.load(Ordering::Relaxed);
    println!(
        "{sent} requests through four hops, {:.0} per second, and {watched} of the other proxies: none failed, none crossed; \
         rollback at worst {slowest:?} by revision, {at_instances:?} at the instances",
        sent as f64 / seconds
    );
    assert!(slowest < LIMIT && at_instances < LIMIT, "rollback took {slowest:?}, {at_instances:?} at the instances");
}
