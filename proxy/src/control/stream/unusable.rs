//! Which instances the workers of this proxy do not use as any other, for `mesh-ctl endpoints` and `lane explain`: read from
//! what they publish, on the control thread.

use std::{
    collections::{BTreeMap, btree_map},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::{health::Usability, lifecycle::Seen, model::service::ServiceKey};
use mesh_proto::{
    convert::unusable::{INSTANCES_MAX, UnusableInstance, WatchedInstance},
    mesh::v1::UnusableInstances,
};

use crate::telemetry::worker::WorkerMetrics;

/// What the workers publish, and what of it was reported.
pub(super) struct Unusable {
    workers: Vec<Arc<WorkerMetrics>>,
    /// What was found last, and since when.
    found: Found,
    /// Whether the stream knows that.
    is_told: bool,
}

type Found = BTreeMap<(ServiceKey, SocketAddr), (State, SystemTime)>;

/// How the workers have an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not used, or used by one exchange.
    Held(Usability),
    /// With part of its weight, since then (Unix milliseconds).
    Warming(u64),
}

impl Unusable {
    /// Nothing is reported yet.
    pub(super) fn new(workers: Vec<Arc<WorkerMetrics>>) -> Self {
        Unusable { workers, found: Found::new(), is_told: true }
    }

    /// A new stream knows nothing yet.
    pub(super) fn begin(&mut self) {
        self.is_told = self.found.is_empty();
    }

    /// Every instance that a worker does not use as any other; `None` where it is as it was reported.
    pub(super) fn report(&mut self) -> Option<UnusableInstances> {
        self.look(SystemTime::now());
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let (mut instances, mut watched) = (Vec::new(), Vec::new());
        for ((service, address), (state, since)) in &self.found {
            let (service, address, since) = (service.clone(), *address, Some(*since));
            match state {
                State::Held(usability) if !usability.allows() => {
                    instances.push(UnusableInstance { service, address, usability: *usability, since });
                }
                State::Held(usability) => {
                    let seen = Seen::of(*usability);
                    watched.extend(seen.map(|seen| WatchedInstance { service, address, seen, since }));
                }
                State::Warming(_) => watched.push(WatchedInstance { service, address, seen: Seen::Warming, since }),
            }
        }
        Some(UnusableInstances {
            instances: instances.iter().take(INSTANCES_MAX).map(UnusableInstance::to_wire).collect(),
            watched: watched.iter().take(INSTANCES_MAX).map(WatchedInstance::to_wire).collect(),
        })
    }

    /// Looks at what the workers publish. Of several the first counts that has something against an instance.
    fn look(&mut self, now: SystemTime) {
        let mut states: BTreeMap<(ServiceKey, SocketAddr), State> = BTreeMap::new();
        for worker in &self.workers {
            for one in worker.all_health().unusable().iter() {
                match states.entry((one.service.clone(), one.address)) {
                    btree_map::Entry::Vacant(place) => drop(place.insert(State::Held(one.usability))),
                    btree_map::Entry::Occupied(mut place) => {
                        if matches!(place.get(), State::Held(known) if known.allows()) {
                            place.insert(State::Held(one.usability));
                        }
                    }
                }
            }
        }
        for worker in &self.workers {
            for one in worker.all_health().warming().iter() {
                states.entry((one.service.clone(), one.address)).or_insert(State::Warming(one.start));
            }
        }
        let since = |key: &(ServiceKey, SocketAddr), state: State| match (state, self.found.get(key)) {
            (State::Warming(start), _) => SystemTime::UNIX_EPOCH + Duration::from_millis(start),
            (State::Held(_), Some((known, since))) if *known == state => *since,
            (State::Held(_), Some(_) | None) => now,
        };
        let found: Found = states.into_iter().map(|(key, state)| (key.clone(), (state, since(&key, state)))).collect();
        self.is_told &= found == self.found;
        self.found = found;
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
        let again = unusable.report();
        let watched: Vec<_> = again.iter().flat_map(|report| &report.watched).map(|one| one.reason.as_str()).collect();
        assert_eq!(watched, ["half_open"]);
        assert_eq!(told(again), both);
        workers.iter().for_each(|worker| worker.show_unusable(Vec::new()));
        assert_eq!(told(unusable.report()), []);
    }

    #[test]
    fn since_when_is_kept_while_an_instance_stays_as_it_is() {
        let worker = Arc::new(WorkerMetrics::new(0));
        let mut unusable = Unusable::new(vec![Arc::clone(&worker)]);
        worker.show_unusable(vec![seen(1, Usability::Ejected)]);
        let service = ServiceKey("b.demo.svc.cluster.local:80".into());
        let warming = health::Warming { service, address: ([10, 0, 0, 2], 80).into(), start: 1_800_000_000_000 };
        worker.all_health().show_warming(vec![warming]);
        let first = unusable.report().unwrap();
        assert_eq!(first.watched[0].since.as_ref().map(|since| since.seconds), Some(1_800_000_000));
        unusable.begin();
        assert_eq!(unusable.report().unwrap(), first);
        worker.show_unusable(vec![seen(1, Usability::OnTrial)]);
        assert_ne!(unusable.report().unwrap().instances, first.instances);
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
