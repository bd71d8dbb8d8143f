//! What one worker found out about instances: which of them a pick may use. Core decides; this keeps the state, by
//! service and instance, and tells metrics and admin page of changes.
//!
//! Only what is not as it should be is kept: while nothing is wrong, a pick costs one comparison.

pub mod board;
mod rates;
mod watch;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use ahash::{AHashMap, AHashSet};
use mesh_core::{
    fields::Fields,
    health::{
        Change, Exchange, Instance, Permission, ProbeResult, Probed, Seen, Traffic, Usability, permission, wanted_rest,
    },
    model::{
        lane::LaneGroup,
        policy::{HealthCheck, OutlierDetection, TrafficPolicy},
        service::{Service, ServiceKey},
    },
};
use tokio::sync::Notify;

use self::rates::Rates;
pub use self::watch::Watch;
use crate::{telemetry::health::Unusable, worker::Worker};

/// A service that nobody called for so long is not probed any more.
const PROBED_WITHOUT_USE: Duration = Duration::from_secs(600);
/// How often what is known is looked through for what is over.
const SWEEP: Duration = Duration::from_secs(1);

/// What a worker knows of instances that are not as they should be, and which services it probes.
#[derive(Debug, Default)]
pub struct Health {
    services: RefCell<AHashMap<ServiceKey, Instances>>,
    /// Services with a health check that are in use, and when they were used last.
    used: RefCell<AHashMap<ServiceKey, Duration>>,
    /// Services whose instances are probed, by this worker or by others.
    probed: RefCell<AHashSet<ServiceKey>>,
    /// How often calls succeeded, for services whose policy asks for that.
    rates: Rates,
    /// Told when a service with a health check comes into use.
    pub came_into_use: Notify,
    swept: Cell<Duration>,
    /// Versions given out.
    versions: Cell<u64>,
}

#[derive(Debug, Default)]
struct Instances {
    known: AHashMap<SocketAddr, Instance>,
    /// How many of them are not plainly usable.
    out: usize,
    /// Another number whenever something of this changed that a pick heeds.
    version: u64,
}

impl Instances {
    fn usability(&self, address: SocketAddr, now: Duration) -> Usability {
        self.known.get(&address).map_or(Usability::Usable, |instance| instance.usability(now))
    }

    fn count(&mut self, now: Duration) {
        self.out = self.known.values().filter(|instance| instance.usability(now) != Usability::Usable).count();
    }
}

/// What an exchange is judged by.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    /// Service of the instance.
    pub service: &'a Service,
    /// Lane groups of the snapshot.
    pub groups: &'a [LaneGroup],
    /// The service's policy.
    pub traffic: &'a TrafficPolicy,
}

impl Health {
    /// Whether every instance of the service is plainly usable.
    pub fn is_whole(&self, service: &ServiceKey) -> bool {
        let services = self.services.borrow();
        services.is_empty() || services.get(service).is_none_or(|instances| instances.out == 0)
    }

    /// Whether an instance may be picked.
    pub fn usability(&self, service: &ServiceKey, address: SocketAddr, now: Duration) -> Usability {
        let services = self.services.borrow();
        services.get(service).map_or(Usability::Usable, |instances| instances.usability(address, now))
    }

    /// Whether an instance is usable, and not only because its level needs it.
    pub fn is_sound(&self, service: &ServiceKey, address: SocketAddr, now: Duration) -> bool {
        self.usability(service, address, now) == Usability::Usable
    }

    /// A number that is another one whenever what is known of the service's instances has changed; 0 = nothing is.
    pub fn version(&self, service: &ServiceKey) -> u64 {
        let services = self.services.borrow();
        if services.is_empty() { 0 } else { services.get(service).map_or(0, |instances| instances.version) }
    }

    fn next_version(&self) -> u64 {
        self.versions.set(self.versions.get() + 1);
        self.versions.get()
    }

    /// A request for a service whose instances are probed.
    pub fn note_use(&self, service: &ServiceKey, now: Duration) {
        let mut used = self.used.borrow_mut();
        match used.get_mut(service) {
            Some(last) => *last = now,
            None => {
                used.insert(service.clone(), now);
                self.came_into_use.notify_one();
            }
        }
    }

    /// Services with a health check that are in use, and how long ago they were called last.
    pub fn used(&self, now: Duration) -> Vec<(ServiceKey, Duration)> {
        let mut used = self.used.borrow_mut();
        used.retain(|_, last| now.saturating_sub(*last) < PROBED_WITHOUT_USE);
        used.iter().map(|(key, last)| (key.clone(), now.saturating_sub(*last))).collect()
    }

    /// Time from the beginning of the last probe of an instance to the next one.
    pub fn next_probe(
        &self,
        (key, address): (&ServiceKey, SocketAddr),
        check: &HealthCheck,
        traffic: Traffic,
        chance: f64,
    ) -> Duration {
        let services = self.services.borrow();
        let known = services.get(key).and_then(|instances| instances.known.get(&address));
        known.map_or_else(
            || Instance::default().next_probe(check, traffic, chance),
            |instance| instance.next_probe(check, traffic, chance),
        )
    }

    /// An instance whose time out is over gets its one exchange.
    pub fn begin_trial(&self, service: &ServiceKey, address: SocketAddr, now: Duration) {
        if let Some(instances) = self.services.borrow_mut().get_mut(service)
            && let Some(instance) = instances.known.get_mut(&address)
        {
            instance.begin_trial(now);
        }
    }

    fn abandon_trial(&self, service: &ServiceKey, address: SocketAddr, now: Duration) {
        if let Some(instances) = self.services.borrow_mut().get_mut(service)
            && let Some(instance) = instances.known.get_mut(&address)
        {
            instance.abandon_trial(now);
        }
    }

    /// Takes in what an exchange showed of an instance.
    fn observe(&self, worker: &Worker, judged: Judged<'_>, address: SocketAddr, seen: Seen, exchange: Exchange) {
        let (key, policy) = (judged.service.key(), &judged.traffic.outlier_detection);
        if policy.success_rate.is_some() {
            self.rates.count(key, address, worker.now(), seen);
        }
        let is_known =
            || self.services.borrow().get(key).is_some_and(|instances| instances.known.contains_key(&address));
        if seen == Seen::Success && (self.services.borrow().is_empty() || !is_known()) {
            return;
        }
        let now = worker.now();
        let change = self.change(key, address, (now, policy), |instance, instances| {
            let permission = || permitted(judged, address, now, instances);
            instance.observe(seen, exchange, (now, worker.random()), policy, permission)
        });
        self.tell(worker, key, address, change);
    }

    /// Takes in that an instance answered 429 or 503, which may ask that it be left alone.
    fn refuses(&self, worker: &Worker, judged: Judged<'_>, address: SocketAddr, (status, fields): (u16, &dyn Fields)) {
        let (key, policy) = (judged.service.key(), &judged.traffic.outlier_detection);
        let length = wanted_rest(status, fields, worker.unix_now(), policy.max_ejection_time);
        let Some(length) = length.filter(|_| policy.honour_retry_after) else { return };
        let now = worker.now();
        let change = self.change(key, address, (now, policy), |instance, instances| {
            instance.asks_for_rest(now, length, || permitted(judged, address, now, instances))
        });
        self.tell(worker, key, address, change);
    }

    /// Takes in that the sidecar of an instance said that it drains.
    fn leaves(&self, worker: &Worker, judged: Judged<'_>, address: SocketAddr) {
        let (key, policy) = (judged.service.key(), &judged.traffic.outlier_detection);
        // An instance that the service no longer has is not picked anyway.
        let Some(position) = position(judged.service, address) else { return };
        let ready_since = judged.service.endpoints()[position].ready_since;
        let now = worker.now();
        let change = self.change(key, address, (now, policy), |instance, _| instance.leaves(now, ready_since));
        self.tell(worker, key, address, change);
    }

    /// Remembers whose instances are probed: what probes show of others is forgotten.
    pub fn keep_probes_of(&self, services: impl IntoIterator<Item = ServiceKey>) {
        let mut probed = self.probed.borrow_mut();
        probed.clear();
        probed.extend(services);
    }

    /// What probes show of an instance, all in all.
    pub fn verdict(&self, (key, address): (&ServiceKey, SocketAddr)) -> ProbeResult {
        let services = self.services.borrow();
        let known = services.get(key).and_then(|instances| instances.known.get(&address));
        known.map_or(ProbeResult::Succeeded, Instance::verdict)
    }

    /// Takes in what others who probe an instance found out.
    pub fn hear(
        &self,
        worker: &Worker,
        (key, address): (&ServiceKey, SocketAddr),
        verdict: ProbeResult,
        check: &HealthCheck,
    ) {
        let heeds = |instances: &Instances| instances.known.get(&address).map(|instance| instance.heeds(verdict));
        let heeded = self.services.borrow().get(key).and_then(heeds);
        if !heeded.unwrap_or(verdict == ProbeResult::Failed) {
            return;
        }
        let (now, policy) = (worker.now(), OutlierDetection::default());
        let change = self.change(key, address, (now, &policy), |instance, _| instance.told(verdict, now, check));
        self.tell(worker, key, address, change);
    }

    /// Takes in the result of a probe.
    pub fn take_probe(
        &self,
        worker: &Worker,
        (key, address): (&ServiceKey, SocketAddr),
        probed: Probed,
        check: &HealthCheck,
    ) {
        let series = worker.sink.metrics.health(&worker.series.service(key));
        series.probes[usize::from(probed.result == ProbeResult::Failed)].add(1);
        let (now, policy) = (worker.now(), OutlierDetection::default());
        let change = self.change(key, address, (now, &policy), |instance, _| instance.probed(probed, now, check));
        self.tell(worker, key, address, change);
    }

    /// Changes what is known of one instance, and forgets it where nothing is left to know.
    fn change(
        &self,
        key: &ServiceKey,
        address: SocketAddr,
        (now, policy): (Duration, &OutlierDetection),
        change: impl FnOnce(&mut Instance, &Instances) -> Change,
    ) -> Change {
        let mut services = self.services.borrow_mut();
        let instances = services.entry(key.clone()).or_default();
        let mut instance = instances.known.get(&address).copied().unwrap_or_default();
        let before = (instance.usability(now), instances.out);
        let changed = change(&mut instance, instances);
        let after = instance.usability(now);
        if instance.is_blank(now, policy) {
            instances.known.remove(&address);
        } else {
            instances.known.insert(address, instance);
        }
        // Counting notices, too, whose time was over since.
        instances.count(now);
        if (after, instances.out) != before || instances.version == 0 {
            instances.version = self.next_version();
        }
        if instances.known.is_empty() {
            services.remove(key);
        }
        changed
    }

    fn tell(&self, worker: &Worker, key: &ServiceKey, address: SocketAddr, change: Change) {
        let series = || worker.sink.metrics.health(&worker.series.service(key));
        match change {
            Change::None => return,
            Change::Ejected(cause, length) => {
                series().ejections[cause as usize].add(1);
                worker.upstreams.let_go(address);
                tracing::info!(service = %key, endpoint = %address, cause = cause.label(), ?length, "ejected");
            }
            Change::Kept(cause) => {
                series().kept.add(1);
                tracing::debug!(service = %key, endpoint = %address, cause = cause.label(), "kept: its level needs it");
                return;
            }
            Change::Failing => {
                worker.upstreams.let_go(address);
                tracing::info!(service = %key, endpoint = %address, "fails its health check");
            }
            Change::Resting(length) => {
                series().rests.add(1);
                tracing::info!(service = %key, endpoint = %address, ?length, "is left alone, as it asked");
            }
            Change::Returned => tracing::info!(service = %key, endpoint = %address, "back in traffic"),
            Change::Draining => {
                series().drains.add(1);
                // Idle connections to it end soon, perhaps just when one is taken.
                worker.upstreams.let_go(address);
                tracing::info!(service = %key, endpoint = %address, "says that it drains");
            }
            Change::Healthy => {
                worker.balances.recovered(worker, key, address);
                tracing::info!(service = %key, endpoint = %address, "passes its health check");
            }
        }
        self.publish(worker);
    }

    /// Forgets what is over: instances that are gone, services that are not probed any more. Cheap, called often.
    pub fn tick(&self, worker: &Worker) {
        let now = worker.now();
        if now.saturating_sub(self.swept.get()) < SWEEP {
            return;
        }
        self.swept.set(now);
        self.judge_rates(worker, now);
        if self.services.borrow().is_empty() {
            return;
        }
        let snapshot = worker.shared.load();
        self.services.borrow_mut().retain(|key, instances| {
            let Some(service) = snapshot.services.get(key) else { return false };
            let traffic = snapshot.traffic.get(key.label()).map(Arc::as_ref);
            let is_probed =
                traffic.is_some_and(|traffic| traffic.health_check.is_some()) && self.probed.borrow().contains(key);
            let before = (instances.known.len(), instances.out);
            let outlier = traffic.map_or_else(OutlierDetection::default, |traffic| traffic.outlier_detection);
            instances.known.retain(|address, instance| {
                if !is_probed {
                    instance.forget_probes();
                }
                let Some(position) = position(service, *address) else { return false };
                instance.is_there(service.endpoints()[position].ready_since);
                !instance.is_blank(now, &outlier)
            });
            instances.count(now);
            if (instances.known.len(), instances.out) != before {
                instances.version = self.next_version();
            }
            !instances.known.is_empty()
        });
        self.publish(worker);
    }

    /// Shows the admin page and the metrics what is not usable now.
    fn publish(&self, worker: &Worker) {
        let now = worker.now();
        let mut shown = Vec::new();
        for (key, instances) in self.services.borrow().iter() {
            let states = instances.known.iter().map(|(address, instance)| (*address, instance.usability(now)));
            let out = states.filter(|(_, usability)| *usability != Usability::Usable);
            shown.extend(out.map(|(address, usability)| Unusable { service: key.clone(), address, usability }));
        }
        worker.sink.metrics.show_unusable(shown);
    }
}

/// Position of an instance in its service.
fn position(service: &Service, address: SocketAddr) -> Option<usize> {
    service.endpoints().binary_search_by_key(&address, |endpoint| endpoint.address).ok()
}

fn permitted(judged: Judged<'_>, address: SocketAddr, now: Duration, instances: &Instances) -> Permission {
    let Judged { service, groups, traffic } = judged;
    // An instance that the service no longer has takes nothing from it.
    let Some(position) = position(service, address) else { return Permission::Granted };
    let usable = |other: usize| instances.usability(service.endpoints()[other].address, now).is_in_traffic();
    permission(service, groups, position, &usable, &traffic.outlier_detection)
}
