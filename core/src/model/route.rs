//! Routes of an outbound destination.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{endpoint::Endpoint, service::ServiceKey};

/// What the application called: a name with port, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// `Host` or `:authority`: host in lower case, and port (80 where none was given).
    Authority(Arc<str>, u16),
    /// Original destination of a captured connection.
    Address(SocketAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Authority(host, port) => write!(f, "{host}:{port}"),
            Target::Address(address) => write!(f, "{address}"),
        }
    }
}

/// How calls to one target are carried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboundPolicy {
    /// Protocol of the target, with its routes.
    pub protocol: OutboundProtocol,
}

/// Protocol of a target, with its routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutboundProtocol {
    /// Found out from the first bytes.
    Detect {
        /// How long the first bytes are awaited before the connection counts as opaque.
        timeout: Duration,
        /// Where bytes go.
        opaque: Distribution,
        /// Routes of HTTP/1 requests.
        http1: Vec<HttpRoute>,
        /// Routes of HTTP/2 requests.
        http2: Vec<HttpRoute>,
    },
    /// Bytes.
    Opaque(Distribution),
    /// The application's own TLS, passed through.
    Tls(Distribution),
    /// HTTP/1 only.
    Http1(Vec<HttpRoute>),
    /// HTTP/2 only.
    Http2(Vec<HttpRoute>),
    /// gRPC.
    Grpc(Vec<HttpRoute>),
}

/// A route: hosts and rules in order of preference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// Name of the resource, or `default`.
    pub name: String,
    /// Hosts; empty = any.
    pub hosts: Vec<HostMatch>,
    /// Rules; the most specific match over all routes wins (Gateway API).
    pub rules: Vec<HttpRule>,
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRule {
    /// Any of these; empty = every request.
    pub matches: Vec<RouteMatch>,
    /// Changes to the request and the response.
    pub filters: Vec<Filter>,
    /// Where requests go.
    pub backends: Distribution,
    /// Time limits set by the route; what is absent comes from the service's policy.
    pub timeouts: RouteTimeouts,
    /// Retries that the route allows beyond what is always safe.
    pub retry: Option<RouteRetry>,
}

/// Hosts that a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostMatch {
    /// This name, without case.
    Exact(String),
    /// Any name that ends with these labels (written `*.example.com`).
    Suffix(String),
}

/// A condition on a request; all parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// Path, if it matters.
    pub path: Option<PathMatch>,
    /// Method, if it matters.
    pub method: Option<String>,
    /// Headers, all of them.
    pub headers: Vec<ValueMatch>,
    /// Query parameters, all of them.
    pub query: Vec<ValueMatch>,
}

impl Eq for RouteMatch {}

/// Condition on the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole path elements from the start.
    Prefix(String),
    /// A regular expression over the whole path.
    Regex(Pattern),
}

/// Condition on a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    /// Name; headers without case, query parameters with it.
    pub name: String,
    /// Condition on the value.
    pub value: ValueCondition,
}

/// Condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueCondition {
    /// The whole value.
    Exact(String),
    /// A regular expression over the whole value.
    Regex(Pattern),
}

/// A regular expression, compiled once, anchored at both ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    compiled: Regex,
}

impl Pattern {
    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        let compiled = regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build()?;
        Ok(Pattern { text, compiled })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A change to a request or response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Change headers of the request.
    RequestHeaders(HeaderChange),
    /// Change headers of the response.
    ResponseHeaders(HeaderChange),
    /// Answer with a redirect.
    Redirect {
        /// New scheme, or the request's.
        scheme: Option<String>,
        /// New host, or the request's.
        host: Option<String>,
        /// New port, or the request's.
        port: Option<u16>,
        /// New path, or the request's.
        path: Option<String>,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// Answer with an error to a share of requests.
    Fail {
        /// HTTP status of the answer.
        status: u16,
        /// Text of the answer.
        message: String,
        /// Hundredths of a percent, 0 to 10,000.
        share: u32,
    },
}

/// Header changes, applied remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChange {
    /// Names to remove.
    pub remove: Vec<String>,
    /// Names to set to one value.
    pub set: Vec<(String, String)>,
    /// Values to add.
    pub add: Vec<(String, String)>,
}

/// Where requests of a rule go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Distribution {
    /// Nowhere: 500 (a route without valid backend, Gateway API).
    Empty,
    /// The first that has an instance.
    FirstAvailable(Vec<Backend>),
    /// By weight.
    Weighted(Vec<(Backend, u32)>),
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// One address.
    Forward(Arc<Endpoint>),
    /// Instances of a service, resolved by Destination.Get.
    Service(ServiceKey),
}

/// Time limits that a route sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTimeouts {
    /// Whole exchange.
    pub request: Option<Duration>,
    /// Until the response's headers.
    pub response: Option<Duration>,
    /// No byte in either direction.
    pub idle: Option<Duration>,
}

/// Retries that a route allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRetry {
    /// Further attempts after the first.
    pub retries: u32,
    /// Largest request body that is kept for a repeat, bytes.
    pub body_limit: usize,
    /// Response statuses that are repeated, inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// Per-try limit.
    pub try_timeout: Option<Duration>,
}
