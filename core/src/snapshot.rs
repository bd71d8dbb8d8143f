//! Everything a data worker needs to decide, at one moment. Immutable; an exchange is planned by the one it began with, and
//! keeps its [`Surroundings`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use crate::{
    lane::entry::Prepared,
    limits::rate::Rules,
    model::{
        lane::{LaneGroup, LaneRef},
        policy::{InboundServer, TrafficPolicy},
        route::{OutboundPolicy, Target},
        service::{Service, ServiceKey},
    },
    model_route::routes::ModelRoutes,
};

/// What the control side knows, as the data path reads it. Parts are shared between successive snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts up with every change in this process.
    pub revision: u64,
    /// Revision of the controller's `mesh.v1` policy in here; empty = none received.
    #[serde(default)]
    pub policy_revision: String,
    /// Policies by application port. A port that is not here is denied.
    pub inbound: BTreeMap<u16, Arc<InboundServer>>,
    /// How targets are carried. A target that is not here is being asked for, or is in `unknown`.
    #[serde(with = "pairs")]
    pub outbound: BTreeMap<Target, Arc<OutboundPolicy>>,
    /// Targets that the controller does not know.
    pub unknown: BTreeSet<Target>,
    /// Instances by service.
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    /// How calls to a service are treated, by `<name>.<namespace>`; absent = [`TrafficPolicy::default`].
    pub traffic: BTreeMap<String, Arc<TrafficPolicy>>,
    /// Zones whose instances are left where others can take over.
    #[serde(default)]
    pub drained_zones: Arc<BTreeSet<String>>,
    /// Lane groups, with every lane in the state it had when they were put in; see [`Snapshot::set_lanes`].
    pub lanes: Arc<Vec<LaneGroup>>,
    /// What entries have worked out of the lane groups.
    #[serde(skip)]
    pub entries: Arc<Prepared>,
    /// Model routes, ordered by name. Absent in files of proxies that knew none.
    #[serde(default)]
    pub model_routes: ModelRoutes,
    /// What the controller says about this workload.
    pub workload: Workload,
    /// How many requests its services take, by port of the application; see [`Snapshot::set_rates`].
    #[serde(skip)]
    pub rates: Arc<Rules>,
    /// Trust anchors, DER; any of them may have signed a peer.
    pub trust_anchors: Vec<Arc<[u8]>>,
    /// See [`Snapshot::surroundings`].
    #[serde(skip)]
    pub worked_out: WorkedOut,
}

impl Snapshot {
    /// Replaces the lane groups, and works out what entries need of them.
    pub fn set_lanes(&mut self, groups: Arc<Vec<LaneGroup>>) {
        self.entries = Arc::new(Prepared::new(&groups));
        self.lanes = groups;
    }

    /// Works out how many requests the workload's services take, after it or traffic policies changed.
    pub fn set_rates(&mut self) {
        self.rates = Arc::new(Rules::new(&self.workload, &self.traffic));
    }

    /// What an exchange needs to its end. Worked out once; ask before the snapshot is shared, so that no worker has to.
    pub fn surroundings(&self) -> Arc<Surroundings> {
        let work_out = || {
            Arc::new(Surroundings {
                lanes: Arc::clone(&self.lanes),
                entries: Arc::clone(&self.entries),
                drained_zones: Arc::clone(&self.drained_zones),
                rates: Arc::clone(&self.rates),
                workload: self.workload.clone(),
            })
        };
        Arc::clone(self.worked_out.0.get_or_init(work_out))
    }
}

/// What of a snapshot an exchange needs to its end, besides the instances and the policy of its own service: a stream that
/// lasts for hours would otherwise keep all services as they were when it began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// As in the snapshot.
    pub lanes: Arc<Vec<LaneGroup>>,
    /// As in the snapshot.
    pub entries: Arc<Prepared>,
    /// As in the snapshot.
    pub drained_zones: Arc<BTreeSet<String>>,
    /// As in the snapshot.
    pub rates: Arc<Rules>,
    /// As in the snapshot.
    pub workload: Workload,
}

/// The surroundings of one snapshot. A copy has none yet, since it may be changed before it is shared.
#[derive(Debug, Default)]
pub struct WorkedOut(OnceLock<Arc<Surroundings>>);

impl Clone for WorkedOut {
    fn clone(&self) -> Self {
        WorkedOut::default()
    }
}

/// They follow from the rest of the snapshot.
impl PartialEq for WorkedOut {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What the controller says about the workload a proxy serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Lanes the pod belongs to; fills an absent label only.
    pub lanes: Vec<LaneRef>,
    /// Zone of the pod.
    pub zone: Option<String>,
    /// Services (`<name>.<namespace>`) that the pod is an instance of.
    pub services: Vec<String>,
    /// Which of these services each port of the application serves. Absent in files of proxies that knew it not.
    #[serde(default)]
    pub served: BTreeMap<u16, Vec<String>>,
}

/// Maps whose keys are no strings, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_changed_has_surroundings_of_its_own() {
        let first = Snapshot::default();
        assert!(Arc::ptr_eq(&first.surroundings(), &first.surroundings()));
        let mut second = first.clone();
        second.workload.zone = Some("z1".to_owned());
        assert_eq!(second.surroundings().workload.zone.as_deref(), Some("z1"));
        assert_eq!(first.surroundings().workload.zone, None);
    }
}
