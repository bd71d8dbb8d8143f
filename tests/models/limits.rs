//! One limit for three sidecars, in a real Redis that is killed and comes back: never more than 2 % over in any window,
//! and no seat of a concurrency limit lost by applications that go away.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use http::Method;
use mesh_tests::{
    client::{self, Answer, Connection, Version},
    length, raw,
    redis::Redis,
    wait::{PATIENCE, pace, until, within},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use crate::world::{CALLER, HOST, Served, Streaming, Virtual, World};

const CALLERS: [&str; 3] = [CALLER, "client-2", "client-3"];
/// Connections of each caller that ask all the time.
const CONNECTIONS: usize = 3;
/// Pause of each between two requests: together some times what limits allow.
const PAUSE: Duration = Duration::from_millis(10);
/// Length of each phase under load.
const PHASE: Duration = Duration::from_secs(7);
/// Longest answer of which the second can be told.
const CLEAR: Duration = Duration::from_millis(400);
/// Tokens of each answer, which is what requests say that they want at most.
const TOKENS: u64 = 20;

async fn world(redis: &Redis, limit: Value, key: Value) -> World {
    let models = vec![Virtual::new("m", vec![Served::outside("near", "openai"), Served::outside("far", "openai")])];
    let tokens = json!({"limits": [limit], "key": key, "store": {"redis": {"url": redis.url()}}});
    let world = World::start_limited(models, &CALLERS, tokens).await;
    for caller in CALLERS {
        known(&world, caller, CALLERS.len()).await;
    }
    world
}

/// Waits until a sidecar knows that so many share the store.
async fn known(world: &World, caller: &str, proxies: usize) {
    until("sidecars hear of each other", PATIENCE, || async {
        let metrics = world.mesh.pod(caller).metrics().await;
        let count = metrics
            .samples
            .iter()
            .find(|sample| sample.name == "mesh_model_limit_proxies" && sample.labels["part"] == "known")?
            .value;
        (count as usize == proxies).then_some(())
    })
    .await;
}

fn outbound(world: &World, caller: &str) -> SocketAddr {
    world.mesh.pod(caller).outbound()
}

fn body(streaming: Streaming) -> String {
    let messages = json!([{"role": "user", "content": "one two three"}]);
    // Streams last until they are cut off.
    let tokens = if streaming == Streaming::Yes { 5_000 } else { TOKENS };
    json!({"model": "m", "max_tokens": tokens, "stream": streaming == Streaming::Yes, "messages": messages}).to_string()
}

fn request(headers: &[(&str, &str)]) -> http::Request<client::Body> {
    let headers = [&[("content-type", "application/json")], headers].concat();
    client::request(Method::POST, HOST, "/v1/chat/completions", &headers, client::full(body(Streaming::No)))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// What was let through, by the second in which it was reserved.
#[derive(Default)]
struct Admitted {
    requests: BTreeMap<u64, u64>,
    tokens: BTreeMap<u64, u64>,
    refused: u64,
    /// Answers that took so long that their second cannot be told.
    unclear: u64,
}

impl Admitted {
    /// Of which second an answer is, follows from what it says of the window's end, counted from when it was reserved:
    /// after the request was sent and before the answer came. Windows begin by the clock of Redis, as the sidecar has it.
    fn add(&mut self, (sent, came): (Duration, Duration), kind: &str, answer: &Answer) {
        match answer.status {
            200 => {}
            429 => {
                self.refused += 1;
                return;
            }
            other => panic!("{other}: {}", answer.text()),
        }
        let reset = read_duration(answer.header(&format!("x-ratelimit-reset-{kind}")));
        if came - sent > CLEAR {
            self.unclear += 1;
            return;
        }
        let end = (sent + came) / 2 + reset;
        let window = end.as_secs_f64().round() as u64 - 1;
        let usage: Value = serde_json::from_slice(&answer.body).expect("JSON");
        *self.requests.entry(window).or_default() += 1;
        *self.tokens.entry(window).or_default() += usage["usage"]["total_tokens"].as_u64().expect("usage is told");
    }

    fn merge(&mut self, other: Admitted) {
        for (into, from) in [(&mut self.requests, other.requests), (&mut self.tokens, other.tokens)] {
            for (window, count) in from {
                *into.entry(window).or_default() += count;
            }
        }
        self.refused += other.refused;
        self.unclear += other.unclear;
    }
}

/// `120ms`, `1s`, `0.5s`.
fn read_duration(text: &str) -> Duration {
    let figure = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{text:?} is no duration"));
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_secs_f64(figure(millis) / 1_000.0),
        None => Duration::from_secs_f64(figure(text.trim_end_matches('s'))),
    }
}

/// All sidecars are asked more often than the limit allows, for a phase.
async fn hammer(world: &World, kind: &str) -> Admitted {
    let end = Instant::now() + PHASE;
    let one = |to: SocketAddr| async move {
        let mut admitted = Admitted::default();
        let mut connection = Connection::open(to, Version::Http1).await.expect("the sidecar listens");
        while Instant::now() < end {
            let sent = now();
            let answer = connection.send(request(&[])).await.expect("every request is answered");
            admitted.add((sent, now()), kind, &answer);
            pace(PAUSE).await;
        }
        admitted
    };
    let callers = CALLERS.iter().flat_map(|caller| vec![outbound(world, caller); CONNECTIONS]);
    let mut sum = Admitted::default();
    join_all(callers.map(one)).await.into_iter().for_each(|admitted| sum.merge(admitted));
    sum
}

/// The whole windows of a phase, after the second in which it began; those in which nothing was let through are as much
/// part of it.
fn whole(of: &BTreeMap<u64, u64>) -> Vec<u64> {
    let Some((first, _)) = of.first_key_value() else { return Vec::new() };
    (first + 2..first + PHASE.as_secs() - 1).map(|second| of.get(&second).copied().unwrap_or(0)).collect()
}

async fn keeps_to_limit(of: &str, kind: &str, amount: u64) {
    let mut redis = Redis::start().await;
    let world = world(&redis, json!({"of": of, "amount": amount, "window": "1s"}), json!([])).await;
    world.stand_in.behave("*", json!({"tokens": TOKENS})).await;
    // The first answers teach what a request costs; and whoever has called shares.
    hammer(&world, kind).await;
    let with = hammer(&world, kind).await;
    redis.kill();
    let without = hammer(&world, kind).await;
    redis.come_back().await;
    let again = hammer(&world, kind).await;
    let after = hammer(&world, kind).await;
    let counted = |admitted: &Admitted| match kind {
        "requests" => admitted.requests.clone(),
        _ => admitted.tokens.clone(),
    };
    let phases = [&with, &without, &again, &after].map(counted);
    println!("{kind}, of {amount} a second: {:?}", phases.each_ref().map(|phase| phase.values().collect::<Vec<_>>()));
    let mut all = Admitted::default();
    let refused = [with.refused, without.refused, again.refused, after.refused];
    [with, without, again, after].into_iter().for_each(|phase| all.merge(phase));
    let clear: u64 = all.requests.values().sum();
    assert!(all.unclear * 50 <= clear, "the machine is too busy: {} of {clear} answers are unclear", all.unclear);
    let over: Vec<_> = counted(&all).into_iter().filter(|(_, used)| *used * 100 > amount * 102).collect();
    assert!(over.is_empty(), "more than 2 % over {amount}: {over:?}");
    assert!(refused.iter().all(|refused| *refused > 0), "no phase asked for more than there is: {refused:?}");
    // In the first phase Redis gives leases, in the second each sidecar has its fair share; while it comes back some
    // windows are still by shares, and in the last phase all is as before.
    for (phase, part) in phases.iter().zip([60, 60, 30, 60]) {
        let used = whole(phase);
        let mean = used.iter().sum::<u64>() / used.len().max(1) as u64;
        assert!(mean * 100 >= amount * part, "less than {part} % of {amount} is used: {used:?}");
    }
    world.mesh.logged(CALLER, "the store of limits answers again").await;
}

#[tokio::test]
async fn three_sidecars_keep_to_one_limit_of_requests_while_redis_is_killed_and_comes_back() {
    keeps_to_limit("requests", "requests", 60).await;
}

#[tokio::test]
async fn three_sidecars_keep_to_one_limit_of_tokens_while_redis_is_killed_and_comes_back() {
    keeps_to_limit("total", "tokens", 1_500).await;
}

/// A stream that has begun; `None` = refused.
async fn stream(to: SocketAddr) -> Option<TcpStream> {
    let body = body(Streaming::Yes);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n");
    let mut stream = TcpStream::connect(to).await.expect("the sidecar listens");
    let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(whole.as_bytes()).await.expect("the sidecar reads");
    let has = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    let enough = |bytes: &[u8]| has(bytes, b"\"word0") || has(bytes, b"rate_limit_exceeded");
    let received = raw::read(&mut stream, PATIENCE, enough).await;
    match received.status() {
        200 => Some(stream),
        429 => None,
        other => panic!("{other}: {}", received.text()),
    }
}

/// Opens streams at one sidecar until `seats` are open, and holds them.
async fn take_seats(to: SocketAddr, seats: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    let all = async {
        while open.len() < seats {
            open.extend(stream(to).await);
            pace(PAUSE).await;
        }
    };
    within("every seat is free for who wants it", PATIENCE, all).await;
    open
}

#[tokio::test]
async fn streams_that_are_cut_off_leave_no_seat_taken_full_length() {
    const SEATS: usize = 12;
    let redis = Redis::start().await;
    let world = world(&redis, json!({"of": "concurrent", "amount": SEATS}), json!([])).await;
    world.stand_in.behave("*", json!({"tokens": 3_000, "delay_ms": 20})).await;
    let each = length::of(1_000, 10_000) / (CALLERS.len() * SEATS) + 1;
    let cut_off = |to: SocketAddr| async move {
        let mut cut = 0;
        while cut < each {
            match stream(to).await {
                Some(open) => {
                    drop(open);
                    cut += 1;
                }
                None => pace(PAUSE).await,
            }
        }
    };
    let streams = CALLERS.iter().flat_map(|caller| vec![outbound(&world, caller); SEATS]);
    let patience = PATIENCE * length::of(4, 20);
    within("every stream is opened and cut off", patience, join_all(streams.map(cut_off))).await;
    for caller in CALLERS {
        let held = take_seats(outbound(&world, caller), SEATS).await;
        for other in CALLERS {
            assert!(stream(outbound(&world, other)).await.is_none(), "a seat more than there is, at {other}");
        }
        drop(held);
    }
}

#[tokio::test]
async fn burst_of_a_key_that_is_new_to_a_sidecar_is_served() {
    let redis = Redis::start().await;
    let limit = json!({"of": "requests", "amount": 100, "window": "1h"});
    let world = world(&redis, limit, json!(["header:x-user"])).await;
    let burst = |user: String| {
        let to = outbound(&world, CALLER);
        async move {
            let open = || async { Connection::open(to, Version::Http1).await.expect("the sidecar listens") };
            let mut connections = Vec::new();
            for _ in 0..60 {
                connections.push(open().await);
            }
            let asked = connections.iter_mut().map(|connection| connection.send(request(&[("x-user", user.as_str())])));
            let answers = join_all(asked).await.into_iter().map(|answer| answer.expect("every request is answered"));
            answers.filter(|answer| answer.status == 200).count()
        }
    };
    let mut users = 0;
    until("the others know that one sidecar calls", PATIENCE, || {
        users += 1;
        let burst = burst(format!("early-{users}"));
        async move { (burst.await == 60).then_some(()) }
    })
    .await;
    for user in 0..5 {
        assert_eq!(burst(format!("user-{user}")).await, 60, "all within the limit of 100");
    }
    // A sidecar that has not called yet begins with less.
    let other = outbound(&world, CALLERS[1]);
    let mut connection = Connection::open(other, Version::Http1).await.expect("the sidecar listens");
    let answer = connection.send(request(&[])).await.expect("every request is answered");
    assert_eq!(answer.status, 200, "{}", answer.text());
}
