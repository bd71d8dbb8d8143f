//! What becomes due in an exchange: attempts that take too long, a second target, the end of its time.

use std::time::Duration;

use super::{AT_ONCE, Attempts, Sending};
use crate::{
    model::model_route::{Failure, Reason},
    model_route::{request::Delivery, standing::Standings},
};

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The attempt in this place took too long.
    Late(usize, Failure),
    /// A second target may be asked; see [`Attempts::next`].
    Hedge,
    /// The whole exchange took too long.
    Over(Failure),
}

impl Attempts {
    /// When [`Attempts::due`] has to be asked next.
    pub fn deadline(&self) -> Duration {
        let over = self.begun.saturating_add(self.model.timers.total);
        let late = (0..AT_ONCE).filter_map(|slot| self.late_at(slot)).map(|(at, _)| at);
        late.chain(self.hedge_at).fold(over, Duration::min)
    }

    /// What is due, if anything.
    pub fn due(&mut self, standings: &mut Standings, now: Duration) -> Option<Due> {
        let late = (0..AT_ONCE).find_map(|slot| self.late_at(slot).filter(|(at, _)| *at <= now).map(|at| (slot, at.1)));
        if let Some((slot, reason)) = late {
            return Some(Due::Late(slot, too_late(reason)));
        }
        if self.begun.saturating_add(self.model.timers.total) <= now {
            return Some(Due::Over(Failure {
                message: "the time for the whole answer passed".to_owned(),
                ..too_late(Reason::Stall)
            }));
        }
        if self.hedge_at.is_some_and(|at| at <= now) {
            self.hedge_at = None;
            let within = self.made() < self.model.retry.attempts as usize && self.may_repeat(standings, now);
            return within.then_some(Due::Hedge);
        }
        None
    }

    /// When an attempt is late, and why.
    fn late_at(&self, slot: usize) -> Option<(Duration, Reason)> {
        let (live, timers) = (self.live[slot]?, &self.model.timers);
        if self.sending == Sending::UnderWay {
            return None;
        }
        if self.committed == Some(slot) {
            return Some((live.moved.saturating_add(timers.idle), Reason::Stall));
        }
        match self.delivery {
            Delivery::Stream => {
                let token = (live.begun.saturating_add(timers.first_token), Reason::TimeoutFirstToken);
                let head = (live.begun.saturating_add(timers.headers), Reason::TimeoutHeaders);
                Some(if live.headed || token.0 < head.0 { token } else { head })
            }
            Delivery::Whole if live.headed => Some((live.moved.saturating_add(timers.idle), Reason::Stall)),
            Delivery::Whole => Some((live.begun.saturating_add(timers.headers_whole), Reason::TimeoutHeaders)),
        }
    }
}

fn too_late(reason: Reason) -> Failure {
    let message = match reason {
        Reason::TimeoutHeaders => "the target sent no head in time",
        Reason::TimeoutFirstToken => "the target sent no token in time",
        Reason::Stall
        | Reason::Connect
        | Reason::Reset
        | Reason::Rate
        | Reason::Quota
        | Reason::Overloaded
        | Reason::Server
        | Reason::Auth
        | Reason::NotFound
        | Reason::Context
        | Reason::ContentFilter
        | Reason::BadRequest
        | Reason::Empty
        | Reason::Decode => "the target fell silent",
    };
    Failure { reason, status: 504, message: message.to_owned(), code: None, retry_after: None }
}
