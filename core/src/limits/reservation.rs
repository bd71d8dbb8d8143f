//! What an exchange holds of its limits until it has ended.

use std::{
    mem,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use super::{
    ask::{self, Rates},
    ledger::{Counters, Standing},
    table::Account,
    tally::Tally,
};
use crate::model::model_route::{Counted, Limit, Usage};

/// What was taken from one limit.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) tally: Arc<Tally>,
    pub(super) limit: Limit,
    pub(super) window: u64,
    pub(super) taken: u64,
}

/// What an exchange holds. Dropped without a word, what was reserved counts as used: nobody knows better then. Whether
/// told or not, it counts as no stream under way from then on.
#[must_use = "dropped at once, what was reserved counts as used"]
#[derive(Debug, Default)]
pub struct Reservation {
    pub(super) holds: Vec<Hold>,
    pub(super) shadowed: Vec<Limit>,
    pub(super) account: Option<Arc<Account>>,
    pub(super) counters: Option<Arc<Counters>>,
}

impl Reservation {
    /// Limits in shadow mode that would have refused.
    pub fn shadowed(&self) -> &[Limit] {
        &self.shadowed
    }

    /// Counts what was used in the end instead of what was reserved; more counts in the window now.
    pub fn settle(self, usage: &Usage, rates: Option<&Rates>, now: Duration) {
        self.settle_at(usage, rates.map_or(0, |rates| rates.cost(usage)), now);
    }

    /// As [`Reservation::settle`], of what cost so much in all, perhaps at several rates.
    pub fn settle_at(mut self, usage: &Usage, money: u64, now: Duration) {
        for hold in mem::take(&mut self.holds) {
            let used = ask::used(hold.limit.of, usage, money);
            match hold.limit.of {
                Counted::Concurrent => hold.tally.give_back(hold.window, hold.taken),
                Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Money => {
                    if used > hold.taken {
                        hold.raise(used - hold.taken, now);
                    } else {
                        hold.tally.give_back(hold.window, hold.taken - used);
                    }
                }
            }
        }
        if let Some(counters) = &self.counters {
            counters.settled.fetch_add(usage.input.saturating_add(usage.output), SeqCst);
        }
    }

    /// Gives everything back: no target was asked.
    pub fn cancel(mut self) {
        for hold in mem::take(&mut self.holds) {
            hold.tally.give_back(hold.window, hold.taken);
        }
    }

    /// How the limits stand now, for the fields of an answer.
    pub fn standings(&self, now: Duration) -> Vec<Standing> {
        self.holds.iter().map(|hold| Standing::of(&hold.tally, &hold.limit, now)).collect()
    }
}

impl Hold {
    fn raise(&self, more: u64, now: Duration) {
        let window = self.tally.shape.window_at(self.tally.time(now));
        self.tally.add(window.max(self.window), more);
        self.tally.asked.fetch_add(more, SeqCst);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for hold in self.holds.iter().filter(|hold| hold.limit.of == Counted::Concurrent) {
            hold.tally.give_back(hold.window, hold.taken);
        }
        if let Some(account) = &self.account {
            account.open.fetch_sub(1, SeqCst);
        }
    }
}
