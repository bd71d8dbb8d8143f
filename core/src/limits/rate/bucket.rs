//! A token bucket in one number, for all workers: the moment at which it will be full again. Whoever takes a token moves
//! that moment on by the time in which one comes back; what would move it further ahead than the bucket is deep is not to
//! be had.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

/// Parts of a nanosecond in which moments are told apart, so that great rates are kept exactly enough. Moments since 1970
/// fit until the year 2116.
const PARTS: u64 = 4;

/// How fast a bucket fills, and how deep it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// In which one token comes, parts of a nanosecond; at least 1.
    token: u64,
    /// In which an empty one fills, parts of a nanosecond.
    depth: u64,
}

impl Pace {
    /// So many in that time, and `burst` at once.
    pub(super) fn new(requests: u64, per: Duration, burst: u64) -> Pace {
        let requests = u128::from(requests.max(1));
        let whole = per.as_nanos() * u128::from(PARTS);
        let token = u64::try_from((whole + requests / 2) / requests).unwrap_or(u64::MAX).max(1);
        Pace { token, depth: token.saturating_mul(burst.max(1)) }
    }
}

/// A bucket; a new one is full.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// When it is full again, parts of nanoseconds since 1970.
    full: AtomicU64,
}

fn parts(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_mul(PARTS)
}

fn time(parts: u64) -> Duration {
    Duration::from_nanos(parts / PARTS)
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub(super) fn take(&self, pace: &Pace, now: Duration) -> Result<(), Duration> {
        let now = parts(now);
        let mut full = self.full.load(SeqCst);
        loop {
            // What was taken when it was deeper, or slower, is no debt.
            let from = full.clamp(now, now.saturating_add(pace.depth));
            let after = from.saturating_add(pace.token);
            let ahead = after - now;
            if ahead > pace.depth {
                if from != full {
                    // Whoever was faster has put it right, or taken what there was.
                    let _ = self.full.compare_exchange(full, from, SeqCst, SeqCst);
                }
                return Err(time(ahead - pace.depth));
            }
            match self.full.compare_exchange_weak(full, after, SeqCst, SeqCst) {
                Ok(_) => return Ok(()),
                Err(other) => full = other,
            }
        }
    }

    /// Puts a token back.
    pub(super) fn give_back(&self, pace: &Pace) {
        // Always some value, so there is no failure.
        let _ = self.full.fetch_update(SeqCst, SeqCst, |full| Some(full.saturating_sub(pace.token)));
    }

    /// Tokens in it.
    pub(super) fn left(&self, pace: &Pace, now: Duration) -> u64 {
        let ahead = self.full.load(SeqCst).saturating_sub(parts(now)).min(pace.depth);
        (pace.depth - ahead) / pace.token
    }

    /// Until it is full.
    pub(super) fn reset(&self, pace: &Pace, now: Duration) -> Duration {
        time(self.full.load(SeqCst).saturating_sub(parts(now)).min(pace.depth))
    }

    /// When it is full again, nanoseconds since 1970.
    pub(super) fn full_at(&self) -> u64 {
        self.full.load(SeqCst) / PARTS
    }
}

#[cfg(test)]
mod tests;
