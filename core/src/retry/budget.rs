//! How many repeats a proxy may make to a service: a share of its requests, and a few in each second anyway.
//!
//! Requests only count; what they earn is worked out when somebody asks, or now and then ([`Budget::settle`]). A service
//! that nobody asks about costs one addition per request.

use std::time::Duration;

use crate::model::policy::RetryBudget;

/// What requests earned fades within about this time: after a quiet hour its requests pay for no storm.
const EARNED_LASTS: Duration = Duration::from_secs(10);
/// What is paid with at least: a repeat that was there when [`Budget::has`] looked, of which a little has faded until it is
/// taken.
const NEARLY_ONE: f64 = 0.99;
/// Repeats of the minimum that may be made at once: those of this time, one at least.
const MINIMUM_LASTS: Duration = Duration::from_secs(1);

/// A budget, or the part of it that one of several workers has.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    policy: RetryBudget,
    /// Repeats that requests earned.
    earned: f64,
    /// Repeats of the minimum that are left.
    minimum: f64,
    /// Requests whose earnings are not worked out yet.
    requests: u64,
    settled: Duration,
    /// Workers that share the minimum.
    workers: u32,
}

impl Budget {
    /// A budget of which nothing was used, of one of so many workers.
    pub fn new(policy: RetryBudget, workers: u32, now: Duration) -> Self {
        let mut budget =
            Budget { policy, earned: 0.0, minimum: 0.0, requests: 0, settled: now, workers: workers.max(1) };
        budget.minimum = budget.minimum_at_once();
        budget
    }

    /// A request, which earns its share of a repeat.
    pub fn note(&mut self) {
        self.requests += 1;
    }

    /// Whether a repeat can be paid for now, by the policy in force.
    pub fn has(&mut self, policy: RetryBudget, now: Duration) -> bool {
        self.policy = policy;
        self.settle(now);
        self.minimum >= 1.0 || self.earned >= 1.0
    }

    /// Pays for a repeat; false where it cannot. Whoever just heard that it can is not refused: the answer that it held back
    /// for the repeat would be lost.
    pub fn take(&mut self, policy: RetryBudget, now: Duration) -> bool {
        if self.has(policy, now) || self.earned >= NEARLY_ONE {
            // The minimum first: it comes back by itself.
            let from = if self.minimum >= 1.0 { &mut self.minimum } else { &mut self.earned };
            *from -= 1.0;
            return true;
        }
        false
    }

    /// Works out what is left at `now`. To be called every second or so while there are requests.
    pub fn settle(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.settled).as_secs_f64();
        self.settled = self.settled.max(now);
        let kept = (-passed / EARNED_LASTS.as_secs_f64()).exp();
        let share = f64::from(self.policy.percent) / 100.0;
        self.earned = self.earned * kept + self.requests as f64 * share;
        self.requests = 0;
        self.minimum = (self.minimum + self.per_second() * passed).min(self.minimum_at_once());
    }

    /// Whether forgetting it changes nothing: nobody earned anything lately, and nothing of the minimum is used.
    pub fn is_blank(&self) -> bool {
        const NEARLY_NOTHING: f64 = 0.01;
        self.requests == 0 && self.earned < NEARLY_NOTHING && self.minimum >= self.minimum_at_once()
    }

    fn per_second(&self) -> f64 {
        f64::from(self.policy.min_per_second) / f64::from(self.workers)
    }

    fn minimum_at_once(&self) -> f64 {
        match self.policy.min_per_second {
            0 => 0.0,
            _ => (self.per_second() * MINIMUM_LASTS.as_secs_f64()).max(1.0),
        }
    }
}
