//! When the next attempt to connect is made, and to which server.

use std::time::Duration;

/// Wait after every server failed once.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait: a server that is back is found soon enough for what was registered to be back in 10 s.
const LONGEST: Duration = Duration::from_secs(4);
/// A wait is this share of itself or more, by chance, so that controllers do not come all at once.
const SHORTEST_SHARE: f64 = 0.5;

/// Attempts since the last good connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    failed: u32,
}

impl Attempts {
    /// Another one failed.
    pub(super) fn failed(self) -> Self {
        Attempts { failed: self.failed.saturating_add(1) }
    }

    /// How long to wait before the next of `servers` is tried. Within a round none waits; after each round it is twice
    /// as long. `chance` is 0 to 1.
    pub(super) fn wait(self, servers: usize, chance: f64) -> Duration {
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        if !self.failed.is_multiple_of(servers) {
            return Duration::ZERO;
        }
        let Some(round) = (self.failed / servers).checked_sub(1) else { return Duration::ZERO };
        let longest = FIRST.saturating_mul(2_u32.saturating_pow(round)).min(LONGEST);
        longest.mul_f64(SHORTEST_SHARE + (1.0 - SHORTEST_SHARE) * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(servers: usize, attempts: usize, chance: f64) -> Vec<u128> {
        let mut now = Attempts::default();
        let mut found = Vec::new();
        for _ in 0..attempts {
            now = now.failed();
            found.push(now.wait(servers, chance).as_millis());
        }
        found
    }

    #[test]
    fn every_server_is_tried_before_the_first_wait() {
        assert_eq!(waits(3, 7, 1.0), [0, 0, 200, 0, 0, 400, 0]);
        assert_eq!(Attempts::default().wait(3, 1.0), Duration::ZERO);
    }

    #[test]
    fn waits_grow_to_a_bound_and_differ_by_chance() {
        assert_eq!(waits(1, 7, 1.0), [200, 400, 800, 1_600, 3_200, 4_000, 4_000]);
        assert_eq!(waits(1, 3, 0.0), [100, 200, 400]);
        assert_eq!(Attempts { failed: u32::MAX }.wait(1, 1.0), LONGEST);
        assert_eq!(Attempts { failed: u32::MAX }.wait(0, 7.0), LONGEST);
    }
}
