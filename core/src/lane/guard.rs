//! The guard of a lane: whether its requests fail more often, or take longer, than those that baseline serves at the same
//! services. [`Windows`] keeps what proxies report; [`judge`] says what it means.

mod windows;

use std::{fmt, time::Duration};

pub use self::windows::{ROWS_MAX, Windows};
use crate::resources::lane::Guard;

/// Upper bounds of the histograms of latency, microseconds; one more bucket takes what is longer.
pub const LATENCY_BOUNDS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

/// Requests, failures and latency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// Requests by time until they ended, see [`LATENCY_BOUNDS`].
    pub latency: [u64; LATENCY_BOUNDS.len() + 1],
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Tally) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        for (mine, more) in self.latency.iter_mut().zip(other.latency) {
            *mine = mine.saturating_add(more);
        }
    }

    /// What came since `before`, of counters that only grow.
    #[must_use]
    pub fn since(&self, before: &Tally) -> Tally {
        let mut grown = Tally {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            latency: self.latency,
        };
        for (mine, less) in grown.latency.iter_mut().zip(before.latency) {
            *mine = mine.saturating_sub(less);
        }
        grown
    }

    /// Share of failed requests, 0 where there are none.
    pub fn error_ratio(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }

    /// 99th percentile of latency, straight between the bounds of its bucket; `None` without requests.
    pub fn percentile_99(&self) -> Option<Duration> {
        let total: u64 = self.latency.iter().sum();
        let wanted = total as f64 * 0.99;
        let mut below = 0_u64;
        let mut lower = 0_u64;
        for (at, count) in self.latency.iter().enumerate() {
            let upper = LATENCY_BOUNDS.get(at).copied().unwrap_or(lower);
            if *count > 0 && (below + count) as f64 >= wanted {
                let share = (wanted - below as f64) / *count as f64;
                let micros = lower as f64 + (upper - lower) as f64 * share;
                return Some(Duration::from_micros(micros as u64));
            }
            below += count;
            lower = upper;
        }
        None
    }
}

/// What a guard says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Too few requests to say anything.
    TooFew {
        /// Requests of the lane.
        requests: u64,
        /// Requests that are needed.
        needed: u64,
    },
    /// Within the limits.
    Well,
    /// Too many requests failed.
    Errors {
        /// Share of the lane's requests that failed.
        lane: f64,
        /// Share of baseline's requests that failed.
        baseline: f64,
        /// Greatest difference that is allowed.
        allowed: f64,
    },
    /// Requests took too long.
    Latency {
        /// 99th percentile of the lane.
        lane: Duration,
        /// 99th percentile of baseline.
        baseline: Duration,
        /// Greatest multiple that is allowed.
        factor: f64,
    },
}

impl Verdict {
    /// Whether the lane is to be drained.
    pub fn is_breach(&self) -> bool {
        match self {
            Verdict::TooFew { .. } | Verdict::Well => false,
            Verdict::Errors { .. } | Verdict::Latency { .. } => true,
        }
    }

    /// Label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Verdict::TooFew { .. } => "too_few",
            Verdict::Well => "well",
            Verdict::Errors { .. } => "errors",
            Verdict::Latency { .. } => "latency",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1_000.0;
        match self {
            Verdict::TooFew { requests, needed } => write!(f, "{requests} of {needed} requests needed to judge"),
            Verdict::Well => f.write_str("within its limits"),
            Verdict::Errors { lane, baseline, allowed } => write!(
                f,
                "{:.2} % of its requests failed, {:.2} % of baseline's; allowed are {:.2} % more",
                lane * 100.0,
                baseline * 100.0,
                allowed * 100.0
            ),
            Verdict::Latency { lane, baseline, factor } => write!(
                f,
                "its 99th percentile is {:.1} ms, baseline's {:.1} ms; allowed is {factor} times as much",
                milliseconds(lane),
                milliseconds(baseline)
            ),
        }
    }
}

/// Judges a lane against baseline, both over the guard's window. Where baseline had too few requests for a percentile,
/// latency is not judged; its failures then count as none.
pub fn judge(guard: &Guard, lane: &Tally, baseline: &Tally) -> Verdict {
    if lane.requests < guard.min_requests {
        return Verdict::TooFew { requests: lane.requests, needed: guard.min_requests };
    }
    if let Some(allowed) = guard.max_error_ratio {
        let (lane, baseline) = (lane.error_ratio(), baseline.error_ratio());
        if lane - baseline > allowed {
            return Verdict::Errors { lane, baseline, allowed };
        }
    }
    let enough = baseline.requests >= guard.min_requests;
    if let (Some(factor), true) = (guard.max_latency_factor, enough)
        && let (Some(lane), Some(baseline)) = (lane.percentile_99(), baseline.percentile_99())
        && lane.as_secs_f64() > factor * baseline.as_secs_f64()
    {
        return Verdict::Latency { lane, baseline, factor };
    }
    Verdict::Well
}

#[cfg(test)]
mod tests;
