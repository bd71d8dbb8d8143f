//! Follows one namespace of one Nacos: what proxies want of it is subscribed to, what they do not is not even kept. Owns
//! every question that is under way; decisions are core's (`discovery::nacos`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    discovery::nacos::{Book, Listing, Name, disk, guard::Answer},
    resources::{nacos::Server, services::AddressCalls},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    labels::Labels,
    scan::Scan,
    table::Table,
    wants::Wants,
    watched::Watched,
    wire::{Client, Error, Event},
};
use crate::{
    compose::{News, Said, SourceName},
    demand::Demand,
    sign::files,
    sources::{Change, Shared, away, connected},
};

/// How often time alone is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A service that nothing was heard of for so long is asked for again: pushes get lost.
const RECONCILE: Duration = Duration::from_secs(30);
/// What a server refused to say is asked for again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// How often instances that are held are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for an instance that is checked.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// A source that cannot reach its server is ready after this: what it kept from before has to do.
const READY_AFTER: Duration = Duration::from_secs(3);
/// Questions that are under way at the same time; those of the scan have their own bound.
const ASKED_AT_ONCE: usize = 48;

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
    /// File in which what is believed is kept.
    pub file: PathBuf,
}

/// What a question came to.
pub(super) enum Outcome {
    /// Of a service that is followed.
    Listed(Name, Result<Listing, Error>, bool),
    /// Names of all services.
    Names(Result<Vec<Name>, Error>),
    /// Of a service that is looked at for its addresses alone.
    Scanned(Name, Result<Listing, Error>),
    /// Checks of instances that are held.
    Checked(Name, Vec<(SocketAddr, Answer)>),
    /// What was told of these is published.
    Published(Vec<Name>),
    /// Nothing to do.
    Done,
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
    /// The connection, for the console.
    connection: Vec<(&'static str, String)>,
    /// A connection was made, or could not be.
    pub(super) tried: bool,
    start: Instant,
    /// Services of which something is to be told.
    dirty: BTreeSet<Name>,
    unsaved: bool,
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
                Some(outcome) = running.questions.join_next() => {
                    running.came(outcome.expect("questions do not panic and are not aborted while we run"));
                }
                _ = tick.tick() => running.tick(),
            }
            running.flush().await;
            running.say_ready().await;
        }
        running.save();
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
            connection: Vec::new(),
            tried: false,
            start: now,
            dirty: BTreeSet::new(),
            unsaved: false,
            ready: false,
            last_check: now,
            source,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What is believed from an earlier run.
    fn restore(&mut self) {
        let text = match std::fs::read_to_string(&self.source.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return warn!(file = %self.source.file.display(), %error, "lists from before cannot be read"),
        };
        match disk::from_text(&text) {
            Ok(services) => {
                for stored in services {
                    let (name, watched) = Watched::restored(stored, self.hold(), Instant::now());
                    let _ = self.book.learn(&name);
                    self.wants.keep(&name);
                    self.dirty.insert(name.clone());
                    self.watched.insert(name, watched);
                }
                info!(source = %self.source.name, services = self.watched.len(), "lists from before");
            }
            Err(error) => warn!(file = %self.source.file.display(), %error, "lists from before are not used"),
        }
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

    /// Subscribes to what is followed and not subscribed to over this connection.
    fn subscribe(&mut self) {
        if !self.connected {
            return;
        }
        let free = ASKED_AT_ONCE.saturating_sub(self.watched.values().filter(|watched| watched.asking).count());
        let now = Instant::now();
        let is_open = |watched: &Watched| {
            !watched.subscribed && !watched.asking && watched.not_before.is_none_or(|moment| moment <= now)
        };
        let open = self.watched.iter_mut().filter(|(_, watched)| is_open(watched)).take(free);
        for (name, watched) in open {
            watched.asking = true;
            let (client, name) = (self.source.client.clone(), name.clone());
            self.questions.spawn(async move {
                let listing = client.subscribe(&name).await;
                Outcome::Listed(name, listing, true)
            });
        }
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
                self.show();
                self.scan.again();
                self.subscribe();
            }
            Event::Disconnected { reason } => {
                warn!(source = %self.source.name, %reason, "no connection; what was known stays");
                (self.connected, self.tried) = (false, true);
                self.connection = away(&reason);
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

    /// Shows how the source stands.
    fn show(&self) {
        let mut facts = self.connection.clone();
        facts.push(("services", self.book.len().to_string()));
        facts.push(("addresses", self.book.addresses().to_string()));
        facts.push(("followed", self.watched.len().to_string()));
        facts.push(("lookedThrough", self.scan.is_complete().to_string()));
        self.source.state.change(|state| state.facts = facts);
    }

    fn listed(&mut self, listing: Listing) {
        let now = self.now();
        let name = listing.name.clone();
        self.scan.place(&mut self.book, &listing);
        let Some(watched) = self.watched.get_mut(&name) else { return };
        watched.take(listing, now, Instant::now());
        self.dirty.insert(name);
        self.unsaved = true;
    }

    fn came(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Listed(name, Ok(listing), subscribed) => {
                if let Some(watched) = self.watched.get_mut(&name) {
                    watched.asking = false;
                    watched.subscribed |= subscribed && self.connected;
                }
                self.listed(listing);
                self.subscribe();
            }
            Outcome::Listed(name, Err(error), _) => {
                warn!(service = %name, %error, "cannot be asked for");
                if let Some(watched) = self.watched.get_mut(&name) {
                    (watched.asking, watched.asked) = (false, Instant::now());
                    watched.not_before = Some(Instant::now() + AGAIN);
                }
            }
            Outcome::Names(Ok(names)) => {
                for learned in self.scan.names(&mut self.book, names) {
                    info!(source = %self.source.name, "{learned}");
                }
                self.want();
            }
            Outcome::Names(Err(error)) => {
                self.scan.failed();
                warn!(source = %self.source.name, %error, "services cannot be listed");
            }
            Outcome::Scanned(name, listing) => {
                self.scan.scanned(&name);
                if let Ok(listing) = listing {
                    self.scan.place(&mut self.book, &listing);
                }
                if self.scan.is_complete() {
                    self.want();
                }
            }
            Outcome::Checked(name, answers) => self.checked(&name, &answers),
            Outcome::Published(names) => {
                self.wants.published(&names);
                self.answer();
            }
            Outcome::Done => (),
        }
        self.ask_scan();
    }

    fn checked(&mut self, name: &Name, answers: &[(SocketAddr, Answer)]) {
        let Some(watched) = self.watched.get_mut(name) else { return };
        for (address, answer) in answers {
            let checked = watched.guard.checked(*address, *answer);
            if checked == mesh_core::discovery::nacos::guard::Checked::Gone {
                info!(service = %name, %address, "does not answer checks and is not listed any more: gone");
                self.dirty.insert(name.clone());
                self.unsaved = true;
            }
        }
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
        self.show();
        self.save();
    }

    /// Asks again for what nothing was heard of for long.
    fn reconcile(&mut self) {
        if !self.connected {
            return;
        }
        let due = |watched: &Watched| watched.subscribed && !watched.asking && watched.asked.elapsed() >= RECONCILE;
        for (name, watched) in self.watched.iter_mut().filter(|(_, watched)| due(watched)).take(ASKED_AT_ONCE) {
            watched.asking = true;
            let (client, name) = (self.source.client.clone(), name.clone());
            self.questions.spawn(async move {
                let listing = client.query(&name).await;
                Outcome::Listed(name, listing, false)
            });
        }
    }

    /// Looks whether what is held is still there.
    fn check(&mut self) {
        if self.last_check.elapsed() < CHECK_INTERVAL {
            return;
        }
        self.last_check = Instant::now();
        for (name, watched) in &self.watched {
            let addresses: Vec<SocketAddr> = watched.guard.to_check().collect();
            if addresses.is_empty() {
                continue;
            }
            let name = name.clone();
            self.questions.spawn(async move {
                let answers = addresses.into_iter().map(|address| async move { (address, answers(address).await) });
                Outcome::Checked(name, futures_util::future::join_all(answers).await)
            });
        }
    }

    fn ask_scan(&mut self) {
        if self.connected {
            self.scan.ask(&self.book, &self.source, &mut self.questions);
        }
    }

    /// Tells what changed.
    async fn flush(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let calls: AddressCalls = self.source.server.address_calls;
        let mut services = Vec::new();
        let names = std::mem::take(&mut self.dirty);
        for name in &names {
            let Some(watched) = self.watched.get_mut(name) else {
                self.source.table.forget(&self.source.name, name);
                services.push((name.to_string(), None));
                continue;
            };
            watched.label = self.labels.of(name, &self.book);
            let exists = self.book.label(name).is_some();
            let (told, shown) = watched.tell(name, exists, (calls, now), &self.source.name);
            self.source.table.show(name, shown);
            services.extend(told.map(|told| (name.to_string(), told)));
        }
        let listed: Vec<Name> =
            names.into_iter().filter(|name| self.watched.get(name).is_some_and(|watched| watched.listed)).collect();
        if services.is_empty() {
            self.wants.published(&listed);
            return self.answer();
        }
        let (done, published) = oneshot::channel();
        let news = News::Services { source: Arc::clone(&self.source.name), services };
        // Fails only when the index is gone because everything stops.
        if self.source.changes.send(Change { news, done: Some(done) }).await.is_ok() {
            self.questions.spawn(async move {
                drop(published.await);
                Outcome::Published(listed)
            });
        }
    }

    /// Says once that everything was said that can be: lists of what is always followed, or that the server is away.
    async fn say_ready(&mut self) {
        let is_told = |watched: &Watched| watched.listed;
        let all = self.connected && self.watched.values().all(is_told);
        let is_away = self.tried && !self.connected;
        if self.ready || !(all || is_away || self.now() >= READY_AFTER) {
            return;
        }
        self.ready = true;
        let news = News::Ready(Arc::clone(&self.source.name));
        let _ = self.source.changes.send(Change { news, done: None }).await;
    }

    /// Keeps what is believed for the next start.
    fn save(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        let stored: Vec<_> = self.watched.iter().map(|(name, watched)| watched.stored(name)).collect();
        let text = disk::to_text(&stored);
        if let Err(error) = files::replace(&self.source.file, text.as_bytes(), files::SECRET) {
            warn!(file = %self.source.file.display(), %error, "lists cannot be kept for the next start");
        }
    }
}

/// Whether somebody takes connections there.
async fn answers(address: SocketAddr) -> Answer {
    match timeout(CHECK_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Alive,
        Ok(Err(_)) | Err(_) => Answer::Silent,
    }
}
