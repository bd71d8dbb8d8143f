//! How instances are probed by those who call them. Fields and their meaning as in Envoy's `HealthCheck`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// How instances of a service are probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(deserialize_with = "kept")]
    pub probe: Probe,
    /// Time between two probes of an instance. Default 10 s.
    pub interval: Duration,
    /// A probe that takes longer has failed. Default 1 s.
    pub timeout: Duration,
    /// Each interval is longer by a random share up to this, percent. Default 10.
    #[serde(default = "jitter")]
    pub jitter: u32,
    /// So many failed probes in a row make an instance unhealthy. Default 3.
    pub unhealthy_threshold: u32,
    /// So many successful ones in a row make it healthy again; at the start one is enough. Default 2.
    pub healthy_threshold: u32,
    /// Interval while an instance is unhealthy; `None` = `interval`.
    #[serde(default)]
    pub unhealthy_interval: Option<Duration>,
    /// Interval after a probe of a healthy instance has failed, until it is unhealthy or succeeds; `None` = the one while
    /// unhealthy.
    #[serde(default)]
    pub unhealthy_edge_interval: Option<Duration>,
    /// Interval after a probe of an unhealthy instance has succeeded, until it is healthy or fails; `None` = `interval`.
    #[serde(default)]
    pub healthy_edge_interval: Option<Duration>,
    /// Interval while the caller does not call the service. Default 60 s.
    #[serde(default = "no_traffic_interval")]
    pub no_traffic_interval: Duration,
    /// So many of the callers probe each instance, and tell the others through the controller; 0 = everyone probes for
    /// himself, as without a controller. Default 3.
    #[serde(default = "shared_by")]
    pub shared_by: u32,
}

fn jitter() -> u32 {
    10
}

fn no_traffic_interval() -> Duration {
    Duration::from_secs(60)
}

fn shared_by() -> u32 {
    3
}

impl HealthCheck {
    /// A check with every default.
    pub fn new(probe: Probe) -> Self {
        HealthCheck {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            jitter: jitter(),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            unhealthy_interval: None,
            unhealthy_edge_interval: None,
            healthy_edge_interval: None,
            no_traffic_interval: no_traffic_interval(),
            shared_by: shared_by(),
        }
    }
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A request over HTTP/1.1.
    Http(HttpProbe),
    /// A connection, through the sidecar where there is one.
    Tcp(TcpProbe),
    /// gRPC health checking, version 1: SERVING is a success.
    Grpc {
        /// Name of the gRPC service; empty = the server as a whole.
        service: String,
    },
}

/// What state on disk holds: a probe, or the word that an earlier version kept for one without fields.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Whole(Probe),
    Word(Word),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Word {
    Tcp,
}

/// Reads a probe as any version keeps it.
fn kept<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Probe, D::Error> {
    Ok(match Kept::deserialize(deserializer)? {
        Kept::Whole(probe) => probe,
        Kept::Word(Word::Tcp) => Probe::Tcp(TcpProbe::default()),
    })
}

/// A request; an answer with one of the expected statuses is a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpProbe {
    /// Path with query. Default `/`.
    pub path: String,
    /// `Host`; the service's short name unless written.
    pub host: Option<String>,
    /// Method, without body. Default GET.
    pub method: String,
    /// Further headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Inclusive ranges; default 200 to 299.
    pub statuses: Vec<(u16, u16)>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        HttpProbe {
            path: "/".to_owned(),
            host: None,
            method: "GET".to_owned(),
            headers: Vec::new(),
            statuses: vec![(200, 299)],
        }
    }
}

/// A connection can be made, and what is sent over it is answered. Without anything to send or receive, a sidecar that has
/// to find out what is spoken takes connections although its application does not: there this shows that the sidecar
/// lives, no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpProbe {
    /// What is sent; empty = nothing.
    pub send: Vec<u8>,
    /// What must stand in that order somewhere in what comes back; empty = nothing is waited for.
    pub receive: Vec<u8>,
}

impl TcpProbe {
    /// Most bytes that are sent or waited for.
    pub const BYTES_MAX: usize = 1_024;
}
