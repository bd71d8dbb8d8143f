//! The limits that hold at each port of an application, worked out of policies once for each snapshot.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{Pace, key::Asked};
use crate::{
    limits::{store::Place, tally::Shape},
    model::{
        model_route::{Counted, LimitMode, LimitStore, OnStoreDown},
        policy::{HealthCheck, HttpProbe, OnRateStoreDown, Probe, RateKey, RateLimit, TrafficPolicy},
    },
    route,
    snapshot::Workload,
};

/// Paths of grpc.health.v1.
const GRPC_HEALTH: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// Rules by port of the application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules(BTreeMap<u16, PortRules>);

/// Rules of one port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortRules {
    rules: Vec<Rule>,
    /// How the instances are probed.
    probes: Vec<HttpProbe>,
}

/// One limit of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `<name>.<namespace>` of the service.
    pub service: Arc<str>,
    /// As its policy has it.
    pub limit: RateLimit,
    /// Of service, name and key: what is counted goes on when numbers of the limit change.
    id: u128,
    pace: Pace,
    keys: Keys,
}

/// Who decides how many keys there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Those who run the mesh.
    Proven,
    /// Whoever calls: such keys must not put the others out.
    Claimed,
}

impl Rules {
    /// Those of the services that a workload is an instance of.
    pub fn new(workload: &Workload, traffic: &BTreeMap<String, Arc<TrafficPolicy>>) -> Rules {
        let mut ports = BTreeMap::new();
        for (port, services) in &workload.served {
            let mut found = PortRules::default();
            for service in services {
                let Some(policy) = traffic.get(service) else { continue };
                let service: Arc<str> = service.as_str().into();
                found.rules.extend(policy.rate_limits.iter().map(|limit| Rule::new(&service, limit)));
                if let Some(HealthCheck { probe: Probe::Http(probe), .. }) = &policy.health_check {
                    found.probes.push(probe.clone());
                }
            }
            if !found.rules.is_empty() {
                ports.insert(*port, found);
            }
        }
        Rules(ports)
    }

    /// Those of a port; `None` = everything is taken.
    pub fn of_port(&self, port: u16) -> Option<&PortRules> {
        self.0.get(&port)
    }

    /// Stores that they are counted in.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.0.values().flat_map(|port| &port.rules).filter(|rule| rule.is_leased()).map(Rule::place)
    }
}

impl PortRules {
    /// In the order of policies.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether the request is a health check: by the policy of the service, or of gRPC.
    pub(super) fn is_health_check(&self, asked: &Asked<'_>) -> bool {
        let parts = &asked.parts;
        let asks = |probe: &HttpProbe| {
            let (path, query) = probe.path.split_once('?').map_or((probe.path.as_str(), None), |(a, b)| (a, Some(b)));
            matches!(parts.method, "GET" | "HEAD") && parts.path == path && parts.query == query
        };
        self.probes.iter().any(asks) || (parts.method == "POST" && GRPC_HEALTH.contains(&parts.path))
    }
}

impl Rule {
    fn new(service: &Arc<str>, limit: &RateLimit) -> Rule {
        let mut digest = Sha256::new().chain_update(service.as_bytes()).chain_update([0]).chain_update(&limit.name);
        for part in &limit.key {
            digest.update([0]);
            digest.update(part.to_string());
        }
        let id = digest.finalize().iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte));
        let is_claimed = |part: &RateKey| match part {
            RateKey::Identity | RateKey::Namespace | RateKey::Route => false,
            RateKey::Lane | RateKey::Header(_) => true,
        };
        let keys = if limit.key.iter().any(is_claimed) { Keys::Claimed } else { Keys::Proven };
        let pace = Pace::new(limit.requests, limit.per, limit.burst);
        Rule { service: Arc::clone(service), limit: limit.clone(), id, pace, keys }
    }

    pub(super) fn id(&self) -> u128 {
        self.id
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn keys(&self) -> Keys {
        self.keys
    }

    /// As metrics name it.
    pub(super) fn shown(&self) -> String {
        match self.limit.mode {
            LimitMode::Enforce => self.limit.name.clone(),
            LimitMode::Shadow => format!("{}/shadow", self.limit.name),
        }
    }

    /// Which of its conditions the request meets; 0 where it has none.
    pub(super) fn found(&self, asked: &Asked<'_>) -> Option<usize> {
        if self.limit.matches.is_empty() {
            return Some(0);
        }
        self.limit.matches.iter().position(|condition| route::matches(condition, &asked.parts))
    }

    /// Whether a place is that of its counts.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        *place.sharing == *self.service && place.store == self.limit.store && place.on_down == self.on_down()
    }

    /// Whether it is counted for all sidecars of the service.
    pub(super) fn is_leased(&self) -> bool {
        match self.limit.store {
            LimitStore::Local => false,
            LimitStore::Redis { .. } => true,
        }
    }

    /// Where it is counted, if it is leased.
    pub(super) fn place(&self) -> Place {
        Place { sharing: Arc::clone(&self.service), store: self.limit.store.clone(), on_down: self.on_down() }
    }

    /// Its windows, if it is leased.
    pub(super) fn shape(&self) -> Shape {
        let window = u64::try_from(self.limit.per.as_millis()).unwrap_or(u64::MAX).max(1);
        Shape { of: Counted::Requests, window, mode: self.limit.mode, nth: 0 }
    }

    fn on_down(&self) -> OnStoreDown {
        match self.limit.on_store_down {
            // Who lets everything through counts its share all the same.
            OnRateStoreDown::Local | OnRateStoreDown::Open => OnStoreDown::Open,
            OnRateStoreDown::Closed => OnStoreDown::Closed,
        }
    }

    /// Whether this process has a bucket for it: of what is leased only where less than all may come at once.
    pub(super) fn is_paced(&self) -> bool {
        !self.is_leased() || self.limit.burst < self.limit.requests
    }
}
