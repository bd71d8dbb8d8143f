//! The attempts of one exchange with a virtual model, streamed or not: driven by events and a clock that is passed in.
//!
//! Until the first token (or the whole answer, where it is not streamed) nothing reaches the client, and a failure sends
//! the request to another target. From then on the answer is committed: a failure ends it with an error.

mod late;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use self::late::Due;
use super::{
    choice::{Before, Choice, Unable, Want, choose},
    drill::{Faults, Turn, forced},
    request::Delivery,
    resume::NotResumed,
    standing::Standings,
};
use crate::model::model_route::{Can, Failure, Hedge, MidStream, ModelTarget, OnExhausted, Reason, VirtualModel};

/// Attempts at the same time: the first, and one that hedges.
pub const AT_ONCE: usize = 2;

/// An attempt under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Live {
    target: usize,
    begun: Duration,
    headed: bool,
    moved: Duration,
    /// Why it fails, where that is forced: its target is not asked.
    forced: Option<Reason>,
}

/// What an attempt shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saw {
    /// The head of a good answer.
    Head,
    /// An event that is no token.
    Event,
    /// A token; of an answer that is not streamed, all of it.
    Token,
}

/// What follows from what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It is kept back.
    Hold,
    /// What was kept back goes to the client, and everything from here on. The other attempt, if one is under way, is
    /// given up.
    Commit,
    /// It goes to the client.
    Forward,
}

/// What follows from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Another target is asked; see [`Attempts::next`].
    Next,
    /// The other attempt goes on.
    Wait,
    /// The client is answered with this.
    GiveUp(Failure),
    /// The stream that the client reads ends with this, unless another target goes on with it; see [`Attempts::resume`].
    EndStream(Failure),
}

/// Why nobody else is asked; metrics and `explain` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The reason is none for which another target is tried.
    Reason,
    /// `retry.attempts`.
    Attempts,
    /// `retry.onlyWithin`.
    Window,
    /// `retry.budget`.
    Budget,
    /// `timers.minRemaining`.
    Remaining,
    /// The request cannot be sent again: it is longer than what is kept.
    Body,
    /// No target is left.
    Targets,
}

impl Spent {
    /// As metrics and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Spent::Reason => "reason",
            Spent::Attempts => "attempts",
            Spent::Window => "window",
            Spent::Budget => "budget",
            Spent::Remaining => "remaining",
            Spent::Body => "body",
            Spent::Targets => "targets",
        }
    }
}

/// Whether the request can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It can.
    Whole,
    /// Only once.
    Once,
}

/// Whether the request is still being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// As long as the client takes to send it: a target cannot be late meanwhile.
    UnderWay,
    Done,
}

/// The attempts of one exchange.
#[derive(Debug)]
pub struct Attempts {
    /// `<name>.<namespace>` of the route.
    route: Arc<str>,
    model: Arc<VirtualModel>,
    asked: String,
    delivery: Delivery,
    replay: Replay,
    sending: Sending,
    begun: Duration,
    /// From when on `retry.onlyWithin` counts.
    since: Duration,
    tried: Vec<usize>,
    skipped: usize,
    live: [Option<Live>; AT_ONCE],
    committed: Option<usize>,
    /// Why the stream broke that another target is to go on with.
    broken: Option<Failure>,
    hedge_at: Option<Duration>,
    last: Option<Failure>,
    window: Option<u64>,
    spent: Option<Spent>,
    faults: Faults,
    /// Whether the last failure was forced.
    is_forced: bool,
}

impl Attempts {
    /// An exchange that begins `now`. `asked` is the model as the caller wrote it.
    pub fn new(
        (route, model): (Arc<str>, Arc<VirtualModel>),
        asked: &str,
        delivery: Delivery,
        replay: Replay,
        standings: &mut Standings,
        now: Duration,
    ) -> Attempts {
        standings.requested(&route, &model.name, now);
        Attempts {
            route,
            model,
            asked: asked.to_owned(),
            delivery,
            sending: match replay {
                Replay::Whole => Sending::Done,
                Replay::Once => Sending::UnderWay,
            },
            replay,
            begun: now,
            since: now,
            tried: Vec::new(),
            skipped: 0,
            live: [None; AT_ONCE],
            committed: None,
            broken: None,
            hedge_at: None,
            last: None,
            window: None,
            spent: None,
            faults: Faults::default(),
            is_forced: false,
        }
    }

    /// As this, with failures that are forced.
    #[must_use]
    pub fn drilled(self, faults: Faults) -> Attempts {
        Attempts { faults, ..self }
    }

    /// The failure of an attempt that just began, where it is forced: nobody is to be asked, [`Attempts::failed`] is to be
    /// told.
    pub fn forced(&self, slot: usize) -> Option<Failure> {
        let live = self.live.get(slot)?.as_ref()?;
        let dialect = self.model.targets[live.target].provider.dialect();
        live.forced.map(|reason| forced(dialect, reason))
    }

    /// Whether the failure that the client is told is one that it forced itself.
    pub fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// Attempts made.
    pub fn made(&self) -> usize {
        self.tried.len() - self.skipped
    }

    /// The target of an attempt under way.
    pub fn target(&self, slot: usize) -> Option<&Arc<ModelTarget>> {
        self.model.targets.get(self.live.get(slot)?.as_ref()?.target)
    }

    /// Why nobody else was asked, once that is so.
    pub fn spent(&self) -> Option<Spent> {
        self.spent
    }

    /// Whether the client has been given some of the answer.
    pub fn is_committed(&self) -> bool {
        self.committed.is_some() || self.broken.is_some()
    }

    /// Begins the next attempt: its place among those under way, its target, and why.
    ///
    /// # Errors
    /// The failure that the client is told, where nobody is left.
    pub fn next(
        &mut self,
        standings: &mut Standings,
        want: &Want<'_>,
        bars: &dyn Fn(usize, &ModelTarget) -> Option<Unable>,
        random: u64,
        now: Duration,
    ) -> Result<(usize, Choice), Failure> {
        let Some(slot) = self.live.iter().position(Option::is_none) else { return Err(self.exhausted()) };
        let last = self.last.as_ref().map(|failure| failure.reason);
        let goes_on = self.broken.is_some();
        let bars = |place: usize, target: &ModelTarget| {
            let cannot = goes_on && target.capabilities.prefill == Can::No;
            if cannot { Some(Unable::Prefill) } else { bars(place, target) }
        };
        let before = Before { tried: &self.tried, last, window: self.window, bars: &bars };
        let Some(choice) = choose((&self.route, &self.model), standings, want, before, random, now) else {
            self.spent = Some(Spent::Targets);
            return Err(self.exhausted());
        };
        let target = &self.model.targets[choice.target];
        let turn = if self.made() == 0 { Turn::First } else { Turn::Later };
        let forced = self.faults.strikes(target, turn);
        // Who is not asked is not tried either.
        if forced.is_none() {
            standings.begin(target, target.model_name(&self.asked), now);
        }
        self.is_forced = false;
        self.tried.push(choice.target);
        self.live[slot] = Some(Live { target: choice.target, begun: now, headed: false, moved: now, forced });
        self.hedge_at = match turn {
            Turn::First => self.hedge_after(standings, choice.target).map(|after| now.saturating_add(after)),
            Turn::Later => None,
        };
        Ok((slot, choice))
    }

    fn hedge_after(&self, standings: &Standings, target: usize) -> Option<Duration> {
        let others = self.model.targets.len() > 1 && self.replay == Replay::Whole;
        match self.model.hedge {
            Hedge::After(after) if others => Some(after),
            Hedge::AfterP95 if others => standings.p95(&self.route, &self.model.targets[target]),
            Hedge::Off | Hedge::After(_) | Hedge::AfterP95 => None,
        }
    }

    /// The target of an attempt cannot be sent this request at all: it was not asked. `why` is what the client is told if
    /// nobody else can be.
    pub fn skipped(&mut self, slot: usize, why: Failure, standings: &mut Standings) {
        let Some(live) = self.live.get_mut(slot).and_then(Option::take) else { return };
        let target = &self.model.targets[live.target];
        standings.withdrawn(target, target.model_name(&self.asked));
        self.skipped += 1;
        self.last.get_or_insert(why);
    }

    /// The target of an attempt is to be asked once more, otherwise: this attempt does not count.
    pub fn again(&mut self, slot: usize, standings: &mut Standings) {
        let Some(live) = self.live.get_mut(slot).and_then(Option::take) else { return };
        let target = &self.model.targets[live.target];
        standings.withdrawn(target, target.model_name(&self.asked));
        self.tried.retain(|tried| *tried != live.target);
    }

    /// The exchange is over before anything came of the attempts under way. They still count as made.
    pub fn withdrawn(&mut self, standings: &mut Standings) {
        for slot in 0..AT_ONCE {
            let Some(live) = self.live[slot].take() else { continue };
            // One that is committed has been told as served, one that is forced never began a trial.
            if self.committed != Some(slot) && live.forced.is_none() {
                let target = &self.model.targets[live.target];
                standings.withdrawn(target, target.model_name(&self.asked));
            }
        }
    }

    /// A request that is sent only once was sent, or is answered before; its answer is awaited from now on, and delivered
    /// so.
    pub fn sent(&mut self, slot: usize, delivery: Delivery, now: Duration) {
        (self.sending, self.delivery) = (Sending::Done, delivery);
        if let Some(live) = self.live.get_mut(slot).and_then(Option::as_mut) {
            (live.begun, live.moved) = (now, now);
        }
    }

    /// An attempt showed something.
    pub fn saw(&mut self, slot: usize, what: Saw, standings: &mut Standings, now: Duration) -> Reaction {
        let Some(live) = self.live.get_mut(slot).and_then(Option::as_mut) else { return Reaction::Hold };
        live.moved = now;
        live.headed = true;
        if self.committed == Some(slot) {
            return Reaction::Forward;
        }
        if what != Saw::Token || self.committed.is_some() {
            return Reaction::Hold;
        }
        let (target, took) = (&self.model.targets[live.target], now.saturating_sub(live.begun));
        let limit = match self.delivery {
            Delivery::Stream => self.model.timers.first_token,
            Delivery::Whole => self.model.timers.headers_whole,
        };
        standings.served(&self.route, target, target.model_name(&self.asked), took, limit);
        self.committed = Some(slot);
        self.hedge_at = None;
        for other in (0..AT_ONCE).filter(|other| *other != slot) {
            if let Some(given_up) = self.live[other].take() {
                let target = &self.model.targets[given_up.target];
                standings.withdrawn(target, target.model_name(&self.asked));
            }
        }
        Reaction::Commit
    }

    /// The answer of the committed attempt is whole.
    pub fn finished(&mut self, slot: usize) {
        if let Some(live) = self.live.get_mut(slot) {
            *live = None;
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, slot: usize, failure: Failure, standings: &mut Standings, now: Duration) -> After {
        let Some(live) = self.live.get_mut(slot).and_then(Option::take) else { return After::Wait };
        let target = &self.model.targets[live.target];
        if live.forced.is_none() {
            standings.failed(&self.route, target, target.model_name(&self.asked), &failure, now);
        }
        self.is_forced = live.forced.is_some();
        if self.committed == Some(slot) {
            return After::EndStream(failure);
        }
        if failure.reason == Reason::Context {
            self.window = self.window.max(target.context_window);
        }
        let spent = self.spends(&failure, now);
        self.last = Some(failure);
        if self.live.iter().any(Option::is_some) {
            return After::Wait;
        }
        // Drills leave the budget to those whose targets do fail.
        let is_free = live.forced.is_some();
        let spent = spent.or_else(|| (!is_free && !self.may_repeat(standings, now)).then_some(Spent::Budget));
        match spent {
            None => After::Next,
            Some(spent) => {
                self.spent = Some(spent);
                match &self.broken {
                    Some(broken) => After::EndStream(broken.clone()),
                    None => After::GiveUp(self.exhausted()),
                }
            }
        }
    }

    /// The stream that the client reads broke for this reason behind what it has of it: whether another target is asked to
    /// go on with it, see [`Attempts::next`]. `fit` is what the caller knows of the text so far. `retry.onlyWithin` counts
    /// from now on: streams break late.
    ///
    /// # Errors
    /// Why nobody is.
    pub fn resume(
        &mut self,
        failure: &Failure,
        fit: Result<(), NotResumed>,
        standings: &mut Standings,
        now: Duration,
    ) -> Result<(), NotResumed> {
        if self.model.mid_stream == MidStream::Terminate {
            return Err(NotResumed::Terminate);
        }
        fit?;
        self.since = now;
        let spent = self.spends(failure, now);
        let spent = spent.or_else(|| (!self.may_repeat(standings, now)).then_some(Spent::Budget));
        if let Some(spent) = spent {
            self.spent = Some(spent);
            return Err(NotResumed::Spent(spent));
        }
        self.committed = None;
        self.broken = Some(failure.clone());
        self.last = Some(failure.clone());
        Ok(())
    }

    fn may_repeat(&self, standings: &mut Standings, now: Duration) -> bool {
        standings.repeat(&self.route, &self.model.name, self.model.retry.budget_percent, now)
    }

    fn spends(&self, failure: &Failure, now: Duration) -> Option<Spent> {
        let (retry, timers) = (&self.model.retry, &self.model.timers);
        let passed = now.saturating_sub(self.begun);
        let cases = [
            (!retry.on.contains(&failure.reason), Spent::Reason),
            (self.replay == Replay::Once, Spent::Body),
            (self.made() >= retry.attempts as usize, Spent::Attempts),
            (self.tried.len() >= self.model.targets.len(), Spent::Targets),
            (now.saturating_sub(self.since) > retry.only_within, Spent::Window),
            (timers.total.saturating_sub(passed) <= timers.min_remaining, Spent::Remaining),
        ];
        cases.into_iter().find(|(is_spent, _)| *is_spent).map(|(_, spent)| spent)
    }

    /// What the client is told once nobody is left.
    fn exhausted(&self) -> Failure {
        let nobody = || Failure {
            reason: Reason::Overloaded,
            status: 503,
            message: format!("no target of model {} can serve this request", self.asked),
            code: None,
            retry_after: None,
        };
        if let Some(broken) = &self.broken {
            return broken.clone();
        }
        let last = self.last.clone().unwrap_or_else(nobody);
        match (self.model.on_exhausted, self.spent) {
            // The request's own fault stays visible as such.
            (OnExhausted::Unavailable, Some(spent)) if spent != Spent::Reason => Failure { status: 503, ..last },
            (OnExhausted::Unavailable | OnExhausted::LastError, _) => last,
        }
    }
}
