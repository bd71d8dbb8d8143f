//! How an instance that has just come takes its share.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instance's weight is multiplied by `max(floor, (t / duration) ^ curve)`, where t is the time since it is ready, or
/// since the caller sees it usable, whichever is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WarmUp {
    /// Time until the whole share; never zero. Default 120 s.
    pub duration: Duration,
    /// Exponent of the curve, hundredths: 100 is a straight line, more is slower at first. 100 to 1,000, default 200.
    pub curve: u32,
    /// Least share, percent of the whole; 1 to 100, default 2.
    pub floor: u32,
    /// An instance that was unhealthy, and is healthy again, warms up again. Default false.
    pub after_recovery: bool,
}

impl Default for WarmUp {
    fn default() -> Self {
        WarmUp { duration: Duration::from_secs(120), curve: 200, floor: 2, after_recovery: false }
    }
}
