//! Requests of ordinary clients: HTTP/1.1 and HTTP/2 with prior knowledge, one connection or many.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Longest that one exchange of a test may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A body that can be anything.
pub type Body = BoxBody<Bytes, anyhow::Error>;

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, prior knowledge, plaintext.
    Http2,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailer fields; empty where there were none.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// First value of a header field as text, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When the body breaks.
    pub async fn collect(response: Response<Incoming>) -> anyhow::Result<Answer> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.context("body of the answer")?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers })
    }
}

/// A request to `http://<host><path>`.
pub fn request(method: Method, host: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let uri: Uri = format!("http://{host}{path}").parse().expect("a test writes valid addresses");
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a test writes valid names");
        request.headers_mut().append(name, HeaderValue::from_str(value).expect("a test writes valid values"));
    }
    request
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An open connection of a client.
pub struct Connection {
    sender: Sender,
}

impl Connection {
    /// Opens a connection to `to`.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn open(to: SocketAddr, version: Version) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        Connection::over(stream, version).await
    }

    /// Speaks over an established stream.
    ///
    /// # Errors
    /// When the handshake of the protocol fails.
    pub async fn over<S>(stream: S, version: Version) -> anyhow::Result<Connection>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let sender = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection.with_upgrades());
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender })
    }

    /// Sends a request and returns the answer's head, its body still to be read.
    ///
    /// # Errors
    /// When the connection breaks before the head, or nothing comes within [`LIMIT`].
    pub async fn start(&mut self, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        let answer = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(in_origin_form(request)).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(tokio::time::timeout(LIMIT, answer).await.context("no answer")??)
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When the answer does not come whole within [`LIMIT`].
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Answer> {
        let response = self.start(request).await?;
        tokio::time::timeout(LIMIT, Answer::collect(response)).await.context("answer not whole")?
    }
}

/// HTTP/1.1 wants the path alone, and the host in `Host`.
fn in_origin_form(mut request: Request<Body>) -> Request<Body> {
    if request.method() == Method::CONNECT {
        return request;
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    if !request.headers().contains_key(http::header::HOST)
        && let Ok(value) = HeaderValue::from_str(&authority)
    {
        request.headers_mut().insert(http::header::HOST, value);
    }
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

/// One GET on a connection of its own.
///
/// # Errors
/// When no whole answer comes.
pub async fn get(
    to: SocketAddr,
    version: Version,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(to, version).await?;
    connection.send(request(Method::GET, host, path, headers, full(""))).await
}

/// One POST on a connection of its own.
///
/// # Errors
/// When no whole answer comes.
pub async fn post(to: SocketAddr, host: &str, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(to, Version::Http1).await?;
    connection.send(request(Method::POST, host, path, &[], full(body))).await
}
