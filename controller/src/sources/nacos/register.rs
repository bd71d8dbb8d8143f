//! Registers workloads with a Nacos server that do not do it themselves: what `mesh_core` plans from the world and the
//! table of proxies is carried out here, over connections that do nothing else, so that whatever is registered ends with
//! the controller at the latest.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    discovery::nacos::{
        Name,
        registration::{
            GRACE, Judged, Presence, Registered, Registration, Slot, Step, Verdict, judge, visible, wanted,
        },
    },
    lifecycle::{Kind, Said, State as Stage},
    resources::nacos::{Register, Server},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    settings, start,
    wire::{Client, Error, Event, Instance, Options, open},
};
use crate::{
    compose::SourceName,
    publish::{
        Published, Reported,
        events::{Events, What},
        proxies::Proxies,
        standings::Standings,
    },
    telemetry::{Metrics, Selected},
};

/// Changes that come within this time are carried out together.
const TOGETHER: Duration = Duration::from_millis(100);
/// What a server did not do is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// For taking everything back when the controller stops; what is slower ends with its connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// How an instance stands that a rule selects, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The instance, and whether it should be registered.
    pub judged: Judged,
    /// How it stands.
    pub state: State,
}

/// How an instance stands with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is registered.
    Registered,
    /// It will be.
    Waiting,
    /// It should be and cannot: why, and what a person can do about it.
    Failed(String, &'static str),
    /// It should not be.
    LeftOut,
}

/// Registrations of one namespace of a server, shared with the console.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// `nacos/<server>/<namespace>`.
    pub source: SourceName,
    rows: watch::Receiver<Arc<Vec<Shown>>>,
}

impl Ledger {
    /// Every instance that a rule selects, as it stands now.
    pub fn rows(&self) -> Arc<Vec<Shown>> {
        Arc::clone(&self.rows.borrow())
    }
}

/// Registers with one namespace of a server.
pub struct Registrar {
    options: Options,
    source: SourceName,
    shown: watch::Sender<Arc<Vec<Shown>>>,
    /// What could not be done last, and why.
    failures: BTreeMap<(Name, SocketAddr), (String, &'static str)>,
    rules: Vec<Register>,
    published: Arc<Published>,
    proxies: Arc<Proxies>,
    standings: Arc<Standings>,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    seen: BTreeMap<String, Seen>,
    registered: Registered,
    connections: Vec<Connection>,
    running: JoinSet<()>,
}

/// What is known of a proxy that is or was here.
struct Seen {
    said: Said,
    gone: Option<Instant>,
}

/// A connection.
struct Connection {
    client: Client,
    events: mpsc::Receiver<Event>,
    connected: bool,
    /// Why it is not connected; in the log already.
    down: Option<(String, &'static str)>,
}

impl Registrar {
    /// One for each namespace that workloads are registered in.
    pub fn all(
        server: &Server,
        published: &Arc<Published>,
        reported: &Reported,
        metrics: &Arc<Metrics>,
    ) -> Vec<Registrar> {
        let mut rules: BTreeMap<&str, Vec<Register>> = BTreeMap::new();
        for rule in &server.register {
            rules.entry(&rule.namespace).or_default().push(rule.clone());
        }
        let one = |(namespace, rules): (&str, Vec<Register>)| Registrar {
            options: settings::options(server, namespace),
            source: start::source_name(&server.name, namespace),
            shown: watch::Sender::default(),
            failures: BTreeMap::new(),
            rules,
            published: Arc::clone(published),
            proxies: Arc::clone(&reported.proxies),
            standings: Arc::clone(&reported.standings),
            events: Arc::clone(&reported.events),
            metrics: Arc::clone(metrics),
            seen: BTreeMap::new(),
            registered: Registered::default(),
            connections: Vec::new(),
            running: JoinSet::new(),
        };
        let registrars: Vec<Registrar> = rules.into_iter().map(one).collect();
        for registrar in &registrars {
            registrar.standings.registers(&registrar.source, registrar.rules.clone());
        }
        registrars
    }

    /// What the console shows of it.
    pub fn ledger(&self) -> Ledger {
        Ledger { source: Arc::clone(&self.source), rows: self.shown.subscribe() }
    }

    /// Runs until `stopping`, then takes everything back.
    pub async fn run(mut self, stopping: CancellationToken) {
        let (mut views, mut proxies) = (self.published.views(), self.proxies.changes());
        // Ended after what is registered was taken back, and not before.
        let ending = CancellationToken::new();
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                event = next(&mut self.connections) => self.told(event),
                changed = views.changed() => if changed.is_err() { break },
                changed = proxies.changed() => if changed.is_err() { break },
                () = sleep(wait), if !wait.is_zero() => (),
            }
            sleep(TOGETHER).await;
            views.mark_unchanged();
            proxies.mark_unchanged();
            let judged = self.judged();
            let done = self.carry_out(&judged, &ending).await;
            let due = self.due(&judged);
            self.show(judged);
            wait = match done {
                Ok(()) => due.unwrap_or_default(),
                Err(error) => {
                    warn!(%error, "not registered; tried again");
                    AGAIN
                }
            };
        }
        let farewell = self.carry_out(&[], &ending);
        // What was not taken back in time ends with its connection.
        drop(timeout(FAREWELL, farewell).await);
        ending.cancel();
        while self.running.join_next().await.is_some() {}
    }

    /// What is decided now of every instance that a rule selects.
    fn judged(&mut self) -> Vec<Judged> {
        let (now, here) = (Instant::now(), self.proxies.said(self.published.view().world()));
        for (workload, seen) in &mut self.seen {
            if !here.contains_key(workload) {
                seen.gone = seen.gone.or(Some(now));
            }
        }
        self.seen.retain(|_, seen| seen.gone.is_none_or(|gone| now.duration_since(gone) < GRACE));
        for (workload, said) in here {
            self.seen.insert(workload, Seen { said, gone: None });
        }
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ready = |said: &Said| match (said.ready_since, said.state) {
            // By its clock, which may go before ours.
            (Some(since), _) => Some(today.saturating_sub(Duration::from_secs(since))),
            // One of an earlier version does not say when.
            (None, Stage::Ready) => Some(Duration::MAX),
            (None, Stage::NotReady | Stage::Draining | Stage::Drained) => None,
        };
        let presence = |seen: &Seen| Presence {
            state: seen.said.state,
            ready: ready(&seen.said),
            gone: seen.gone.map(|gone| now.duration_since(gone)),
        };
        let presences = self.seen.iter().map(|(workload, seen)| (workload.clone(), presence(seen))).collect();
        judge(&self.rules, self.published.view().world(), &presences)
    }

    /// When something is due although nothing else changes.
    fn due(&self, judged: &[Judged]) -> Option<Duration> {
        let delayed = judged.iter().filter_map(|one| match one.verdict {
            Verdict::Delayed(left) => Some(left),
            Verdict::Registered
            | Verdict::Awaited
            | Verdict::NotReady
            | Verdict::NoProxy
            | Verdict::Draining
            | Verdict::OutOfTraffic
            | Verdict::FromRegistry => None,
        });
        let is_awaited = self.seen.values().any(|seen| seen.gone.is_some());
        delayed.chain(is_awaited.then_some(GRACE)).min()
    }

    /// Shows how each of these stands.
    fn show(&self, judged: Vec<Judged>) {
        let down = self.connections.iter().find_map(|connection| connection.down.as_ref());
        let state = |judged: &Judged| match judged.verdict {
            Verdict::NoProxy | Verdict::Draining | Verdict::OutOfTraffic | Verdict::FromRegistry => State::LeftOut,
            Verdict::Registered | Verdict::Awaited
                if self.registered.has(&judged.name, judged.address, &judged.registration) =>
            {
                State::Registered
            }
            Verdict::NotReady | Verdict::Delayed(_) => State::Waiting,
            Verdict::Registered | Verdict::Awaited => {
                let failure = self.failures.get(&(judged.name.clone(), judged.address)).or(down);
                failure.map_or(State::Waiting, |(reason, remedy)| State::Failed(reason.clone(), remedy))
            }
        };
        let has = |one: &Judged| self.registered.has(&one.name, one.address, &one.registration);
        let changed = self.standings.visible(&self.source, visible(&judged, &has));
        self.published.wake(&changed);
        let shown = |judged: Judged| Shown { state: state(&judged), judged };
        let rows: Vec<Shown> = judged.into_iter().map(shown).collect();
        let mut selected = Selected::default();
        for row in &rows {
            match row.state {
                State::Registered => selected.registered += 1,
                State::Waiting => selected.waiting += 1,
                State::Failed(..) => selected.failed += 1,
                State::LeftOut => selected.left_out += 1,
            }
        }
        self.metrics.registrations(&self.source, selected);
        self.shown.send_replace(Arc::new(rows));
    }

    /// Does what leads to what is wanted of these, as far as there are connections; the first failure is returned at the end.
    async fn carry_out(&mut self, judged: &[Judged], ending: &CancellationToken) -> Result<(), Error> {
        let wanted = wanted(judged);
        let mut failed = Ok(());
        self.failures.clear();
        let before = self.registered.count();
        for step in self.registered.steps(&wanted) {
            let slot = match &step {
                Step::Deregister(slot, ..) | Step::Register(slot, ..) => *slot,
            };
            self.connect_to(slot, ending);
            let connection = &self.connections[slot];
            if !connection.connected {
                // Done when it is.
                continue;
            }
            let done = match &step {
                Step::Deregister(_, name, address, registration) => {
                    connection.client.deregister(name, &instance(*address, registration)).await
                }
                Step::Register(_, name, address, registration) => {
                    connection.client.register(name, &instance(*address, registration)).await
                }
            };
            match done {
                Ok(()) => {
                    self.note(&step, judged);
                    self.registered.done(step);
                }
                Err(error) => {
                    if let Step::Register(_, name, address, _) = step {
                        self.failures.insert((name, address), (error.to_string(), error.cause.remedy()));
                    }
                    failed = failed.and(Err(error));
                }
            }
        }
        let after = self.registered.count();
        if after != before {
            info!(server = self.options.name, namespace = self.options.namespace, instances = after, "registered");
        }
        failed
    }

    fn note(&self, step: &Step, judged: &[Judged]) {
        let (kind, name, address) = match step {
            Step::Register(_, name, address, _) => (Kind::Registered, name, address),
            Step::Deregister(_, name, address, _) => (Kind::Deregistered, name, address),
        };
        let one = judged.iter().find(|one| one.name == *name && one.address == *address);
        let what = What {
            kind,
            workload: one.and_then(|one| one.workload.clone()).unwrap_or_default(),
            service: one.map(|one| one.label.clone()).unwrap_or_default(),
            address: Some(*address),
            by: String::new(),
            detail: format!("{name} at {}", self.source),
        };
        self.events.note(&self.metrics, what);
    }

    /// Begins connections until there is one of that number.
    fn connect_to(&mut self, slot: Slot, ending: &CancellationToken) {
        while self.connections.len() <= slot {
            let (client, link, events) = open(self.options.clone());
            self.running.spawn(link.run(ending.clone()));
            self.connections.push(Connection { client, events, connected: false, down: None });
        }
    }

    fn told(&mut self, (slot, event): (Slot, Event)) {
        let connection = &mut self.connections[slot];
        match event {
            Event::Connected { .. } => {
                connection.connected = true;
                connection.down = None;
                self.registered.lost(slot);
            }
            Event::Disconnected { reason } => {
                if connection.down.is_none() {
                    warn!(%reason, "no connection to register over; tried again and again");
                }
                connection.connected = false;
                connection.down = Some((reason.to_string(), reason.cause.remedy()));
                self.registered.lost(slot);
            }
            // Nothing is subscribed to over these connections.
            Event::Pushed(_) | Event::ConfigChanged { .. } | Event::Unreadable(_) => (),
        }
    }
}

fn instance(address: SocketAddr, registration: &Registration) -> Instance {
    Instance {
        ip: address.ip().to_string(),
        port: address.port(),
        weight: 1.0,
        healthy: true,
        enabled: true,
        ephemeral: true,
        cluster_name: registration.cluster.clone(),
        metadata: registration.metadata.clone(),
    }
}

/// The next event of any connection, with the number of the connection.
async fn next(connections: &mut [Connection]) -> (Slot, Event) {
    std::future::poll_fn(|context| {
        for (slot, connection) in connections.iter_mut().enumerate() {
            if let Poll::Ready(Some(event)) = connection.events.poll_recv(context) {
                return Poll::Ready((slot, event));
            }
        }
        Poll::Pending
    })
    .await
}
