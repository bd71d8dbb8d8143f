//! Questions to the server and to instances: what is asked next, how much at once, and what becomes of the answers.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_core::discovery::nacos::{
    Listing, Name,
    guard::{Answer, Checked},
};
use tokio::{net::TcpStream, time::timeout};
use tracing::{info, warn};

use super::{
    super::{watched::Watched, wire::Error},
    Running,
};
use crate::sign::files::FileError;

/// A service that nothing was heard of for so long is asked for again: pushes get lost.
const RECONCILE: Duration = Duration::from_secs(30);
/// What a server refused to say is asked for again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// How often instances that are held are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for an instance that is checked.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that are under way at the same time; those of the scan have their own bound.
const ASKED_AT_ONCE: usize = 48;

/// What a question came to.
pub(in super::super) enum Outcome {
    /// Of a service that is followed.
    Listed(Name, Result<Listing, Error>, bool),
    /// Names of all services.
    Names(Result<Vec<Name>, Error>),
    /// Of a service that is looked at for its addresses alone.
    Scanned(Name, Result<Listing, Error>),
    /// Checks of instances that are held.
    Checked(Name, Vec<(SocketAddr, Answer)>),
    /// Whether the namespace exists.
    Namespace(Result<(), Error>),
    /// What was told of these is published.
    Published(Vec<Name>),
    /// What is believed was kept on disk, or not; how long that took.
    Saved(Result<(), FileError>, Duration),
    /// Nothing to do.
    Done,
}

impl Running {
    /// Subscribes to what is followed and not subscribed to over this connection.
    pub(super) fn subscribe(&mut self) {
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

    /// Asks again for what nothing was heard of for long.
    pub(super) fn reconcile(&mut self) {
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
    pub(super) fn check(&mut self) {
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

    pub(super) fn ask_scan(&mut self) {
        if self.connected {
            self.scan.ask(&self.book, &self.source, &mut self.questions);
        }
    }

    /// Asks whether the namespace exists, where that is not known.
    pub(super) fn ask_namespace(&mut self) {
        if self.connected && self.existence.is_due(Instant::now()) {
            let client = self.source.client.clone();
            self.questions.spawn(async move { Outcome::Namespace(client.check_namespace().await) });
        }
    }

    fn found_namespace(&mut self, answer: Result<(), Error>) {
        if self.existence.answered(answer, Instant::now()) {
            let (source, namespace) = (&self.source.name, &self.existence);
            match namespace.wrong() {
                Some(reason) => warn!(%source, reason, "the namespace is not there; asked for again"),
                None => info!(%source, %namespace, "namespace"),
            }
            self.show();
        }
    }

    pub(super) fn came(&mut self, outcome: Outcome) {
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
                    self.scan.place(&mut self.book, &listing.of_clusters(&self.source.server.clusters));
                }
                if self.scan.is_complete() {
                    self.want();
                }
            }
            Outcome::Checked(name, answers) => self.checked(&name, &answers),
            Outcome::Namespace(answer) => self.found_namespace(answer),
            Outcome::Published(names) => {
                self.wants.published(&names);
                self.answer();
            }
            Outcome::Saved(saved, took) => self.saved(saved, took),
            Outcome::Done => (),
        }
        self.ask_scan();
    }

    fn checked(&mut self, name: &Name, answers: &[(SocketAddr, Answer)]) {
        let Some(watched) = self.watched.get_mut(name) else { return };
        for (address, answer) in answers {
            let checked = watched.guard.checked(*address, *answer);
            if checked == Checked::Gone {
                info!(service = %name, %address, "does not answer checks and is not listed any more: gone");
                self.dirty.insert(name.clone());
                self.unsaved = true;
            }
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
