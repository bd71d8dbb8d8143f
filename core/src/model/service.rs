//! A service and its instances, indexed by lane so that a pick scans only its level.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    endpoint::Endpoint,
    lane::{Baseline, LaneGroup, LaneName, LaneRef, LaneState},
};

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
        let ends = self.0.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'.' | b':'));
        &self.0[..ends.map(|(at, _)| at).nth(1).unwrap_or(self.0.len())]
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service with its instances; immutable. Candidates of every lane and of baseline are worked out when it is built, so
/// that choosing instances for a request allocates nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "ServiceRecord", into = "ServiceRecord")]
pub struct Service {
    key: ServiceKey,
    exists: bool,
    endpoints: Vec<Arc<Endpoint>>,
    /// In order of lanes.
    by_lane: Vec<(LaneRef, Members)>,
    open: Vec<usize>,
    draining: Vec<usize>,
    equal_weights: bool,
    baseline: Prepared,
}

/// Positions of the registered instances of a lane.
#[derive(Clone, Debug, Default)]
struct Members {
    open: Vec<usize>,
    draining: Vec<usize>,
}

/// Baseline positions, and the groups for which they were worked out.
#[derive(Clone, Debug, Default)]
struct Prepared {
    groups: Vec<(LaneName, u64)>,
    positions: Vec<usize>,
}

impl Prepared {
    fn fits(&self, groups: &[LaneGroup]) -> bool {
        self.groups.len() == groups.len()
            && self
                .groups
                .iter()
                .zip(groups)
                .all(|((name, revision), group)| *revision == group.revision && name == &group.name)
    }
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

/// Services are equal when they are the same set of instances, whatever was prepared for them.
impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.exists == other.exists && self.endpoints == other.endpoints
    }
}

impl Eq for Service {}

impl Service {
    /// Indexes `endpoints`; they are ordered by address so that equal sets are equal services. Follow with
    /// [`Service::with_groups`] where lane groups exist, or baseline is worked out anew for each request.
    pub fn new(key: ServiceKey, exists: bool, mut endpoints: Vec<Arc<Endpoint>>) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.address);
        let mut by_lane: BTreeMap<LaneRef, Members> = BTreeMap::new();
        let mut open = Vec::with_capacity(endpoints.len());
        let mut draining = Vec::new();
        // Weight 0 takes an instance out of its lanes too: it is as if it were not registered.
        for (position, endpoint) in endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.weight > 0) {
            if endpoint.is_open() {
                open.push(position)
            } else {
                draining.push(position)
            }
            for lane in &endpoint.lanes {
                let members = by_lane.entry(lane.clone()).or_default();
                let list = if endpoint.is_open() { &mut members.open } else { &mut members.draining };
                if list.last() != Some(&position) {
                    list.push(position);
                }
            }
        }
        let weight = |position: &usize| endpoints[*position].weight;
        let equal_weights = open.windows(2).all(|pair| weight(&pair[0]) == weight(&pair[1]));
        let baseline = Prepared { groups: Vec::new(), positions: open.clone() };
        let by_lane = by_lane.into_iter().collect();
        Service { key, exists, endpoints, by_lane, open, draining, equal_weights, baseline }
    }

    /// The same service with baseline worked out for these groups (as they stand in the snapshot, all of them).
    #[must_use]
    pub fn with_groups(mut self, groups: &[LaneGroup]) -> Self {
        self.baseline = Prepared {
            positions: self.baseline_positions(groups),
            groups: groups.iter().map(|group| (group.name.clone(), group.revision)).collect(),
        };
        self
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

    /// Positions (in [`Service::endpoints`]) of every open instance, see [`Endpoint::is_open`].
    pub fn open(&self) -> &[usize] {
        &self.open
    }

    /// Positions of the instances of one lane that take traffic.
    pub fn in_lane(&self, lane: &LaneRef) -> &[usize] {
        self.registered(&lane.group, &lane.lane).0
    }

    /// Positions of the registered instances of one lane: of those that take traffic, and of the draining ones.
    pub fn registered(&self, group: &LaneName, lane: &LaneName) -> (&[usize], &[usize]) {
        match self.by_lane.binary_search_by(|(known, _)| (&known.group, &known.lane).cmp(&(group, lane))) {
            Ok(at) => (&self.by_lane[at].1.open, &self.by_lane[at].1.draining),
            Err(_) => (&[], &[]),
        }
    }

    /// Positions of the instances of one lane that drain, or are unhealthy by the word of their registry: registered, but to
    /// be used only where nobody else can.
    pub fn draining_in_lane(&self, lane: &LaneRef) -> &[usize] {
        self.registered(&lane.group, &lane.lane).1
    }

    /// Positions of the baseline instances that drain, or are unhealthy by the word of their registry, worked out now.
    pub fn draining_baseline(&self, groups: &[LaneGroup]) -> Vec<usize> {
        self.plain(&self.draining, groups)
    }

    /// Positions of the baseline instances that take traffic; prepared by [`Service::with_groups`] for these groups, or
    /// worked out now.
    pub fn baseline(&self, groups: &[LaneGroup]) -> Cow<'_, [usize]> {
        if self.baseline.fits(groups) {
            Cow::Borrowed(&self.baseline.positions)
        } else {
            Cow::Owned(self.baseline_positions(groups))
        }
    }

    /// Whether all instances that take traffic have the same weight.
    pub fn equal_weights(&self) -> bool {
        self.equal_weights
    }

    /// Every lane that has an instance here (of weight > 0, draining or not).
    pub fn lanes(&self) -> impl Iterator<Item = &LaneRef> {
        self.by_lane.iter().map(|(lane, _)| lane)
    }

    fn baseline_positions(&self, groups: &[LaneGroup]) -> Vec<usize> {
        self.plain(&self.open, groups)
    }

    fn plain(&self, positions: &[usize], groups: &[LaneGroup]) -> Vec<usize> {
        let label = self.key.label();
        let groups: Vec<&LaneGroup> = groups.iter().filter(|group| group.members.contains(label)).collect();
        let plain = |position: &usize| groups.iter().all(|group| is_baseline(&self.endpoints[*position], group));
        positions.iter().copied().filter(plain).collect()
    }
}

/// Whether an instance serves the plain traffic of a group.
fn is_baseline(endpoint: &Endpoint, group: &LaneGroup) -> bool {
    endpoint.lanes.iter().filter(|lane| lane.group == group.name).all(|lane| {
        match (group.lane(&lane.lane).map(|lane| lane.state), group.baseline) {
            (Some(LaneState::Draft | LaneState::Active | LaneState::Draining), _) => false,
            (Some(LaneState::Promoted), _) => true,
            (Some(LaneState::Closed) | None, mode) => mode == Baseline::NotInActiveLane,
        }
    })
}
