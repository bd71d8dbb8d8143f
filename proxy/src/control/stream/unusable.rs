//! Which instances the workers of this proxy do not use, for `mesh-ctl lane explain`: read from what they publish, on the
//! control thread.

use std::{
    collections::{BTreeMap, btree_map},
    net::SocketAddr,
    sync::Arc,
};

use mesh_core::{health::Usability, model::service::ServiceKey};
use mesh_proto::{
    convert::unusable::{INSTANCES_MAX, UnusableInstance},
    mesh::v1::UnusableInstances,
};

use crate::telemetry::worker::WorkerMetrics;

/// What the workers publish, and what of it was reported.
pub(super) struct Unusable {
    workers: Vec<Arc<WorkerMetrics>>,
    told: Vec<UnusableInstance>,
}

impl Unusable {
    /// Nothing is reported yet.
    pub(super) fn new(workers: Vec<Arc<WorkerMetrics>>) -> Self {
        Unusable { workers, told: Vec::new() }
    }

    /// A new stream knows nothing yet.
    pub(super) fn begin(&mut self) {
        self.told.clear();
    }

    /// Every instance that a worker would not pick; `None` where it is as it was reported.
    pub(super) fn report(&mut self) -> Option<UnusableInstances> {
        let now = self.now();
        if now == self.told {
            return None;
        }
        self.told = now;
        Some(UnusableInstances { instances: self.told.iter().map(UnusableInstance::to_wire).collect() })
    }

    fn now(&self) -> Vec<UnusableInstance> {
        let mut found: BTreeMap<(ServiceKey, SocketAddr), Usability> = BTreeMap::new();
        for worker in &self.workers {
            for one in worker.all_health().unusable().iter().filter(|one| !one.usability.allows()) {
                // Of several workers the first that says so.
                if let btree_map::Entry::Vacant(place) = found.entry((one.service.clone(), one.address)) {
                    place.insert(one.usability);
                }
            }
        }
        let instance = |((service, address), usability)| UnusableInstance { service, address, usability };
        found.into_iter().take(INSTANCES_MAX).map(instance).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::health;

    fn seen(last: u8, usability: Usability) -> health::Unusable {
        let service = ServiceKey("b.demo.svc.cluster.local:80".into());
        health::Unusable { service, address: ([10, 0, 0, last], 80).into(), usability }
    }

    #[test]
    fn what_any_worker_would_not_pick_is_reported_when_it_changes_and_to_each_new_stream() {
        let workers = [0, 1].map(|number| Arc::new(WorkerMetrics::new(number)));
        let mut unusable = Unusable::new(workers.to_vec());
        assert_eq!(unusable.report(), None);
        workers[0].show_unusable(vec![seen(1, Usability::Ejected), seen(2, Usability::HalfOpen)]);
        workers[1].show_unusable(vec![seen(1, Usability::Ejected), seen(3, Usability::FailingHealth)]);
        let told = |report: Option<UnusableInstances>| -> Vec<(String, String)> {
            report.unwrap().instances.into_iter().map(|one| (one.address, one.reason)).collect()
        };
        let both =
            [("10.0.0.1:80", "ejected"), ("10.0.0.3:80", "failing_health")].map(|(a, r)| (a.to_owned(), r.to_owned()));
        assert_eq!(told(unusable.report()), both);
        assert_eq!(unusable.report(), None);
        unusable.begin();
        assert_eq!(told(unusable.report()), both);
        workers.iter().for_each(|worker| worker.show_unusable(Vec::new()));
        assert_eq!(told(unusable.report()), []);
    }

    #[test]
    fn report_is_bounded() {
        let worker = Arc::new(WorkerMetrics::new(0));
        let address = |number: usize| SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 80));
        let many =
            (0..2_000).map(|number| health::Unusable { address: address(number), ..seen(0, Usability::Ejected) });
        worker.show_unusable(many.collect());
        assert_eq!(Unusable::new(vec![worker]).report().unwrap().instances.len(), INSTANCES_MAX);
    }
}
