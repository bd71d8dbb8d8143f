//! The admin port: `/ready`, `/live` and `/metrics` for everyone; `/config_dump`, `/endpoints`, `/models`,
//! `/models/explain`, `/drain`, `/shutdown`, `/log-level` and the lane oracle (`/lane/…`) for loopback clients only. Small
//! and slow clients cannot hold it up: connections, heads and times are bounded.

mod endpoints;
mod lanes;
mod models;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing_subscriber::{EnvFilter, Registry as LogRegistry, reload};

use crate::{
    config::Settings,
    datapath::lane::oracle::Oracle,
    drain::{Cause, Order},
    telemetry::{
        access_log::rfc3339,
        metrics::render::{self, Sources},
    },
};

/// Connections at the same time; more wait.
const CONNECTIONS_MAX: usize = 64;
/// Longest life of a connection; that of one which waits for the proxy to drain is as long as that may take.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// For a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Largest head, bytes.
const HEAD_MAX: usize = 16 * 1_024;
/// Largest body of `PUT /log-level`, bytes.
const BODY_MAX: usize = 1_024;
/// Pause after a failed accept (no descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Changes the filter of the log while the process runs.
pub type LogFilter = reload::Handle<EnvFilter, LogRegistry>;

/// What the admin port shows and does.
pub struct Admin {
    /// As parsed at the start.
    pub settings: Arc<Settings>,
    /// State that metrics and dump are made of.
    pub sources: Sources,
    /// Order to drain.
    pub order: Order,
    /// Filter of the log.
    pub log: LogFilter,
    /// Workers that know which lane a message belongs to.
    pub oracle: Oracle,
}

/// Serves until it is dropped; its connections end with it.
pub async fn serve(admin: Admin, listener: TcpListener) {
    let service = Arc::new(Service { registry: render::registry(admin.sources.clone()), admin });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(Arc::clone(&service), stream, peer));
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin port cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(service: Arc<Service>, stream: TcpStream, peer: SocketAddr) {
    let limit = service.admin.settings.down.limits.grace.max(CONNECTION_TIME);
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request, peer.ip()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Ok(Err(error)) = timeout(limit, connection).await {
        tracing::trace!(%error, %peer, "admin connection ended");
    }
}

struct Service {
    admin: Admin,
    registry: Registry,
}

type Answer = Response<Full<Bytes>>;

/// Where a request may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    Everyone,
    Loopback,
}

const ROUTES: &[(&str, Audience, &[Method])] = &[
    ("/ready", Audience::Everyone, &[Method::GET, Method::HEAD]),
    ("/live", Audience::Everyone, &[Method::GET, Method::HEAD]),
    ("/metrics", Audience::Everyone, &[Method::GET, Method::HEAD]),
    ("/config_dump", Audience::Loopback, &[Method::GET]),
    ("/endpoints", Audience::Loopback, &[Method::GET]),
    ("/models", Audience::Loopback, &[Method::GET]),
    ("/models/explain", Audience::Loopback, &[Method::GET]),
    ("/drain", Audience::Loopback, &[Method::POST]),
    ("/shutdown", Audience::Loopback, &[Method::POST]),
    ("/quitquitquit", Audience::Loopback, &[Method::POST]),
    ("/lane/self", Audience::Loopback, &[Method::GET]),
    ("/lane/active", Audience::Loopback, &[Method::GET]),
    ("/lane/resolve", Audience::Loopback, &[Method::GET]),
    ("/log-level", Audience::Loopback, &[Method::GET, Method::PUT]),
];

impl Service {
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Answer {
        let path = request.uri().path();
        let Some((path, audience, methods)) = ROUTES.iter().find(|(known, ..)| *known == path) else {
            return text(StatusCode::NOT_FOUND, "no such page\n");
        };
        if *audience == Audience::Loopback && !(peer.to_canonical().is_loopback() && is_local_host(&request)) {
            return text(StatusCode::FORBIDDEN, "for loopback clients only\n");
        }
        if !methods.contains(request.method()) {
            let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "no such method here\n");
            let allowed = allowed.join(", ").parse().expect("names of methods are a header value");
            answer.headers_mut().insert(header::ALLOW, allowed);
            return answer;
        }
        match (*path, request.method() == Method::PUT) {
            ("/ready", _) => self.ready(request.uri().query().is_some_and(|query| query.contains("verbose"))),
            ("/live", _) => text(StatusCode::OK, "live\n"),
            ("/metrics", _) => typed(StatusCode::OK, render::CONTENT_TYPE, render::scrape(&self.registry)),
            ("/config_dump", _) => self.dump(),
            ("/endpoints", _) => {
                let page = endpoints::page(&self.admin.sources);
                typed(StatusCode::OK, "application/json", format!("{page:#}\n"))
            }
            ("/models", _) => {
                let page = models::page(&self.admin.sources, &self.admin.settings.secrets_directory);
                typed(StatusCode::OK, "application/json", format!("{page:#}\n"))
            }
            ("/models/explain", _) => {
                let secrets = &self.admin.settings.secrets_directory;
                told(models::explain(&self.admin.sources, secrets, request.uri().query()))
            }
            ("/drain", _) => self.drain(request.uri().query().unwrap_or_default()).await,
            // What Istio calls it, too: scripts of Jobs know that name.
            ("/shutdown" | "/quitquitquit", _) => {
                self.admin.order.end_application();
                self.admin.order.give(Cause::Shutdown);
                text(StatusCode::OK, "ending\n")
            }
            ("/lane/self", _) => told(lanes::own(&self.admin.sources.shared)),
            ("/lane/active", _) => {
                told(lanes::active(&self.admin.sources, &self.admin.oracle, request.uri().query()).await)
            }
            ("/lane/resolve", _) => told(lanes::resolve(&self.admin.oracle, request.uri().query()).await),
            (_, true) => self.set_log_level(request).await,
            (_, false) => self.log_level(),
        }
    }

    /// Orders to drain, and answers once nothing comes in any more: what stops the application behind this (a preStop hook)
    /// loses no request.
    async fn drain(&self, query: &str) -> Answer {
        self.admin.order.give(Cause::Admin);
        if query.split('&').any(|pair| pair == "wait=false") {
            return text(StatusCode::ACCEPTED, "draining\n");
        }
        self.admin.order.inbound_finished().await;
        text(StatusCode::OK, "drained\n")
    }

    fn ready(&self, verbose: bool) -> Answer {
        let mut missing: Vec<String> = self.admin.sources.missing.borrow().iter().cloned().collect();
        if *self.admin.sources.shared.draining.borrow() {
            missing.push("draining".to_owned());
        }
        let (status, mut body) = match missing.is_empty() {
            true => (StatusCode::OK, "ready\n".to_owned()),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        };
        if verbose {
            missing.iter().for_each(|one| body.push_str(&format!("missing: {one}\n")));
        }
        text(status, body)
    }

    fn dump(&self) -> Answer {
        let sources = &self.admin.sources;
        let credentials = Arc::clone(&sources.credentials.borrow());
        let held = credentials.held.as_ref();
        let dump = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "settings": *self.admin.settings,
            "identity": {
                "name": credentials.identity,
                "notBefore": held.map(|held| rfc3339(held.not_before)),
                "notAfter": held.map(|held| rfc3339(held.not_after)),
                "chainLength": held.map_or(0, |held| held.own.chain.len()),
                "trustAnchors": credentials.anchors.len(),
            },
            "ready": sources.missing.borrow().is_empty(),
            "missing": *sources.missing.borrow(),
            "draining": *sources.shared.draining.borrow(),
            "snapshot": *sources.shared.load(),
        });
        typed(StatusCode::OK, "application/json", format!("{dump:#}\n"))
    }

    fn log_level(&self) -> Answer {
        match self.admin.log.with_current(ToString::to_string) {
            Ok(filter) => text(StatusCode::OK, format!("{filter}\n")),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    async fn set_log_level(&self, request: Request<Incoming>) -> Answer {
        let Ok(Ok(body)) = timeout(HEAD_TIME, Limited::new(request.into_body(), BODY_MAX).collect()).await else {
            return text(StatusCode::BAD_REQUEST, format!("a filter of at most {BODY_MAX} bytes is expected\n"));
        };
        let body = body.to_bytes();
        let filter = std::str::from_utf8(&body).ok().and_then(|text| EnvFilter::try_new(text.trim()).ok());
        let Some(filter) = filter else {
            return text(StatusCode::BAD_REQUEST, "expected log levels, such as info or warn,mesh_proxy=debug\n");
        };
        match self.admin.log.reload(filter) {
            Ok(()) => self.log_level(),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// Whether the request names this machine. A page from elsewhere whose name was made to resolve to loopback (DNS
/// rebinding) has a name with dots.
fn is_local_host<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let Ok(authority) = host.to_str().unwrap_or("/").parse::<http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().is_ok() || !host.contains('.')
}

fn told((status, told): lanes::Told) -> Answer {
    typed(status, "application/json", format!("{told}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}
