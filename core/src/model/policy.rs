//! Who may call a port (inbound) and how a destination is treated (outbound, per service).

mod health;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::health::{HealthCheck, OutlierDetection, Probe};
use super::route::RouteMatch;

/// Policy of one inbound port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundServer {
    /// Port of the application.
    pub port: u16,
    /// What is spoken there.
    pub protocol: InboundProtocol,
    /// Who may call; empty = nobody.
    pub authorizations: Vec<Authorization>,
    /// Routes with authorizations of their own; empty = the server's apply to every request.
    pub routes: Vec<InboundRoute>,
    /// Name of the policy, for metrics and logs.
    pub name: String,
}

/// What is spoken on an inbound port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InboundProtocol {
    /// Found out from the first bytes, which must come within the timeout; opaque after it.
    Detect {
        /// How long the first bytes are awaited.
        timeout: Duration,
    },
    /// Bytes.
    Opaque,
    /// The application's own TLS, passed through.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
}

/// A route with authorizations of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundRoute {
    /// Name, for metrics and logs.
    pub name: String,
    /// Hosts; empty = any.
    pub hosts: Vec<super::route::HostMatch>,
    /// Any of these; empty = every request.
    pub matches: Vec<RouteMatch>,
    /// Who may call; empty = nobody.
    pub authorizations: Vec<Authorization>,
}

/// One permission: from these networks, by these clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// Name, for metrics and logs.
    pub name: String,
    /// At least one.
    pub networks: Vec<Network>,
    /// What the client must prove.
    pub clients: Clients,
}

/// A network less some parts of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Matches addresses in here …
    pub net: IpNet,
    /// … that are in none of these.
    pub except: Vec<IpNet>,
}

impl Network {
    /// Whether `address` is in the network. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.net.contains(&address) && !self.except.iter().any(|net| net.contains(&address))
    }
}

/// What a client must prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clients {
    /// Nothing: plaintext is allowed.
    Anyone,
    /// Mesh TLS with any identity of the trust domain.
    AnyMeshed,
    /// Mesh TLS with one of these.
    Identities {
        /// Identity names, SPIFFE or Linkerd style, exact.
        names: Vec<String>,
        /// Suffixes of Linkerd-style names, whole labels; the empty list matches every name.
        suffixes: Vec<Vec<String>>,
    },
}

/// How calls to a service are treated; all parts optional on the wire, filled with defaults here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficPolicy {
    /// Time limits.
    pub timeouts: Timeouts,
    /// Most attempts per exchange, the first included; 1 = no retry beyond what is provably unsent. Default 3.
    pub attempts: u32,
    /// Upper bounds toward one endpoint.
    pub limits: Limits,
    /// When an instance is ejected because calls to it fail.
    #[serde(default)]
    pub outlier_detection: OutlierDetection,
    /// How instances are probed; `None` = not at all.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Which zones' instances are used.
    #[serde(default)]
    pub zones: Zones,
    /// Labels as written, for display.
    pub labels: BTreeMap<String, String>,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        TrafficPolicy {
            timeouts: Timeouts::default(),
            attempts: 3,
            limits: Limits::default(),
            outlier_detection: OutlierDetection::default(),
            health_check: None,
            zones: Zones::default(),
            labels: BTreeMap::new(),
        }
    }
}

/// Which zones' instances are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zones {
    /// Those of the caller's own zone, as long as one of them is usable; default false.
    pub prefer_same: bool,
}

/// Time limits of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP connect and TLS handshake; default 1 s each.
    pub connect: Duration,
    /// Whole exchange of a request/response; `None` = unlimited (the default, since streams are ordinary).
    pub request: Option<Duration>,
    /// Until the response's headers; `None` = unlimited.
    pub response_headers: Option<Duration>,
    /// No byte in either direction; default 1 h.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(1),
            request: None,
            response_headers: None,
            idle: Duration::from_secs(3_600),
        }
    }
}

/// Upper bounds toward one endpoint, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open connections; default 1,024.
    pub connections: u32,
    /// Exchanges at the same time; default 4,096.
    pub requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 1_024, requests: 4_096 }
    }
}
