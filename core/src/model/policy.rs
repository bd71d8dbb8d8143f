//! Who may call a port (inbound) and how a destination is treated (outbound, per service).

mod balancing;
mod health_check;
mod limits;
mod outlier;
mod rate_limit;
mod retries;
mod timeouts;
mod warm_up;
mod zones;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    balancing::{HashOn, LoadBalancing},
    health_check::{HealthCheck, HttpProbe, Probe, TcpProbe},
    limits::Limits,
    outlier::{OutlierDetection, SuccessRate},
    rate_limit::{OnRateStoreDown, RateKey, RateLimit},
    retries::{Backoff, GrpcCode, Retries, RetryBudget, RetryOn, UnknownRetryOn},
    timeouts::Timeouts,
    warm_up::WarmUp,
    zones::{ZoneFailover, ZoneMatch, ZoneShares, Zones},
};
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

/// How calls to a service are treated; what nobody wrote has the default of its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficPolicy {
    /// Time limits.
    pub timeouts: Timeouts,
    /// What is repeated, how often and when. State of an earlier version has the number of
    /// attempts alone, under that name.
    #[serde(alias = "attempts", deserialize_with = "retries::kept")]
    pub retries: Retries,
    /// Upper bounds toward one endpoint.
    pub limits: Limits,
    /// How an instance is chosen among the usable ones of a level and zone.
    pub load_balancing: LoadBalancing,
    /// How an instance that has just come takes its share; `None` = all of it at once.
    pub warm_up: Option<WarmUp>,
    /// When an instance is ejected because calls to it fail.
    pub outlier_detection: OutlierDetection,
    /// How instances are probed; `None` = not at all.
    pub health_check: Option<HealthCheck>,
    /// With fewer usable instances than this on the last level, percent, all of them are used; 0 = never. Default 50.
    /// Not for the level of a lane that can be left.
    pub panic_threshold: u32,
    /// Which zones' instances are used.
    pub zones: Zones,
    /// How many requests are taken, and from whom; each counts on its own, the first one that is used up refuses.
    pub rate_limits: Vec<RateLimit>,
    /// Labels as written, for display.
    pub labels: BTreeMap<String, String>,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        TrafficPolicy {
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            limits: Limits::default(),
            load_balancing: LoadBalancing::default(),
            warm_up: Some(WarmUp::default()),
            outlier_detection: OutlierDetection::default(),
            health_check: None,
            panic_threshold: 50,
            zones: Zones::default(),
            rate_limits: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}
