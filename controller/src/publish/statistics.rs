//! What proxies report of lanes, and what the guards make of it: the tables behind `mesh-ctl lane list`. Each replica sees
//! the proxies that are connected to it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh_core::{
    lane::guard::{Tally, Verdict, Windows},
    model::lane::LaneRef,
};
use mesh_proto::{
    convert::statistics::{LEVELS_MAX, Level},
    mesh::v1::LaneStatistics,
};

/// Time over which rates are shown.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);

/// Reports of levels, and verdicts of guards.
#[derive(Debug, Default)]
pub struct Statistics {
    windows: Mutex<Windows>,
    verdicts: Mutex<BTreeMap<LaneRef, Verdict>>,
}

impl Statistics {
    /// Takes in a report at `now` (Unix milliseconds). What cannot be read is left out.
    pub fn note(&self, report: &LaneStatistics, now: u64) {
        let mut windows = self.windows();
        for level in report.levels.iter().take(LEVELS_MAX).filter_map(|level| Level::from_wire(level).ok()) {
            windows.note(&level.service, level.lane.as_ref(), &level.tally, now);
        }
    }

    /// Keeps as much as these windows need, and forgets what is older.
    pub fn keep(&self, windows: impl IntoIterator<Item = Duration>, now: u64) {
        let mut kept = self.windows();
        kept.keep(windows);
        kept.forget(now);
    }

    /// Tallies of a lane and of baseline where it served, of what was reported since `from` (Unix milliseconds).
    pub fn compare(&self, lane: &LaneRef, from: u64) -> (Tally, Tally) {
        self.windows().compare(lane, from)
    }

    /// Replaces the verdicts of all guards.
    pub fn judged(&self, verdicts: BTreeMap<LaneRef, Verdict>) {
        *self.verdicts.lock().unwrap_or_else(PoisonError::into_inner) = verdicts;
    }

    /// What the guard of a lane said last.
    pub fn verdict(&self, lane: &LaneRef) -> Option<Verdict> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(lane).cloned()
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
