//! Limits of calls to models and of requests to services, as the data path uses them: counted in one ledger for all
//! workers; who talks to the stores from which some are leased runs on the control thread, and no exchange waits for it.

mod follow;
mod redis;

#[cfg(all(test, feature = "redis-server"))]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    limits::{
        Ask, Exhausted, Key, Ledger, Quota, Rates, Reservation, Standing,
        rate::{Asked, PortRules, Refused},
    },
    model::model_route::{Limit, Usage},
};
use tokio::{sync::mpsc, time::Instant};

pub use self::follow::Follower;

/// Limits of this process.
#[derive(Debug)]
pub struct Limits {
    ledger: Ledger,
    started: Instant,
    started_at: Duration,
    thirst: mpsc::Sender<()>,
}

/// Tells that a lease is low.
#[derive(Debug)]
pub struct Thirst(mpsc::Receiver<()>);

impl Limits {
    /// Of a process that begins, and what its [`Follower`] wakes by.
    pub fn new() -> (Arc<Limits>, Thirst) {
        // One note is enough: who hears it looks at everything.
        let (thirst, thirsty) = mpsc::channel(1);
        let limits = Limits {
            ledger: Ledger::default(),
            started: Instant::now(),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            thirst,
        };
        (Arc::new(limits), Thirst(thirsty))
    }

    /// Time since 1970 by a clock that never goes back: the moments of all limits.
    pub fn now(&self) -> Duration {
        self.started_at + self.started.elapsed()
    }

    /// What is counted.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes what is asked from every limit of the quota, or from none. Never waits.
    ///
    /// # Errors
    /// When a limit that is enforced has too little left.
    pub fn reserve(self: &Arc<Self>, quota: &Quota<'_>, key: &Key, ask: &Ask) -> Result<Reserved, Exhausted> {
        let reserved = self.ledger.reserve(quota, key, ask, self.now());
        self.wake();
        reserved.map(|reservation| Reserved { reservation, limits: Arc::clone(self) })
    }

    /// Takes a request from every limit of its port that it meets, or from none. Never waits.
    ///
    /// # Errors
    /// The first limit that is used up and refuses.
    pub fn admit(&self, rules: &PortRules, asked: &Asked<'_>) -> Result<(), Box<Refused>> {
        let admitted = self.ledger.admit(rules, asked, self.now());
        self.wake();
        admitted
    }

    /// Wakes who talks to the stores, where a lease was found low.
    fn wake(&self) {
        if self.ledger.take_thirst() {
            // Full: somebody else said so already. Closed: the process ends.
            let _ = self.thirst.try_send(());
        }
    }
}

/// What an exchange holds of its limits. Dropped without a word (the exchange was cut off), what was reserved
/// counts as used, and it is no stream under way any more.
#[derive(Debug)]
pub struct Reserved {
    reservation: Reservation,
    limits: Arc<Limits>,
}

impl Reserved {
    /// Limits in shadow mode that would have refused.
    pub fn shadowed(&self) -> &[Limit] {
        self.reservation.shadowed()
    }

    /// Counts what was used instead of what was reserved.
    pub fn settle(self, usage: &Usage, rates: Option<&Rates>) {
        self.reservation.settle(usage, rates, self.limits.now());
    }

    /// As [`Reserved::settle`], of what cost so much in all, perhaps at several rates.
    pub fn settle_at(self, usage: &Usage, money: u64) {
        self.reservation.settle_at(usage, money, self.limits.now());
    }

    /// Gives everything back: no target was asked.
    pub fn cancel(self) {
        self.reservation.cancel();
    }

    /// How the limits stand now, for the fields of an answer.
    pub fn standings(&self) -> Vec<Standing> {
        self.reservation.standings(self.limits.now())
    }
}
