//! What the control thread counts about itself. Written and read by any thread; none of it is on the data path.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of the control thread.
#[derive(Debug, Default)]
pub struct ControlCounters {
    /// Certificates obtained.
    pub certificates: AtomicU64,
    /// Attempts to obtain one that failed.
    pub certificate_failures: AtomicU64,
    /// Snapshots handed to the workers.
    pub snapshots: AtomicU64,
    /// Revisions of the controller that were applied.
    pub acknowledged: AtomicU64,
    /// Revisions of the controller that were refused.
    pub refused: AtomicU64,
    /// Streams of the controller that broke and were opened again.
    pub stream_failures: AtomicU64,
    /// Subscriptions open now.
    pub subscriptions: AtomicU64,
    /// Questions of workers that were answered `unknown` because of a bound.
    pub subscriptions_refused: AtomicU64,
    /// Writes into the state directory.
    pub state_written: AtomicU64,
    /// Writes into the state directory that failed.
    pub state_failures: AtomicU64,
    /// Files of the state directory that were refused at the start.
    pub state_refused: AtomicU64,
    /// Unix seconds of the last snapshot written to disk, 0 = none.
    pub snapshot_written: AtomicU64,
    /// Lines that the access log dropped because nobody read fast enough.
    pub log_lines_dropped: AtomicU64,
    /// Spans that the collector took.
    pub spans_exported: AtomicU64,
    /// Spans that it did not take, or that found the queue full.
    pub spans_dropped: AtomicU64,
    /// How often the proxy became ready.
    pub became_ready: AtomicU64,
    /// 1 once it was ordered to drain.
    pub began_draining: AtomicU64,
    /// 1 once nothing comes in any more.
    pub drained: AtomicU64,
}

impl ControlCounters {
    /// Counts one.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Counts several.
    pub fn add_many(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    /// Current value.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }

    /// Sets a gauge.
    pub fn set(gauge: &AtomicU64, value: u64) {
        gauge.store(value, Relaxed);
    }
}
