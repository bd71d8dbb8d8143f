//! Stands between a client and a registry, passes everything on, and says again what the registry pushed before: late
//! pushes are the registry's own bytes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    forward::{Forwarder, Target},
    registry::Registry,
};

/// HTTP port; gRPC is 1,000 higher.
const PORT: u16 = 8_848;
/// Path of the stream that pushes come over.
const STREAM: &str = "/BiRequestStream/requestBiStream";
/// What pushes of lists hold, as the type of the message.
const PUSH: &str = "NotifySubscriberRequest";
/// Bytes before a message of gRPC: a flag, and the length.
const HEAD: usize = 5;
/// Messages that wait for the client.
const QUEUE: usize = 16;

type Body = BoxBody<Bytes, hyper::Error>;
type Said = Result<Frame<Bytes>, hyper::Error>;

/// A running stand-in; ends when dropped.
pub struct Replay {
    address: SocketAddr,
    heard: Arc<Heard>,
    accepting: JoinHandle<()>,
    _http: Forwarder,
}

/// What was pushed, and to whom it can be said again.
#[derive(Default)]
struct Heard {
    pushes: Mutex<Vec<Bytes>>,
    streams: Mutex<Vec<mpsc::Sender<Said>>>,
}

impl Replay {
    /// Stands in for `registry` on the loopback address `host`.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn start(registry: &Registry, host: std::net::Ipv4Addr) -> Replay {
        let address: SocketAddr = (host, PORT).into();
        let http = Forwarder::start(address, Target::Plain(registry.address())).await;
        let listener = TcpListener::bind((host, PORT + 1_000)).await.expect("an address of the test's own");
        let (heard, to) = (Arc::new(Heard::default()), registry.grpc_address());
        let accepting = tokio::spawn(accept(listener, to, Arc::clone(&heard)));
        Replay { address, heard, accepting, _http: http }
    }

    /// Where its HTTP listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says again the newest push that is meant, to every client; whether there was one.
    pub async fn again(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        let pushes = self.heard.pushes.lock().expect("no panic while held").clone();
        let Some(push) = pushes.into_iter().rev().find(|push| is_meant(&String::from_utf8_lossy(push))) else {
            return false;
        };
        let streams = self.heard.streams.lock().expect("no panic while held").clone();
        for stream in streams {
            // One that is gone has no client any more.
            let _ = stream.send(Ok(Frame::data(push.clone()))).await;
        }
        true
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, heard: Arc<Heard>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(pass(stream, to, Arc::clone(&heard)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection of a client is one of the registry's: what it registers and subscribes to belongs to it.
async fn pass(client: TcpStream, to: SocketAddr, heard: Arc<Heard>) -> anyhow::Result<()> {
    let server = TcpStream::connect(to).await.context("the registry")?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(server)).await?;
    let service = service_fn(move |request| answer(sender.clone(), request, Arc::clone(&heard)));
    let served =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(client), service);
    // When either side ends, so does the other.
    tokio::select! {
        served = served => served?,
        ended = connection => ended?,
    }
    Ok(())
}

async fn answer(
    mut server: SendRequest<Incoming>,
    request: Request<Incoming>,
    heard: Arc<Heard>,
) -> Result<Response<Body>, hyper::Error> {
    let is_stream = request.uri().path() == STREAM;
    let (head, body) = server.send_request(request).await?.into_parts();
    if !is_stream {
        return Ok(Response::from_parts(head, body.boxed()));
    }
    let (said, heard_by_client) = mpsc::channel(QUEUE);
    heard.streams.lock().expect("no panic while held").push(said.clone());
    tokio::spawn(listen(body, said, heard));
    Ok(Response::from_parts(head, StreamBody::new(ReceiverStream::new(heard_by_client)).boxed()))
}

/// Passes whole messages on, so that another one fits between them, and keeps pushes.
async fn listen(mut body: Incoming, client: mpsc::Sender<Said>, heard: Arc<Heard>) {
    let mut waiting = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                waiting.extend_from_slice(&data);
                while let Some(message) = whole(&mut waiting) {
                    if message.windows(PUSH.len()).any(|part| part == PUSH.as_bytes()) {
                        heard.pushes.lock().expect("no panic while held").push(message.clone());
                    }
                    if client.send(Ok(Frame::data(message))).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            Ok(Err(trailers)) => Ok(trailers),
            Err(error) => Err(error),
        };
        if client.send(frame).await.is_err() {
            return;
        }
    }
}

/// The first message of what was received, with its head, once it is there whole.
fn whole(received: &mut BytesMut) -> Option<Bytes> {
    let mut length = received.get(1..HEAD)?;
    let end = HEAD + usize::try_from(length.get_u32()).ok()?;
    (received.len() >= end).then(|| received.split_to(end).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_out_of_pieces() {
        let mut received = BytesMut::from(&[0, 0, 0, 0, 2, b'a'][..]);
        assert_eq!(whole(&mut received), None);
        received.extend_from_slice(&[b'b', 0, 0, 0]);
        assert_eq!(whole(&mut received).as_deref(), Some(&[0, 0, 0, 0, 2, b'a', b'b'][..]));
        assert_eq!(whole(&mut received), None);
        assert_eq!(&received[..], [0, 0, 0]);
    }
}
