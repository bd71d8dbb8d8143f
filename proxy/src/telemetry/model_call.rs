//! What is told of a call to a language model, or of one attempt at a target of it, beyond what every exchange tells: made
//! for the access log and for spans. No word of a prompt or an answer is in it.

use std::time::Duration;

use mesh_core::model::model_route::{Provider, Reason, Usage, UsageSource};

use super::models::Ended;

/// A call, or an attempt of one.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCall {
    /// Operation (`chat`, `embeddings`, …).
    pub operation: &'static str,
    /// Virtual model as the caller named it; empty where the request could not be read.
    pub model: String,
    /// Target that served, or else the last one that was asked; `None` = nobody was.
    pub asked: Option<AskedTarget>,
    /// What was used, of a call by all its attempts.
    pub usage: Option<(Usage, UsageSource)>,
    /// Time from the begin of the attempt that served to its first token, or to its whole answer.
    pub first_token: Option<Duration>,
    /// Which of both it is.
    pub part: Part,
}

/// A target that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedTarget {
    /// Its name.
    pub target: String,
    /// Its own name of the model.
    pub model: String,
    /// Whose protocol it speaks.
    pub provider: Provider,
}

/// A call, or an attempt of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The call, as its client sees it.
    Call {
        /// Why attempts failed, in the order in which they did; at most as many as a route allows attempts.
        reasons: Vec<Reason>,
        /// What the client was told instead of an answer, or behind the part of one.
        error: Option<Reason>,
        /// Time before the target that served was asked; `None` = none served.
        overhead: Option<Duration>,
    },
    /// One attempt at one target.
    Attempt {
        /// Its place among the attempts of its call, from 1 on, in the order in which they ended.
        number: usize,
        /// How it ended.
        ended: Ended,
    },
}

impl ModelCall {
    /// Why attempts failed: of a call those that did, of an attempt itself.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        let (several, own) = match &self.part {
            Part::Call { reasons, .. } => (reasons.as_slice(), None),
            Part::Attempt { ended, .. } => (&[][..], ended.reason()),
        };
        several.iter().copied().chain(own)
    }

    /// `error.type`, where there is one.
    pub fn error_type(&self) -> Option<&'static str> {
        match &self.part {
            Part::Call { error, .. } => error.map(Reason::as_str),
            Part::Attempt { ended, .. } => Some(ended.error_type()).filter(|word| !word.is_empty()),
        }
    }

    /// Time before the target that served was asked.
    pub fn overhead(&self) -> Option<Duration> {
        match self.part {
            Part::Call { overhead, .. } => overhead,
            Part::Attempt { .. } => None,
        }
    }

    /// Place of an attempt among those of its call.
    pub fn attempt(&self) -> Option<usize> {
        match self.part {
            Part::Call { .. } => None,
            Part::Attempt { number, .. } => Some(number),
        }
    }
}
