//! What a proxy has learned about targets: who rests after a failure, who is slow, and how much may be repeated.
//!
//! Resting is separate from repeating: a failure decides at once whether this request goes elsewhere, and here whether
//! the next ones begin there. Recovery is found out by one live request, never by a paid probe.

mod budget;
mod pace;
mod part;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;

use self::{
    budget::Budget,
    pace::Pace,
    part::{Key, Part, parts},
};
use crate::model::model_route::{Credential, Failure, ModelTarget, NamePattern, Reason};

/// Rest after `rate` where the target does not say how long.
const RATE_REST: Duration = Duration::from_secs(5);
/// Longest rest that a target can ask for.
const REST_MAX: Duration = Duration::from_secs(300);
/// Rest of a credential that was refused, and of one with nothing left to spend.
const CREDENTIAL_REST: Duration = Duration::from_secs(60);
/// Rest of an endpoint that does not connect; doubles with every trial that fails …
const CONNECT_REST: Duration = Duration::from_secs(2);
/// … up to this.
const CONNECT_REST_MAX: Duration = Duration::from_secs(60);
/// Failures in a row, of a kind that has no rest of its own, that cut a target off.
const FAILURES_IN_A_ROW: u32 = 3;
/// A trial that has not ended after this counts as lost: another request may try.
const TRIAL_LIMIT: Duration = Duration::from_secs(60);
/// Rests remembered at most; the one that ends first goes.
const RESTS_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Duration,
    reason: Reason,
    /// Trials that failed.
    strikes: u32,
    /// When the request began that tries it.
    trial: Option<Duration>,
}

/// Whether a target may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may.
    Ready,
    /// Its rest is over; one live request may find out.
    Trial,
    /// It rests.
    Resting {
        /// Until then, on the clock that is passed in.
        until: Duration,
        /// Because of this.
        reason: Reason,
    },
}

/// What one worker has learned.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    changes: u64,
    rests: HashMap<Part<String>, Rest, RandomState>,
    /// By route and target.
    paces: ByRoute<String, Pace>,
    /// By route and virtual model.
    budgets: ByRoute<NamePattern, Budget>,
}

type ByRoute<K, V> = HashMap<String, HashMap<K, V, RandomState>, RandomState>;

impl Standings {
    /// Goes up with every change of rests, trials and paces, for who shows them.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Models of a target's credential that rest by name, in no order.
    pub fn resting_models(&self, target: &ModelTarget) -> impl Iterator<Item = &str> {
        let [credential, ..] = parts(target, "");
        self.rests.keys().filter_map(move |part| match (part.borrowed(), credential) {
            (Part::Model(key, model), Part::Credential(of)) if key == of => Some(model),
            (Part::Credential(_) | Part::Model(..) | Part::Endpoint(_), _) => None,
        })
    }

    /// Whether a target may be asked for `model`, its own name of it.
    pub fn state(&self, target: &ModelTarget, model: &str, now: Duration) -> State {
        if self.rests.is_empty() {
            return State::Ready;
        }
        let worst = parts(target, model).into_iter().filter_map(|part| self.rests.get(&part)).max_by_key(|rest| {
            let busy = rest.trial.is_some_and(|since| now.saturating_sub(since) < TRIAL_LIMIT);
            (busy || rest.until > now, rest.until)
        });
        match worst {
            None => State::Ready,
            Some(rest) if rest.until > now => State::Resting { until: rest.until, reason: rest.reason },
            Some(rest) => match rest.trial {
                Some(since) if now.saturating_sub(since) < TRIAL_LIMIT => {
                    State::Resting { until: since + TRIAL_LIMIT, reason: rest.reason }
                }
                Some(_) | None => State::Trial,
            },
        }
    }

    /// Share of its weight that a target is worth, 0.05 to 1: slow ones lose it by and by.
    pub fn share(&self, route: &str, target: &ModelTarget) -> f64 {
        self.pace(route, target).map_or(1.0, |pace| pace.share)
    }

    /// Time in which 95 of 100 answers of a target begin; `None` while too few are known.
    pub fn p95(&self, route: &str, target: &ModelTarget) -> Option<Duration> {
        self.pace(route, target)?.p95()
    }

    /// A request goes to a target.
    pub fn begin(&mut self, target: &ModelTarget, model: &str, now: Duration) {
        if self.rests.is_empty() {
            return;
        }
        self.changes += 1;
        for part in parts(target, model) {
            if let Some(rest) = self.rests.get_mut(&part) {
                rest.trial = Some(now);
            }
        }
    }

    /// An attempt was given up before it showed anything.
    pub fn withdrawn(&mut self, target: &ModelTarget, model: &str) {
        self.changes += 1;
        for part in parts(target, model) {
            if let Some(rest) = self.rests.get_mut(&part) {
                rest.trial = None;
            }
        }
    }

    /// A target answered: its first token (or whole answer) came after `took`, within `limit`.
    pub fn served(&mut self, route: &str, target: &ModelTarget, model: &str, took: Duration, limit: Duration) {
        self.changes += 1;
        if !self.rests.is_empty() {
            for part in parts(target, model) {
                self.rests.remove(&part);
            }
        }
        self.pace_mut(route, target).served(took, limit);
    }

    /// An attempt failed.
    pub fn failed(&mut self, route: &str, target: &ModelTarget, model: &str, failure: &Failure, now: Duration) {
        let [credential, of_model, endpoint] = parts(target, model);
        let asked = |default: Duration| failure.retry_after.unwrap_or(default).clamp(default.min(RATE_REST), REST_MAX);
        self.withdrawn(target, model);
        match failure.reason {
            Reason::Auth => self.rest(credential, failure.reason, CREDENTIAL_REST, now),
            Reason::Quota => self.rest(credential, failure.reason, asked(CREDENTIAL_REST), now),
            Reason::Rate => self.rest(of_model, failure.reason, asked(RATE_REST), now),
            Reason::NotFound => self.rest(of_model, failure.reason, CREDENTIAL_REST, now),
            Reason::Overloaded if failure.retry_after.is_some() => {
                self.rest(of_model, failure.reason, asked(RATE_REST), now);
            }
            Reason::Connect => {
                let strikes = self.rests.get(&endpoint).map_or(0, |rest| rest.strikes.min(16));
                let length = CONNECT_REST.saturating_mul(1 << strikes).min(CONNECT_REST_MAX);
                self.rest(endpoint, failure.reason, length, now);
            }
            Reason::Reset
            | Reason::TimeoutHeaders
            | Reason::TimeoutFirstToken
            | Reason::Stall
            | Reason::Overloaded
            | Reason::Server
            | Reason::Empty
            | Reason::Decode => {
                let pace = self.pace_mut(route, target);
                pace.failed();
                if pace.failures >= FAILURES_IN_A_ROW {
                    self.rest(of_model, failure.reason, RATE_REST, now);
                }
            }
            // The request's own fault: says nothing about the target.
            Reason::Context | Reason::ContentFilter | Reason::BadRequest => {}
        }
    }

    /// A credential was read anew: what was refused with the old one may be tried at once.
    pub fn renewed(&mut self, credential: &Credential) {
        self.changes += 1;
        let renewed = Key::of(credential);
        self.rests.retain(|part, _| match part.borrowed() {
            Part::Credential(key) | Part::Model(key, _) => key != renewed,
            Part::Endpoint(_) => true,
        });
    }

    /// A request for a virtual model begins: every so many allow one repetition. By the model of the route, not by what
    /// callers write: a pattern fits names without number.
    pub fn requested(&mut self, route: &str, model: &NamePattern, now: Duration) {
        self.budget(route, model).requested(now);
    }

    /// Whether a further attempt is within the budget of `percent` hundredths; takes it if so.
    pub fn repeat(&mut self, route: &str, model: &NamePattern, percent: u32, now: Duration) -> bool {
        self.budget(route, model).repeat(percent, now)
    }

    fn budget(&mut self, route: &str, model: &NamePattern) -> &mut Budget {
        self.budgets.entry_ref(route).or_default().entry_ref(model).or_default()
    }

    fn pace(&self, route: &str, target: &ModelTarget) -> Option<&Pace> {
        self.paces.get(route)?.get(target.name.as_str())
    }

    fn pace_mut(&mut self, route: &str, target: &ModelTarget) -> &mut Pace {
        self.paces.entry_ref(route).or_default().entry_ref(target.name.as_str()).or_default()
    }

    fn rest(&mut self, part: Part<&str>, reason: Reason, length: Duration, now: Duration) {
        let until = now.saturating_add(length.min(REST_MAX));
        if let Some(rest) = self.rests.get_mut(&part) {
            let strikes = rest.strikes.saturating_add(1);
            *rest = Rest { until: until.max(rest.until), reason, strikes, trial: None };
            return;
        }
        if self.rests.len() >= RESTS_MAX {
            let first = self.rests.iter().min_by_key(|(_, rest)| rest.until).map(|(part, _)| part.clone());
            first.into_iter().for_each(|part| {
                self.rests.remove(&part);
            });
        }
        self.rests.insert(part.kept(), Rest { until, reason, strikes: 1, trial: None });
    }
}
