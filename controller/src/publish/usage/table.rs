//! Sums of what was used, in all and by time. Pure: the clock is passed in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mesh_core::model_route::usage::{Used, UsedOf};

use super::{
    Reading,
    windows::{Key, Ring},
};

/// Rows that are kept at most; what is used beyond them counts in one row `other`.
pub(super) const ROWS_MAX: usize = 20_000;
/// What stands in every name of that row.
const OTHER: &str = "other";
/// Seconds of a fine slot, and how many there are: three hours by minutes.
const FINE: (u64, u64) = (60, 180);
/// Seconds of a coarse slot, and how many there are: 31 days by hours.
const COARSE: (u64, u64) = (3_600, 744);

/// What was used.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) since: u64,
    pub(super) rows: BTreeMap<Key, Used>,
    pub(super) fine: Ring,
    pub(super) coarse: Ring,
    /// When rows were last swept out, by coarse slot.
    swept: Option<u64>,
    is_changed: bool,
}

impl Table {
    /// Nothing is used yet.
    pub(super) fn new(now: u64) -> Self {
        Table {
            since: now,
            rows: BTreeMap::new(),
            fine: Ring::new(FINE.0, FINE.1, now),
            coarse: Ring::new(COARSE.0, COARSE.1, now),
            swept: None,
            is_changed: false,
        }
    }

    /// Adds what a caller used.
    pub(super) fn add(&mut self, now: u64, caller: &str, of: UsedOf, used: &Used) {
        let key = self.key(now, Arc::new((caller.to_owned(), of)));
        self.rows.entry(Arc::clone(&key)).or_default().add(used);
        self.fine.add(now, &key, used);
        self.coarse.add(now, &key, used);
        self.is_changed = true;
    }

    /// The row that counts it: its own, while there is room. One that is known shares its names with all slots.
    fn key(&mut self, now: u64, key: Key) -> Key {
        if let Some((known, _)) = self.rows.get_key_value(&key) {
            return Arc::clone(known);
        }
        if self.rows.len() + 1 >= ROWS_MAX {
            self.sweep(now);
        }
        if self.rows.len() + 1 < ROWS_MAX { key } else { other() }
    }

    /// What nobody used for as long as windows reach makes room; its sums go on in the row `other`.
    fn sweep(&mut self, now: u64) {
        let slot = Some(now / COARSE.0);
        if self.swept == slot {
            return;
        }
        self.swept = slot;
        self.fine.shorten(now);
        self.coarse.shorten(now);
        let used: BTreeSet<&Key> =
            self.coarse.slots().chain(self.fine.slots()).flat_map(|slot| slot.used.keys()).collect();
        let mut gone = Used::default();
        self.rows.retain(|key, sum| {
            let stays = used.contains(key) || key.0 == OTHER;
            if !stays {
                gone.add(sum);
            }
            stays
        });
        if gone != Used::default() {
            self.rows.entry(other()).or_default().add(&gone);
        }
    }

    /// Everything.
    pub(super) fn all(&self) -> Reading {
        reading(self.since, &self.rows)
    }

    /// What was used within the last `length`: by minutes as far as these reach, by hours beyond.
    pub(super) fn within(&self, now: u64, length: Duration) -> Reading {
        let from = now.saturating_sub(length.as_secs());
        let (fine, coarse) = (self.fine.reach(from), self.coarse.reach(from));
        // Minutes that begin later than the hours do leave something out.
        let (ring, since) = if fine <= from.max(coarse) { (&self.fine, fine) } else { (&self.coarse, coarse) };
        reading(since, &ring.used(since))
    }

    /// A copy to be kept, if it changed since the last call.
    pub(super) fn take_changes(&mut self) -> Option<Table> {
        std::mem::take(&mut self.is_changed).then(|| self.clone())
    }
}

fn reading(since: u64, rows: &BTreeMap<Key, Used>) -> Reading {
    let row = |(key, used): (&Key, &Used)| (key.0.clone(), key.1.clone(), *used);
    Reading { since, rows: rows.iter().map(row).collect() }
}

fn other() -> Key {
    let name = || OTHER.to_owned();
    let of = UsedOf { route: name(), model: name(), target: name(), target_model: name(), lane: String::new() };
    Arc::new((name(), of))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const ONE: Used = Used { served: 1, failed: 0, input: 10, output: 5, cached: 0, estimated: 0, money: 2 };

    fn of(model: &str) -> UsedOf {
        let text = |text: &str| text.to_owned();
        UsedOf {
            route: text("chat.ai"),
            model: text(model),
            target: text("a"),
            target_model: text("m"),
            lane: text(""),
        }
    }

    fn served(reading: &Reading) -> (u64, u64) {
        (reading.since, reading.rows.iter().map(|(_, _, used)| used.served).sum())
    }

    #[test]
    fn table_is_bounded_and_loses_no_token() {
        let mut table = Table::new(0);
        for number in 0..ROWS_MAX + 1_000 {
            table.add(1, "a", of(&number.to_string()), &ONE);
        }
        let all = table.all().rows;
        assert_eq!(all.len(), ROWS_MAX);
        assert_eq!(all.iter().map(|(_, _, used)| used.input).sum::<u64>(), 10 * (ROWS_MAX as u64 + 1_000));
        let (_, _, beyond) = all.iter().find(|(caller, _, _)| caller == OTHER).unwrap();
        assert_eq!(beyond.served, 1_001);
    }

    #[test]
    fn rows_that_no_window_reaches_make_room_and_their_sums_stay() {
        let mut table = Table::new(0);
        for number in 0..ROWS_MAX - 1 {
            table.add(1, "a", of(&number.to_string()), &ONE);
        }
        table.add(40 * DAY, "a", of("new"), &ONE);
        table.add(40 * DAY, "a", of("newer"), &ONE);
        let all = table.all().rows;
        let served: Vec<(&str, u64)> = all.iter().map(|(_, of, used)| (of.model.as_str(), used.served)).collect();
        assert_eq!(served, [("new", 1), ("newer", 1), (OTHER, ROWS_MAX as u64 - 1)]);
    }

    #[test]
    fn windows_are_told_by_minutes_for_hours_and_by_hours_for_days() {
        let mut table = Table::new(0);
        let now = 2 * DAY;
        for before in [DAY, 4 * 3_600, 3_000, 30, 0] {
            table.add(now - before, "a", of("chat"), &ONE);
        }
        let within = |seconds| served(&table.within(now + 1, Duration::from_secs(seconds)));
        assert_eq!(within(90), (now - 120, 2));
        assert_eq!(within(3_600), (now - 3_600, 3));
        assert_eq!(within(5 * 3_600), (now - 5 * 3_600, 4));
        assert_eq!(within(40 * DAY), (0, 5), "as far back as it counts");
        assert_eq!(served(&table.all()), (0, 5));
    }
}
