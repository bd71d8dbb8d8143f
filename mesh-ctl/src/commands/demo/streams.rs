//! Long exchanges of the scenario: a WebSocket and a stream of server-sent events, through gateway and sidecars.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::answers::{ANSWER_WAIT, authority};

/// Key of the handshake and the answer to it (the example of RFC 6455 1.3; it proves no identity).
const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// Mask of our frames (RFC 6455 5.3 wants it unpredictable against caches between; this peer is ours).
const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x21];
/// Longest wait for an echo or an event.
const DELIVERY_WAIT: Duration = Duration::from_secs(5);

/// Text frame, whole (RFC 6455 5.2).
const TEXT: u8 = 0x81;
/// Close frame.
const CLOSE: u8 = 0x88;

/// An open WebSocket to an application that echoes.
pub(crate) struct WebSocket {
    socket: TokioIo<Upgraded>,
    connection: JoinHandle<()>,
}

impl WebSocket {
    /// Opens `/ws` of a service.
    ///
    /// # Errors
    /// When the handshake is not accepted.
    pub(crate) async fn open(entry: SocketAddr, service: &str) -> anyhow::Result<WebSocket> {
        timeout(ANSWER_WAIT, Self::handshake(entry, service)).await.context("no handshake in time")?
    }

    async fn handshake(entry: SocketAddr, service: &str) -> anyhow::Result<WebSocket> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(entry).await?)).await?;
        let connection = tokio::spawn(async move {
            // Its end is seen at the socket.
            let _ = connection.with_upgrades().await;
        });
        let request = Request::get("/ws")
            .header(header::HOST, authority(service))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, KEY.0)
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "the handshake got {}", response.status());
        ensure!(accepted.is_some_and(|value| value == KEY.1), "the handshake got a wrong Sec-WebSocket-Accept");
        Ok(WebSocket { socket: TokioIo::new(hyper::upgrade::on(response).await?), connection })
    }

    /// Sends a text of at most 125 bytes and reads it back.
    ///
    /// # Errors
    /// When it does not come back.
    pub(crate) async fn echo(&mut self, text: &str) -> anyhow::Result<()> {
        timeout(DELIVERY_WAIT, self.exchange(text)).await.context("no echo in time")?
    }

    async fn exchange(&mut self, text: &str) -> anyhow::Result<()> {
        self.socket.write_all(&frame(TEXT, text.as_bytes())).await.context("cannot send")?;
        self.socket.flush().await?;
        let mut start = [0; 2];
        self.socket.read_exact(&mut start).await.context("cannot read")?;
        let mut echoed = vec![0; usize::from(start[1] & 0x7f)];
        self.socket.read_exact(&mut echoed).await.context("cannot read")?;
        ensure!(start[0] == TEXT && echoed == text.as_bytes(), "something else came back");
        Ok(())
    }

    /// Closes in order.
    ///
    /// # Errors
    /// When the other side does not.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        let close = async {
            self.socket.write_all(&frame(CLOSE, &[])).await?;
            self.socket.flush().await?;
            let mut rest = Vec::new();
            self.socket.read_to_end(&mut rest).await?;
            ensure!(rest.first() == Some(&CLOSE), "no close frame came back");
            drop(self.socket);
            Ok(self.connection.await?)
        };
        timeout(DELIVERY_WAIT, close).await.context("no close in time")?
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length <= 125);
    let length = length.expect("the scenario sends short texts only");
    let mut frame = vec![kind, 0x80 | length];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An open stream of server-sent events.
pub(crate) struct EventStream {
    delivered: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl EventStream {
    /// Opens `/events` of a service.
    ///
    /// # Errors
    /// When the answer is not a stream of events.
    pub(crate) async fn open(entry: SocketAddr, service: &str) -> anyhow::Result<EventStream> {
        timeout(ANSWER_WAIT, Self::subscribe(entry, service)).await.context("no answer in time")?
    }

    async fn subscribe(entry: SocketAddr, service: &str) -> anyhow::Result<EventStream> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(entry).await?)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its end is seen by the reader of the body.
            let _ = connection.await;
        });
        let request = Request::get("/events").header(header::HOST, authority(service)).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == StatusCode::OK, "the subscription got {}", response.status());
        let kind = response.headers().get(header::CONTENT_TYPE);
        ensure!(kind.is_some_and(|kind| kind == "text/event-stream"), "the answer is no stream of events");
        let (count, delivered) = watch::channel(0);
        let mut body = response.into_body();
        tasks.spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let ends = frame.data_ref().map_or(0, |data| data.windows(2).filter(|pair| pair == b"\n\n").count());
                count.send_modify(|count| *count += ends as u64);
            }
        });
        Ok(EventStream { delivered, _tasks: tasks })
    }

    /// Events delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        *self.delivered.borrow()
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// When the stream has ended or nothing comes.
    pub(crate) async fn next(&mut self) -> anyhow::Result<u64> {
        let before = self.delivered();
        let next = self.delivered.wait_for(|count| *count > before);
        let count = timeout(DELIVERY_WAIT, next).await.context("no event in time")?.context("the stream has ended")?;
        Ok(*count)
    }
}
