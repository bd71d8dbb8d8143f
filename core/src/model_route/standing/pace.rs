//! How fast a target begins to answer, and the share of its weight that this leaves it: less by a factor with every slow
//! or failed answer, more by a step with every good one.

use std::time::Duration;

/// Least share: enough to notice that a target is fast again.
const SHARE_MIN: f64 = 0.05;
/// Factor of a slow answer.
const SLOW: f64 = 0.8;
/// Factor of a failure.
const FAILED: f64 = 0.5;
/// Step of a good answer.
const GOOD: f64 = 0.05;
/// Answers after which the 95th percentile means something.
const ENOUGH: u32 = 20;
/// Upper ends of the classes of times: powers of the square root of two, from 1 ms on.
const CLASSES: usize = 40;
/// Answers after which old ones count half.
const HALVED_AFTER: u32 = 1_000;

/// Pace of one target.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Share of its weight, [`SHARE_MIN`] to 1.
    pub(super) share: f64,
    /// Failures in a row.
    pub(super) failures: u32,
    counts: [u32; CLASSES],
    total: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { share: 1.0, failures: 0, counts: [0; CLASSES], total: 0 }
    }
}

impl Pace {
    /// An answer began after `took`; more than half of `limit` is slow.
    pub(super) fn served(&mut self, took: Duration, limit: Duration) {
        self.failures = 0;
        self.share = match took > limit / 2 {
            true => (self.share * SLOW).max(SHARE_MIN),
            false => (self.share + GOOD).min(1.0),
        };
        self.counts[class(took)] += 1;
        self.total += 1;
        if self.total >= HALVED_AFTER {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.share = (self.share * FAILED).max(SHARE_MIN);
    }

    pub(super) fn p95(&self) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let mut left = self.total - self.total / 20;
        let reached = self.counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        reached.map(upper)
    }
}

fn class(took: Duration) -> usize {
    (0..CLASSES - 1).find(|class| took <= upper(*class)).unwrap_or(CLASSES - 1)
}

fn upper(class: usize) -> Duration {
    Duration::from_secs_f64(0.001 * 2f64.powf(class as f64 / 2.0))
}
