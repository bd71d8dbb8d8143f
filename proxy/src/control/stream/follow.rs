//! Which targets, services and ports are followed, since when they are unused, and which are known to be unknown. Owns
//! the tasks of the streams.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use mesh_core::{
    model::{route::Target, service::ServiceKey},
    snapshot::Snapshot,
};
use mesh_proto::mesh::v1::{Caller, Hello};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    mesh, sharing,
    watch::{self, Context, WhenUnknown},
};
use crate::{
    control::snapshot::{Builder, Event, services_of},
    shared::{Ask, Shared},
    telemetry::worker::{Direction, SeriesKey, WorkerMetrics},
};

/// Most targets that are followed at the same time. An application calls tens of services, a gateway hundreds.
pub(super) const TARGETS_MAX: usize = 1_024;
/// Most services that are followed at the same time: a target's routes may name several.
pub(super) const SERVICES_MAX: usize = 4_096;
/// Most ports that are followed because of connections, beyond those that the workload is known to serve.
pub(super) const ASKED_PORTS_MAX: usize = 256;
/// A target that no exchange used for so long is not followed any more.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(600);
/// Answers "unknown" that are remembered; beyond it the oldest may be asked again before its time.
const UNKNOWN_MAX: usize = 4_096;
/// So long an answer "unknown" stands before it may be asked again.
pub(super) const UNKNOWN_TIME: Duration = Duration::from_secs(10);

pub(super) struct Following {
    context: Arc<Context>,
    tasks: JoinSet<()>,
    targets: HashMap<Target, Followed>,
    services: HashMap<ServiceKey, Followed>,
    ports: HashMap<u16, AbortHandle>,
    asked_ports: HashSet<u16>,
    unknown: VecDeque<(Instant, Unknown)>,
}

/// A subscription.
struct Followed {
    task: AbortHandle,
    /// Services that a target's policy names; empty for a service.
    services: BTreeSet<ServiceKey>,
    /// Last moment at which it was seen in use.
    used: Instant,
    /// Exchanges counted then.
    exchanges: u64,
}

/// Whether a target's policy names other services than before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uses {
    Same,
    Others,
}

enum Unknown {
    Target(Target),
    Port(u16),
}

impl Following {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Following {
            context,
            tasks: JoinSet::new(),
            targets: HashMap::new(),
            services: HashMap::new(),
            ports: HashMap::new(),
            asked_ports: HashSet::new(),
            unknown: VecDeque::new(),
        }
    }

    /// Subscriptions open now.
    pub(super) fn len(&self) -> usize {
        self.targets.len() + self.services.len() + self.ports.len()
    }

    /// Follows everything that a snapshot from disk knows.
    pub(super) fn resume(&mut self, kept: &Snapshot) {
        for (target, policy) in &kept.outbound {
            self.follow_target(target.clone());
            self.uses(target, services_of(policy).into_iter().cloned().collect());
        }
        for key in kept.services.keys() {
            self.follow_service(key.clone());
        }
        for port in kept.inbound.keys() {
            self.serve_port(*port);
        }
        // What was unknown then may be asked again at once.
        let now = Instant::now();
        self.unknown.extend(kept.unknown.iter().map(|target| (now, Unknown::Target(target.clone()))));
    }

    /// Follows the `mesh.v1` policy, where the control plane has it.
    pub(super) fn policy(&mut self, hello: Hello, applied_revision: String, status: mesh::Status) {
        let hello = Hello { applied_revision, ..hello };
        if let Some(channel) = self.context.channels.mesh.clone() {
            self.tasks.spawn(mesh::follow(Arc::clone(&self.context), channel, hello, status));
        }
    }

    /// Shares probing with other callers, where the control plane has that.
    pub(super) fn share_probing(&mut self, shared: Arc<Shared>, hello: &Hello) {
        let Some(channel) = self.context.channels.mesh.clone() else { return shared.probing.go_alone() };
        let caller = Caller {
            namespace: hello.namespace.clone(),
            pod: hello.pod.clone(),
            service_account: hello.service_account.clone(),
        };
        self.tasks.spawn(sharing::follow(Arc::clone(&self.context), channel, shared, caller));
    }

    /// Answers a worker's question by following; the event says what stands instead where a bound forbids it.
    pub(super) fn ask(&mut self, ask: Ask, workers: &[Arc<WorkerMetrics>], builder: &mut Builder) -> Option<Event> {
        match ask {
            Ask::Target(target) => {
                if let Some(followed) = self.targets.get_mut(&target) {
                    followed.used = Instant::now();
                    return None;
                }
                if builder.current().unknown.contains(&target) {
                    return None;
                }
                if self.targets.len() >= TARGETS_MAX && !self.drop_least_used(workers, builder) {
                    self.remember_unknown(Unknown::Target(target.clone()));
                    return Some(Event::TargetUnknown(target));
                }
                self.follow_target(target);
            }
            Ask::Service(key) => {
                if !self.follow_service(key.clone()) && !self.services.contains_key(&key) {
                    let none = mesh_proto::convert::endpoint::Change::Empty { exists: false };
                    return Some(Event::ServiceReplaced(key, none));
                }
            }
            Ask::Port(port) => return self.ask_port(port),
        }
        None
    }

    fn ask_port(&mut self, port: u16) -> Option<Event> {
        let unknown = |entry: &(Instant, Unknown)| matches!(entry.1, Unknown::Port(known) if known == port);
        if self.ports.contains_key(&port) || self.unknown.iter().any(unknown) {
            return None;
        }
        if self.asked_ports.len() >= ASKED_PORTS_MAX {
            return Some(Event::PortUnknown(port));
        }
        self.asked_ports.insert(port);
        let task = self.tasks.spawn(watch::port(Arc::clone(&self.context), port, WhenUnknown::GiveUp));
        self.ports.insert(port, task);
        None
    }

    /// Follows a port that the workload serves; false if it was followed already.
    pub(super) fn serve_port(&mut self, port: u16) -> bool {
        if self.ports.contains_key(&port) && !self.asked_ports.remove(&port) {
            return false;
        }
        let task = self.tasks.spawn(watch::port(Arc::clone(&self.context), port, WhenUnknown::AskAgain));
        if let Some(asked) = self.ports.insert(port, task) {
            asked.abort();
        }
        true
    }

    /// Whether the news is about something that is still followed.
    pub(super) fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Target(target, _) | Event::TargetUnknown(target) => self.targets.contains_key(target),
            Event::ServiceReplaced(key, _) | Event::ServiceChanged(key, _) => self.services.contains_key(key),
            Event::Port(port, _) | Event::PortUnknown(port) => self.ports.contains_key(port),
            Event::TargetForgotten(_) | Event::ServiceForgotten(_) | Event::Policy(_) | Event::Anchors(_) => true,
        }
    }

    /// Keeps the books when a stream says something, before the builder takes it in.
    pub(super) fn heard(&mut self, event: &Event, builder: &mut Builder) {
        match event {
            Event::Target(target, policy) => {
                let services: BTreeSet<ServiceKey> = services_of(policy).into_iter().cloned().collect();
                for key in &services {
                    self.follow_service(key.clone());
                }
                if self.uses(target, services) == Uses::Others {
                    self.drop_unnamed_services(builder);
                }
            }
            Event::TargetUnknown(target) => {
                self.targets.remove(target);
                self.remember_unknown(Unknown::Target(target.clone()));
                self.drop_unnamed_services(builder);
            }
            Event::PortUnknown(port) => {
                if self.asked_ports.remove(port) {
                    self.ports.remove(port);
                    self.remember_unknown(Unknown::Port(*port));
                }
            }
            Event::TargetForgotten(_)
            | Event::ServiceReplaced(..)
            | Event::ServiceChanged(..)
            | Event::ServiceForgotten(_)
            | Event::Port(..)
            | Event::Policy(_)
            | Event::Anchors(_) => {}
        }
    }

    /// When the next answer "unknown" expires.
    pub(super) fn next_forgotten(&self) -> Option<Instant> {
        self.unknown.front().map(|(until, _)| *until)
    }

    /// Answers "unknown" that expired: they may be asked again.
    pub(super) fn forget(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        while self.unknown.front().is_some_and(|(until, _)| *until <= now) {
            match self.unknown.pop_front() {
                Some((_, Unknown::Target(target))) if !self.targets.contains_key(&target) => {
                    events.push(Event::TargetForgotten(target));
                }
                Some((_, Unknown::Target(_) | Unknown::Port(_))) | None => {}
            }
        }
        events
    }

    /// Takes finished tasks away; pending where there is none.
    pub(super) async fn reap(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops following targets that no exchange used for [`IDLE_TIME`], unless a stream is broken: what is dropped while
    /// the controller is away could not be had again.
    pub(super) fn drop_idle(&mut self, workers: &[Arc<WorkerMetrics>], builder: &mut Builder) {
        self.observe(workers);
        if self.context.broken.load(Relaxed) > 0 {
            return;
        }
        let now = Instant::now();
        let idle: Vec<Target> =
            self.targets.iter().filter(|(_, one)| now >= one.used + IDLE_TIME).map(key_of).collect();
        for target in idle {
            self.drop_target(&target, builder);
        }
        self.drop_unnamed_services(builder);
    }

    /// Makes room for one target: the one unused for longest goes, unless all are in use.
    fn drop_least_used(&mut self, workers: &[Arc<WorkerMetrics>], builder: &mut Builder) -> bool {
        self.observe(workers);
        let now = Instant::now();
        let unused = self.targets.iter().filter(|(_, one)| one.used < now).min_by_key(|(_, one)| one.used);
        let Some(target) = unused.map(key_of) else { return false };
        self.drop_target(&target, builder);
        self.drop_unnamed_services(builder);
        true
    }

    fn drop_target(&mut self, target: &Target, builder: &mut Builder) {
        if let Some(followed) = self.targets.remove(target) {
            followed.task.abort();
        }
        builder.apply(Event::TargetForgotten(target.clone()));
    }

    /// Services that no target names any more and that nobody asked for lately.
    fn drop_unnamed_services(&mut self, builder: &mut Builder) {
        if self.context.broken.load(Relaxed) > 0 {
            return;
        }
        let named: HashSet<&ServiceKey> = self.targets.values().flat_map(|target| &target.services).collect();
        let now = Instant::now();
        let idle = |one: &Followed| now >= one.used + IDLE_TIME;
        let unnamed: Vec<ServiceKey> =
            self.services.iter().filter(|(key, one)| !named.contains(key) && idle(one)).map(key_of).collect();
        for key in unnamed {
            if let Some(followed) = self.services.remove(&key) {
                followed.task.abort();
            }
            builder.apply(Event::ServiceForgotten(key));
        }
    }

    /// Notes which targets and services have exchanges that they had not before, or under way.
    fn observe(&mut self, workers: &[Arc<WorkerMetrics>]) {
        let now = Instant::now();
        let Some(exchanges) = exchanges_by_service(workers) else {
            // Counted together: nobody can tell which are unused.
            self.targets.values_mut().chain(self.services.values_mut()).for_each(|one| one.used = now);
            return;
        };
        let count = |key: &ServiceKey| exchanges.get(key.label()).copied().unwrap_or_default();
        for one in self.targets.values_mut() {
            let (total, open) = one.services.iter().map(count).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            // A target without service has no count of its own.
            one.note(now, total, open > 0 || one.services.is_empty());
        }
        for (key, one) in &mut self.services {
            let (total, open) = count(key);
            one.note(now, total, open > 0);
        }
    }

    fn follow_target(&mut self, target: Target) {
        if !self.targets.contains_key(&target) {
            let task = self.tasks.spawn(watch::target(Arc::clone(&self.context), target.clone()));
            self.targets.insert(target, Followed::new(task));
        }
    }

    /// False where the service was followed already, or the bound forbids it.
    fn follow_service(&mut self, key: ServiceKey) -> bool {
        if self.services.contains_key(&key) || self.services.len() >= SERVICES_MAX {
            return false;
        }
        let task = self.tasks.spawn(watch::service(Arc::clone(&self.context), key.clone()));
        self.services.insert(key, Followed::new(task));
        true
    }

    fn remember_unknown(&mut self, unknown: Unknown) {
        let now = Instant::now();
        if self.unknown.len() >= UNKNOWN_MAX
            && let Some((until, _)) = self.unknown.front_mut()
        {
            *until = now;
        }
        self.unknown.push_back((now + UNKNOWN_TIME, unknown));
    }

    fn uses(&mut self, target: &Target, services: BTreeSet<ServiceKey>) -> Uses {
        match self.targets.get_mut(target) {
            Some(followed) if followed.services != services => {
                followed.services = services;
                Uses::Others
            }
            Some(_) | None => Uses::Same,
        }
    }
}

impl Followed {
    fn new(task: AbortHandle) -> Self {
        Followed { task, services: BTreeSet::new(), used: Instant::now(), exchanges: 0 }
    }

    fn note(&mut self, now: Instant, exchanges: u64, in_use: bool) {
        if in_use || exchanges != self.exchanges {
            self.exchanges = exchanges;
            self.used = now;
        }
    }
}

fn key_of<K: Clone, V>(entry: (&K, V)) -> K {
    entry.0.clone()
}

/// Outbound exchanges by service, finished and under way; `None` where a worker counts several services together.
fn exchanges_by_service(workers: &[Arc<WorkerMetrics>]) -> Option<HashMap<Arc<str>, (u64, u64)>> {
    let overflow = SeriesKey::overflow(Direction::Outbound);
    let mut found: HashMap<Arc<str>, (u64, u64)> = HashMap::new();
    for series in workers.iter().flat_map(|worker| worker.series().iter().cloned().collect::<Vec<_>>()) {
        if series.key == overflow {
            return None;
        }
        if series.key.direction == Direction::Outbound {
            let sum = found.entry(Arc::clone(&series.key.service)).or_default();
            sum.0 += series.outcomes.iter().map(|count| count.get()).sum::<u64>();
            sum.1 += series.in_flight.get();
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::atomic::AtomicUsize, time::Duration};

    use hyper_util::rt::TokioIo;
    use mesh_core::{
        model::route::{Backend, Distribution, OutboundPolicy, OutboundProtocol},
        outcome::Outcome,
    };
    use mesh_proto::convert::target::{LaneChoice, Workload};
    use tokio::{io::DuplexStream, sync::mpsc, time::advance};
    use tonic::transport::Endpoint;
    use tower::service_fn;

    use super::*;
    use crate::{control::stream::Channels, telemetry::control::ControlCounters};

    /// Streams neither open nor break: what is followed depends on what is asked and heard.
    fn following() -> Following {
        let never = service_fn(|_: http::Uri| pending::<std::io::Result<TokioIo<DuplexStream>>>());
        let channel = Endpoint::from_static("http://controller").connect_with_connector_lazy(never);
        let channels = Channels { destination: channel.clone(), policy: channel, mesh: None };
        Following::new(Arc::new(Context {
            workload: Workload { namespace: "demo".to_owned(), pod: "a".to_owned(), lanes: LaneChoice::Own },
            control_namespace: "lanemesh".to_owned(),
            channels,
            news: mpsc::channel(1).0,
            counters: Arc::new(ControlCounters::default()),
            broken: AtomicUsize::new(0),
        }))
    }

    fn target(number: usize) -> Target {
        Target::Authority(format!("s{number}").into(), 80)
    }

    fn policy(number: usize) -> Event {
        let key = ServiceKey(format!("s{number}.demo.svc.cluster.local:80").into());
        let to = Distribution::FirstAvailable(vec![Backend::Service(key)]);
        Event::Target(target(number), Arc::new(OutboundPolicy { protocol: OutboundProtocol::Opaque(to) }))
    }

    fn use_service(worker: &WorkerMetrics, number: usize) {
        let service = format!("s{number}.demo").into();
        let series = worker.register(SeriesKey { service, ..SeriesKey::overflow(Direction::Outbound) });
        series.finish(Outcome::Success, 200, Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn target_that_nobody_uses_is_dropped_with_its_service_and_one_in_use_stays() {
        let (mut following, mut builder) = (following(), Builder::default());
        let workers = [Arc::new(WorkerMetrics::new(0))];
        for number in [1, 2] {
            assert!(following.ask(Ask::Target(target(number)), &workers, &mut builder).is_none());
            let heard = policy(number);
            following.heard(&heard, &mut builder);
            builder.apply(heard);
        }
        assert_eq!(following.len(), 4);
        for _ in 0..IDLE_TIME.as_secs() / 60 + 1 {
            use_service(&workers[0], 1);
            advance(Duration::from_secs(60)).await;
            following.drop_idle(&workers, &mut builder);
        }
        assert_eq!(following.len(), 2);
        let snapshot = builder.publish().unwrap();
        assert!(snapshot.outbound.contains_key(&target(1)) && !snapshot.outbound.contains_key(&target(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn target_that_is_asked_about_is_in_use() {
        let (mut following, mut builder) = (following(), Builder::default());
        for _ in 0..3 {
            following.ask(Ask::Target(target(1)), &[], &mut builder);
            following.heard(&policy(1), &mut builder);
            advance(IDLE_TIME / 2).await;
            following.drop_idle(&[], &mut builder);
            assert_eq!(following.len(), 2);
        }
        advance(IDLE_TIME).await;
        following.drop_idle(&[], &mut builder);
        assert_eq!(following.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_dropped_while_a_stream_is_broken() {
        let (mut following, mut builder) = (following(), Builder::default());
        following.ask(Ask::Target(target(1)), &[], &mut builder);
        let heard = policy(1);
        following.heard(&heard, &mut builder);
        following.context.broken.store(1, Relaxed);
        advance(IDLE_TIME * 2).await;
        following.drop_idle(&[], &mut builder);
        assert_eq!(following.len(), 2);
        following.context.broken.store(0, Relaxed);
        following.drop_idle(&[], &mut builder);
        assert_eq!(following.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn target_beyond_the_bound_takes_the_place_of_an_unused_one_or_is_unknown() {
        let (mut following, mut builder) = (following(), Builder::default());
        for number in 0..TARGETS_MAX {
            assert!(following.ask(Ask::Target(target(number)), &[], &mut builder).is_none());
        }
        let refused = following.ask(Ask::Target(target(TARGETS_MAX)), &[], &mut builder);
        assert!(matches!(refused, Some(Event::TargetUnknown(_))), "targets without answer are in use");
        for number in 0..TARGETS_MAX {
            following.heard(&policy(number), &mut builder);
        }
        advance(Duration::from_secs(1)).await;
        assert!(following.ask(Ask::Target(target(TARGETS_MAX + 1)), &[], &mut builder).is_none());
        assert_eq!(following.targets.len(), TARGETS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_unknown_are_bounded_and_expire() {
        let (mut following, mut builder) = (following(), Builder::default());
        for number in 0..=UNKNOWN_MAX {
            following.heard(&Event::TargetUnknown(target(number)), &mut builder);
        }
        assert_eq!(following.forget(Instant::now()).len(), 1, "the oldest goes before its time");
        advance(UNKNOWN_TIME).await;
        assert_eq!(following.forget(Instant::now()).len(), UNKNOWN_MAX);
        assert!(following.next_forgotten().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn ports_that_only_connections_asked_for_are_bounded_and_served_ones_are_not() {
        let (mut following, mut builder) = (following(), Builder::default());
        for port in 0..ASKED_PORTS_MAX {
            assert!(following.ask(Ask::Port(1 + port as u16), &[], &mut builder).is_none());
        }
        assert!(matches!(following.ask(Ask::Port(9_999), &[], &mut builder), Some(Event::PortUnknown(9_999))));
        assert!(following.serve_port(9_999));
        assert!(!following.serve_port(9_999));
    }
}
