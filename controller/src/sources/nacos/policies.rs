//! Policy out of configurations of a Nacos server: `*.yaml` of one group, the same resources as in files. Listened to, and
//! looked through now and then: nobody tells of a configuration that is new.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    discovery::nacos::{disk, policies::Documents},
    resources::{Problem, Resource, nacos::Server},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    settings,
    start::{Common, file_part},
    wire::{Client, Error, Event, Listened, Options, open},
};
use crate::{
    compose::{News, Said, SourceName},
    sign::files,
    sources::{Change, Shared, away, connected as connected_to, file},
    telemetry::{Load, Metrics},
};

/// Ending of the ids that are policies.
const ENDING: &str = ".yaml";
/// How often the list is looked at for what is new.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Proxies wait so long at most, when the controller starts, for policies that cannot be read.
const READY_AFTER: Duration = Duration::from_secs(3);

/// What a look at the server showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Same,
    Changed,
}

/// The source.
pub struct Policies {
    options: Options,
    group: String,
    guard: Duration,
    name: SourceName,
    state: Arc<Shared>,
    changes: mpsc::Sender<Change>,
    said: watch::Receiver<Arc<Said>>,
    metrics: Arc<Metrics>,
    documents: Documents,
    /// File in which is kept what is in force.
    kept: PathBuf,
    /// What stands in it.
    saved: String,
}

impl Policies {
    /// The policies of a server, if any are read there, with the state that the console shows.
    pub fn of(server: &Server, state_directory: &Path, common: &Common) -> Option<(Policies, Arc<Shared>)> {
        let read = server.policies.as_ref()?;
        let name: SourceName = format!("nacos/{}/{}", server.name, read.group).into();
        let place = format!("{ENDING} of group {} in {} of {}", read.group, read.namespace, server.name);
        let state = Arc::new(Shared::new(Arc::clone(&name), place));
        let policies = Policies {
            options: settings::options(server, &read.namespace),
            group: read.group.clone(),
            guard: server.empty_push_guard,
            documents: Documents::new(&format!("{name}/")),
            kept: state_directory.join(format!("{}.policies.json", file_part(&name))),
            saved: String::new(),
            name,
            state: Arc::clone(&state),
            changes: common.changes.clone(),
            said: common.said.clone(),
            metrics: Arc::clone(&common.metrics),
        };
        Some((policies, state))
    }

    /// `nacos/<server>/<group>`.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Runs until `stopping`.
    pub async fn run(mut self, stopping: CancellationToken) {
        let (client, link, events) = open(self.options.clone());
        let follow = async {
            self.restore().await;
            self.follow(&client, events).await;
        };
        tokio::select! {
            () = link.run(stopping) => (),
            () = follow => (),
        }
    }

    /// Brings in force what was in an earlier run, when the file source has said what it goes together with.
    async fn restore(&mut self) {
        let kept = match std::fs::read_to_string(&self.kept) {
            Ok(kept) => kept,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return warn!(file = %self.kept.display(), %error, "policies from before cannot be read"),
        };
        match disk::documents_from_text(&kept) {
            Ok(documents) => {
                info!(source = %self.name, documents = documents.len(), "policies from before");
                self.documents.restore(documents);
                self.saved = kept;
            }
            Err(error) => return warn!(file = %self.kept.display(), %error, "policies from before are not used"),
        }
        let is_said = self.said.wait_for(|said| said.has(file::NAME));
        // Without it, what does not go together with nothing is refused, and read again from the server.
        let _ = timeout(READY_AFTER, is_said).await;
        self.offer(Look::Changed).await;
    }

    async fn follow(&mut self, client: &Client, mut events: mpsc::Receiver<Event>) {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut connected, mut ready, patience) = (false, false, Instant::now() + READY_AFTER);
        loop {
            tokio::select! {
                _ = look.tick() => (),
                () = sleep_until(patience), if !ready => (),
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Connected { server }) => {
                        connected = true;
                        self.metrics.source_connected(&self.name);
                        self.show(connected_to(&server));
                    }
                    Some(Event::Disconnected { reason }) => {
                        connected = false;
                        self.metrics.source_away(&self.name);
                        self.show(away(&reason, reason.cause.remedy()));
                    }
                    Some(Event::ConfigChanged { .. } | Event::Unreadable(_)) => (),
                    Some(Event::Pushed(_)) => continue,
                },
            }
            if connected {
                match self.look(client).await {
                    Ok(look) => self.offer(look).await,
                    Err(error) => {
                        warn!(%error, "policies not read; the last good ones stay in force");
                        self.show(away(&error, error.cause.remedy()));
                    }
                }
            }
            if !ready && (self.state.get().loaded.is_some() || Instant::now() >= patience) {
                ready = true;
                let news = News::Ready(Arc::clone(&self.name));
                // Fails only when everything stops.
                let _ = self.changes.send(Change { news, done: None }).await;
            }
        }
    }

    /// Reads what is new.
    async fn look(&mut self, client: &Client) -> Result<Look, Error> {
        let ids = client.configs(&self.group, ENDING).await?;
        let guard = u64::try_from(self.guard.as_millis()).unwrap_or(u64::MAX);
        let before = self.documents.proposed();
        self.documents.listed(&ids, unix_milliseconds(), guard);
        let listened: Vec<Listened> = self
            .documents
            .known()
            .map(|(id, md5)| Listened { data_id: id.to_owned(), group: self.group.clone(), md5: md5.to_owned() })
            .collect();
        let mut look = if self.documents.proposed() == before { Look::Same } else { Look::Changed };
        if listened.is_empty() {
            return Ok(look);
        }
        for (id, _) in client.listen(&listened).await? {
            // Gone since it was listed: the next list says so.
            let Some(config) = client.config(&id, &self.group).await? else { continue };
            self.documents.read(&id, &config.md5, &config.content);
            look = Look::Changed;
        }
        Ok(look)
    }

    /// Has everything taken that is proposed; where it does not go together, whatever does.
    async fn offer(&mut self, look: Look) {
        let is_first = self.state.get().loaded.is_none();
        if look == Look::Same && !is_first {
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
        self.save().await;
    }

    /// Keeps what is in force for the next start.
    async fn save(&mut self) {
        let text = disk::documents_to_text(&self.documents.stored());
        if text == self.saved {
            return;
        }
        let file = self.kept.clone();
        let write = spawn_blocking(move || (files::replace(&file, text.as_bytes(), files::SECRET), text));
        let (written, text) = write.await.expect("writing a file does not panic");
        match written {
            Ok(()) => self.saved = text,
            Err(error) => warn!(file = %self.kept.display(), %error, "policies cannot be kept for the next start"),
        }
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
        let load = if problems.is_empty() { Load::Loaded } else { Load::Refused };
        self.metrics.source_load(&self.name, load, problems.len());
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
