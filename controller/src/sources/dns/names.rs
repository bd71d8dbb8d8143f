//! Which names are asked for: those that members of a `MeshService` say; and what is heard of them, as news.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_core::{
    discovery::dns::Question,
    resources::{mesh_service::Source, registered::Registered, services::Service},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{DnsSource, Heard, NAME, Resolver};
use crate::{
    compose::{News, Said},
    sources::Change,
};

/// Services that wait to be told; a source that is faster waits.
const HEARD_QUEUE: usize = 16;

/// Joins the source to what all sources say.
pub struct Names {
    /// What all sources say.
    pub said: watch::Receiver<Arc<Said>>,
    /// Where news goes.
    pub changes: mpsc::Sender<Change>,
}

impl Names {
    /// Runs until `stopping`. Name servers are looked for when the first name is wanted, not before: a machine may have
    /// none.
    pub async fn run(self, stopping: CancellationToken) {
        let _ = stopping.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        let mut told = wanted(&self.said.borrow_and_update());
        let resolver = loop {
            if !told.is_empty() {
                match Resolver::system() {
                    Ok(resolver) => break resolver,
                    Err(error) => error!(%error, "names from DNS cannot be asked for"),
                }
            }
            if self.said.changed().await.is_err() {
                return;
            }
            told = wanted(&self.said.borrow_and_update());
        };
        let (wants, wanted_now) = watch::channel(Arc::new(questions(&told)));
        let (tell, heard) = mpsc::channel(HEARD_QUEUE);
        let source = DnsSource::new(resolver).run(wanted_now, tell);
        tokio::join!(source, self.pass_on(told, wants, heard));
    }

    /// Tells the source what is wanted, and everybody what it hears.
    async fn pass_on(
        mut self,
        mut told: BTreeMap<Question, BTreeSet<String>>,
        wants: watch::Sender<Arc<Vec<Question>>>,
        mut heard: mpsc::Receiver<Heard>,
    ) {
        let mut known = Known::default();
        loop {
            let services = tokio::select! {
                changed = self.said.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    told = wanted(&self.said.borrow_and_update());
                    let now = Arc::new(questions(&told));
                    wants.send_if_modified(|before| {
                        let is_new = *before != now;
                        *before = now;
                        is_new
                    });
                    known.rename(&told)
                }
                heard = heard.recv() => match heard {
                    None => return,
                    Some(Heard::Service { question, service, reason: _ }) => known.learn(question, service, &told),
                    Some(Heard::Gone(question)) => known.forget(&question),
                },
            };
            if services.is_empty() {
                continue;
            }
            let news = News::Services { source: NAME.into(), services };
            if self.changes.send(Change { news, done: None }).await.is_err() {
                return;
            }
        }
    }
}

/// Services by the name that is the source's own.
type Told = Vec<(String, Option<Arc<Registered>>)>;

/// What was heard of questions, and under which spellings it was told.
#[derive(Default)]
struct Known(BTreeMap<Question, (Service, BTreeSet<String>)>);

impl Known {
    fn learn(&mut self, question: Question, service: Service, wanted: &BTreeMap<Question, BTreeSet<String>>) -> Told {
        let names = wanted.get(&question).cloned().unwrap_or_default();
        let told = names.iter().map(|name| registered(name, &service)).collect();
        self.0.insert(question, (service, names));
        told
    }

    fn forget(&mut self, question: &Question) -> Told {
        let names = self.0.remove(question).map(|(_, names)| names).unwrap_or_default();
        names.into_iter().map(|name| (name, None)).collect()
    }

    /// What is to be told where the spellings of a known name are others now.
    fn rename(&mut self, wanted: &BTreeMap<Question, BTreeSet<String>>) -> Told {
        let mut told = Vec::new();
        for (question, (service, names)) in &mut self.0 {
            let now = wanted.get(question).cloned().unwrap_or_default();
            told.extend(now.difference(names).map(|name| registered(name, service)));
            told.extend(names.difference(&now).map(|name| (name.clone(), None)));
            *names = now;
        }
        told
    }
}

fn registered(name: &str, service: &Service) -> (String, Option<Arc<Registered>>) {
    let (source, name, service) = (Source::Dns, name.to_owned(), service.clone());
    (name.clone(), Some(Arc::new(Registered { source, name, namespace: String::new(), service })))
}

fn questions(wanted: &BTreeMap<Question, BTreeSet<String>>) -> Vec<Question> {
    wanted.keys().cloned().collect()
}

/// Names that members say, each with the spellings in which they say it.
fn wanted(said: &Said) -> BTreeMap<Question, BTreeSet<String>> {
    let mut found: BTreeMap<Question, BTreeSet<String>> = BTreeMap::new();
    for (label, members) in said.members() {
        for member in members.into_iter().filter(|member| member.source == Source::Dns) {
            match member.name.parse::<Question>() {
                Ok(question) => drop(found.entry(question).or_default().insert(member.name)),
                Err(problem) => warn!(service = label, name = member.name, %problem, "no name to ask for"),
            }
        }
    }
    found
}
