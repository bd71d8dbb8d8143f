//! One instance of a service, as a caller's sidecar sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};

use super::lane::LaneRef;
use crate::identity::Identity;

/// Weight that counts as 1.0 (WeightedAddr.weight of the Linkerd API).
pub const WEIGHT_ONE: u32 = 10_000;

/// An instance. Its address is what the application listens on; a meshed instance is reached through its sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address of the application.
    pub address: SocketAddr,
    /// 10,000 = 1.0; 0 takes the instance out of traffic.
    pub weight: u32,
    /// Who answers there; `None` = no sidecar, plaintext.
    pub identity: Option<Identity>,
    /// Name for SNI when it is not the identity's own DNS name.
    pub server_name: Option<String>,
    /// Inbound port of the sidecar that takes the transport header; `None` = redirected TLS to `address`.
    pub inbound_port: Option<u16>,
    /// What is known about the instance's protocol.
    pub hint: ProtocolHint,
    /// Every lane (of any group) the instance belongs to; empty = carries no lane mark.
    pub lanes: Vec<LaneRef>,
    /// Failure domain, when known.
    pub zone: Option<String>,
    /// Unix seconds since when it is ready; start of warm-up.
    pub ready_since: Option<u64>,
    /// Takes no new exchanges.
    pub draining: bool,
    /// Whether its registry believes it healthy; true where it says nothing.
    #[serde(default = "yes")]
    pub healthy: bool,
    /// Labels as registered, for `get endpoints` and selectors.
    pub labels: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

impl Endpoint {
    /// Whether it is in one of these zones.
    pub fn is_in(&self, zones: &BTreeSet<String>) -> bool {
        !zones.is_empty() && self.zone.as_ref().is_some_and(|zone| zones.contains(zone))
    }

    /// Takes new exchanges: has weight, does not drain, and is healthy by the word of its registry. Instances with weight
    /// that are not open are used where nobody else is left.
    pub fn is_open(&self) -> bool {
        self.weight > 0 && !self.draining && self.healthy
    }
}

/// Protocol that an endpoint's sidecar announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProtocolHint {
    /// Nothing announced: the protocol of the caller is kept.
    #[default]
    Unknown,
    /// HTTP/1 may be carried over HTTP/2 (`l5d-orig-proto`).
    Http2,
    /// Never HTTP: bytes only.
    Opaque,
}
