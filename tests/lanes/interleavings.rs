//! Many requests of two lanes and of baseline at the same time, through applications that forward, request by request,
//! the header, baggage, a trace context or nothing: no request may ever reach an instance of a lane that is not its own.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use mesh_tests::{length, wait::PATIENCE};
use tokio::task::JoinSet;

use crate::{
    chain::Chain,
    link::{Arrival, Forward, Idle},
    words::Protocol,
};

const PODS: [&str; 8] = ["a", "b", "b-canary", "b-blue", "c", "c-blue", "d", "d-canary"];
const LANES: [&str; 2] = ["canary", "blue"];
/// Clients that call at the same time.
const CLIENTS: u64 = 24;

/// Random numbers that a seed determines (SplitMix64), so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// One request, and what has to become of it.
struct Request {
    /// Says what the applications of a, b and c forward, a letter each.
    path: String,
    lane: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    protocol: Protocol,
}

impl Request {
    fn throw(position: u64, dice: &mut Dice) -> Request {
        let lane = [None, None, Some(LANES[0]), Some(LANES[1])][dice.below(4) as usize];
        let letters: String = (0..3).map(|_| ['h', 'b', 't', 'n'][dice.below(4) as usize]).collect();
        let mut headers: Vec<(&'static str, String)> = Vec::new();
        if let Some(lane) = lane {
            headers.push(match dice.below(3) {
                0 => ("x-mesh-lane", lane.to_owned()),
                1 => ("x-mesh-lane", format!("shop/{lane}")),
                _ => ("baggage", format!("user=7,mesh-lane={lane}")),
            });
        }
        if dice.below(2) == 0 {
            let trace = format!("{:016x}{:016x}", dice.below(u64::MAX), dice.below(u64::MAX));
            headers.push(("traceparent", format!("00-{trace}-00f067aa0ba902b7-0{}", dice.below(2))));
        }
        let protocol = match dice.below(50) {
            0 => Protocol::WebSocket,
            1..=12 => Protocol::Http2,
            13..=24 => Protocol::Grpc,
            _ => Protocol::Http1,
        };
        Request { path: format!("/{position}/{letters}"), lane, headers, protocol }
    }

    /// Instances and labels at each hop. Where the application forwards nothing the label is lost, unless the instance
    /// is the lane's own: then its sidecar fills it in.
    fn expected(&self) -> Vec<Arrival> {
        let mut label = self.lane;
        let mut hops: Vec<Arrival> = Vec::new();
        for (service, position) in [("a", None), ("b", Some(0)), ("c", Some(1)), ("d", Some(2))] {
            let letter = position.and_then(|position| letters(&self.path).nth(position));
            if let (Some('n'), Some(before), Some(lane)) = (letter, hops.last(), label)
                && !before.instance.ends_with(lane)
            {
                label = None;
            }
            let own = label.map(|lane| format!("{service}-{lane}")).filter(|own| PODS.contains(&own.as_str()));
            hops.push(Arrival {
                instance: own.unwrap_or_else(|| service.to_owned()),
                path: self.path.clone(),
                label: label.unwrap_or("-").to_owned(),
            });
        }
        hops
    }
}

fn letters(path: &str) -> impl Iterator<Item = char> {
    path.rsplit('/').next().unwrap_or_default().chars()
}

/// What the application of `service` forwards.
fn forward(service: usize) -> impl Fn(&str) -> Forward + Send + Sync + 'static {
    move |path| match letters(path).nth(service) {
        Some('h') => Forward::Header,
        Some('b') => Forward::Baggage,
        Some('t') => Forward::TraceParent,
        Some(_) | None => Forward::Nothing,
    }
}

/// The chain of both lanes, with sidecars of so many workers.
async fn chain(workers: &str) -> Chain {
    let settings = [("LANEMESH_WORKERS", workers)];
    let mut chain = Chain::with_lanes(&PODS, "", &LANES.map(|lane| (lane, "")), &settings).await;
    for (position, service) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let pods: Vec<&str> = PODS.into_iter().filter(|pod| pod.starts_with(service)).collect();
        chain.links(&pods, crate::link::Behaviour::Now, Arc::new(forward(position))).await;
    }
    chain.ready().await;
    chain
}

/// Sends requests `from..to` one after the other; an answer that does not come is a failure of the test.
async fn client(outbound: std::net::SocketAddr, seed: u64, from: u64, to: u64) {
    let idle = Idle::default();
    for position in from..to {
        let request = Request::throw(position, &mut Dice(seed ^ (position << 20)));
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = idle.call(request.protocol, outbound, "a", &request.path, &headers).await;
        answer.unwrap_or_else(|error| panic!("seed {seed}, {}: {error:#}", request.path));
    }
}

/// Compares what arrived with what had to: requests that lost their label, and exchanges without label by the pod whose
/// sidecar counts them, which are those that it sends and those that it takes.
fn check(seed: u64, count: u64, arrivals: &[Arrival]) -> (u64, BTreeMap<String, f64>) {
    let mut by_path: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        by_path.entry(&arrival.path).or_default().push(arrival);
    }
    let (mut lost, mut unlabelled) = (0, BTreeMap::new());
    for position in 0..count {
        let request = Request::throw(position, &mut Dice(seed ^ (position << 20)));
        let expected = request.expected();
        let came: Vec<Arrival> =
            by_path.remove(request.path.as_str()).unwrap_or_default().into_iter().cloned().collect();
        assert_eq!(came, expected, "seed {seed}: {:?} {:?}", request.protocol, request.headers);
        let mut sender = "client";
        for arrival in &expected {
            if arrival.label == "-" {
                for pod in [sender, &arrival.instance] {
                    *unlabelled.entry(pod.to_owned()).or_default() += 1.0;
                }
            }
            sender = &arrival.instance;
        }
        lost += u64::from(request.lane.is_some() && expected.iter().any(|arrival| arrival.label == "-"));
    }
    assert!(by_path.keys().all(|path| *path == "/"), "arrivals that nobody sent: {:?}", by_path.keys());
    (lost, unlabelled)
}

#[tokio::test]
async fn no_request_ever_reaches_a_lane_that_is_not_its_own_full_length() {
    run("1", length::of(10_000, 100_000)).await;
}

/// A call may leave through another worker than the one through which its request came.
#[tokio::test]
async fn no_request_loses_its_lane_between_workers_full_length() {
    run("3", length::of(4_000, 40_000)).await;
}

async fn run(workers: &str, count: u64) {
    let seed = rand::random::<u64>();
    let chain = chain(workers).await;
    chain.settled(&PODS).await;
    let before = without_label(&chain, &BTreeMap::new()).await;
    let outbound = chain.mesh.pod("client").outbound();
    let began = std::time::Instant::now();
    let mut clients = JoinSet::new();
    for position in 0..CLIENTS {
        let share = |position: u64| count * position / CLIENTS;
        clients.spawn(client(outbound, seed, share(position), share(position + 1)));
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    let took = began.elapsed();
    let (lost, unlabelled) = check(seed, count, &chain.record.all());
    println!("{count} requests in {took:?}, seed {seed}: {lost} lost their label on the way, none was in a wrong lane");
    let seen = RefCell::new(BTreeMap::new());
    let counted = tokio::time::timeout(PATIENCE, async {
        while *seen.borrow() != unlabelled {
            let now = without_label(&chain, &before).await;
            seen.replace(now);
        }
    });
    let counted = counted.await.is_ok();
    assert!(counted, "seed {seed}: counted without label {:?}, and there were {unlabelled:?}", seen.borrow());
}

/// Exchanges that each sidecar counted without label since `before`, where there were any.
async fn without_label(chain: &Chain, before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut counted = BTreeMap::new();
    for pod in PODS.into_iter().chain(["client"]) {
        let count = chain.sources(&[pod], "none").await - before.get(pod).copied().unwrap_or_default();
        if count > 0.0 {
            counted.insert(pod.to_owned(), count);
        }
    }
    counted
}
