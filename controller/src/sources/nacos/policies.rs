//! Policy out of configurations of a Nacos server: `*.yaml` of one group, the same resources as in files. Listened to, and
//! looked through now and then: nobody tells of a configuration that is new.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    discovery::nacos::policies::Documents,
    resources::{Problem, Resource, nacos::Server},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    settings,
    wire::{Client, Error, Event, Listened, Options, open},
};
use crate::{
    compose::{News, SourceName},
    sources::{Change, Shared, away, connected as connected_to},
};

/// Ending of the ids that are policies.
const ENDING: &str = ".yaml";
/// How often the list is looked at for what is new.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The source.
pub struct Policies {
    options: Options,
    group: String,
    guard: Duration,
    name: SourceName,
    state: Arc<Shared>,
    changes: mpsc::Sender<Change>,
    documents: Documents,
}

impl Policies {
    /// The policies of a server, if any are read there, with the state that the console shows.
    pub fn of(server: &Server, changes: mpsc::Sender<Change>) -> Option<(Policies, Arc<Shared>)> {
        let read = server.policies.as_ref()?;
        let name: SourceName = format!("nacos/{}/{}", server.name, read.group).into();
        let place = format!("{ENDING} of group {} in {} of {}", read.group, read.namespace, server.name);
        let state = Arc::new(Shared::new(Arc::clone(&name), place));
        let policies = Policies {
            options: settings::options(server, &read.namespace),
            group: read.group.clone(),
            guard: server.empty_push_guard,
            documents: Documents::new(&format!("{name}/")),
            name,
            state: Arc::clone(&state),
            changes,
        };
        Some((policies, state))
    }

    /// Runs until `stopping`.
    pub async fn run(mut self, stopping: CancellationToken) {
        let (client, link, events) = open(self.options.clone());
        tokio::select! {
            () = link.run(stopping) => (),
            () = self.follow(&client, events) => (),
        }
    }

    async fn follow(&mut self, client: &Client, mut events: mpsc::Receiver<Event>) {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connected = false;
        loop {
            tokio::select! {
                _ = look.tick() => (),
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Connected { server }) => {
                        connected = true;
                        self.show(connected_to(&server));
                    }
                    Some(Event::Disconnected { reason }) => {
                        connected = false;
                        self.show(away(&reason));
                    }
                    Some(Event::ConfigChanged { .. } | Event::Unreadable(_)) => (),
                    Some(Event::Pushed(_)) => continue,
                },
            }
            if !connected {
                continue;
            }
            match self.look(client).await {
                Ok(changed) => self.offer(changed).await,
                Err(error) => {
                    warn!(%error, "policies not read; the last good ones stay in force");
                    self.show(away(&error));
                }
            }
        }
    }

    /// Reads what is new. True = something is.
    async fn look(&mut self, client: &Client) -> Result<bool, Error> {
        let ids = client.configs(&self.group, ENDING).await?;
        let guard = u64::try_from(self.guard.as_millis()).unwrap_or(u64::MAX);
        let before = self.documents.proposed();
        self.documents.listed(&ids, unix_milliseconds(), guard);
        let listened: Vec<Listened> = self
            .documents
            .known()
            .map(|(id, md5)| Listened { data_id: id.to_owned(), group: self.group.clone(), md5: md5.to_owned() })
            .collect();
        if listened.is_empty() {
            return Ok(self.documents.proposed() != before);
        }
        let mut changed = self.documents.proposed() != before;
        for (id, _) in client.listen(&listened).await? {
            // Gone since it was listed: the next list says so.
            let Some(config) = client.config(&id, &self.group).await? else { continue };
            self.documents.read(&id, &config.md5, &config.content);
            changed = true;
        }
        Ok(changed)
    }

    /// Has everything taken that is proposed; where it does not go together, whatever does.
    async fn offer(&mut self, changed: bool) {
        let is_first = self.state.get().loaded.is_none();
        if !changed && !is_first {
            return;
        }
        let proposed = self.documents.proposed();
        if self.tell(self.documents.resources(&proposed)).await.is_ok() {
            self.documents.accepted(&proposed);
        } else {
            for id in proposed {
                let one = BTreeSet::from([id.clone()]);
                match self.tell(self.documents.resources(&one)).await {
                    Ok(()) => self.documents.accepted(&one),
                    Err(problems) => self.documents.refused(&id, problems),
                }
            }
        }
        self.note();
    }

    async fn tell(&self, resources: Vec<Resource>) -> Result<(), Vec<Problem>> {
        let (done, taken) = oneshot::channel();
        let news = News::Resources { source: Arc::clone(&self.name), resources: Arc::new(resources) };
        // Both fail only when everything stops.
        if self.changes.send(Change { news, done: Some(done) }).await.is_err() {
            return Ok(());
        }
        taken.await.unwrap_or(Ok(()))
    }

    /// Says in state and log what is in force, and what is not and why.
    fn note(&self) {
        let problems = self.documents.problems();
        for Problem { file, line, path, message } in &problems {
            warn!(file, line, field = path, problem = message, "policy refused; the last good one stays in force");
        }
        let resources = self.documents.resources(&BTreeSet::new());
        info!(source = %self.name, resources = resources.len(), problems = problems.len(), "policies read");
        self.state.change(|state| {
            let now = SystemTime::now();
            state.loaded = Some(now);
            state.refused = (!problems.is_empty()).then_some(now);
            state.problems = problems;
            state.resources = Arc::new(resources);
        });
    }

    fn show(&self, facts: Vec<(&'static str, String)>) {
        self.state.change(|state| state.facts = facts);
    }
}

fn unix_milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
