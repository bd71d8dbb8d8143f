//! Follows one namespace of one Nacos: what proxies want of it is subscribed to, what they do not is not even kept. Here is
//! what is followed and what the connection tells; [`questions`] asks, [`telling`] says what is new. Decisions are core's
//! (`discovery::nacos`).

mod questions;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    discovery::nacos::{Book, Listing, Name, guard::Taken},
    resources::nacos::Server,
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(super) use self::questions::Outcome;
use super::{
    labels::Labels,
    namespace::Existence,
    scan::Scan,
    table::Table,
    wants::Wants,
    watched::Watched,
    wire::{Client, Event},
};
use crate::{
    compose::{Said, SourceName},
    demand::Demand,
    sources::{Change, Shared, away, connected},
    telemetry::{List, Metrics},
};

/// How often time alone is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Events and answers that are taken in before what is new is told: a burst of pushes is told of once.
const AT_ONCE: usize = 256;

/// The source.
pub struct Source {
    /// `nacos/<server>/<namespace>`.
    pub name: SourceName,
    /// The server.
    pub server: Arc<Server>,
    /// Id of the namespace.
    pub namespace: String,
    /// Mesh namespace of its default group, where settings give one.
    pub mesh_namespace: Option<String>,
    /// Asks the server.
    pub client: Client,
    /// What the connection tells.
    pub events: mpsc::Receiver<Event>,
    /// What proxies want.
    pub demand: Arc<Demand>,
    /// What all sources say: logical services name members here.
    pub said: watch::Receiver<Arc<Said>>,
    /// To where one world is made of all sources.
    pub changes: mpsc::Sender<Change>,
    /// State for the console.
    pub state: Arc<Shared>,
    /// Services for the console.
    pub table: Arc<Table>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// File in which what is believed is kept.
    pub file: PathBuf,
}

/// The source while it runs.
pub(super) struct Running {
    pub(super) source: Source,
    pub(super) watched: BTreeMap<Name, Watched>,
    pub(super) book: Book,
    pub(super) labels: Labels,
    pub(super) wants: Wants,
    pub(super) scan: Scan,
    pub(super) questions: JoinSet<Outcome>,
    pub(super) connected: bool,
    /// The namespace at the server.
    existence: Existence,
    /// The connection, for the console.
    connection: Vec<(&'static str, String)>,
    /// A connection was made, or could not be.
    pub(super) tried: bool,
    start: Instant,
    /// Services of which something is to be told.
    dirty: BTreeSet<Name>,
    unsaved: bool,
    /// What is believed is being written.
    saving: bool,
    /// Not written again before.
    save_after: Instant,
    ready: bool,
    last_check: Instant,
}

impl Source {
    /// Runs until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut asked = self.demand.asked();
        let mut said = self.said.clone();
        let mut running = Running::new(self);
        running.restore();
        running.flush().await;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                Ok(()) = asked.changed() => running.want(),
                Ok(()) = said.changed() => running.want(),
                Some(event) = running.source.events.recv() => running.told(event),
                Some(outcome) = running.questions.join_next() => running.joined(outcome),
                _ = tick.tick() => running.tick(),
            }
            running.hear_more();
            running.flush().await;
            running.say_ready().await;
        }
        running.last_save().await;
    }
}

impl Running {
    fn new(source: Source) -> Self {
        let now = Instant::now();
        Running {
            labels: Labels::new(&source.namespace, source.mesh_namespace.as_deref()),
            wants: Wants::default(),
            scan: Scan::default(),
            watched: BTreeMap::new(),
            book: Book::default(),
            questions: JoinSet::new(),
            connected: false,
            existence: Existence::default(),
            connection: Vec::new(),
            tried: false,
            start: now,
            dirty: BTreeSet::new(),
            unsaved: false,
            saving: false,
            save_after: now,
            ready: false,
            last_check: now,
            source,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn hold(&self) -> Duration {
        self.source.server.empty_push_guard
    }

    /// Takes up what is wanted now, and lets go of what has not been for long.
    pub(super) fn want(&mut self) {
        let needed = self.needed();
        let hold = self.hold();
        for name in &needed {
            if !self.watched.contains_key(name) {
                let label = self.labels.of(name, &self.book);
                self.watched.insert(name.clone(), Watched::new(label, hold, Instant::now()));
            }
        }
        let idle: Vec<Name> = self.watched.keys().filter(|name| !needed.contains(name)).cloned().collect();
        for name in idle {
            self.let_go(&name);
        }
        self.subscribe();
        self.answer();
    }

    fn let_go(&mut self, name: &Name) {
        let Some(watched) = self.watched.remove(name) else { return };
        info!(service = %name, "no longer followed: nobody wants it");
        self.dirty.insert(name.clone());
        self.unsaved = true;
        if watched.subscribed {
            let (client, name) = (self.source.client.clone(), name.clone());
            self.questions.spawn(async move {
                // Should it fail, pushes of a service that is not followed are passed over.
                drop(client.unsubscribe(&name).await);
                Outcome::Done
            });
        }
    }

    /// Takes in what else has come already.
    fn hear_more(&mut self) {
        for _ in 0..AT_ONCE {
            if let Ok(event) = self.source.events.try_recv() {
                self.told(event);
            } else if let Some(outcome) = self.questions.try_join_next() {
                self.joined(outcome);
            } else {
                return;
            }
        }
    }

    pub(super) fn joined(&mut self, outcome: Result<Outcome, JoinError>) {
        self.came(outcome.expect("questions do not panic and are not aborted while we run"));
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Connected { server } => {
                info!(source = %self.source.name, %server, "connected");
                (self.connected, self.tried) = (true, true);
                let now = self.now();
                for watched in self.watched.values_mut() {
                    (watched.subscribed, watched.asking, watched.not_before) = (false, false, None);
                    watched.guard.reconnected(now);
                }
                self.connection = connected(&server);
                self.source.metrics.source_connected(&self.source.name);
                self.show();
                self.scan.again();
                self.existence.again();
                self.ask_namespace();
                self.subscribe();
            }
            Event::Disconnected { reason } => {
                warn!(source = %self.source.name, %reason, "no connection; what was known stays");
                (self.connected, self.tried) = (false, true);
                self.source.metrics.source_away(&self.source.name);
                self.connection = away(&reason, reason.cause.remedy());
                self.show();
                self.answer();
            }
            Event::Pushed(listing) => self.listed(listing),
            // Policies are read over a connection of their own.
            Event::ConfigChanged { .. } => (),
            Event::Unreadable(error) => {
                warn!(source = %self.source.name, %error, "push passed over; its service is asked for");
                self.watched.values_mut().for_each(|watched| watched.asked = self.start);
            }
        }
    }

    fn listed(&mut self, listing: Listing) {
        let listing = listing.of_clusters(&self.source.server.clusters);
        let now = self.now();
        let name = listing.name.clone();
        self.scan.place(&mut self.book, &listing);
        let Some(watched) = self.watched.get_mut(&name) else { return };
        let list = match watched.take(listing, now, Instant::now()) {
            Taken::Believed { .. } => List::Believed,
            Taken::Held { .. } => List::Held,
            Taken::Old { .. } => List::Old,
        };
        self.source.metrics.source_list(&self.source.name, list);
        self.dirty.insert(name);
        self.unsaved = true;
    }

    fn tick(&mut self) {
        let now = self.now();
        for (name, watched) in &mut self.watched {
            for address in watched.guard.tick(now) {
                info!(service = %name, %address, "not listed for longer than the guard holds: gone");
                self.dirty.insert(name.clone());
                self.unsaved = true;
            }
        }
        self.want();
        self.reconcile();
        self.check();
        self.ask_scan();
        self.ask_namespace();
        self.show();
        self.save();
    }
}
