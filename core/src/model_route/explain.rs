//! Why a request would go where it goes: the targets of a virtual model in the order in which they would be asked, and why
//! the others would not. Decided by `choice` itself, on requests that are only thought of; nothing here is changed.

mod question;
mod shown;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use thiserror::Error;

pub use self::{
    question::{NotAQuestion, Question},
    shown::{Known, answer, listed},
};
use super::{
    choice::{Before, Choice, Stands, Unable, Want, Why, choose_by, unable},
    standing::{Standings, State},
};
use crate::model::model_route::{ModelRoute, ModelTarget, VirtualModel};

/// Requests that are thought of to find out how often each target is asked first.
const DRAWS: u64 = 1_000;

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stand {
    /// Whether it may be asked; a rest ends so long after now.
    pub state: State,
    /// Share of its weight that it is worth, 0.05 to 1.
    pub share: f64,
    /// Time in which 95 of 100 of its answers begin, if known.
    pub p95: Option<Duration>,
}

impl Stand {
    /// Of a target of which nothing is known.
    pub const FRESH: Stand = Stand { state: State::Ready, share: 1.0, p95: None };

    /// As a worker has learned by `now`, of a request for `asked`.
    pub fn of(standings: &Standings, route: &str, target: &ModelTarget, asked: &str, now: Duration) -> Stand {
        let state = match standings.state(target, target.model_name(asked), now) {
            State::Resting { until, reason } => State::Resting { until: until.saturating_sub(now), reason },
            state @ (State::Ready | State::Trial) => state,
        };
        Stand { state, share: standings.share(route, target), p95: standings.p95(route, target) }
    }

    /// As [`Stand::of`], of all names that the model fits and that rest one by one: the worst of them.
    pub fn of_any(
        standings: &Standings,
        route: &str,
        (model, target): (&VirtualModel, &ModelTarget),
        now: Duration,
    ) -> Stand {
        let named = model.name.to_string();
        let stand = Stand::of(standings, route, target, &named, now);
        if target.model.is_some() {
            return stand;
        }
        let resting = standings.resting_models(target).filter(|name| model.fits(name).is_some());
        resting.map(|name| Stand::of(standings, route, target, name, now)).fold(stand, Stand::worse)
    }

    /// What is worse of both: of several workers, each learns by itself.
    #[must_use]
    pub fn worse(self, other: Stand) -> Stand {
        let badness = |state: &State| match state {
            State::Ready => (0, Duration::ZERO),
            State::Trial => (1, Duration::ZERO),
            State::Resting { until, .. } => (2, *until),
        };
        let is_other_worse = badness(&other.state) > badness(&self.state);
        Stand {
            state: if is_other_worse { other.state } else { self.state },
            share: self.share.min(other.share),
            p95: self.p95.max(other.p95),
        }
    }
}

/// What would become of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is asked, first or when those before it failed.
    Asked(Why),
    /// It could be asked; the attempts are used up before.
    Beyond(Why),
    /// It cannot serve the request.
    Unable(Unable),
}

/// A target, as the request finds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Place among the model's targets.
    pub target: usize,
    /// When it is asked, from 1 on, if each one before it fails. `None` = it is not.
    pub order: Option<usize>,
    /// Of 100 such requests, those that would go to it first.
    pub first: u32,
    /// What would become of it, and why.
    pub verdict: Verdict,
    /// How it stands.
    pub stand: Stand,
}

/// Why there is nothing to explain.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoModel {
    /// No route has the host.
    #[error("no model route has the host {0}")]
    Host(String),
    /// No route there has the model.
    #[error("there is no model {model} at {place}; there are: {known}")]
    Model {
        /// What was asked for.
        model: String,
        /// Where.
        place: String,
        /// What there is.
        known: String,
    },
}

/// The route and virtual model of a request, as a sidecar finds them; without host, the first route with the best fit.
///
/// # Errors
/// When there is none.
pub fn find<'r>(
    routes: &'r [Arc<ModelRoute>],
    host: Option<&str>,
    model: &str,
) -> Result<(&'r ModelRoute, &'r VirtualModel), NoModel> {
    let is_there = |route: &&Arc<ModelRoute>| {
        host.is_none_or(|host| route.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)))
    };
    let there: Vec<&ModelRoute> = routes.iter().filter(is_there).map(|route| &**route).collect();
    if let (Some(host), []) = (host, &there[..]) {
        return Err(NoModel::Host(host.to_owned()));
    }
    let models = || there.iter().flat_map(|route| route.models.iter().map(|model| (*route, &**model)));
    let mut best = None;
    for (route, virtual_model) in models() {
        if let Some(exactness) = virtual_model.fits(model)
            && best.is_none_or(|(known, _)| exactness > known)
        {
            best = Some((exactness, (route, virtual_model)));
        }
    }
    best.map(|(_, found)| found).ok_or_else(|| {
        let known: Vec<String> = models().map(|(_, model)| model.name.to_string()).collect();
        NoModel::Model {
            model: model.to_owned(),
            place: host.unwrap_or("any host").to_owned(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        }
    })
}

/// What would become of each target: those that are asked in that order, then the others as they are written.
/// `stands` has one entry per target; `bars` is what only the caller knows against a target.
pub fn explain(
    model: &VirtualModel,
    stands: &[Stand],
    want: &Want<'_>,
    bars: &dyn Fn(usize, &ModelTarget) -> Option<Unable>,
) -> Vec<Row> {
    let stand = |place: usize| stands.get(place).copied().unwrap_or(Stand::FRESH);
    let mut tried: Vec<usize> = Vec::new();
    let mut rows = Vec::new();
    let firsts = draws(model, &stand, want, Before { tried: &[], last: None, window: None, bars });
    let first_of = |place: usize| {
        let times = firsts.iter().filter(|choice| choice.target == place).count() as u64;
        u32::try_from((times * 100 + DRAWS / 2) / DRAWS).unwrap_or(100)
    };
    loop {
        let before = Before { tried: &tried, last: None, window: None, bars };
        let Some(choice) = usual(draws(model, &stand, want, before)) else { break };
        let order = tried.len() + 1;
        let is_within = order <= model.retry.attempts as usize;
        rows.push(Row {
            target: choice.target,
            order: is_within.then_some(order),
            first: first_of(choice.target),
            verdict: if is_within { Verdict::Asked(choice.why) } else { Verdict::Beyond(choice.why) },
            stand: stand(choice.target),
        });
        tried.push(choice.target);
    }
    let nothing = Before { tried: &[], last: None, window: None, bars };
    for place in (0..model.targets.len()).filter(|place| !tried.contains(place)) {
        if let Some(why) = unable(model, place, want, nothing) {
            let verdict = Verdict::Unable(why);
            rows.push(Row { target: place, order: None, first: 0, verdict, stand: stand(place) });
        }
    }
    rows
}

/// Whom requests with evenly spread random numbers would ask.
fn draws(model: &VirtualModel, stand: &dyn Fn(usize) -> Stand, want: &Want<'_>, before: Before<'_>) -> Vec<Choice> {
    let stands = |place| {
        let Stand { state, share, .. } = stand(place);
        Stands { state, share }
    };
    let draw = |number| choose_by(model, &stands, want, before, spread(number), Duration::ZERO);
    (0..DRAWS).filter_map(draw).collect()
}

/// The choice that is made most often; of equal ones the first by place.
fn usual(choices: Vec<Choice>) -> Option<Choice> {
    let times = |choice: &Choice| choices.iter().filter(|other| other.target == choice.target).count();
    let mut best: Option<(usize, Choice)> = None;
    let mut seen: Vec<usize> = Vec::new();
    for choice in &choices {
        if seen.contains(&choice.target) {
            continue;
        }
        seen.push(choice.target);
        let times = times(choice);
        if best.is_none_or(|(most, known)| times > most || (times == most && choice.target < known.target)) {
            best = Some((times, *choice));
        }
    }
    best.map(|(_, choice)| choice)
}

/// Numbers that lie evenly in their high bits and, turned by half, in their low ones (an additive sequence in each).
fn spread(number: u64) -> u64 {
    // Golden ratio and its square root's fraction, in 32 bits: two sequences that have nothing to do with each other.
    let high = number.wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF;
    let low = number.wrapping_mul(0xC13F_A9A9) & 0xFFFF_FFFF;
    high << 32 | low
}
