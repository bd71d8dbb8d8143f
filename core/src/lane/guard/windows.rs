//! What proxies report of levels, kept for as long as the longest window that anybody asks about.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::Tally;
use crate::model::lane::LaneRef;

/// Levels of services that are kept; what is reported of more is left out.
pub const ROWS_MAX: usize = 4_096;
/// Parts into which the longest window is cut.
const SLOTS: u64 = 32;
/// Shortest window that is kept, so that rates can be shown.
const SPAN_MIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
struct Slot {
    start: u64,
    tally: Tally,
}

/// Slots of the levels of one service; `None` = baseline.
type Levels = BTreeMap<Option<LaneRef>, VecDeque<Slot>>;

/// Tallies by service and level, in slots of time. Moments are Unix milliseconds.
#[derive(Clone, Debug)]
pub struct Windows {
    span: u64,
    services: BTreeMap<String, Levels>,
    rows: usize,
}

impl Default for Windows {
    fn default() -> Self {
        Windows { span: milliseconds(SPAN_MIN), services: BTreeMap::new(), rows: 0 }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Windows {
    /// Keeps as much as the longest of these windows needs.
    pub fn keep(&mut self, windows: impl IntoIterator<Item = Duration>) {
        let longest = windows.into_iter().max().unwrap_or_default().max(SPAN_MIN);
        self.span = milliseconds(longest);
    }

    /// Takes in what a proxy reported. False where there is no place for one more level.
    pub fn note(&mut self, service: &str, level: Option<&LaneRef>, tally: &Tally, now: u64) -> bool {
        let known = self.services.get(service).is_some_and(|levels| levels.contains_key(&level.cloned()));
        if !known && self.rows >= ROWS_MAX {
            return false;
        }
        self.rows += usize::from(!known);
        let slots = self.services.entry(service.to_owned()).or_default().entry(level.cloned()).or_default();
        let length = (self.span / SLOTS).max(1);
        match slots.back_mut().filter(|slot| now < slot.start.saturating_add(length)) {
            Some(slot) => slot.tally.add(tally),
            None => slots.push_back(Slot { start: now, tally: tally.clone() }),
        }
        true
    }

    /// Forgets what is older than every window.
    pub fn forget(&mut self, now: u64) {
        let oldest = now.saturating_sub(self.span.saturating_mul(2));
        for levels in self.services.values_mut() {
            levels.retain(|_, slots| {
                slots.retain(|slot| slot.start >= oldest);
                !slots.is_empty()
            });
        }
        self.services.retain(|_, levels| !levels.is_empty());
        self.rows = self.services.values().map(BTreeMap::len).sum();
    }

    /// Tallies of a lane and of baseline at the services where the lane served, of slots that began at `from` or later.
    pub fn compare(&self, lane: &LaneRef, from: u64) -> (Tally, Tally) {
        let wanted = Some(lane.clone());
        let (mut own, mut baseline) = (Tally::default(), Tally::default());
        for levels in self.services.values() {
            let served = levels.get(&wanted).map(|slots| sum(slots, from)).filter(|tally| tally.requests > 0);
            if let Some(served) = served {
                own.add(&served);
                baseline.add(&levels.get(&None).map(|slots| sum(slots, from)).unwrap_or_default());
            }
        }
        (own, baseline)
    }

    /// Levels of services that are kept.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

fn sum(slots: &VecDeque<Slot>, from: u64) -> Tally {
    let mut total = Tally::default();
    slots.iter().filter(|slot| slot.start >= from).for_each(|slot| total.add(&slot.tally));
    total
}
