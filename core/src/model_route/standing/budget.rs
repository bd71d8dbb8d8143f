//! How many further attempts requests earn: without a bound, a provider in trouble gets several times its load.

use std::time::Duration;

/// Length of the window.
const WINDOW: Duration = Duration::from_secs(10);
/// Further attempts in a window that need no requests.
const ALWAYS: u32 = 10;

/// Requests and further attempts of the current window and the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    begun: Duration,
    requests: [u32; 2],
    repeats: [u32; 2],
}

impl Budget {
    pub(super) fn requested(&mut self, now: Duration) {
        self.turn(now);
        self.requests[0] = self.requests[0].saturating_add(1);
    }

    pub(super) fn repeat(&mut self, percent: u32, now: Duration) -> bool {
        self.turn(now);
        let earned = |counts: [u32; 2]| u64::from(counts[0]) + u64::from(counts[1]);
        let allowed = (earned(self.requests) * u64::from(percent) / 100).max(u64::from(ALWAYS));
        let within = earned(self.repeats) < allowed;
        if within {
            self.repeats[0] = self.repeats[0].saturating_add(1);
        }
        within
    }

    fn turn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.begun);
        if passed < WINDOW {
            return;
        }
        let before = if passed < WINDOW * 2 { (self.requests[0], self.repeats[0]) } else { (0, 0) };
        (self.requests, self.repeats) = ([0, before.0], [0, before.1]);
        self.begun = now;
    }
}
