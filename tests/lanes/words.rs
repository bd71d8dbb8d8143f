//! How a link is called and how it answers, in each protocol: HTTP/1.1, HTTP/2, gRPC, and text over a WebSocket.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Frame, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use mesh_tests::client::{Answer, Body, Connection, LIMIT, Version, full, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Protocol between a caller, the sidecars and a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Grpc,
    WebSocket,
}

/// All of them.
pub(crate) const PROTOCOLS: [Protocol; 4] = [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::WebSocket];

/// What makes an upgrade one to WebSocket (RFC 6455 1.3, with the key of its example).
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const ACCEPT: &str = "s3pPLBmTxaQ9kYGzzhZRbK+xOo=";
/// A gRPC message without content: not compressed, length 0.
const NO_MESSAGE: [u8; 5] = [0; 5];

impl Protocol {
    /// The protocol in which a link was called.
    pub(crate) fn of<B>(incoming: &Request<B>) -> Protocol {
        let has = |name: &str, value: &str| incoming.headers().get(name).is_some_and(|found| found == value);
        if has("upgrade", "websocket") {
            Protocol::WebSocket
        } else if has("content-type", "application/grpc") {
            Protocol::Grpc
        } else if incoming.version() == http::Version::HTTP_2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        }
    }

    /// Version of the connection that carries it.
    pub(crate) fn version(self) -> Version {
        match self {
            Protocol::Http1 | Protocol::WebSocket => Version::Http1,
            Protocol::Http2 | Protocol::Grpc => Version::Http2,
        }
    }

    /// An answer of a link, not for WebSocket.
    pub(crate) fn answer(self, text: String) -> Response<Body> {
        match self {
            Protocol::Http1 | Protocol::Http2 => Response::new(full(text)),
            Protocol::Grpc => grpc_answer(&text),
            Protocol::WebSocket => panic!("a WebSocket answers in its messages"),
        }
    }

    /// Calls a link over an open connection and reads its answer. A WebSocket uses the connection up.
    pub(crate) async fn call(
        self,
        connection: &mut Connection,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        match self {
            Protocol::Http1 | Protocol::Http2 => {
                let answer = connection.send(request(Method::GET, host, path, headers, full(""))).await?;
                ensure!(answer.status == 200, "{host} answered {}: {}", answer.status, answer.text());
                Ok(answer.text())
            }
            Protocol::Grpc => {
                let own = [("content-type", "application/grpc"), ("te", "trailers")];
                let headers: Vec<_> = own.iter().chain(headers).copied().collect();
                let message = Bytes::from_static(&NO_MESSAGE);
                let answer = connection.send(request(Method::POST, host, path, &headers, full(message))).await?;
                grpc_text(&answer)
            }
            Protocol::WebSocket => {
                let mut socket = open_websocket(connection, host, path, headers).await?;
                write_text(&mut socket, "?", From::Client).await?;
                tokio::time::timeout(LIMIT, read_text(&mut socket)).await?
            }
        }
    }
}

/// Makes a WebSocket of the connection.
pub(crate) async fn open_websocket(
    connection: &mut Connection,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<TokioIo<Upgraded>> {
    let headers: Vec<_> = UPGRADE.iter().chain(headers).copied().collect();
    let response = connection.start(request(Method::GET, host, path, &headers, full(""))).await?;
    let status = response.status();
    ensure!(status == StatusCode::SWITCHING_PROTOCOLS, "{host} answered {status}");
    Ok(TokioIo::new(hyper::upgrade::on(response).await?))
}

/// One call on a connection of its own.
pub(crate) async fn call_once(
    protocol: Protocol,
    to: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut connection = Connection::open(to, protocol.version()).await?;
    protocol.call(&mut connection, host, path, headers).await
}

fn grpc_answer(text: &str) -> Response<Body> {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(text.len() as u32);
    message.put_slice(text.as_bytes());
    let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(message.freeze()), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, anyhow::Error>)));
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}

fn grpc_text(answer: &Answer) -> anyhow::Result<String> {
    let status = answer.trailers.get("grpc-status").or_else(|| answer.headers.get("grpc-status"));
    ensure!(status.is_some_and(|status| status == "0"), "{answer:?}");
    let message = answer.body.get(NO_MESSAGE.len()..).context("no message")?;
    Ok(String::from_utf8_lossy(message).into_owned())
}

/// Who writes a frame: a client's are masked, here with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Server,
}

/// Writes a message.
pub(crate) async fn write_text(socket: &mut TokioIo<Upgraded>, text: &str, from: From) -> anyhow::Result<()> {
    let masked = if from == From::Client { 0x80 } else { 0 };
    let mut frame = vec![0x81, masked | 126];
    frame.put_u16(u16::try_from(text.len())?);
    if from == From::Client {
        frame.put_u32(0);
    }
    frame.extend_from_slice(text.as_bytes());
    socket.write_all(&frame).await?;
    Ok(socket.flush().await?)
}

/// Reads a message.
pub(crate) async fn read_text(socket: &mut TokioIo<Upgraded>) -> anyhow::Result<String> {
    ensure!(socket.read_u8().await? == 0x81, "no whole text message");
    let length = socket.read_u8().await?;
    ensure!(length & 0x7f == 126, "a length as the links write it");
    let mut text = vec![0; usize::from(socket.read_u16().await?)];
    if length & 0x80 != 0 {
        ensure!(socket.read_u32().await? == 0, "a mask as the links write it");
    }
    socket.read_exact(&mut text).await?;
    Ok(String::from_utf8(text)?)
}

/// Takes a WebSocket: the answer to the upgrade, and a task that answers the first message with `text`.
pub(crate) fn accept(incoming: &mut Request<hyper::body::Incoming>, text: String) -> Response<Body> {
    let upgrade = hyper::upgrade::on(incoming);
    tokio::spawn(async move {
        let mut socket = TokioIo::new(upgrade.await?);
        read_text(&mut socket).await?;
        write_text(&mut socket, &text, From::Server).await
    });
    switched()
}

/// The answer that makes a WebSocket of a connection.
pub(crate) fn switched() -> Response<Body> {
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT)] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
