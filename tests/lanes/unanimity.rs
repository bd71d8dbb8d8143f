//! How often the guess by unanimity errs: applications that forward nothing, under load of several shapes. The figures
//! that this prints stand in `docs/lanes.md`.

use std::{sync::Arc, time::Duration};

use mesh_tests::{
    length,
    wait::{pace, until},
};
use tokio::task::JoinSet;

use crate::{
    chain::{CANARY, Chain, LABEL},
    link::{Behaviour, Forward},
    words::{Protocol, call_once},
};

/// A shape of load.
struct Shape {
    what: &'static str,
    /// Clients at the same time, each with a pause of up to [`PAUSE`] between requests.
    clients: usize,
    /// Percentage of requests that are of the lane.
    lane: u64,
    order: Order,
    /// How long after the answer the application calls, for every other request; the others keep their callers waiting
    /// for [`THOUGHT`]. `None`: all call before the answer, at once.
    late: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Lane and baseline mixed at random.
    Mixed,
    /// By turns only lane and only baseline, so long each.
    Turns(Duration),
}

const PAUSE: Duration = Duration::from_millis(20);
/// A sidecar that just started is silent for half a minute.
const BLIND: Duration = Duration::from_secs(90);
const SECOND: Duration = Duration::from_secs(1);

const SHAPES: &[Shape] = &[
    Shape { what: "one at a time, lane only", clients: 1, lane: 100, order: Order::Mixed, late: None },
    Shape { what: "one at a time, mixed", clients: 1, lane: 50, order: Order::Mixed, late: None },
    Shape { what: "4 at a time, mixed", clients: 4, lane: 50, order: Order::Mixed, late: None },
    Shape { what: "16 at a time, 5 % lane", clients: 16, lane: 5, order: Order::Mixed, late: None },
    Shape { what: "4 at a time, turns of 3 s", clients: 4, lane: 50, order: Order::Turns(TURN), late: None },
    Shape { what: "4, turns, work after 0.3 s", clients: 4, lane: 50, order: Order::Turns(TURN), late: Some(SOON) },
    Shape { what: "4, turns, work after 1.5 s", clients: 4, lane: 50, order: Order::Turns(TURN), late: Some(LATER) },
];
const THOUGHT: Duration = Duration::from_millis(100);
const TURN: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_millis(1_500);

/// How the decisions of one shape came out.
#[derive(Debug, Default)]
struct Tally {
    right: usize,
    /// Of the lane, and not known to be.
    unknown: usize,
    /// Of baseline, and taken for one of the lane.
    wrong: usize,
}

impl Shape {
    /// Whether the request sent at this time is of the lane.
    fn is_of_lane(&self, since: Duration) -> bool {
        match self.order {
            Order::Mixed => rand::random_range(0..100) < self.lane,
            Order::Turns(turn) => (since.as_millis() / turn.as_millis()) % 2 == 1,
        }
    }
}

/// When the application calls for `/<number of the shape>/<client>/<position>`.
fn timing(path: &str) -> Behaviour {
    let mut numbers = path.split('/').skip(1).filter_map(|number| number.parse::<usize>().ok());
    match numbers.next().map(|number| SHAPES[number].late) {
        Some(Some(late)) if numbers.last().is_some_and(|position| position % 2 == 0) => Behaviour::Late(late),
        Some(Some(_)) => Behaviour::Slow(THOUGHT),
        Some(None) | None => Behaviour::Now,
    }
}

/// Runs one shape for `length`: the paths of its requests, and whether each is of the lane.
async fn load(chain: &Chain, shape: &'static Shape, number: usize, length: Duration) -> Vec<(String, bool)> {
    let to = chain.mesh.pod("client").outbound();
    let began = tokio::time::Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..shape.clients {
        clients.spawn(async move {
            let mut sent = Vec::new();
            while began.elapsed() < length {
                let is_of_lane = shape.is_of_lane(began.elapsed());
                let path = format!("/{number}/{client}/{}", sent.len());
                let headers: &[(&str, &str)] = if is_of_lane { &[LABEL] } else { &[] };
                call_once(Protocol::Http1, to, "a", &path, headers).await.unwrap();
                sent.push((path, is_of_lane));
                pace(PAUSE.mul_f64(rand::random::<f64>())).await;
            }
            sent
        });
    }
    let mut sent = Vec::new();
    while let Some(done) = clients.join_next().await {
        sent.extend(done.unwrap());
    }
    sent
}

async fn judge(chain: &Chain, sent: &[(String, bool)]) -> Tally {
    let mut tally = Tally::default();
    for (path, is_of_lane) in sent {
        let label = chain.record.arrival("b", path).await.label;
        match (*is_of_lane, label.as_str()) {
            (true, "canary") | (false, "-") => tally.right += 1,
            (true, "-") => tally.unknown += 1,
            (false, "canary") => tally.wrong += 1,
            (_, other) => panic!("{path} arrived with {other}"),
        }
    }
    tally
}

#[tokio::test]
async fn guess_errs_only_where_work_outlives_its_request_full_length() {
    let mut chain = Chain::mesh("propagation: {unanimity: true}").await;
    chain.timed_links(&["a"], Arc::new(timing), Arc::new(|_| Forward::Nothing)).await;
    chain.links(&["b", "b-canary", "c", "d", "d-canary"], Behaviour::Now, Arc::new(|_| Forward::Header)).await;
    chain.ready().await;
    println!("{:<28} {:>9} {:>9} {:>9} {:>9}", "load", "decisions", "right %", "unknown %", "wrong %");
    for (number, shape) in SHAPES.iter().enumerate() {
        // Begins where the end of the shape before no longer matters.
        until("unanimity answers", BLIND, || async { (chain.get("/", &[LABEL]).await == CANARY).then_some(()) }).await;
        let sent = load(&chain, shape, number, length::of(6, 30) * SECOND).await;
        let tally = judge(&chain, &sent).await;
        let share = |part: usize| part as f64 * 100.0 / sent.len() as f64;
        println!(
            "{:<28} {:>9} {:>9.2} {:>9.2} {:>9.2}",
            shape.what,
            sent.len(),
            share(tally.right),
            share(tally.unknown),
            share(tally.wrong)
        );
        assert!(shape.late.is_some() || tally.wrong == 0, "{}: {tally:?}", shape.what);
        assert!(shape.lane < 100 || tally.unknown == 0, "{}: {tally:?}", shape.what);
    }
}
