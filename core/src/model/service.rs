//! A service and its instances, indexed by lane so that a pick scans only its level.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{endpoint::Endpoint, lane::LaneRef};

/// Path of a service in the Destination API: `<name>.<namespace>.svc.<cluster domain>:<port>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceKey(pub Arc<str>);

impl ServiceKey {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// First label of the path, or the whole where there is none.
    pub fn name(&self) -> &str {
        self.0.split(['.', ':']).next().unwrap_or(&self.0)
    }

    /// `<name>.<namespace>`, the short form used as label in metrics.
    pub fn label(&self) -> &str {
        let end = self.0.match_indices(['.', ':']).nth(1).map_or(self.0.len(), |(at, _)| at);
        &self.0[..end]
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service with its instances; immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ServiceRecord", into = "ServiceRecord")]
pub struct Service {
    key: ServiceKey,
    exists: bool,
    endpoints: Vec<Arc<Endpoint>>,
    by_lane: BTreeMap<LaneRef, Vec<usize>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct ServiceRecord {
    key: ServiceKey,
    exists: bool,
    endpoints: Vec<Arc<Endpoint>>,
}

impl From<ServiceRecord> for Service {
    fn from(record: ServiceRecord) -> Self {
        Service::new(record.key, record.exists, record.endpoints)
    }
}

impl From<Service> for ServiceRecord {
    fn from(service: Service) -> Self {
        ServiceRecord { key: service.key, exists: service.exists, endpoints: service.endpoints }
    }
}

impl Service {
    /// Indexes `endpoints`; they are ordered by address so that equal sets are equal services.
    pub fn new(key: ServiceKey, exists: bool, mut endpoints: Vec<Arc<Endpoint>>) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.address);
        let mut by_lane: BTreeMap<LaneRef, Vec<usize>> = BTreeMap::new();
        for (position, endpoint) in endpoints.iter().enumerate() {
            for lane in &endpoint.lanes {
                by_lane.entry(lane.clone()).or_default().push(position);
            }
        }
        Service { key, exists, endpoints, by_lane }
    }

    /// Path of the service.
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// False when the controller said that there is no such service.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// All instances, ordered by address.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Positions (in [`Service::endpoints`]) of the instances of one lane.
    pub fn in_lane(&self, lane: &LaneRef) -> &[usize] {
        self.by_lane.get(lane).map_or(&[], Vec::as_slice)
    }

    /// Every lane that has an instance here.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneRef> {
        self.by_lane.keys()
    }
}
