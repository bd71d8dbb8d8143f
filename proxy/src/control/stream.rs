//! Follows what the application calls and what it serves: one subscription per target, service and port, opened when a
//! worker asks, closed when nobody uses it. One task owns all of it and publishes snapshots; the last good state stays
//! when a stream breaks. `watch` holds the streams of Linkerd's API, `mesh` the one of our own, `follow` the bookkeeping.

mod follow;
mod life;
mod mesh;
mod registration;
mod sharing;
mod statistics;
mod unusable;
mod usage;
mod watch;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use mesh_core::snapshot::Snapshot;
use mesh_proto::{convert::policy::Policy, mesh::v1 as wire};
use tokio::{
    sync::{mpsc, oneshot, watch as channel},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tonic::transport::Channel;

use self::{follow::Following, life::Life, registration::Waiting};
use super::snapshot::{Builder, Event};
use crate::{
    cause::error_chain,
    drain::{Cause, Order},
    identity::Credentials,
    shared::{Ask, Shared},
    telemetry::{control::ControlCounters, worker::WorkerMetrics},
    wall_clock,
    worker::Notice,
};

/// Shortest time between two snapshots: a burst of news becomes one.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(10);
/// News of streams that wait for the owner, and that it takes in at once; more wait in their streams.
const NEWS_QUEUE: usize = 256;
/// Longest time between two looks at lanes that end by themselves: the time of day may be put right meanwhile.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How often unused subscriptions are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(60);

/// Channels to the services of the control plane.
#[derive(Clone, Debug)]
pub struct Channels {
    /// Destination.
    pub destination: Channel,
    /// InboundServerPolicies and OutboundPolicies.
    pub policy: Channel,
    /// MeshPolicy; `None` under Linkerd's control plane.
    pub mesh: Option<Channel>,
}

/// Who asks, for every question.
#[derive(Clone, Debug)]
pub struct Asker {
    /// First report of the `mesh.v1` stream; the applied revision is filled in.
    pub hello: wire::Hello,
    /// Namespace of the control plane.
    pub control_namespace: String,
    /// Ports whose policy is asked for at once.
    pub inbound_ports: BTreeSet<u16>,
}

/// Everything that the streams read and write.
pub struct Streams {
    /// Services of the control plane.
    pub channels: Channels,
    /// Who asks.
    pub asker: Asker,
    /// Snapshots go here.
    pub shared: Arc<Shared>,
    /// Announces that they did.
    pub revision: channel::Sender<u64>,
    /// Trust anchors go here.
    pub credentials: Arc<channel::Sender<Arc<Credentials>>>,
    /// What is still missing before traffic can be served; emptied by and by.
    pub missing: Arc<channel::Sender<BTreeSet<String>>>,
    /// Counted in.
    pub counters: Arc<ControlCounters>,
    /// Counters of the workers, to see which subscriptions are used.
    pub workers: Vec<Arc<WorkerMetrics>>,
    /// What was seen of probes.
    pub probed: mpsc::Receiver<wire::ProbeNote>,
    /// The order to drain, which the controller may give.
    pub order: Order,
    /// Whether the controller tells callers that this proxy drains.
    pub notice: Notice,
}

/// Name of the missing policy in [`Streams::missing`].
pub const MISSING_POLICY: &str = "policy of the controller";

/// What a stream tells the owner.
enum News {
    /// Of Linkerd's API.
    Event(Event),
    /// A revision of `mesh.v1`, to be applied or refused.
    Policy(Box<Policy>, oneshot::Sender<Result<(), String>>),
    /// The control plane has no `mesh.v1`.
    NoPolicy,
}

struct Owner {
    following: Following,
    builder: Builder,
    shared: Arc<Shared>,
    revision: channel::Sender<u64>,
    credentials: Arc<channel::Sender<Arc<Credentials>>>,
    missing: Arc<channel::Sender<BTreeSet<String>>>,
    counters: Arc<ControlCounters>,
    control_namespace: String,
    workers: Vec<Arc<WorkerMetrics>>,
    published: Instant,
    /// Who is told of the next snapshot: the stream of a revision that is in it, which waits for that before it reads on.
    applied: Option<oneshot::Sender<Result<(), String>>>,
    /// When lanes are looked at next, because one ends by itself.
    settles: Option<Instant>,
    order: Order,
    waiting: Waiting,
}

impl Streams {
    /// Answers `asks` until the channel closes. `kept` is the snapshot of an earlier process, already published.
    pub async fn run(self, kept: Snapshot, mut asks: mpsc::Receiver<Ask>) {
        let (news, mut heard) = mpsc::channel(NEWS_QUEUE);
        let mut owner = self.owner(kept, news);
        let mut idle = interval(IDLE_CHECK);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::with_capacity(NEWS_QUEUE);
        loop {
            let publish = owner.builder.is_dirty().then_some(owner.published + PUBLISH_INTERVAL);
            let forget = owner.following.next_forgotten();
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => owner.ask(ask),
                    None => return,
                },
                _ = heard.recv_many(&mut taken, NEWS_QUEUE) => owner.hear_all(&mut taken),
                () = at(publish) => owner.publish(),
                () = at(forget) => owner.forget(),
                () = at(owner.settles) => owner.settle(),
                () = at(owner.waiting.until()) => owner.waiting.give_up(&owner.missing),
                _ = idle.tick() => owner.following.drop_idle(&owner.workers, &mut owner.builder),
                () = owner.following.reap() => {}
            }
        }
    }

    fn owner(self, kept: Snapshot, news: mpsc::Sender<News>) -> Owner {
        let anchors = self.credentials.borrow().anchors.clone();
        let context = watch::Context {
            workload: mesh_proto::convert::target::Workload {
                namespace: self.asker.hello.namespace.clone(),
                pod: self.asker.hello.pod.clone(),
                lanes: mesh_proto::convert::target::LaneChoice::Own,
            },
            control_namespace: self.asker.control_namespace.clone(),
            channels: self.channels,
            news,
            counters: Arc::clone(&self.counters),
            broken: AtomicUsize::new(0),
        };
        let status = mesh::Status {
            credentials: self.credentials.subscribe(),
            life: Life::new(self.missing.subscribe(), self.shared.draining.clone(), self.order.clone(), self.notice),
            counters: Arc::clone(&self.counters),
            statistics: statistics::Statistics::new(self.workers.clone(), Arc::clone(&self.shared)),
            unusable: unusable::Unusable::new(self.workers.clone()),
            usage: usage::UsageReports::new(self.workers.clone()),
            probed: self.probed,
        };
        let mut following = Following::new(Arc::new(context));
        following.share_probing(Arc::clone(&self.shared), &self.asker.hello);
        following.policy(self.asker.hello, kept.policy_revision.clone(), status);
        following.resume(&kept);
        for port in self.asker.inbound_ports {
            following.serve_port(port);
        }
        let mut builder = Builder::from_snapshot(kept);
        builder.apply(Event::Anchors(anchors));
        let mut owner = Owner {
            following,
            builder,
            shared: self.shared,
            revision: self.revision,
            credentials: self.credentials,
            missing: self.missing,
            counters: self.counters,
            control_namespace: self.asker.control_namespace,
            workers: self.workers,
            published: Instant::now(),
            applied: None,
            settles: None,
            order: self.order,
            waiting: Waiting::default(),
        };
        owner.settle();
        owner
    }
}

/// Sleeps until then; for ever where there is no then.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Owner {
    fn ask(&mut self, ask: Ask) {
        if let Some(refused) = self.following.ask(ask, &self.workers, &mut self.builder) {
            ControlCounters::add(&self.counters.subscriptions_refused);
            self.builder.apply(refused);
        }
        self.count();
    }

    fn hear_all(&mut self, news: &mut Vec<News>) {
        news.drain(..).for_each(|news| self.hear(news));
        self.count();
    }

    fn hear(&mut self, news: News) {
        match news {
            // A stream that was closed may still have news under way.
            News::Event(event) if !self.following.wants(&event) => {}
            News::Event(event) => {
                self.following.heard(&event, &mut self.builder);
                self.found(&event);
                self.builder.apply(event);
            }
            News::Policy(policy, answer) => match self.apply_policy(*policy) {
                // One that changes nothing waits for no snapshot.
                Ok(()) => {
                    self.applied = Some(answer);
                    if !self.builder.is_dirty() {
                        self.policy_in_force();
                    }
                }
                // The stream may have broken meanwhile; then nobody waits for the answer.
                Err(reason) => drop(answer.send(Err(reason))),
            },
            News::NoPolicy => self.no_longer_missing(MISSING_POLICY),
        }
    }

    fn apply_policy(&mut self, policy: Policy) -> Result<(), String> {
        if !policy.trust_anchors.is_empty() {
            self.take_anchors(&policy)?;
        }
        for port in &policy.ports {
            if self.following.serve_port(*port) && !self.builder.current().inbound.contains_key(port) {
                self.missing.send_if_modified(|missing| missing.insert(missing_port(*port)));
            }
        }
        // Before anything else is no longer missing: readiness must not come and go.
        self.waiting.take(policy.standing.registration, &self.missing, Instant::now());
        if policy.standing.drain {
            self.order.give(Cause::Controller);
        }
        self.builder.apply(Event::Policy(Box::new(policy)));
        self.settle();
        Ok(())
    }

    /// The workers have what the last revision said: its stream may say so.
    fn policy_in_force(&mut self) {
        if let Some(answer) = self.applied.take() {
            self.no_longer_missing(MISSING_POLICY);
            // The stream may have broken meanwhile; then nobody waits for the answer.
            let _ = answer.send(Ok(()));
        }
    }

    fn take_anchors(&mut self, policy: &Policy) -> Result<(), String> {
        let current = Arc::clone(&self.credentials.borrow());
        if current.anchors == policy.trust_anchors {
            return Ok(());
        }
        let replaced = current
            .with_anchors(policy.trust_anchors.clone(), &self.control_namespace)
            .map_err(|error| error_chain(&error))?;
        tracing::info!(anchors = replaced.anchors.len(), revision = policy.revision, "trust anchors replaced");
        self.builder.apply(Event::Anchors(replaced.anchors.clone()));
        self.credentials.send_replace(Arc::new(replaced));
        Ok(())
    }

    /// A port that the controller answered for, in whatever way, is not missing any more.
    fn found(&mut self, event: &Event) {
        match event {
            Event::Port(port, _) | Event::PortUnknown(port) => self.no_longer_missing(&missing_port(*port)),
            Event::Target(..)
            | Event::TargetUnknown(_)
            | Event::TargetForgotten(_)
            | Event::ServiceReplaced(..)
            | Event::ServiceChanged(..)
            | Event::ServiceForgotten(_)
            | Event::Policy(_)
            | Event::Anchors(_) => {}
        }
    }

    /// States of lanes change by time: whether one has, and when the next one will.
    fn settle(&mut self) {
        let now = wall_clock::now();
        let next = self.builder.settle(now);
        self.settles = next.map(|next| Instant::now() + Duration::from_millis(next - now).min(SETTLE_MAX));
    }

    fn no_longer_missing(&self, name: &str) {
        self.missing.send_if_modified(|missing| missing.remove(name));
    }

    fn forget(&mut self) {
        for event in self.following.forget(Instant::now()) {
            self.builder.apply(event);
        }
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        let Some(snapshot) = self.builder.publish() else { return };
        let revision = snapshot.revision;
        self.shared.snapshot.store(snapshot);
        self.revision.send_replace(revision);
        ControlCounters::add(&self.counters.snapshots);
        self.policy_in_force();
    }

    fn count(&self) {
        ControlCounters::set(&self.counters.subscriptions, self.following.len() as u64);
    }
}

/// How a port without answer is called in [`Streams::missing`].
pub fn missing_port(port: u16) -> String {
    format!("policy of inbound port {port}")
}
