//! A model route as proxies have it: hosts, virtual models, their targets in order, and what may be used of them.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Drill, Limit, Provider, Reason, TokenLimits};
use crate::schema::Schema;

/// A model route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRoute {
    /// `<name>.<namespace>` of the resource.
    pub name: String,
    /// Hosts at which applications call it, lower case, without port. Never empty; a host stands in one route only.
    pub hosts: Vec<String>,
    /// Virtual models; of several patterns that fit, the most exact one counts (exact, longest prefix, any).
    pub models: Vec<Arc<VirtualModel>>,
    /// What callers may use.
    pub tokens: TokenLimits,
    /// Who may force failures.
    #[serde(default)]
    pub drill: Drill,
    /// Longest request that is held so that another target can get it too, bytes; up to [`BODY_MAX`]. Longer ones are
    /// passed on to one target.
    #[serde(default = "body_limit")]
    pub body_limit: usize,
}

/// [`ModelRoute::body_limit`] unless written.
pub const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// Greatest [`ModelRoute::body_limit`].
pub const BODY_MAX: usize = 64 * 1024 * 1024;

fn body_limit() -> usize {
    BODY_LIMIT
}

/// Names of models.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamePattern {
    /// Exactly this one.
    Exact(String),
    /// All that begin so (`gpt-4*`).
    Prefix(String),
    /// All (`*`).
    Any,
}

/// One virtual model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualModel {
    /// As callers name it.
    pub name: NamePattern,
    /// Who can serve it, by priority, then as written. Never empty.
    pub targets: Vec<Arc<ModelTarget>>,
    /// Time limits of an exchange.
    pub timers: ModelTimers,
    /// How often another target is tried.
    pub retry: ModelRetry,
    /// Whether a second target is asked while the first is slow.
    pub hedge: Hedge,
    /// Why another target is tried for an answer that is not streamed, besides failures.
    pub escalate: Escalate,
    /// What the client is told when all targets failed.
    pub on_exhausted: OnExhausted,
    /// What follows when a stream fails after its first token.
    pub mid_stream: MidStream,
}

/// A target of a virtual model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelTarget {
    /// Unique in the route.
    pub name: String,
    /// Whose protocol it speaks.
    pub provider: Provider,
    /// Where it is.
    pub endpoint: ModelEndpoint,
    /// Model as the target names it; the name that the caller wrote unless given.
    pub model: Option<String>,
    /// Key that is shown to it.
    pub credential: Option<Credential>,
    /// Lower is tried first; equal ones share by weight.
    pub priority: u32,
    /// Share among those of equal priority, 0 to 10,000.
    pub weight: u32,
    /// Lane (`<group>/<lane>`) whose requests alone it serves; they prefer it. For requests of other lanes and of
    /// baseline it does not exist.
    pub lane: Option<String>,
    /// Tokens that fit into it, prompt and answer together; unknown unless given.
    pub context_window: Option<u64>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What all callers together may use of it through this proxy fleet; exhausted = the next target.
    pub limits: Vec<Limit>,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelEndpoint {
    /// Outside of the mesh.
    External {
        /// Whether it is spoken to under TLS.
        security: Security,
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Path in front of the API's own, without slash at its end; often empty. A version at its end stands in the
        /// place of the API's own (`/v1`).
        prefix: String,
        /// Proxy (`host:port`) through which it is reached by CONNECT.
        proxy: Option<String>,
    },
    /// A service of the mesh, called over mutual TLS with lanes and zones like any.
    Service {
        /// As callers write it: `name.namespace:port`.
        authority: String,
        /// As above.
        prefix: String,
    },
}

/// As people read it: `https://host:port/prefix`, or `mesh://name.namespace:port/prefix`.
impl fmt::Display for ModelEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelEndpoint::Service { authority, prefix } => write!(f, "mesh://{authority}{prefix}"),
            ModelEndpoint::External { security, host, port, prefix, proxy: _ } => {
                let scheme = if *security == Security::None { "http" } else { "https" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}{prefix}")
            }
        }
    }
}

/// How an external target is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// In the clear (`http://`).
    None,
    /// TLS against the roots of the system.
    SystemRoots,
    /// TLS against the roots in this PEM file of the sidecar.
    Roots(String),
}

/// Where a key is read from, in the sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Credential {
    /// A file; read again when it changes. White space around its text is not part of the key.
    File(String),
    /// Key of a secret: the file `<secrets folder of the sidecar>/<name>/<key>`.
    Secret {
        /// Name of the secret.
        name: String,
        /// Its key.
        key: String,
    },
}

/// What a target can do. Requests that need more than it can are not sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Calls tools; default true.
    pub tools: Can,
    /// Answers in a given JSON shape; default true.
    pub json: Can,
    /// Reads images; default true.
    pub vision: Can,
    /// Goes on from the beginning of an answer; default false.
    pub prefill: Can,
    /// Takes long prompts that another target found too long; default false. Also true where its window is larger.
    pub long_context: Can,
    /// Answers what another target refused for its content; default false.
    pub refused_content: Can,
    /// Whether it tells what was used in streams.
    pub usage: UsageInStreams,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            tools: Can::Yes,
            json: Can::Yes,
            vision: Can::Yes,
            prefill: Can::No,
            long_context: Can::No,
            refused_content: Can::No,
            usage: UsageInStreams::Auto,
        }
    }
}

/// Whether a target can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Can {
    /// It can.
    Yes,
    /// It cannot.
    No,
}

/// How usage is had from streams of OpenAI's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UsageInStreams {
    /// Asked for by `stream_options.include_usage`, until the target refuses it.
    #[default]
    Auto,
    /// Never asked for.
    Never,
    /// In every event (vLLM's `continuous_usage_stats`).
    Continuous,
}

/// Time limits of an exchange with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTimers {
    /// Until a connection stands; default 1 s.
    pub connect: Duration,
    /// From the request sent to the head of a streamed answer; default 10 s.
    pub headers: Duration,
    /// As `headers` for an answer that is not streamed, whose head comes when it is finished: `headers` where that is
    /// written, else `total`.
    pub headers_whole: Duration,
    /// From the request sent to the first token; default 8 s. Streams only.
    pub first_token: Duration,
    /// Between events; default 30 s.
    pub idle: Duration,
    /// All attempts and the answer; default 600 s.
    pub total: Duration,
    /// No further attempt begins when less than this is left of `total`; default 0.
    pub min_remaining: Duration,
}

impl Default for ModelTimers {
    fn default() -> Self {
        ModelTimers {
            connect: Duration::from_secs(1),
            headers: Duration::from_secs(10),
            headers_whole: Duration::from_secs(600),
            first_token: Duration::from_secs(8),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            min_remaining: Duration::ZERO,
        }
    }
}

/// How often another target is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRetry {
    /// Attempts in all, 1 to 10; default 3.
    pub attempts: u32,
    /// No further attempt begins later than this after the request; default 15 s.
    pub only_within: Duration,
    /// Further attempts as hundredths of requests, 0 to 100; default 20. Ten in ten seconds are always allowed.
    pub budget_percent: u32,
    /// Why another target is tried: default every reason but `bad_request`.
    pub on: Vec<Reason>,
}

impl Default for ModelRetry {
    fn default() -> Self {
        ModelRetry {
            attempts: 3,
            only_within: Duration::from_secs(15),
            budget_percent: 20,
            on: Reason::ALL.into_iter().filter(|reason| *reason != Reason::BadRequest).collect(),
        }
    }
}

/// Whether a second target is asked while the first is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Hedge {
    /// Never.
    #[default]
    Off,
    /// When no token came within the time in which 95 of 100 answers begin.
    AfterP95,
    /// When no token came within this time.
    After(Duration),
}

/// Cheap checks of answers that are not streamed; one that does not pass is a failure of its target.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Escalate {
    /// An answer cut off by its length.
    pub on_length: bool,
    /// Beginnings of refusals, lower case; an answer whose text begins so does not pass.
    pub refusals: Vec<String>,
    /// Whether text that was asked for as JSON must be JSON, with these members at its top.
    pub json: Option<Vec<String>>,
    /// What JSON must be that text asked for as such holds.
    #[serde(default)]
    pub schema: Option<Schema>,
}

/// What the client is told when all targets failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnExhausted {
    /// What the last one said.
    #[default]
    LastError,
    /// 503.
    Unavailable,
}

/// What follows when a stream fails after its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MidStream {
    /// An error at the end of the stream.
    #[default]
    Terminate,
    /// Another target goes on with the text so far (plain text only).
    Continue,
}
