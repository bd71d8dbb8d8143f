//! Waiting for what a test wants to see: always with a deadline, and never for time to pass.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// How long a process may take to become ready, or a change to arrive, on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until `look` returns something.
///
/// # Panics
/// When `limit` passes first; the message names `what`.
pub async fn until<T, F, L>(what: &str, limit: Duration, mut look: L) -> T
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Ok(Some(found)) = tokio::time::timeout(left, look()).await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not seen within {limit:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`until`], for a condition.
///
/// # Panics
/// When `limit` passes first.
pub async fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    until(what, limit, || std::future::ready(condition().then_some(()))).await;
}

/// Awaits `future`.
///
/// # Panics
/// When `limit` passes first; the message names `what`.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not done within {limit:?}"),
    }
}

/// Whether `condition` stays true for `length`: for what must not happen. Looks all the time, so it fails at once.
///
/// # Panics
/// When the condition is false at any look; the message names `what`.
pub async fn stays_true(what: &str, length: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + length;
    while Instant::now() < end {
        assert!(condition(), "{what}: no longer true");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Pauses between two rounds of a load whose rate matters.
pub async fn pace(interval: Duration) {
    tokio::time::sleep(interval).await;
}
