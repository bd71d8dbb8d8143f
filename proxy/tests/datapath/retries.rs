//! What is repeated, byte for byte, and how often altogether: counted at the application, which is dead or fails in one way
//! after the other.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response};
use mesh_core::{
    model::policy::{Backoff, GrpcCode, Retries, RetryBudget, RetryOn, Timeouts, TrafficPolicy},
    outcome::Outcome,
    retry::Refusal,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::harness::{LIMIT, Pair, Peer, has};

/// No pause to speak of.
const AT_ONCE: Backoff = Backoff { base: Duration::from_micros(1), max: Duration::from_micros(1) };

/// What an application does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Answers with this status, and with the hash of the body.
    Answer(u16),
    /// Ends the connection once it has the whole request.
    Cut,
    /// Ends it once it has so many bytes of the body.
    CutAfter(usize),
    /// Nothing.
    Nothing,
}

/// A request as an application saw it: method, and hash of the body.
type Seen = (String, Vec<u8>);

/// An application that counts requests.
struct Application {
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: JoinHandle<()>,
}

impl Application {
    /// Treats request number n, from 0, as `script` says.
    fn start(listener: TcpListener, script: impl Fn(usize) -> Does + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script = Arc::new(script);
        let told = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((io, _)) = listener.accept().await {
                let (script, told) = (Arc::clone(&script), Arc::clone(&told));
                connections.spawn(async move { serve(io, &*script, &told).await });
            }
        });
        Application { seen, accepting }
    }

    fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(io: TcpStream, script: &(dyn Fn(usize) -> Does + Send + Sync), seen: &Mutex<Vec<Seen>>) {
    let mut io = BufReader::new(io);
    while let Some((method, framing)) = head(&mut io).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push((method, Vec::new()));
            seen.len() - 1
        };
        let does = script(number);
        if let Does::CutAfter(length) = does {
            let mut part = vec![0; length];
            let _ = io.read_exact(&mut part).await;
            return;
        }
        let Some(body) = body(&mut io, framing).await else { return };
        let hash = Sha256::digest(&body).to_vec();
        let told = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        seen.lock().unwrap()[number].1 = hash;
        let answer = match does {
            Does::Answer(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{told}", told.len()),
            Does::Cut | Does::CutAfter(_) => return,
            Does::Nothing => return std::future::pending().await,
        };
        if io.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Method, and length of the body; `None` = chunked.
async fn head(io: &mut BufReader<TcpStream>) -> Option<(String, Option<usize>)> {
    let (mut method, mut length, mut line) = (String::new(), Some(0), String::new());
    while io.read_line(&mut line).await.ok()? > 2 {
        let lower = line.to_ascii_lowercase();
        if method.is_empty() {
            method = line.split(' ').next()?.to_owned();
        } else if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().ok();
        } else if lower.starts_with("transfer-encoding:") {
            length = None;
        }
        line.clear();
    }
    (!method.is_empty()).then_some((method, length))
}

async fn body(io: &mut BufReader<TcpStream>, length: Option<usize>) -> Option<Vec<u8>> {
    if let Some(length) = length {
        let mut body = vec![0; length];
        io.read_exact(&mut body).await.ok()?;
        return Some(body);
    }
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        io.read_line(&mut line).await.ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        io.read_exact(&mut chunk).await.ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// The application of a pair treats requests as `script` says, under these retries.
async fn pair(retries: Retries, script: impl Fn(usize) -> Does + Send + Sync + 'static) -> (Pair, Application) {
    let mut pair = Pair::start().await;
    set(&pair, TrafficPolicy { retries, ..TrafficPolicy::default() });
    let spare = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = Application::start(std::mem::replace(&mut pair.application, spare), script);
    (pair, application)
}

fn set(pair: &Pair, policy: TrafficPolicy) {
    pair.caller.publish(|snapshot| drop(snapshot.traffic.insert("b.demo".to_owned(), Arc::new(policy))));
}

fn at_once() -> Retries {
    Retries { backoff: AT_ONCE, ..Retries::default() }
}

/// Sends a request with this body and returns the head and body of the answer.
async fn ask(pair: &Pair, method: &str, body: &[u8]) -> (String, String) {
    let mut client = pair.call().await;
    send(&mut client, method, body).await
}

async fn send(client: &mut Peer, method: &str, body: &[u8]) -> (String, String) {
    client.send(format!("{method} / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    client.send(body).await;
    answer(client).await
}

async fn answer(client: &mut Peer) -> (String, String) {
    let head = client.head().await;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let body = client.exactly(length.unwrap_or(0)).await;
    (head, String::from_utf8(body).unwrap())
}

fn refused(pair: &Pair, why: Refusal) -> u64 {
    pair.caller.metrics.retries_refused[why as usize].get()
}

#[tokio::test]
async fn request_that_may_have_been_processed_is_repeated_where_its_method_allows_it_only() {
    let allowed = Retries { methods: vec!["POST".to_owned()], ..at_once() };
    for (method, retries, expected) in [
        ("GET", at_once(), 3),
        ("PUT", at_once(), 3),
        ("POST", at_once(), 1),
        ("PATCH", at_once(), 1),
        ("POST", allowed.clone(), 3),
        ("PATCH", allowed, 1),
    ] {
        let (pair, application) = pair(retries, |_| Does::Cut).await;
        let (head, _) = ask(&pair, method, b"order").await;
        assert!(head.starts_with("HTTP/1.1 502 ") && has(&head, "x-mesh-error: upstream_reset"), "{head}");
        assert_eq!(application.requests().len(), expected, "{method}");
        let why = if expected == 1 { Refusal::MayHaveBeenProcessed } else { Refusal::AttemptsUsed };
        assert_eq!(refused(&pair, why), 1, "{method}");
        // The application's own sidecar leaves it to the caller's.
        assert_eq!(pair.callee.metrics.retries.get(), 0);
    }
}

#[tokio::test]
async fn post_that_provably_reached_nobody_is_repeated() {
    let mut pair = Pair::start().await;
    set(&pair, TrafficPolicy { retries: at_once(), ..TrafficPolicy::default() });
    // Nobody listens where the application was: its sidecar says so each time.
    drop(std::mem::replace(&mut pair.application, TcpListener::bind("127.0.0.1:0").await.unwrap()));
    let (head, _) = ask(&pair, "POST", b"order").await;
    assert!(head.starts_with("HTTP/1.1 503 ") && has(&head, "x-mesh-error: connect_failed"), "{head}");
    assert_eq!(pair.caller.metrics.retries.get(), 2);
}

#[tokio::test]
async fn bodies_arrive_byte_for_byte_whatever_broke_the_attempts_before() {
    for length in [0, 1, 1_000, 20_000, 65_536] {
        let script = move |number| match number % 3 {
            0 => Does::CutAfter(length / 2),
            1 => Does::Cut,
            _ => Does::Answer(200),
        };
        let (pair, application) = pair(at_once(), script).await;
        let body: Vec<u8> = (0..length).map(|position| (position * 31 % 251) as u8).collect();
        let hash = Sha256::digest(&body).to_vec();
        let (head, told) = ask(&pair, "PUT", &body).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{length}: {head}");
        assert_eq!(told, hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let mut client = pair.call().await;
        client.send("PUT / HTTP/1.1\r\nHost: b.demo\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in body.chunks(777) {
            client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await;
        }
        client.send("0\r\n\r\n").await;
        let (head, _) = answer(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{length} in chunks: {head}");
        let seen = application.requests();
        assert_eq!(seen.len(), 6, "{length}");
        assert!([1, 2, 4, 5].iter().all(|number| seen[*number] == ("PUT".to_owned(), hash.clone())), "{length}");
    }
}

#[tokio::test]
async fn body_beyond_the_limit_is_sent_once_and_counted() {
    let retries = Retries { body_limit: 9, ..at_once() };
    for (body, expected) in [(&b"nine byte"[..], 3), (b"ten bytes.", 1)] {
        let (pair, application) = pair(retries.clone(), |_| Does::Cut).await;
        let (head, _) = ask(&pair, "PUT", body).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert_eq!(application.requests().len(), expected);
        assert_eq!(refused(&pair, Refusal::BodyTooLong), u64::from(expected == 1));
    }
}

#[tokio::test]
async fn dead_backend_gets_no_more_load_than_the_budget_allows() {
    let named = Retries { on: vec![RetryOn::Reset, RetryOn::ServerError], ..at_once() };
    for (dead, status) in [(Does::Cut, "502"), (Does::Answer(503), "503")] {
        let (pair, application) = pair(named.clone(), move |_| dead).await;
        let began = Instant::now();
        let mut clients = JoinSet::new();
        let (callers, each) = (10, 60);
        for _ in 0..callers {
            let mut client = pair.call().await;
            clients.spawn(async move {
                for _ in 0..each {
                    let (head, _) = send(&mut client, "GET", b"").await;
                    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        let (sent, got) = (callers * each, application.requests().len());
        let seconds = began.elapsed().as_secs_f64() + 1.0;
        let most = f64::from(sent) * 1.2 + f64::from(RetryBudget::default().min_per_second) * seconds;
        assert!(got as f64 <= most, "{got} requests arrived of {sent} sent; at most {most}");
        // All of it is used: they would have been three times as many.
        assert!(got as f64 >= f64::from(sent) * 1.15, "{got} of {sent}");
        assert!(refused(&pair, Refusal::BudgetUsed) > 0);
    }
}

#[tokio::test]
async fn answer_is_passed_on_where_the_budget_pays_for_no_other() {
    let budget = RetryBudget { percent: 0, min_per_second: 1 };
    let retries = Retries { on: vec![RetryOn::GatewayError], budget, ..at_once() };
    let (pair, application) = pair(retries, |_| Does::Answer(503)).await;
    let (head, body) = ask(&pair, "GET", b"").await;
    assert!(head.starts_with("HTTP/1.1 503 X") && body.len() == 64, "it is the application's: {head}{body}");
    assert_eq!(application.requests().len(), 2);
    assert_eq!(refused(&pair, Refusal::BudgetUsed), 1);
}

#[tokio::test]
async fn silent_attempt_is_given_up_after_its_own_limit_and_repeated() {
    let script = |number| if number == 0 { Does::Nothing } else { Does::Answer(200) };
    for (method, expected) in [("GET", "HTTP/1.1 200 "), ("POST", "HTTP/1.1 504 ")] {
        let (pair, application) = pair(at_once(), script).await;
        let timeouts = Timeouts { per_try: Some(Duration::from_millis(300)), ..Timeouts::default() };
        set(&pair, TrafficPolicy { timeouts, retries: at_once(), ..TrafficPolicy::default() });
        let (head, _) = ask(&pair, method, b"x").await;
        assert!(head.starts_with(expected), "{method}: {head}");
        assert_eq!(application.requests().len(), if method == "GET" { 2 } else { 1 });
    }
}

#[tokio::test]
async fn limit_of_the_request_bounds_its_attempts_and_pauses_together() {
    let long = Backoff { base: Duration::from_secs(60), max: Duration::from_secs(60) };
    let retries = Retries { backoff: long, ..Retries::default() };
    let (pair, _application) = pair(retries.clone(), |_| Does::Cut).await;
    let timeouts = Timeouts { request: Some(Duration::from_millis(200)), ..Timeouts::default() };
    set(&pair, TrafficPolicy { timeouts, retries, ..TrafficPolicy::default() });
    let began = Instant::now();
    let (head, _) = ask(&pair, "GET", b"").await;
    assert!(head.starts_with("HTTP/1.1 50"), "{head}");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn client_that_leaves_in_a_pause_is_not_called_for_again() {
    let long = Backoff { base: Duration::from_secs(60), max: Duration::from_secs(60) };
    // Nearly never does chance pause for less than this test takes.
    let (mut pair, application) = pair(Retries { backoff: long, ..Retries::default() }, |_| Does::Cut).await;
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    pair.callee.record().await;
    // A reset, as of a client that was killed.
    client.0.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(pair.caller.record().await.outcome, Outcome::ClientGone);
    assert_eq!(application.requests().len(), 1);
}

#[tokio::test]
async fn call_of_grpc_that_fails_without_a_message_is_repeated_where_its_code_is_named() {
    let unavailable = RetryOn::Grpc(GrpcCode::of_word("unavailable").unwrap());
    for (on, expected) in [(vec![unavailable], "0"), (vec![RetryOn::Reset], "14")] {
        let pair = Pair::start().await;
        set(&pair, TrafficPolicy { retries: Retries { on, ..at_once() }, ..TrafficPolicy::default() });
        let io = TcpStream::connect(pair.caller.outbound).await.unwrap();
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let call = Request::post("http://b.demo/a.B/C").header("content-type", "application/grpc").body(()).unwrap();
        let (response, mut body) = send.ready().await.unwrap().send_request(call, false).unwrap();
        body.send_data("call".into(), true).unwrap();
        let mut server = h2::server::handshake(pair.application().await.0).await.unwrap();
        tokio::spawn(async move {
            for code in ["14", "0"] {
                let Some(Ok((mut request, mut respond))) = server.accept().await else { return };
                let said = tokio::select! {
                    said = request.body_mut().data() => said,
                    _ = std::future::poll_fn(|cx| server.poll_closed(cx)) => return,
                };
                assert_eq!(said.unwrap().unwrap(), "call");
                let mut answer = Response::new(());
                answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                answer.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
                respond.send_response(answer, true).unwrap();
            }
            let _ = std::future::poll_fn(|cx| server.poll_closed(cx)).await;
        });
        let response = tokio::time::timeout(LIMIT, response).await.unwrap().unwrap();
        assert_eq!(response.headers()["grpc-status"], expected);
    }
}
