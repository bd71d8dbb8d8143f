//! Usage by slots of time: a ring of slots of one length, bounded in slots and in rows. What does not fit any more goes with
//! the oldest slot, never with the newest.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use mesh_core::model_route::usage::{Used, UsedOf};

/// Who used what: the caller, and of what.
pub(super) type Key = Arc<(String, UsedOf)>;

/// Rows of all slots of a ring; some 20 MiB.
const ROWS_MAX: usize = 200_000;

/// What was used in one slot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    /// When it begins, seconds since 1970; a multiple of its ring's length.
    pub(super) from: u64,
    /// Rows.
    pub(super) used: BTreeMap<Key, Used>,
}

/// Slots in the order of time; those in which nothing was used are not there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ring {
    length: u64,
    slots_max: u64,
    rows_max: usize,
    rows: usize,
    complete_from: u64,
    slots: VecDeque<Slot>,
}

impl Ring {
    /// As many slots of `length` seconds; what was used is known from `now` on.
    pub(super) fn new(length: u64, slots_max: u64, now: u64) -> Ring {
        Ring::with_rows(length, slots_max, now, ROWS_MAX)
    }

    fn with_rows(length: u64, slots_max: u64, now: u64, rows_max: usize) -> Ring {
        Ring { length, slots_max, rows_max, rows: 0, complete_from: now, slots: VecDeque::new() }
    }

    /// Takes in what was kept; slots that do not follow one another are left out.
    pub(super) fn restore(&mut self, complete_from: u64, slots: Vec<Slot>, now: u64) {
        self.complete_from = complete_from.min(now);
        for slot in slots {
            let follows = self.slots.back().is_none_or(|last| slot.from > last.from);
            if follows && slot.from <= now && slot.from.is_multiple_of(self.length) {
                self.rows += slot.used.len();
                self.slots.push_back(slot);
            }
        }
        self.shorten(now);
    }

    /// Adds what was used now. A clock that was put back counts in the newest slot until it has come up again.
    pub(super) fn add(&mut self, now: u64, key: &Key, used: &Used) {
        let from = now - now % self.length;
        if self.slots.back().is_none_or(|slot| slot.from < from) {
            self.slots.push_back(Slot { from, used: BTreeMap::new() });
        }
        if let Some(slot) = self.slots.back_mut() {
            let before = slot.used.len();
            slot.used.entry(Arc::clone(key)).or_default().add(used);
            self.rows += slot.used.len() - before;
        }
        self.shorten(now);
    }

    /// Lets go what is too old or too much.
    pub(super) fn shorten(&mut self, now: u64) {
        let reach = now.saturating_sub(self.length * self.slots_max);
        while let Some(first) = self.slots.front()
            && (first.from + self.length <= reach || (self.rows > self.rows_max && self.slots.len() > 1))
        {
            self.complete_from = self.complete_from.max(first.from + self.length);
            self.rows -= first.used.len();
            self.slots.pop_front();
        }
        self.complete_from = self.complete_from.max(reach);
    }

    /// From when on it can tell what was used, if asked for everything from `from` on.
    pub(super) fn reach(&self, from: u64) -> u64 {
        (from - from % self.length).max(self.complete_from)
    }

    /// What was used from `since` on, where that is one of [`Ring::reach`].
    pub(super) fn used(&self, since: u64) -> BTreeMap<Key, Used> {
        let mut sums: BTreeMap<Key, Used> = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| slot.from + self.length > since) {
            for (key, used) in &slot.used {
                sums.entry(Arc::clone(key)).or_default().add(used);
            }
        }
        sums
    }

    /// From when on everything is known.
    pub(super) fn complete_from(&self) -> u64 {
        self.complete_from
    }

    /// Every slot.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(caller: &str) -> Key {
        let none = String::new;
        let of = UsedOf { route: none(), model: none(), target: none(), target_model: none(), lane: none() };
        Arc::new((caller.to_owned(), of))
    }

    const ONE: Used = Used { served: 1, failed: 0, input: 10, output: 5, cached: 0, estimated: 0, money: 2 };

    fn served(ring: &Ring, from: u64) -> (u64, u64) {
        let since = ring.reach(from);
        (since, ring.used(since).values().map(|used| used.served).sum())
    }

    #[test]
    fn window_is_what_came_since_the_begin_of_its_slot() {
        let mut ring = Ring::new(60, 180, 1_000);
        for now in [1_000, 1_019, 1_020, 1_100, 1_300] {
            ring.add(now, &key("a"), &ONE);
        }
        assert_eq!(served(&ring, 0), (1_000, 5), "nothing is known of the time before");
        assert_eq!(served(&ring, 1_030), (1_020, 3));
        assert_eq!(served(&ring, 1_260), (1_260, 1));
        assert_eq!(served(&ring, 1_350), (1_320, 0));
    }

    #[test]
    fn old_slots_go_by_time_and_where_rows_are_too_many() {
        let mut ring = Ring::with_rows(60, 10, 0, 4);
        for now in [0, 60, 120] {
            ring.add(now, &key("a"), &ONE);
        }
        ring.add(660, &key("a"), &ONE);
        assert_eq!(served(&ring, 0), (60, 3), "ten slots and the one that is under way");
        for caller in ["a", "b", "c", "d", "e"] {
            ring.add(700, &key(caller), &ONE);
        }
        assert_eq!(served(&ring, 0), (180, 6), "the newest slot stays whole, however many rows it has");
    }

    #[test]
    fn clock_that_is_put_back_loses_nothing() {
        let mut ring = Ring::new(60, 180, 600);
        ring.add(6_000, &key("a"), &ONE);
        ring.add(5_000, &key("a"), &ONE);
        assert_eq!(served(&ring, 6_000).1, 2);
    }

    #[test]
    fn what_is_restored_is_only_what_fits() {
        let slot = |from| Slot { from, used: BTreeMap::from([(key("a"), ONE)]) };
        let mut ring = Ring::new(60, 10, 6_000);
        ring.restore(5_000, vec![slot(5_040), slot(5_940), slot(5_930), slot(5_940), slot(9_000), slot(6_000)], 6_010);
        assert_eq!(served(&ring, 0), (5_410, 2));
    }
}
