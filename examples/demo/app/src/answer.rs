//! What the application answers, route by route.
//!
//! `/` calls the chain and says what arrived, `/served` in one line who served; `/echo`, `/events`, `/ws`, `/status/NNN`, `/bytes/N` and `/slow?ms=N` show
//! one behaviour of a protocol each.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    chain::Chain,
    generated::{Events, Letters},
    websocket,
};

/// Largest generated body, bytes.
const BYTES_MAX: u64 = 1 << 30;
/// Longest `/slow`, milliseconds.
const SLOW_MAX: u64 = 60_000;

type Body = BoxBody<Bytes, hyper::Error>;

/// The application.
pub(crate) struct App {
    /// Service that it says it is.
    pub(crate) name: String,
    /// Version that it says it is.
    pub(crate) version: String,
    /// How the next service is called.
    pub(crate) chain: Chain,
    /// Connections that became something else than HTTP; waited for at the end.
    pub(crate) upgraded: TaskTracker,
    /// True from SIGTERM on.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl App {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut elements = path.trim_matches('/').split('/');
        match (elements.next().unwrap_or_default(), elements.next(), elements.next()) {
            ("", None, None) => self.chained(&request).await,
            ("served", None, None) => self.served(&request).await,
            ("echo", None, None) => echo(request),
            ("events", None, None) => self.events(),
            ("ws", None, None) => {
                let empty = Full::default().map_err(|never| match never {}).boxed();
                websocket::accept(request, &self.upgraded, self.stopping.clone()).map(|()| empty)
            }
            ("status", Some(code), None) => status(code),
            ("bytes", Some(length), None) => letters(length),
            ("slow", None, None) => slow(request.uri().query().unwrap_or_default()).await,
            _ => problem(StatusCode::NOT_FOUND, &format!("no such route: {path}")),
        }
    }

    async fn chained(&self, request: &Request<Incoming>) -> Response<Body> {
        let headers = request.headers();
        let next = self.chain.call(headers).await;
        let status = if next.is_ok() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
        let mut answer = json!({
            "service": self.name,
            "version": self.version,
            "lane": said(headers, "x-mesh-lane"),
            "baggage": said(headers, "baggage"),
            "peer": said(headers, "l5d-client-id"),
        });
        match next {
            Ok(next) => answer["next"] = next,
            Err(error) => answer["error"] = format!("{error:#}").into(),
        }
        typed(status, "application/json", format!("{answer}\n"))
    }

    /// `a/baseline b/canary …`, for people and scripts.
    async fn served(&self, request: &Request<Incoming>) -> Response<Body> {
        let mut line = format!("{}/{}", self.name, self.version);
        match self.chain.call(request.headers()).await {
            Ok(next) => {
                let mut next = &next;
                while let (Some(service), Some(version)) = (next["service"].as_str(), next["version"].as_str()) {
                    line.push_str(&format!(" {service}/{version}"));
                    next = &next["next"];
                }
                text(&format!("{line}\n"))
            }
            Err(error) => typed(StatusCode::BAD_GATEWAY, "text/plain", format!("{line} failed: {error:#}\n")),
        }
    }

    fn events(&self) -> Response<Body> {
        let body = Events::new(self.stopping.clone()).map_err(|never| match never {}).boxed();
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn said(headers: &HeaderMap, name: &str) -> Value {
    headers.get(name).map_or(Value::Null, |value| String::from_utf8_lossy(value.as_bytes()).into())
}

/// The body as it comes in, and each header `name` as `x-echo-name`.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body.boxed());
    for (name, value) in &head.headers {
        if let Ok(echoed) = HeaderName::from_bytes(format!("x-echo-{name}").as_bytes()) {
            response.headers_mut().append(echoed, value.clone());
        }
    }
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

fn status(code: &str) -> Response<Body> {
    match code.parse().ok().filter(|code| (200..=599).contains(code)).and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(status) => typed(status, "text/plain", format!("{status}\n")),
        None => problem(StatusCode::BAD_REQUEST, "/status/ takes a number of 200 to 599"),
    }
}

fn letters(length: &str) -> Response<Body> {
    match length.parse().ok().filter(|length| *length <= BYTES_MAX) {
        Some(length) => {
            let mut response = Response::new(Letters::new(length).map_err(|never| match never {}).boxed());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            response
        }
        None => problem(StatusCode::BAD_REQUEST, &format!("/bytes/ takes a number of 0 to {BYTES_MAX}")),
    }
}

async fn slow(query: &str) -> Response<Body> {
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("ms="));
    match wanted.and_then(|text| text.parse().ok()).filter(|wait| *wait <= SLOW_MAX) {
        Some(wait) => {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            text(&format!("waited {wait} ms\n"))
        }
        None => problem(StatusCode::BAD_REQUEST, &format!("/slow takes ?ms= with a number of 0 to {SLOW_MAX}")),
    }
}

fn text(text: &str) -> Response<Body> {
    typed(StatusCode::OK, "text/plain", text.to_owned())
}

fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let body = json!({ "status": status.as_u16(), "detail": detail });
    typed(status, "application/problem+json", format!("{body}\n"))
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
