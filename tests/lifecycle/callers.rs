//! Callers of every kind, each on connections of its own, counted: what fails is told at the end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use mesh_tests::{
    client::{Body, Connection, LIMIT, Version, full, request},
    netns::Inside,
    wait::{pace, within},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// Host of the service that is called.
pub(crate) const HOST: &str = "b";
/// Failures that are shown.
const SHOWN: usize = 8;
/// Between two messages of a stream.
const BETWEEN: Duration = Duration::from_millis(20);
/// Messages of a short stream.
const SHORT: usize = 10;
/// Status of a WebSocket whose server goes away.
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// What a caller does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Http1Get,
    Http1Post,
    Http2,
    Slow,
    GrpcUnary,
    GrpcShortStream,
    GrpcLongStream,
    Events,
    WebSocket,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Http1Get,
        Kind::Http1Post,
        Kind::Http2,
        Kind::Slow,
        Kind::GrpcUnary,
        Kind::GrpcShortStream,
        Kind::GrpcLongStream,
        Kind::Events,
        Kind::WebSocket,
    ];
}

#[derive(Default)]
struct Tally {
    done: Mutex<BTreeMap<Kind, usize>>,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Tally {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, kind: Kind) {
        *self.done.lock().expect("no panic while held").entry(kind).or_default() += 1;
    }
}

/// Callers that call until they are ended.
pub(crate) struct Callers {
    tally: Arc<Tally>,
    ended: oneshot::Receiver<()>,
    _running: Running,
}

/// Where callers run; they end with it.
enum Running {
    Here { _callers: JoinSet<()> },
    Inside { _callers: Inside },
}

impl Callers {
    /// So many callers of each kind, in this network namespace where one is named, through the sidecar whose outbound
    /// address is `to`, with this pause between two short requests.
    pub(crate) fn start(space: Option<&str>, to: SocketAddr, kinds: &[Kind], each: usize, pause: Duration) -> Callers {
        let (tally, kinds) = (Arc::new(Tally::default()), kinds.repeat(each));
        let (done, ended) = oneshot::channel();
        let counted = Arc::clone(&tally);
        let call = move || async move {
            let mut callers = JoinSet::new();
            kinds.into_iter().for_each(|kind| drop(callers.spawn(run(kind, to, pause, Arc::clone(&counted)))));
            while let Some(ended) = callers.join_next().await {
                ended.expect("a caller does not panic");
            }
            // Nobody may wait for the end.
            let _ = done.send(());
        };
        let running = match space {
            Some(space) => Running::Inside { _callers: Inside::run(space, call) },
            None => {
                let mut callers = JoinSet::new();
                callers.spawn(call());
                Running::Here { _callers: callers }
            }
        };
        Callers { tally, ended, _running: running }
    }

    /// All of them.
    pub(crate) fn total(&self) -> usize {
        self.tally.done.lock().expect("no panic while held").values().sum()
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.tally.failures.lock().expect("no panic while held").is_empty()
    }

    /// Ends them.
    pub(crate) async fn end_without_failure(self, when: &str) -> BTreeMap<Kind, usize> {
        self.end_with_at_most(0.0, when).await
    }

    /// Ends them; so great a part of their calls may have failed.
    pub(crate) async fn end_with_at_most(self, part: f64, when: &str) -> BTreeMap<Kind, usize> {
        self.tally.stop.store(true, Ordering::Relaxed);
        within("the end of the callers", 2 * LIMIT, self.ended).await.expect("callers do not panic");
        let failures = self.tally.failures.lock().expect("no panic while held").clone();
        let done = self.tally.done.lock().expect("no panic while held").clone();
        let shown = &failures[..failures.len().min(SHOWN)];
        let most = part * done.values().sum::<usize>() as f64;
        assert!(failures.len() as f64 <= most, "{when}: {} failed ({done:?}): {shown:#?}", failures.len());
        done
    }
}

async fn run(kind: Kind, to: SocketAddr, pause: Duration, tally: Arc<Tally>) {
    while !tally.is_over() {
        let result = match kind {
            Kind::Http1Get => short(kind, Version::Http1, Method::GET, (to, pause), &tally).await,
            Kind::Http1Post => short(kind, Version::Http1, Method::POST, (to, pause), &tally).await,
            Kind::Http2 => short(kind, Version::Http2, Method::POST, (to, pause), &tally).await,
            Kind::Slow => slow(to, &tally).await,
            Kind::GrpcUnary => call(kind, to, 1, &tally).await,
            Kind::GrpcShortStream => call(kind, to, SHORT, &tally).await,
            Kind::GrpcLongStream => call(kind, to, usize::MAX, &tally).await,
            Kind::Events => events(to, &tally).await,
            Kind::WebSocket => websocket(to, &tally).await,
        };
        if let Err(error) = result {
            tally.failures.lock().expect("no panic while held").push(format!("{kind:?}: {error:#}"));
            pace(pause).await;
        }
    }
}

/// Requests on one connection for as long as it lasts, which the caller's own sidecar decides.
async fn short(
    kind: Kind,
    version: Version,
    method: Method,
    (to, pause): (SocketAddr, Duration),
    tally: &Tally,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(to, version).await?;
    while !tally.is_over() {
        let body = if method == Method::GET { full("") } else { full("0123456789") };
        let length = if method == Method::GET { "0" } else { "10" };
        let answer = connection.send(request(method.clone(), HOST, "/", &[], body)).await?;
        ensure!(answer.status == 200 && answer.text() == length, "{} {}", answer.status, answer.text());
        ensure!(answer.header("x-mesh-draining").is_empty(), "the application was told of a marker");
        tally.count(kind);
        pace(pause).await;
    }
    Ok(())
}

async fn slow(to: SocketAddr, tally: &Tally) -> anyhow::Result<()> {
    let mut connection = Connection::open(to, Version::Http1).await?;
    let answer = connection.send(request(Method::GET, HOST, "/slow", &[], full(""))).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    tally.count(Kind::Slow);
    Ok(())
}

fn message(text: &[u8]) -> Bytes {
    let mut message = vec![0];
    message.extend((text.len() as u32).to_be_bytes());
    message.extend(text);
    message.into()
}

/// What was heard in a call: messages, and the status in the trailers.
type Heard = (Vec<u8>, Option<Vec<u8>>);

async fn listen(connection: &mut Connection, request: Request<Body>) -> anyhow::Result<Heard> {
    let response = connection.start(request).await?;
    ensure!(response.status() == 200, "{}", response.status());
    if let Some(status) = response.headers().get("grpc-status") {
        bail!("ended at once as {status:?} {:?}", response.headers().get("grpc-message"));
    }
    let (mut body, mut heard) = (response.into_body(), Vec::new());
    while let Some(frame) = timeout(LIMIT, body.frame()).await.context("silence")? {
        match frame?.into_data() {
            Ok(bytes) => heard.extend(bytes),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let status = trailers.get("grpc-status").map(|status| status.as_bytes().to_vec());
                return Ok((heard, status));
            }
        }
    }
    bail!("no trailers after {} bytes", heard.len())
}

/// A call of gRPC with so many messages, each of which is said back. One without end may be ended by its server, in order.
async fn call(kind: Kind, to: SocketAddr, messages: usize, tally: &Tally) -> anyhow::Result<()> {
    let mut connection = Connection::open(to, Version::Http2).await?;
    let (say, said) = mpsc::channel(1);
    let body: Body = StreamBody::new(ReceiverStream::new(said).map(|bytes| Ok(Frame::data(bytes)))).boxed();
    let mut request: Request<Body> = request(Method::POST, HOST, "/call", &[], body);
    let fields = request.headers_mut();
    fields.insert("content-type", http::HeaderValue::from_static("application/grpc"));
    fields.insert("te", http::HeaderValue::from_static("trailers"));
    let speaking = async {
        for number in 0..messages {
            if tally.is_over() || say.send(message(&number.to_be_bytes())).await.is_err() {
                break;
            }
            if messages > 1 {
                pace(BETWEEN).await;
            }
        }
        drop(say);
    };
    // Whoever hears the end stops speaking.
    let speaking = async {
        speaking.await;
        std::future::pending::<anyhow::Result<Heard>>().await
    };
    let (heard, status) = tokio::select! {
        ended = listen(&mut connection, request) => ended?,
        never = speaking => never?,
    };
    let length = message(&[0; 8]).len();
    ensure!(heard.chunks(length).all(|one| one.len() == length), "{} bytes are no whole messages", heard.len());
    match (status.as_deref(), kind) {
        (Some(b"0"), _) => {}
        (Some(b"14"), Kind::GrpcLongStream) => {}
        (status, _) => bail!("grpc-status {:?}", status.map(String::from_utf8_lossy)),
    }
    tally.count(kind);
    Ok(())
}

/// Events for as long as they come; their end must be in order and behind a whole event.
async fn events(to: SocketAddr, tally: &Tally) -> anyhow::Result<()> {
    let mut connection = Connection::open(to, Version::Http1).await?;
    let response = connection.start(request(Method::GET, HOST, "/events", &[], full(""))).await?;
    ensure!(response.status() == 200, "{}", response.status());
    let (mut body, mut last) = (response.into_body(), Vec::new());
    while !tally.is_over() {
        let Some(frame) = timeout(LIMIT, body.frame()).await.context("silence")? else {
            // One that begins when the time is over is ended before its first event.
            ensure!(
                last.is_empty() || last.ends_with(b"\n\n"),
                "ended inside an event: {:?}",
                String::from_utf8_lossy(&last)
            );
            tally.count(Kind::Events);
            return Ok(());
        };
        if let Ok(bytes) = frame?.into_data() {
            last = [&last[last.len().saturating_sub(2)..], &bytes].concat();
        }
    }
    Ok(())
}

/// A WebSocket that says something and hears it said back, until its server goes away.
async fn websocket(to: SocketAddr, tally: &Tally) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(to).await?;
    let head = format!("GET /chat HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(LIMIT, socket.read_u8()).await.context("no answer")??);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&answer));
    while !tally.is_over() {
        socket.write_all(b"\x82\x84\0\0\0\0ping").await.context("a frame could not be sent")?;
        let mut head = [0; 2];
        timeout(LIMIT, socket.read_exact(&mut head)).await.context("silence")?.context("cut")?;
        let mut payload = vec![0; usize::from(head[1])];
        timeout(LIMIT, socket.read_exact(&mut payload)).await.context("silence")?.context("cut inside a frame")?;
        match (head[0], &payload[..]) {
            (0x82, b"ping") => pace(BETWEEN).await,
            (0x88, status) if *status == GOING_AWAY => {
                socket.write_all(&[&b"\x88\x82\0\0\0\0"[..], status].concat()).await?;
                let mut rest = Vec::new();
                timeout(LIMIT, socket.read_to_end(&mut rest))
                    .await
                    .context("no end")?
                    .context("cut after the close")?;
                ensure!(rest.is_empty(), "{rest:?} after the close");
                tally.count(Kind::WebSocket);
                return Ok(());
            }
            (first, payload) => bail!("frame {first:#x} {payload:?}"),
        }
    }
    Ok(())
}
