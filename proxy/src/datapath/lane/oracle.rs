//! Questions from the admin port about what a message means: answered by the workers, who alone know.

use std::time::Duration;

use mesh_core::{
    fields::Fields,
    lane::{Carried, Freshness},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::memory::Memory;
use crate::shared::Shared;

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

/// A question to one worker.
#[derive(Debug)]
pub struct Question {
    fields: Kept,
    answer: oneshot::Sender<Answer>,
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
    /// Answers out of the memory of a worker.
    pub fn answer(self, memory: &Memory, shared: &Shared) {
        let (found, ambiguous) = memory.look(&self.fields, &shared.load().lanes);
        // One who no longer waits needs no answer.
        let _ = self.answer.send(Answer { carried: found.carried, freshness: found.freshness, ambiguous });
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
            if worker.try_send(Question { fields: fields.clone(), answer }).is_err() {
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
}
