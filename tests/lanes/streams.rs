//! Streams that are open when a lane changes: a WebSocket, server-sent events and a gRPC stream go on where they began,
//! whatever becomes of the lane; what begins later finds the new level.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, future::join_all};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use mesh_tests::{
    client::{Body, Connection, LIMIT, full, request},
    mesh::Mesh,
    pod::PodSpec,
    server::{Server, text},
    wait::{PATIENCE, pace, until},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    chain::{self, LABEL},
    stages::change,
    words::{From, Protocol, open_websocket, read_text, switched, write_text},
};

/// Pods of the mesh: all have a proxy.
const PROXIES: usize = 3;
/// Between two messages of a stream.
const PAUSE: Duration = Duration::from_millis(10);
/// Messages that every stream must have got after a change.
const MORE: usize = 25;

/// A body of what is said, for as long as somebody speaks.
fn streamed(said: mpsc::Receiver<Bytes>) -> Body {
    BodyExt::boxed(StreamBody::new(ReceiverStream::new(said).map(|bytes| Ok(Frame::data(bytes)))))
}

/// A message of gRPC with this text.
fn message(text: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(text.len() as u32);
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}

/// Takes the first whole message of gRPC out of what was read.
fn take_message(read: &mut BytesMut) -> Option<String> {
    let length = u32::from_be_bytes(read.get(1..5)?.try_into().ok()?) as usize;
    if read.len() < 5 + length {
        return None;
    }
    read.advance(5);
    Some(String::from_utf8_lossy(&read.split_to(length)).into_owned())
}

/// An application whose answers begin with its name: each message of a WebSocket or a gRPC stream is answered, events are
/// sent on their own.
async fn answer(pod: &'static str, mut incoming: Request<Incoming>) -> Response<Body> {
    match Protocol::of(&incoming) {
        Protocol::WebSocket => {
            let upgrade = hyper::upgrade::on(&mut incoming);
            tokio::spawn(async move {
                let mut socket = TokioIo::new(upgrade.await?);
                while let Ok(said) = read_text(&mut socket).await {
                    write_text(&mut socket, &format!("{pod} {said}"), From::Server).await?;
                }
                anyhow::Ok(())
            });
            switched()
        }
        Protocol::Grpc => {
            let (say, said) = mpsc::channel(1);
            let (mut body, mut read) = (incoming.into_body(), BytesMut::new());
            tokio::spawn(async move {
                while let Some(frame) = body.frame().await {
                    read.extend_from_slice(frame?.data_ref().context("trailers")?);
                    while let Some(heard) = take_message(&mut read) {
                        say.send(message(&format!("{pod} {heard}"))).await?;
                    }
                }
                anyhow::Ok(())
            });
            let mut answer = Response::new(streamed(said));
            answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            answer
        }
        Protocol::Http1 if incoming.uri().path() == "/events" => {
            let (say, said) = mpsc::channel(1);
            tokio::spawn(async move {
                for number in 0.. {
                    pace(PAUSE).await;
                    say.send(format!("data: {pod} {number}\n\n").into()).await?;
                }
                anyhow::Ok(())
            });
            let mut answer = Response::new(streamed(said));
            answer.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            answer
        }
        Protocol::Http1 | Protocol::Http2 => text(pod),
    }
}

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    WebSocket,
    Events,
    Grpc,
}

/// A stream that is held open, and how far it has come.
#[derive(Clone)]
struct Held {
    kind: Kind,
    served: &'static str,
    count: Arc<AtomicUsize>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Held {
    /// Takes in the next message: of the same instance, and none left out.
    fn next(&self, said: &str) -> anyhow::Result<()> {
        let expected = format!("{} {}", self.served, self.count.load(Ordering::SeqCst));
        ensure!(said == expected, "{said:?} came instead of {expected:?}");
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn run(self, to: SocketAddr, labels: Vec<(&'static str, &'static str)>) {
        let done = match self.kind {
            Kind::WebSocket => self.websocket(to, &labels).await,
            Kind::Events => self.events(to, &labels).await,
            Kind::Grpc => self.grpc(to, labels).await,
        };
        let why = done.map_or_else(|error| format!("{error:#}"), |()| "it ended".to_owned());
        *self.ended.lock().expect("no panic while held") = Some(why);
    }

    async fn websocket(&self, to: SocketAddr, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut connection = Connection::open(to, Protocol::WebSocket.version()).await?;
        let mut socket: TokioIo<Upgraded> = open_websocket(&mut connection, "b", "/", labels).await?;
        for number in 0.. {
            write_text(&mut socket, &number.to_string(), From::Client).await?;
            self.next(&tokio::time::timeout(LIMIT, read_text(&mut socket)).await??)?;
            pace(PAUSE).await;
        }
        Ok(())
    }

    async fn events(&self, to: SocketAddr, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut connection = Connection::open(to, Protocol::Http1.version()).await?;
        let answer = connection.start(request(Method::GET, "b", "/events", labels, full(""))).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let (mut body, mut read) = (answer.into_body(), String::new());
        while let Some(frame) = tokio::time::timeout(LIMIT, body.frame()).await? {
            read.push_str(std::str::from_utf8(frame?.data_ref().context("no data")?)?);
            while let Some((event, rest)) = read.split_once("\n\n") {
                self.next(event.strip_prefix("data: ").unwrap_or(event))?;
                read = rest.to_owned();
            }
        }
        Ok(())
    }

    async fn grpc(&self, to: SocketAddr, mut labels: Vec<(&'static str, &'static str)>) -> anyhow::Result<()> {
        labels.extend([("content-type", "application/grpc"), ("te", "trailers")]);
        let mut connection = Connection::open(to, Protocol::Grpc.version()).await?;
        let (say, said) = mpsc::channel(1);
        let body = streamed(said);
        say.send(message("0")).await?;
        let answer = connection.start(request(Method::POST, "b", "/echo.Echo/Talk", &labels, body)).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let (mut body, mut read) = (answer.into_body(), BytesMut::new());
        for number in 1.. {
            while take_message(&mut read).map(|said| self.next(&said)).transpose()?.is_none() {
                let frame = tokio::time::timeout(LIMIT, body.frame()).await?.context("it ended")??;
                read.extend_from_slice(frame.data_ref().context("trailers")?);
            }
            pace(PAUSE).await;
            say.send(message(&number.to_string())).await?;
        }
        Ok(())
    }
}

/// `b` with an instance in baseline and one in the lane.
async fn start() -> (Mesh, Vec<Server>) {
    let canary = PodSpec::new("b-canary").of("b").account("b").label("lane", "canary");
    let builder = Mesh::builder().pod(PodSpec::new("client")).pod(PodSpec::new("b").of("b")).pod(canary);
    let resources = format!("{}---\n{}", chain::group(""), chain::lane("canary", ""));
    let mesh = builder.resource(&resources).start().await;
    let mut applications = Vec::new();
    for pod in ["b", "b-canary"] {
        applications.push(Server::start(mesh.application(pod), move |request| answer(pod, request)).await);
    }
    mesh.reachable("client", "b").await;
    (mesh, applications)
}

/// Waits until every stream has got more messages, and none has ended.
async fn all_go_on(held: &[Held], after: &str) {
    let before: Vec<usize> = held.iter().map(|one| one.count.load(Ordering::SeqCst)).collect();
    until(&format!("messages on every stream after {after}"), PATIENCE, || async {
        for one in held {
            let ended = one.ended.lock().expect("no panic while held").clone();
            assert_eq!(ended, None, "{:?} at {} after {after}", one.kind, one.served);
        }
        let more = |(one, before): (&Held, &usize)| one.count.load(Ordering::SeqCst) >= before + MORE;
        held.iter().zip(&before).all(more).then_some(())
    })
    .await;
}

/// Who serves requests that begin now: many of the lane, many of baseline.
async fn fresh(mesh: &Mesh) -> [Vec<String>; 2] {
    let mut served = [Vec::new(), Vec::new()];
    for (labels, served) in [&[LABEL][..], &[]].into_iter().zip(&mut served) {
        // At the same time: instances of one level share them.
        let answers = join_all((0..30).map(|_| mesh.get("client", "b", "/", labels))).await;
        served.extend(answers.into_iter().map(|answer| answer.expect("the sidecar answers").text()));
        served.sort();
        served.dedup();
    }
    served
}

#[tokio::test]
async fn open_streams_stay_where_they_began_while_their_lane_is_drained_promoted_rolled_back_closed_and_deleted() {
    let (mesh, applications) = start().await;
    let to = mesh.pod("client").outbound();
    let (mut held, mut tasks) = (Vec::new(), JoinSet::new());
    for kind in [Kind::WebSocket, Kind::Events, Kind::Grpc] {
        for (served, labels) in [("b-canary", vec![LABEL]), ("b", vec![])] {
            let one = Held { kind, served, count: Arc::default(), ended: Arc::default() };
            tasks.spawn(one.clone().run(to, labels));
            held.push(one);
        }
    }
    all_go_on(&held, "the beginning").await;
    let (own, both) = ([vec!["b-canary".to_owned()], vec!["b".to_owned()]], ["b", "b-canary"].map(str::to_owned));
    let shared = [both.to_vec(), both.to_vec()];
    let verbs = ["drain", "rollback", "drain", "promote", "rollback", "close", "rollback", "rollback"];
    for (verb, expected) in verbs.into_iter().zip([&own, &own, &own, &shared, &own, &shared, &own, &shared]) {
        let took = change(&mesh, PROXIES, "shop/canary", verb).await;
        assert_eq!(fresh(&mesh).await, *expected, "what begins after {verb}");
        all_go_on(&held, verb).await;
        println!("{verb}: at every proxy after {} ms", took.as_millis());
    }
    mesh.write_source("resources.yaml", &chain::group(""));
    until("the lane is gone", PATIENCE, || async {
        mesh.console("/api/v1/lanes").await.ok()?["items"][0]["lanes"].as_array()?.is_empty().then_some(())
    })
    .await;
    all_go_on(&held, "the deletion of the lane").await;
    let counts: Vec<usize> = held.iter().map(|one| one.count.load(Ordering::SeqCst)).collect();
    println!("six streams, messages on each: {counts:?}; none ended, none moved");
    drop((tasks, applications));
}
