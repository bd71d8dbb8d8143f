//! What the source tells others: services to where one world is made, its state to the console, and what is believed to
//! the next start.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    discovery::nacos::{Name, disk},
    resources::{Problem, services::AddressCalls},
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    super::{watched::Watched, wire::NO_NAMESPACE},
    Outcome, Running,
};
use crate::{
    compose::News,
    sign::files::{self, FileError},
    sources::Change,
};

/// A source that cannot reach its server is ready after this: what it kept from before has to do.
const READY_AFTER: Duration = Duration::from_secs(3);
/// What is believed is not kept again before so many times as long as it took: a twentieth of a disk is enough for it.
const SAVE_REST: u32 = 20;
/// Longest time between two times.
const SAVE_REST_MAX: Duration = Duration::from_secs(30);

impl Running {
    /// What is believed from an earlier run.
    pub(super) fn restore(&mut self) {
        let text = match std::fs::read_to_string(&self.source.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return warn!(file = %self.source.file.display(), %error, "lists from before cannot be read"),
        };
        let server = Arc::clone(&self.source.server);
        match disk::from_text(&text) {
            Ok(services) => {
                for stored in services {
                    let (name, watched) = Watched::restored(stored, &server.clusters, self.hold(), Instant::now());
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

    /// Tells what changed.
    pub(super) async fn flush(&mut self) {
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
    pub(super) async fn say_ready(&mut self) {
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

    /// Keeps what is believed for the next start, beside everything else.
    pub(super) fn save(&mut self) {
        if self.saving || Instant::now() < self.save_after || !std::mem::take(&mut self.unsaved) {
            return;
        }
        self.saving = true;
        let stored: Vec<_> = self.watched.iter().map(|(name, watched)| watched.stored(name)).collect();
        let file = self.source.file.clone();
        self.questions.spawn_blocking(move || {
            let began = Instant::now();
            let saved = files::replace(&file, disk::to_text(&stored).as_bytes(), files::SECRET);
            Outcome::Saved(saved, began.elapsed())
        });
    }

    pub(super) fn saved(&mut self, saved: Result<(), FileError>, took: Duration) {
        self.saving = false;
        self.save_after = Instant::now() + took.saturating_mul(SAVE_REST).min(SAVE_REST_MAX);
        if let Err(error) = saved {
            warn!(file = %self.source.file.display(), %error, "lists cannot be kept for the next start");
        }
    }

    /// Keeps what is believed when everything stops: after a file that is being written, which would replace it.
    pub(super) async fn last_save(&mut self) {
        self.until_saved().await;
        self.save_after = Instant::now();
        self.save();
        self.until_saved().await;
    }

    async fn until_saved(&mut self) {
        while self.saving {
            let Some(outcome) = self.questions.join_next().await else { return };
            self.joined(outcome);
        }
    }

    /// Shows how the source stands.
    pub(super) fn show(&self) {
        let mut facts = self.connection.clone();
        facts.push(("services", self.book.len().to_string()));
        facts.push(("addresses", self.book.addresses().to_string()));
        facts.push(("followed", self.watched.len().to_string()));
        facts.push(("lookedThrough", self.scan.is_complete().to_string()));
        facts.push(("namespace", self.existence.to_string()));
        if self.connected && self.existence.wrong().is_some() {
            facts.push(("remedy", NO_NAMESPACE.to_owned()));
        }
        let note = |message: &str| Problem {
            file: None,
            line: None,
            path: self.source.name.to_string(),
            message: message.to_owned(),
        };
        let notes: Vec<Problem> = self.existence.wrong().map(note).into_iter().collect();
        let size = (self.book.len(), self.watched.len());
        self.source.metrics.source_size(&self.source.name, size.0, size.1, notes.len());
        self.source.state.change(|state| (state.facts, state.notes) = (facts, notes));
    }
}
