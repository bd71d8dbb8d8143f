//! Ordinary applications behind sidecars: HTTP/1.1 and HTTP/2 on one port, answers made by a test.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{HeaderMap, Method, Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::client::{Body, Connection, Version, full, request};

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// What an application has seen.
#[derive(Default)]
pub struct Seen {
    /// Connections accepted.
    pub connections: AtomicUsize,
    /// Bytes or not: connections on which anything arrived.
    pub spoken: AtomicUsize,
    /// Requests received.
    pub requests: AtomicUsize,
}

impl Seen {
    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A running application; ends when dropped.
pub struct Server {
    /// Counters.
    pub seen: Arc<Seen>,
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens on `address` and answers by `handler`.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn start<F, A>(address: SocketAddr, handler: F) -> Server
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("bind {address}: {error}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let seen = Arc::new(Seen::default());
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let accepting = tokio::spawn(accept(listener, handler, Arc::clone(&seen)));
        Server { seen, address, accepting }
    }

    /// Ends it; its address is free when this returns.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // Cancelled, which is what was asked for.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, handler: Handler, seen: Arc<Seen>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, Arc::clone(&handler), Arc::clone(&seen)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, handler: Handler, seen: Arc<Seen>) {
    let mut first = [0u8; 3];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return,
        Ok(_) => seen.spoken.fetch_add(1, Ordering::SeqCst),
    };
    // A socket that is gone says so at the first read.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(stream);
    // How a connection ended is for the client of the test to judge.
    if &first == b"PRI" {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(io, service)
            .with_upgrades()
            .await;
    }
}

/// An answer of status 200 with this text.
pub fn text(text: impl Into<String>) -> Response<Body> {
    Response::new(full(text.into()))
}

/// Header fields that an application of a chain hands on, as tracing frameworks do.
pub const PROPAGATED: &[&str] = &["x-mesh-lane", "baggage", "traceparent"];

/// One link of a chain: answers `<name>[<lane header as received>]`, followed by what `next` answers when called through
/// `outbound` with the propagated fields.
pub async fn link(
    name: String,
    next: Option<(SocketAddr, String)>,
    propagated: &'static [&'static str],
    incoming: Request<Incoming>,
) -> Response<Body> {
    let label = incoming.headers().get("x-mesh-lane").and_then(|value| value.to_str().ok()).unwrap_or("-");
    let own = format!("{name}[{label}]");
    let Some((outbound, host)) = next else { return text(own) };
    match call(outbound, &host, incoming.uri().path(), incoming.headers(), propagated).await {
        Ok(rest) => text(format!("{own} {rest}")),
        Err(error) => {
            let mut answer = text(format!("{own} !{error:#}"));
            *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
            answer
        }
    }
}

async fn call(
    outbound: SocketAddr,
    host: &str,
    path: &str,
    headers: &HeaderMap,
    propagated: &[&str],
) -> anyhow::Result<String> {
    let handed_on: Vec<(&str, &str)> = propagated
        .iter()
        .flat_map(|name| headers.get_all(*name).iter().filter_map(move |value| Some((*name, value.to_str().ok()?))))
        .collect();
    let mut connection = Connection::open(outbound, Version::Http1).await?;
    let answer = connection.send(request(Method::GET, host, path, &handed_on, full(""))).await?;
    anyhow::ensure!(answer.status == 200, "{host} answered {}: {}", answer.status, answer.text());
    Ok(answer.text())
}
