//! Wire messages ↔ model, both ways. Reading is total: whatever a peer sends becomes a value or an [`Invalid`] that
//! names the field, and what the Linkerd API requires is required here too, so that [`validate`] finds before sending
//! what a stock proxy would refuse.

pub mod endpoint;
mod entry;
mod health;
pub mod inbound;
mod lanes;
pub mod lifecycle;
pub mod metadata;
mod models;
pub mod outbound;
pub mod policy;
mod rate_limits;
pub mod routes;
#[cfg(test)]
mod samples;
pub mod shared_health;
pub mod statistics;
pub mod target;
mod traffic;
pub mod transport;
pub mod unusable;
pub mod usage;
pub mod validate;
mod zones;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// A message that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Invalid {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field, as the `.proto` file calls it.
        field: &'static str,
    },
    /// A field holds something it may not hold.
    #[error("{field}: {reason}")]
    Value {
        /// The field, as the `.proto` file calls it.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A field asks for something that Lanemesh does not do.
    #[error("{field}: {what} is not supported")]
    Unsupported {
        /// The field, as the `.proto` file calls it.
        field: &'static str,
        /// What it asks for.
        what: &'static str,
    },
}

impl Invalid {
    fn value(field: &'static str, reason: impl ToString) -> Self {
        Invalid::Value { field, reason: reason.to_string() }
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or(Invalid::Missing { field })
}

/// Longest duration that is read, seconds: ten years. More is an error of the sender, and less than what any clock
/// arithmetic here could overflow with.
const LONGEST_DURATION: i64 = 10 * 366 * 24 * 3_600;

fn duration(field: &'static str, wire: prost_types::Duration) -> Result<Duration, Invalid> {
    let read = Duration::try_from(wire).map_err(|error| Invalid::value(field, error))?;
    if wire.seconds > LONGEST_DURATION {
        return Err(Invalid::value(field, "longer than ten years"));
    }
    Ok(read)
}

fn optional_duration(field: &'static str, wire: Option<prost_types::Duration>) -> Result<Option<Duration>, Invalid> {
    wire.map(|wire| duration(field, wire)).transpose()
}

fn wire_duration(length: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX).min(LONGEST_DURATION);
    let nanos = i32::try_from(length.subsec_nanos()).unwrap_or(0);
    prost_types::Duration { seconds, nanos }
}

/// Time of a wire timestamp.
///
/// # Errors
/// When it lies before 1970 or has no form of a time.
pub fn time(field: &'static str, wire: prost_types::Timestamp) -> Result<SystemTime, Invalid> {
    let seconds = u64::try_from(wire.seconds).map_err(|_| Invalid::value(field, "before 1970"))?;
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let nanos = nanos.ok_or_else(|| Invalid::value(field, "nanoseconds out of range"))?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).ok_or_else(|| Invalid::value(field, "too far in the future"))
}

/// Wire timestamp of a time; times before 1970 become 1970.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0) }
}
