//! Workloads: what their own proxies are told about them.

use std::collections::BTreeSet;

use mesh_core::{
    resources::{World, world::WorldWorkload},
    snapshot::Workload,
};

use super::{Key, View};

impl View {
    /// A workload.
    pub fn workload(&self, namespace: &str, pod: &str) -> Option<&WorldWorkload> {
        self.world().workloads.get(&World::workload_key(namespace, pod))
    }

    /// What a workload's proxy is told about itself, and the ports of its application. Empty when nobody knows it.
    pub fn about(&self, namespace: &str, pod: &str) -> (Workload, BTreeSet<u16>) {
        let Some(found) = self.workload(namespace, pod) else { return Default::default() };
        let about = Workload {
            lanes: found.lanes.clone(),
            zone: found.zone.clone(),
            services: found.services.clone(),
            served: found.served.clone(),
        };
        (about, found.inbound.keys().copied().collect())
    }
}

pub(super) fn changed(old: &World, new: &World, changed: &mut BTreeSet<Key>) {
    let fresh = new.workloads.iter().filter(|(key, workload)| old.workloads.get(*key) != Some(*workload));
    let gone = old.workloads.keys().filter(|key| !new.workloads.contains_key(*key));
    changed.extend(fresh.map(|(key, _)| key).chain(gone).cloned().map(Key::Workload));
}
