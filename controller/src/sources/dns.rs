//! Source `dns`: external hosts that resources name, as services whose instances are the addresses of the host. Core
//! decides what answers come to and when to ask again; this asks, one task for all names.

mod names;
mod resolve;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mesh_core::{
    discovery::dns::{Answered, Known, Question, Reason, service},
    resources::services::Service,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub use self::{
    names::Names,
    resolve::{NoResolver, Resolver},
};

/// Name of the source.
pub const NAME: &str = "dns";
/// Most questions under way at once; the others wait their turn.
const AT_ONCE_MAX: usize = 32;
/// Most names that are asked for; more are left out, with a warning.
pub const NAMES_MAX: usize = 5_000;

/// What the source learned.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A name was answered; the service is what is known of it now, with or without instances.
    Service {
        /// Which name.
        question: Question,
        /// The service.
        service: Service,
        /// Why it is so, for people.
        reason: Reason,
    },
    /// A name is not wanted any more.
    Gone(Question),
}

/// A name and what is known of it.
struct Entry {
    known: Known,
    due: Instant,
    is_asked: bool,
    /// What was heard last; `None` = nothing yet.
    said: Option<Reason>,
}

/// The task of the source.
pub struct DnsSource {
    resolver: Resolver,
    names: BTreeMap<Question, Entry>,
    under_way: FuturesUnordered<BoxFuture<'static, (Question, Answered)>>,
}

impl DnsSource {
    /// Asks nothing yet.
    pub fn new(resolver: Resolver) -> DnsSource {
        DnsSource { resolver, names: BTreeMap::new(), under_way: FuturesUnordered::new() }
    }

    /// Asks for what is wanted and tells what it hears, until nobody wants or listens any more. A change of what a service
    /// is, or of why, is told; an answer that says the same is not.
    pub async fn run(mut self, mut wanted: watch::Receiver<Arc<Vec<Question>>>, heard: mpsc::Sender<Heard>) {
        let wants = Arc::clone(&wanted.borrow_and_update());
        self.want(&wants);
        loop {
            let next = self.ask_what_is_due(Instant::now());
            let told: Vec<Heard> = tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wants = Arc::clone(&wanted.borrow_and_update());
                    self.want(&wants).into_iter().map(Heard::Gone).collect()
                }
                Some((question, answered)) = self.under_way.next() => {
                    self.take(question, &answered).into_iter().collect()
                }
                () = sleep_until(next) => Vec::new(),
            };
            for event in told {
                if heard.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Wants these names; those that are not wanted any more.
    fn want(&mut self, wants: &[Question]) -> Vec<Question> {
        let kept: BTreeSet<&Question> = wants.iter().take(NAMES_MAX).collect();
        if wants.len() > NAMES_MAX {
            warn!(wanted = wants.len(), kept = NAMES_MAX, "too many names; the rest is not asked for");
        }
        let gone: Vec<Question> = self.names.keys().filter(|name| !kept.contains(name)).cloned().collect();
        self.names.retain(|name, _| kept.contains(name));
        for name in kept {
            if !self.names.contains_key(name) {
                let new = Entry { known: Known::default(), due: Instant::now(), is_asked: false, said: None };
                self.names.insert(name.clone(), new);
            }
        }
        gone
    }

    /// Begins questions whose time has come, as many as may be under way; when the next one's comes.
    fn ask_what_is_due(&mut self, now: Instant) -> Instant {
        /// Nothing is due before an answer or a change comes.
        const NOTHING: Duration = Duration::from_secs(3_600);
        let mut next = now + NOTHING;
        for (question, entry) in self.names.iter_mut().filter(|(_, entry)| !entry.is_asked) {
            if entry.due > now {
                next = next.min(entry.due);
            } else if self.under_way.len() < AT_ONCE_MAX {
                entry.is_asked = true;
                let (resolver, question) = (self.resolver.clone(), question.clone());
                self.under_way.push(Box::pin(async move {
                    let answered = resolver.ask(&question).await;
                    (question, answered)
                }));
            }
        }
        next
    }

    /// Takes in an answer; what is to be told of it.
    fn take(&mut self, question: Question, answered: &Answered) -> Option<Heard> {
        // Answers for a name that is not wanted any more come to nothing.
        let entry = self.names.get_mut(&question)?;
        let before = entry.known.places().to_vec();
        let next = entry.known.take(answered, rand::random());
        entry.is_asked = false;
        entry.due = Instant::now() + next.ask_again;
        let is_same = matches!((&next.reason, &entry.said), (Reason::Same, Some(Reason::Changed | Reason::Same)));
        let is_told = entry.said.as_ref() == Some(&next.reason) && before == entry.known.places();
        if is_same || is_told {
            entry.said = Some(next.reason);
            return None;
        }
        log(&question, &next.reason, entry.known.places().len());
        entry.said = Some(next.reason.clone());
        let service = service(&question, entry.known.places());
        Some(Heard::Service { service, reason: next.reason, question })
    }
}

fn log(host: &Question, reason: &Reason, addresses: usize) {
    match reason {
        Reason::Changed | Reason::Same => info!(%host, addresses, "{reason}"),
        Reason::Partly(_) | Reason::Nothing | Reason::NoSuchName | Reason::NotOffered | Reason::Failed(_) => {
            warn!(%host, addresses, "{reason}");
        }
    }
}
