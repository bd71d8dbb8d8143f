//! Questions from the admin port about what a message means, and word of services that are asked about: for the workers,
//! who alone know and find out.

use std::time::Duration;

use mesh_core::{
    fields::Fields,
    lane::{Carried, Freshness},
    model::service::ServiceKey,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::memory::Memory;
use crate::{health::Health, shared::Shared};

/// Questions that wait for a worker; more are refused.
pub const QUESTIONS: usize = 64;
/// Longest wait for the answer of one worker; a busy one looks at its questions between requests.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Fields of a message, as a consumer kept them.
#[derive(Clone, Debug, Default)]
pub struct Kept(pub Vec<(String, String)>);

impl Fields for Kept {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for (_, value) in self.0.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
            visit(value.as_bytes());
        }
    }
}

/// To one worker.
#[derive(Debug)]
pub enum Question {
    /// What a message with these fields means.
    Meaning(Kept, oneshot::Sender<Answer>),
    /// Somebody wants to know who lives at this service: a use of it, as a call is.
    Use(ServiceKey),
}

/// What a worker answers from.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What it remembers of requests.
    pub memory: &'a Memory,
    /// What it knows of instances.
    pub health: &'a Health,
    /// What all workers share.
    pub shared: &'a Shared,
    /// Time, on the clock of its health.
    pub now: Duration,
}

/// What a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its label, and where it was found; `None` = baseline.
    pub carried: Option<Carried>,
    /// Whether its request is one of now.
    pub freshness: Freshness,
    /// Whether its trace was seen in several lanes.
    pub ambiguous: bool,
}

impl Question {
    /// Answers, or takes it down.
    pub fn answer(self, known: Known<'_>) {
        let snapshot = known.shared.load();
        match self {
            Question::Meaning(fields, answer) => {
                let (found, ambiguous) = known.memory.look(&fields, &snapshot.lanes);
                // One who no longer waits needs no answer.
                let _ = answer.send(Answer { carried: found.carried, freshness: found.freshness, ambiguous });
            }
            Question::Use(key) => {
                let traffic = snapshot.traffic.get(key.label());
                if traffic.is_some_and(|traffic| traffic.health_check.is_some()) {
                    known.health.note_use(&key, known.now);
                }
            }
        }
    }
}

/// No worker answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no worker answered in time")]
pub struct Unanswered;

/// Asks the workers.
#[derive(Clone, Debug)]
pub struct Oracle {
    workers: Vec<mpsc::Sender<Question>>,
}

impl Oracle {
    pub(super) fn new(workers: Vec<mpsc::Sender<Question>>) -> Self {
        Oracle { workers }
    }

    /// What a message with these fields means: the first worker that knows a lane says so.
    ///
    /// # Errors
    /// Where none answers in time.
    pub async fn resolve(&self, fields: &Kept) -> Result<Answer, Unanswered> {
        let mut last = Err(Unanswered);
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            if worker.try_send(Question::Meaning(fields.clone(), answer)).is_err() {
                continue;
            }
            if let Ok(Ok(answer)) = timeout(ANSWER_LIMIT, answered).await {
                if answer.carried.is_some() {
                    return Ok(answer);
                }
                last = Ok(answer);
            }
        }
        last
    }

    /// Has the instances of a service probed, where its policy says so, as if it were called. One worker is enough for
    /// that; where its queue is full, the next question says the same.
    pub fn note_use(&self, service: &ServiceKey) {
        if let Some(worker) = self.workers.first() {
            drop(worker.try_send(Question::Use(service.clone())));
        }
    }
}
