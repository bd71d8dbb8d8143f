//! The time of day: what ramps, ttl and draining of lanes are counted by.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds now; 0 before 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
