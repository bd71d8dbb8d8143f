//! The admin port: `/ready`, `/live` and `/metrics` for everybody, the console API for loopback clients.
//!
//! The console has no login: who can open a loopback connection may use it. So it asks for what a web page cannot send
//! (no `Origin`, a loopback `Host`), or a page that somebody opens on this machine could steer the mesh.

mod answers;
mod drain;
mod endpoints;
mod explain;
mod instances;
mod lanes;
mod models;
mod zones;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    publish::{Published, Reported},
    sign::tokens::Tokens,
    sources::{
        self,
        file::{self, Request as SourceRequest},
        folder::ApplyError,
        nacos::{register::Ledger, table::Table},
    },
    telemetry::Metrics,
};

/// Connections at the same time: scrapes, probes and a few consoles.
const CONNECTIONS_MAX: usize = 64;
/// Largest body of a request, bytes: ten thousand services.
const BODY_MAX: usize = 16 << 20;
/// Longest wait for the head of a request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the file source to check resources.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after the listener failed, so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the console answers from.
pub struct Console {
    /// What is published.
    pub published: Arc<Published>,
    /// What proxies report.
    pub reported: Reported,
    /// States of all sources.
    pub states: sources::States,
    /// State of the file source.
    pub state: Arc<sources::Shared>,
    /// Services of registries, as they are registered.
    pub registered: Arc<Table>,
    /// Workloads that are registered with registries, or not.
    pub ledgers: Vec<Ledger>,
    /// To the file source.
    pub requests: mpsc::Sender<file::Request>,
    /// Signs tokens.
    pub tokens: Arc<Tokens>,
    /// Whether the sources have been loaded.
    pub ready: watch::Receiver<bool>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves until `stopping`.
pub async fn serve(listener: TcpListener, console: Console, stopping: CancellationToken) {
    let console = Arc::new(console);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let permit = tokio::select! {
            () = stopping.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept connections of the admin port");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let console = Arc::clone(&console);
        connections.spawn(async move {
            connection(stream, peer, console).await;
            drop(permit);
        });
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, console: Arc<Console>) {
    let service = hyper::service::service_fn(|request| {
        let console = Arc::clone(&console);
        async move { Ok::<_, Infallible>(respond(&console, peer, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%peer, %error, "connection of the admin port ended");
    }
}

type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn with_type(mut answer: Answer, content_type: &'static str) -> Answer {
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    answer
}

fn json(status: StatusCode, value: &Value) -> Answer {
    with_type(plain(status, value.to_string()), "application/json")
}

fn refused(status: StatusCode, reason: &str) -> Answer {
    json(status, &json!({ "error": reason }))
}

async fn respond(console: &Console, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/live") => plain(StatusCode::OK, "live\n"),
        (&Method::GET | &Method::HEAD, "/ready") if *console.ready.borrow() => plain(StatusCode::OK, "ready\n"),
        (&Method::GET | &Method::HEAD, "/ready") => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "not ready: no source has been loaded\n")
        }
        (&Method::GET, "/metrics") => with_type(
            plain(StatusCode::OK, console.metrics.expose()),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        _ => match forbidden(peer, request.headers()) {
            Some(reason) => refused(StatusCode::FORBIDDEN, reason),
            None => api(console, &path, request).await,
        },
    }
}

/// Why a client may not use the console.
fn forbidden(peer: SocketAddr, headers: &HeaderMap) -> Option<&'static str> {
    if !peer.ip().to_canonical().is_loopback() {
        return Some("the console answers clients on the same machine only");
    }
    if headers.contains_key(header::ORIGIN) {
        return Some("the console does not answer web pages");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok())?;
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let is_loopback = name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    (!is_loopback).then_some("the console answers to loopback names only")
}

async fn api(console: &Console, path: &str, request: Request<Incoming>) -> Answer {
    let Some(name) = path.strip_prefix("/api/v1/") else {
        return refused(StatusCode::NOT_FOUND, "no such path; the console is under /api/v1/");
    };
    match *request.method() {
        Method::GET if name == "models/explain" => {
            match models::explain(console.published.view().world(), request.uri().query()) {
                Ok(value) => json(StatusCode::OK, &value),
                Err((status, reason)) => refused(status, &reason),
            }
        }
        Method::GET if name == "models/usage" => match models::usage(&console.reported.usage, request.uri().query()) {
            Ok(value) => json(StatusCode::OK, &value),
            Err(reason) => refused(StatusCode::BAD_REQUEST, &reason),
        },
        Method::GET if name == "endpoints/explain" => match instances::explain(console, request.uri().query()) {
            Ok(value) => json(StatusCode::OK, &value),
            Err((status, reason)) => refused(status, &reason),
        },
        Method::GET if name == "events" => match instances::events(console, request.uri().query()) {
            Ok(value) => json(StatusCode::OK, &value),
            Err((status, reason)) => refused(status, &reason),
        },
        Method::GET if name == "zones/shares" => match zones::shares(console, request.uri().query()) {
            Ok(value) => json(StatusCode::OK, &value),
            Err((status, reason)) => refused(status, &reason),
        },
        Method::GET if name == "policies/explain" => match answers::policy(console, request.uri().query()) {
            Ok(value) => json(StatusCode::OK, &value),
            Err((status, reason)) => refused(status, &reason),
        },
        Method::GET => match answers::collection(console, name) {
            Some(value) => json(StatusCode::OK, &value),
            None => refused(StatusCode::NOT_FOUND, &format!("no such collection; there are {}", answers::COLLECTIONS)),
        },
        Method::POST => match body(request).await {
            Ok(text) => post(console, name, text).await,
            Err(answer) => answer,
        },
        _ => refused(StatusCode::METHOD_NOT_ALLOWED, "allowed are GET and POST"),
    }
}

async fn body(request: Request<Incoming>) -> Result<String, Answer> {
    let collected = timeout(BODY_TIMEOUT, Limited::new(request.into_body(), BODY_MAX).collect()).await;
    let bytes = match collected {
        Err(_) => return Err(refused(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        Ok(Err(_)) => return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken or longer than 16 MiB")),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    String::from_utf8(bytes.to_vec()).map_err(|_| refused(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

async fn post(console: &Console, name: &str, text: String) -> Answer {
    match name {
        "validate" => {
            let (answer, answered) = oneshot::channel();
            match ask(console, SourceRequest::Validate { yaml: text, answer }, answered).await {
                Ok(problems) => json(StatusCode::OK, &json!({ "problems": problems })),
                Err(answer) => answer,
            }
        }
        "apply" => {
            let (answer, answered) = oneshot::channel();
            match ask(console, SourceRequest::Apply { yaml: text, answer }, answered).await {
                Ok(outcome) => applied(outcome),
                Err(answer) => answer,
            }
        }
        "explain" => match explain::explain(&console.published.view(), &console.reported.proxies.all(), &text) {
            Ok(value) => json(StatusCode::OK, &value),
            Err(reason) => refused(StatusCode::BAD_REQUEST, &reason),
        },
        "lane" => lanes::change(console, &text).await,
        "drain" => match drain::order(console, &text) {
            Ok(value) => json(StatusCode::OK, &value),
            Err((status, reason)) => refused(status, &reason),
        },
        "zone" => zones::change(console, &text).await,
        "tokens" => match answers::token(console, &text) {
            Ok(value) => json(StatusCode::OK, &value),
            Err(reason) => refused(StatusCode::BAD_REQUEST, &reason),
        },
        _ => refused(
            StatusCode::NOT_FOUND,
            "no such action; there are validate, apply, explain, lane, drain, zone, tokens",
        ),
    }
}

async fn ask<T>(console: &Console, request: SourceRequest, answered: oneshot::Receiver<T>) -> Result<T, Answer> {
    let exchange = async {
        console.requests.send(request).await.ok()?;
        answered.await.ok()
    };
    match timeout(SOURCE_TIMEOUT, exchange).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the file source has ended")),
        Err(_) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the file source is busy")),
    }
}

fn applied(outcome: Result<Vec<mesh_core::resources::Resource>, ApplyError>) -> Answer {
    match outcome {
        Err(error) => not_applied(error),
        Ok(resources) => {
            let applied: Vec<_> = resources.iter().map(|resource| &resource.metadata).collect();
            json(StatusCode::OK, &json!({ "applied": applied, "problems": [] }))
        }
    }
}

fn not_applied(error: ApplyError) -> Answer {
    match error {
        ApplyError::Problems(problems) => json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "problems": problems })),
        error @ ApplyError::NotFolder(_) => refused(StatusCode::CONFLICT, &error.to_string()),
        error @ ApplyError::Write(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
