//! Success rates: how many of the latest calls of an instance succeeded, and who of a service succeeds clearly less often
//! than the others (Envoy's outlier detection by success rate). Pure: the time is passed in.

use std::time::Duration;

use super::Seen;
use crate::model::policy::SuccessRate;

/// Calls of one instance in the last [`SuccessRate::WINDOW`], counted in parts that are forgotten one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    parts: [Calls; SuccessRate::BUCKETS],
    /// Number of the newest part, from the start of time.
    newest: u64,
}

/// Calls, and how many of them succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All of them.
    pub made: u32,
    /// Those that succeeded.
    pub succeeded: u32,
}

impl Calls {
    /// Share that succeeded; 1 where none was made.
    pub fn rate(self) -> f64 {
        if self.made == 0 { 1.0 } else { f64::from(self.succeeded) / f64::from(self.made) }
    }
}

impl Window {
    /// Takes in what a call showed that ended at `now`.
    pub fn count(&mut self, now: Duration, seen: Seen) {
        let number = number(now);
        self.forget(number);
        // A time before the newest part's cannot come from one clock; it would count there.
        let part = &mut self.parts[place(self.newest.max(number))];
        part.made = part.made.saturating_add(1);
        let succeeded = match seen {
            Seen::Success => 1,
            Seen::ServerError | Seen::GatewayFailure | Seen::LocalOriginFailure => 0,
        };
        part.succeeded = part.succeeded.saturating_add(succeeded);
    }

    /// The calls of the window that ends at `now`.
    pub fn calls(&mut self, now: Duration) -> Calls {
        self.forget(number(now));
        self.parts.iter().fold(Calls::default(), |sum, part| Calls {
            made: sum.made.saturating_add(part.made),
            succeeded: sum.succeeded.saturating_add(part.succeeded),
        })
    }

    /// Clears the parts between the newest and this one.
    fn forget(&mut self, number: u64) {
        let passed = number.saturating_sub(self.newest).min(SuccessRate::BUCKETS as u64);
        for ago in 0..passed {
            self.parts[place(number - ago)] = Calls::default();
        }
        self.newest = self.newest.max(number);
    }
}

fn number(now: Duration) -> u64 {
    let length = SuccessRate::WINDOW.as_millis() / SuccessRate::BUCKETS as u128;
    u64::try_from(now.as_millis() / length.max(1)).unwrap_or(u64::MAX)
}

fn place(number: u64) -> usize {
    (number % SuccessRate::BUCKETS as u64) as usize
}

/// Who succeeds too seldom, and by what they were judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Mean of the rates.
    pub mean: f64,
    /// Who is below this is behind.
    pub threshold: f64,
    /// Indexes of those who are, the worst first.
    pub behind: Vec<usize>,
}

/// Rates that differ by less are the same: sums of fractions are not exact.
const SAME: f64 = 1e-9;

/// Judges instances by their calls. `None` where too few of them had calls enough: there is nobody to compare with.
pub fn judge(calls: &[Calls], policy: &SuccessRate) -> Option<Verdict> {
    let enough = |calls: &Calls| calls.made > 0 && calls.made >= policy.request_volume;
    let rates: Vec<(usize, f64)> =
        calls.iter().enumerate().filter(|(_, calls)| enough(calls)).map(|(at, calls)| (at, calls.rate())).collect();
    if rates.is_empty() || rates.len() < policy.minimum_hosts as usize {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean) * (rate - mean)).sum::<f64>() / count;
    let threshold = mean - variance.sqrt() * f64::from(policy.standard_deviation_factor) / 1_000.0;
    let mut behind: Vec<(usize, f64)> = rates.into_iter().filter(|(_, rate)| rate + SAME < threshold).collect();
    behind.sort_by(|one, other| one.1.total_cmp(&other.1));
    Some(Verdict { mean, threshold, behind: behind.into_iter().map(|(at, _)| at).collect() })
}

#[cfg(test)]
mod tests;
