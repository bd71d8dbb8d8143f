//! How long to wait before something is tried again: doubling, bounded, with jitter, so that a thousand proxies do not
//! come back at the same moment.

use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(20);

/// Wait after `failures` failures in a row (at least 1). `draw` is uniform in 0 to 1; the result lies between half of
/// the doubled time and the whole of it.
pub fn wait(failures: u32, draw: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    doubled.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_exceed_it() {
        assert_eq!(wait(1, 1.0), FIRST);
        assert_eq!(wait(1, 0.0), FIRST / 2);
        assert_eq!(wait(2, 1.0), FIRST * 2);
        assert_eq!(wait(u32::MAX, 1.0), LONGEST);
    }
}
