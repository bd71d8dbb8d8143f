//! Many exchanges with random bodies: what arrives is what was sent, in both directions, whatever the framing and however
//! it ends; and afterwards nothing is left over in the sidecars.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use mesh_tests::{
    client::{Body, Connection, Version, full, request},
    length,
    mesh::Mesh,
    pod::PodSpec,
    process::Process,
    server::Server,
    wait::{PATIENCE, until_true},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Largest body, bytes.
const LARGEST: f64 = 10e6;
/// Exchanges at the same time.
const PARALLEL: usize = 8;
/// What one sidecar may have grown by, KiB: allocators keep some of what they had.
const GROWTH: u64 = 48 * 1024;
/// File descriptors that may stay open: idle connections of pools.
const KEPT_OPEN: usize = 4 * PARALLEL;

/// How one exchange goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Both bodies whole, lengths announced.
    Announced,
    /// Both bodies whole, lengths unknown.
    Streamed,
    /// Both bodies end with trailers.
    Trailers,
    /// The answer comes before the request is read.
    Early,
    /// The client goes away while it sends.
    AbortSending,
    /// The client goes away while it reads.
    AbortReading,
}

struct Plan {
    way: Way,
    seed: u64,
    up: usize,
    down: usize,
}

impl Plan {
    fn new(random: &mut StdRng) -> Plan {
        let way = match random.random_range(0..20) {
            0..8 => Way::Announced,
            8..13 => Way::Streamed,
            13..16 => Way::Trailers,
            16 => Way::Early,
            17..19 => Way::AbortSending,
            _ => Way::AbortReading,
        };
        Plan { way, seed: random.random(), up: size(random), down: size(random) }
    }
}

/// Sizes from 0 to [`LARGEST`], evenly over the orders of magnitude.
fn size(random: &mut StdRng) -> usize {
    if random.random_ratio(1, 10) { 0 } else { LARGEST.powf(random.random::<f64>()) as usize }
}

/// The body of a seed: the same bytes everywhere, in pieces.
struct Pieces {
    random: StdRng,
    left: usize,
}

impl Pieces {
    fn new(seed: u64, length: usize) -> Pieces {
        Pieces { random: StdRng::seed_from_u64(seed), left: length }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let length = self.random.random_range(1..=64 * 1024).min(self.left);
        self.left -= length;
        let mut piece = vec![0u8; length];
        // A pattern that depends on every earlier piece is enough to notice a lost, doubled or moved byte, and cheap.
        let start: u64 = self.random.random();
        for (at, eight) in piece.chunks_mut(8).enumerate() {
            let word = start.wrapping_add(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            eight.copy_from_slice(&word[..eight.len()]);
        }
        Some(piece.into())
    }
}

fn sum_of(seed: u64, length: usize) -> String {
    let mut hash = Sha256::new();
    Pieces::new(seed, length).for_each(|piece| hash.update(&piece));
    format!("{:x}", hash.finalize())
}

fn body(way: Way, seed: u64, length: usize) -> Body {
    let pieces = Pieces::new(seed, length);
    match way {
        Way::Announced => {
            let mut whole = Vec::with_capacity(length);
            pieces.for_each(|piece| whole.extend_from_slice(&piece));
            full(whole)
        }
        Way::Trailers => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_str(&sum_of(seed, length)).expect("hexadecimal"));
            let frames = pieces.map(Frame::data).chain([Frame::trailers(trailers)]);
            StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>))).map_err(|never| match never {}).boxed()
        }
        Way::AbortSending => {
            let half = (length / 2).max(1);
            let pieces = Pieces::new(seed, half).map(|piece| Ok(Frame::data(piece)));
            let gone = [Err(anyhow::anyhow!("the client goes away"))];
            StreamBody::new(stream::iter(pieces.chain(gone))).boxed()
        }
        Way::Streamed | Way::Early | Way::AbortReading => {
            let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            StreamBody::new(stream::iter(frames)).map_err(|never| match never {}).boxed()
        }
    }
}

/// Reads a body and says what it was.
async fn sum(mut body: Incoming) -> Result<(String, HeaderMap), hyper::Error> {
    let mut hash = Sha256::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => hash.update(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((format!("{:x}", hash.finalize()), trailers))
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or_default()
}

/// The application: says what it received, and sends what it was asked for.
async fn application(incoming: Request<Incoming>) -> Response<Body> {
    let headers = incoming.headers().clone();
    let way = match number(&headers, "x-way") {
        0 => Way::Announced,
        2 => Way::Trailers,
        3 => Way::Early,
        _ => Way::Streamed,
    };
    let received = match way {
        Way::Early => {
            // The answer comes first, the request is read beside it: otherwise closing would cut the answer off.
            tokio::spawn(sum(incoming.into_body()));
            String::new()
        }
        Way::Announced | Way::Streamed | Way::Trailers | Way::AbortSending | Way::AbortReading => {
            match sum(incoming.into_body()).await {
                Ok((sum, trailers)) => {
                    format!("{sum} {}", trailers.get("x-sum").map_or("none", |sum| sum.to_str().unwrap_or("?")))
                }
                Err(_) => "broken".to_owned(),
            }
        }
    };
    let mut answer = Response::new(body(way, number(&headers, "x-seed"), number(&headers, "x-down") as usize));
    if let Way::Trailers = way {
        answer.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
    }
    answer.headers_mut().insert("x-received", HeaderValue::from_str(&received).expect("hexadecimal"));
    answer
}

async fn http_exchange(connection: &mut Option<Connection>, to: SocketAddr, version: Version, plan: &Plan) {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(to, version).await.unwrap(),
    };
    let way = match plan.way {
        Way::Announced => "0",
        Way::Streamed | Way::AbortSending | Way::AbortReading => "1",
        Way::Trailers => "2",
        Way::Early => "3",
    };
    let (seed, down) = (plan.seed.to_string(), plan.down.to_string());
    let mut headers = vec![("x-way", way), ("x-seed", &seed), ("x-down", &down), ("te", "trailers")];
    if let Way::Trailers = plan.way {
        headers.push(("trailer", "x-sum"));
    }
    if version == Version::Http1 {
        headers.push(("connection", "te"));
    }
    let answer = open.start(request(Method::POST, "b", "/", &headers, body(plan.way, plan.seed, plan.up))).await;
    if let Way::AbortSending = plan.way {
        assert!(!answer.is_ok_and(|answer| answer.status() == 200), "half a request was answered 200");
        return;
    }
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.headers());
    let received = answer.headers()["x-received"].to_str().unwrap().to_owned();
    if let Way::AbortReading = plan.way {
        return;
    }
    let (sum, trailers) = sum(answer.into_body()).await.unwrap();
    assert_eq!(sum, sum_of(plan.seed, plan.down), "the answer is another");
    let sent = sum_of(plan.seed, plan.up);
    match plan.way {
        Way::Early => return,
        Way::Trailers => {
            assert_eq!(received, format!("{sent} {sent}"), "the request is another");
            assert_eq!(trailers["x-sum"], sum);
        }
        Way::Announced | Way::Streamed | Way::AbortSending | Way::AbortReading => {
            assert_eq!(received, format!("{sent} none"), "the request is another");
        }
    }
    *connection = Some(open);
}

/// Plays `count` exchanges, [`PARALLEL`] at a time; `one` plays a chain of them.
async fn many<F, A>(count: usize, one: F)
where
    F: Fn(Vec<Plan>) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let seed = std::env::var("MESH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("MESH_TEST_SEED={seed} plays the same exchanges");
    let mut random = StdRng::seed_from_u64(seed);
    let mut chains = JoinSet::new();
    for _ in 0..PARALLEL {
        chains.spawn(one((0..count / PARALLEL).map(|_| Plan::new(&mut random)).collect()));
    }
    while let Some(chain) = chains.join_next().await {
        chain.unwrap();
    }
}

/// What is to be no larger afterwards.
struct Before {
    resident: u64,
    descriptors: usize,
}

impl Before {
    fn of(process: &Process) -> Before {
        Before { resident: process.resident(), descriptors: process.descriptors() }
    }

    async fn nothing_left(&self, name: &str, process: &Process) {
        let what = format!("{name} closes what the exchanges opened (before: {})", self.descriptors);
        until_true(&what, PATIENCE, || process.descriptors() <= self.descriptors + KEPT_OPEN).await;
        let grown = process.resident().saturating_sub(self.resident);
        assert!(grown < GROWTH, "{name} grew by {grown} KiB");
    }
}

async fn http_exchanges(version: Version, protocol: &str) {
    let b = PodSpec::new("b").of("b").protocol(protocol);
    let mut mesh = Mesh::builder().pod(PodSpec::new("a")).pod(b).start().await;
    let _application = Server::start(mesh.application("b"), application).await;
    mesh.reachable("a", "b").await;
    let to = mesh.pod("a").outbound();
    let before = [Before::of(mesh.pod_mut("a").proxy()), Before::of(mesh.pod_mut("b").proxy())];
    many(length::of(1_000, 10_000), move |plans| async move {
        let mut connection = None;
        for plan in plans {
            let exchange = http_exchange(&mut connection, to, version, &plan);
            let (way, up, down) = (plan.way, plan.up, plan.down);
            tokio::time::timeout(LIMIT, exchange).await.unwrap_or_else(|_| panic!("{way:?} {up} {down}: no end"));
        }
    })
    .await;
    for (name, before) in ["a", "b"].into_iter().zip(before) {
        before.nothing_left(name, mesh.pod_mut(name).proxy()).await;
    }
}

/// One exchange of the largest size on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn http1_exchanges_arrive_unchanged_and_leave_nothing_behind_full_length() {
    http_exchanges(Version::Http1, "http1").await;
}

#[tokio::test]
async fn detected_http1_exchanges_arrive_unchanged_and_leave_nothing_behind_full_length() {
    http_exchanges(Version::Http1, "detect").await;
}

#[tokio::test]
async fn http2_exchanges_arrive_unchanged_and_leave_nothing_behind_full_length() {
    http_exchanges(Version::Http2, "http2").await;
}

#[tokio::test]
async fn grpc_exchanges_arrive_unchanged_and_leave_nothing_behind_full_length() {
    http_exchanges(Version::Http2, "grpc").await;
}

/// An application of bytes: reads to the end, then sends what it was asked for and the sum of what it read.
async fn opaque_application(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            stream.write_all(b"hello\n").await?;
            let (seed, down) = (stream.read_u64().await?, stream.read_u64().await? as usize);
            let mut hash = Sha256::new();
            let mut part = vec![0u8; 64 * 1024];
            loop {
                match stream.read(&mut part).await? {
                    0 => break,
                    length => hash.update(&part[..length]),
                }
            }
            for piece in Pieces::new(seed, down) {
                stream.write_all(&piece).await?;
            }
            stream.write_all(&hash.finalize()).await?;
            stream.shutdown().await
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn opaque_exchange(to: SocketAddr, target: &str, plan: &Plan) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut greeting = [0u8; 6];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello\n", "the server speaks first");
    stream.write_u64(plan.seed).await.unwrap();
    stream.write_u64(plan.down as u64).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    if let Way::AbortSending = plan.way {
        for piece in Pieces::new(plan.seed, plan.up / 2) {
            writing.write_all(&piece).await.unwrap();
        }
        return;
    }
    for piece in Pieces::new(plan.seed, plan.up) {
        writing.write_all(&piece).await.unwrap();
    }
    writing.shutdown().await.unwrap();
    if let Way::AbortReading = plan.way {
        return;
    }
    let mut received = Vec::new();
    reading.read_to_end(&mut received).await.unwrap();
    let (data, sum) = received.split_at(received.len() - 32);
    assert_eq!(format!("{:x}", Sha256::digest(data)), sum_of(plan.seed, plan.down), "the answer is another");
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum, sum_of(plan.seed, plan.up), "the request is another");
}

#[tokio::test]
async fn opaque_exchanges_arrive_unchanged_and_leave_nothing_behind_full_length() {
    let b = PodSpec::new("b").of("b").protocol("opaque");
    let mut mesh = Mesh::builder().pod(PodSpec::new("a")).pod(b).start().await;
    let listener = TcpListener::bind(mesh.application("b")).await.unwrap();
    let serving = tokio::spawn(opaque_application(listener));
    let to = mesh.pod("a").outbound();
    let target: Arc<str> = "b:80".into();
    let before = [Before::of(mesh.pod_mut("a").proxy()), Before::of(mesh.pod_mut("b").proxy())];
    many(length::of(1_000, 10_000), move |plans| {
        let target = Arc::clone(&target);
        async move {
            for plan in plans {
                let (way, up, down) = (plan.way, plan.up, plan.down);
                let exchange = opaque_exchange(to, &target, &plan);
                tokio::time::timeout(LIMIT, exchange).await.unwrap_or_else(|_| panic!("{way:?} {up} {down}: no end"));
            }
        }
    })
    .await;
    for (name, before) in ["a", "b"].into_iter().zip(before) {
        before.nothing_left(name, mesh.pod_mut(name).proxy()).await;
    }
    serving.abort();
}
