//! An application that answers everything that callers of these tests ask: short requests, event streams, gRPC calls and
//! WebSockets.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use mesh_tests::{
    client::{Body, full},
    server::{Server, text},
    wait::pace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// Between two events of a stream.
const BETWEEN_EVENTS: Duration = Duration::from_millis(20);
/// Frames of a body that wait for a slow caller.
const WAITING: usize = 4;

/// A big answer: more than what waits between two sidecars. All of them share one memory.
static BIG: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; 1024 * 1024].into());

/// How long an application takes for an answer at `/paced`; changed while it runs.
#[derive(Clone)]
pub(crate) struct Pace(Arc<AtomicU64>);

impl Pace {
    /// What it takes at first.
    pub(crate) const ORDINARY: Duration = Duration::from_millis(100);

    pub(crate) fn set(&self, pace: Duration) {
        self.0.store(pace.as_millis() as u64, Ordering::SeqCst);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Pace(Arc::new(AtomicU64::new(Pace::ORDINARY.as_millis() as u64)))
    }
}

/// Starts one.
pub(crate) async fn start(address: SocketAddr) -> Server {
    start_paced(address, Pace::default()).await
}

/// Starts one that takes so long for answers at `/paced`.
pub(crate) async fn start_paced(address: SocketAddr, paced: Pace) -> Server {
    Server::start(address, move |request| answer(address, request, paced.clone())).await
}

async fn answer(address: SocketAddr, request: Request<Incoming>, paced: Pace) -> Response<Body> {
    match request.uri().path() {
        "/paced" => {
            pace(paced.get()).await;
            text("paced")
        }
        "/who" => text(address.to_string()),
        "/events" => {
            let pause = request.uri().query().and_then(|query| query.strip_prefix("pause=")?.parse().ok());
            let between = pause.map_or(BETWEEN_EVENTS, Duration::from_millis);
            streamed("text/event-stream", move |frames| events(frames, between))
        }
        "/call" => streamed("application/grpc", |frames| call(frames, request.into_body())),
        "/chat" => chat(request),
        "/big" => Response::new(full(BIG.clone())),
        "/slow" => {
            pace(Duration::from_secs(1)).await;
            text("slow")
        }
        _ => {
            // Read whole, so that a request whose body is cut is noticed.
            let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            text(format!("{length}"))
        }
    }
}

fn streamed<F>(media: &'static str, speak: impl FnOnce(mpsc::Sender<Frame<Bytes>>) -> F) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (frames, taken) = mpsc::channel(WAITING);
    tokio::spawn(speak(frames));
    let mut response = Response::new(StreamBody::new(ReceiverStream::new(taken).map(Ok)).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// Events without end, each in two pieces. A request may say in its query how many milliseconds are between two.
async fn events(frames: mpsc::Sender<Frame<Bytes>>, between: Duration) {
    for number in 0_u64.. {
        for piece in [format!("data: {number}"), "\n\n".to_owned()] {
            if frames.send(Frame::data(piece.into())).await.is_err() {
                return;
            }
            pace(between / 2).await;
        }
    }
}

/// Says back what it is told, and that all is well once its caller has ended.
async fn call(frames: mpsc::Sender<Frame<Bytes>>, mut said: Incoming) {
    while let Some(Ok(frame)) = said.frame().await {
        // The last frame may be empty: nothing was said.
        if let Ok(bytes) = frame.into_data()
            && !bytes.is_empty()
            && frames.send(Frame::data(bytes)).await.is_err()
        {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // A caller that is gone needs none.
    let _ = frames.send(Frame::trailers(trailers)).await;
}

fn chat(mut request: Request<Incoming>) -> Response<Body> {
    tokio::spawn(say_back(hyper::upgrade::on(&mut request)));
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// A WebSocket that says back every short frame it is told, unmasked, and closes when it is closed.
async fn say_back(upgraded: OnUpgrade) {
    let Ok(upgraded) = upgraded.await else { return };
    let mut socket = TokioIo::new(upgraded);
    loop {
        let mut head = [0; 6];
        if socket.read_exact(&mut head).await.is_err() {
            return;
        }
        let [first, length, mask @ ..] = head;
        let mut payload = vec![0; usize::from(length & 0x7f)];
        if socket.read_exact(&mut payload).await.is_err() {
            return;
        }
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let mut frame = vec![first, payload.len() as u8];
        frame.extend(payload);
        if socket.write_all(&frame).await.is_err() || first & 0x0f == 8 {
            // Closed in order: the end of the connection follows.
            let _ = socket.shutdown().await;
            return;
        }
    }
}
