//! The table against a plain list that does the same slowly; and its size.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn label(lane: &str) -> Label {
    Label { group: None, lane: lane.parse().unwrap() }
}

fn id(number: u128) -> TraceId {
    TraceId::new(number).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const LINGER: Duration = Duration::from_secs(60);

fn table(capacity: usize) -> Correlation {
    Correlation::new(capacity, RandomState::new())
}

fn lane(meaning: Option<Meaning>) -> Option<(String, bool)> {
    meaning.map(|meaning| match meaning {
        Meaning::Lane(label) => (label.lane.to_string(), true),
        Meaning::Stale(label) => (label.lane.to_string(), false),
    })
}

fn live(lane: &str) -> Option<(String, bool)> {
    Some((lane.to_owned(), true))
}

fn stale(lane: &str) -> Option<(String, bool)> {
    Some((lane.to_owned(), false))
}

#[test]
fn trace_means_its_lane_while_in_flight_and_for_the_linger_after_its_end() {
    let mut table = table(10);
    table.begin(id(1), &label("canary"), seconds(0));
    assert_eq!(lane(table.find(id(1), seconds(10_000))), live("canary"), "however long the request takes");
    assert_eq!(table.find(id(2), seconds(0)), None);
    table.end(id(1), LINGER, seconds(10_000));
    assert_eq!(lane(table.find(id(1), seconds(10_060))), live("canary"));
    assert_eq!(lane(table.find(id(1), seconds(10_061))), stale("canary"));
}

#[test]
fn asking_does_not_lengthen_the_linger() {
    let mut table = table(10);
    table.begin(id(1), &label("canary"), seconds(0));
    table.end(id(1), LINGER, seconds(0));
    for second in 0..=60 {
        assert_eq!(lane(table.find(id(1), seconds(second))), live("canary"));
    }
    assert_eq!(lane(table.find(id(1), seconds(61))), stale("canary"));
}

#[test]
fn linger_counts_from_the_end_of_the_last_request_of_the_trace() {
    let mut table = table(10);
    table.begin(id(1), &label("canary"), seconds(0));
    table.begin(id(1), &label("canary"), seconds(1));
    table.end(id(1), LINGER, seconds(2));
    assert_eq!(lane(table.find(id(1), seconds(500))), live("canary"));
    table.end(id(1), LINGER, seconds(500));
    table.begin(id(1), &label("canary"), seconds(510));
    assert_eq!(lane(table.find(id(1), seconds(700))), live("canary"), "it began again");
    table.end(id(1), LINGER, seconds(700));
    assert_eq!(lane(table.find(id(1), seconds(760))), live("canary"));
    assert_eq!(lane(table.find(id(1), seconds(761))), stale("canary"));
    assert_eq!(table.counts(), Counts::default());
}

#[test]
fn trace_in_two_lanes_keeps_the_first_and_is_counted() {
    let mut table = table(10);
    table.begin(id(1), &label("canary"), seconds(0));
    table.begin(id(1), &label("blue"), seconds(1));
    assert_eq!(lane(table.find(id(1), seconds(2))), live("canary"));
    assert_eq!(table.counts().ambiguous, 1);
    assert!(table.is_ambiguous(id(1)) && !table.is_ambiguous(id(2)));
    table.end(id(1), LINGER, seconds(3));
    table.end(id(1), LINGER, seconds(3));
    table.sweep(seconds(100));
    table.begin(id(1), &label("blue"), seconds(101));
    assert_eq!(lane(table.find(id(1), seconds(102))), live("blue"), "what ended long ago holds nothing");
    assert_eq!(table.counts().ambiguous, 1);
}

#[test]
fn full_table_lets_the_least_recently_used_go_and_counts_it() {
    let mut table = table(3);
    for number in 1..=3 {
        table.begin(id(number), &label("canary"), seconds(0));
    }
    table.find(id(1), seconds(1));
    table.begin(id(4), &label("canary"), seconds(2));
    assert_eq!(table.find(id(2), seconds(3)), None);
    assert!((1..=4).filter(|number| *number != 2).all(|number| table.find(id(number), seconds(3)).is_some()));
    assert_eq!((table.len(), table.counts().evicted), (3, 1));
    table.end(id(2), LINGER, seconds(4));
    assert_eq!(table.find(id(2), seconds(4)), None, "the end of what was put out changes nothing");
}

#[test]
fn stale_ids_give_way_first_and_end_by_themselves() {
    let mut table = table(4);
    for number in 1..=4 {
        table.begin(id(number), &label("canary"), seconds(0));
        table.end(id(number), LINGER, seconds(0));
    }
    table.sweep(seconds(61));
    assert_eq!((table.len(), table.stale_len()), (0, 1), "a quarter of the capacity");
    for number in 5..=8 {
        table.begin(id(number), &label("canary"), seconds(62));
    }
    assert_eq!((table.len(), table.stale_len(), table.counts().evicted), (4, 0, 0));
    for number in 5..=8 {
        table.end(id(number), LINGER, seconds(62));
    }
    assert!(!table.is_empty());
    table.sweep(seconds(62 + 61));
    table.sweep(seconds(62 + 62) + STALE_KEPT);
    assert!(table.is_empty());
}

/// What the table does, done slowly.
#[derive(Default)]
struct Model {
    capacity: usize,
    /// Least recently used first; `in_flight` 0 = lingering until `until`.
    live: Vec<(u128, String, u32, Duration)>,
    stale: Vec<(u128, String, Duration)>,
    counts: Counts,
}

impl Model {
    fn settle(&mut self, number: u128, now: Duration) {
        if let Some(at) = self.live.iter().position(|entry| entry.0 == number && entry.2 == 0 && entry.3 < now) {
            let (number, lane, _, until) = self.live.remove(at);
            self.stale.push((number, lane, until + STALE_KEPT));
            if self.stale.len() > (self.capacity / 4).max(1) {
                self.stale.remove(0);
            }
        }
        self.stale.retain(|entry| entry.0 != number || entry.2 >= now);
    }

    fn begin(&mut self, number: u128, lane: &str, now: Duration) {
        self.settle(number, now);
        if let Some(at) = self.live.iter().position(|entry| entry.0 == number) {
            let (number, known, in_flight, until) = self.live.remove(at);
            self.counts.ambiguous += u64::from(known != lane);
            self.live.push((number, known, in_flight + 1, until));
            return;
        }
        self.stale.retain(|entry| entry.0 != number || entry.2 < now);
        if self.live.len() + self.stale.len() >= self.capacity {
            if self.stale.is_empty() {
                self.live.remove(0);
                self.counts.evicted += 1;
            } else {
                self.stale.remove(0);
            }
        }
        self.live.push((number, lane.to_owned(), 1, Duration::ZERO));
    }

    fn end(&mut self, number: u128, linger: Duration, now: Duration) {
        self.settle(number, now);
        let Some(at) = self.live.iter().position(|entry| entry.0 == number && entry.2 > 0) else { return };
        self.live[at].2 -= 1;
        if self.live[at].2 == 0 {
            let mut entry = self.live.remove(at);
            entry.3 = now + linger;
            self.live.push(entry);
        }
    }

    fn find(&mut self, number: u128, now: Duration) -> Option<(String, bool)> {
        self.settle(number, now);
        if let Some(at) = self.live.iter().position(|entry| entry.0 == number) {
            let entry = self.live.remove(at);
            self.live.push(entry.clone());
            return Some((entry.1, true));
        }
        let at = self.stale.iter().position(|entry| entry.0 == number)?;
        let mut entry = self.stale.remove(at);
        entry.2 = now + STALE_KEPT;
        self.stale.push(entry.clone());
        Some((entry.1, false))
    }

    fn sweep(&mut self, now: Duration) {
        let mut over: Vec<(Duration, u128)> =
            self.live.iter().filter(|entry| entry.2 == 0 && entry.3 < now).map(|entry| (entry.3, entry.0)).collect();
        over.sort();
        for (_, number) in over {
            self.settle(number, now);
        }
        // Stale ids stand in the order in which they were seen; behind one that was asked for lately, one that has had its
        // time waits until it is asked for, or the first has gone.
        while self.stale.first().is_some_and(|entry| entry.2 < now) {
            self.stale.remove(0);
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Begin(u128, usize),
    End(u128),
    Find(u128),
    Sweep,
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let number = 1_u128..12;
    let act = prop_oneof![
        4 => (number.clone(), 0_usize..3).prop_map(|(number, lane)| Act::Begin(number, lane)),
        4 => number.clone().prop_map(Act::End),
        4 => number.prop_map(Act::Find),
        1 => Just(Act::Sweep),
        2 => (1_u64..50).prop_map(Act::Wait),
        1 => (3_000_u64..4_000).prop_map(Act::Wait),
    ];
    proptest::collection::vec(act, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn table_does_what_a_plain_list_does(acts in acts(), capacity in 1_usize..9) {
        let lanes = ["canary", "blue", "dev.alice"];
        let mut table = table(capacity);
        let mut model = Model { capacity, ..Model::default() };
        // Ends differ in time, so that the order of ends is one.
        let mut now = Duration::ZERO;
        for act in acts {
            now += Duration::from_millis(1);
            match act {
                Act::Begin(number, lane) => {
                    table.begin(id(number), &label(lanes[lane]), now);
                    model.begin(number, lanes[lane], now);
                }
                Act::End(number) => {
                    table.end(id(number), LINGER, now);
                    model.end(number, LINGER, now);
                }
                Act::Find(number) => prop_assert_eq!(lane(table.find(id(number), now)), model.find(number, now)),
                Act::Sweep => {
                    table.sweep(now);
                    model.sweep(now);
                    prop_assert_eq!(table.is_empty(), model.live.is_empty() && model.stale.is_empty());
                }
                Act::Wait(time) => now += seconds(time),
            }
            prop_assert_eq!((table.len(), table.stale_len()), (model.live.len(), model.stale.len()));
            prop_assert_eq!(table.counts(), model.counts);
            prop_assert!(table.entries.len() <= capacity);
        }
    }
}

#[test]
fn million_traces_through_a_full_table_take_no_more_memory_than_its_capacity() {
    const TRACES: u64 = 1_000_000;
    let mut table = table(CAPACITY);
    let mut sizes = BTreeMap::new();
    let lanes: Vec<Label> = (0..1_000).map(|number| label(&format!("lane-{number}"))).collect();
    for number in 0..TRACES {
        let now = Duration::from_millis(number);
        let id = id(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number + 1));
        table.begin(id, &lanes[number as usize % lanes.len()], now);
        if number % 3 != 0 {
            table.end(id, LINGER, now);
        }
        if number % 100_000 == 99_999 {
            table.sweep(now);
            sizes.insert(number + 1, table.bytes());
        }
    }
    for (traces, bytes) in &sizes {
        println!("{traces} traces: {bytes} bytes");
    }
    assert_eq!(size_of::<Entry>(), 56, "as the documentation says");
    assert_eq!(table.entries.len(), CAPACITY);
    let (early, late) = (sizes[&200_000], sizes[&TRACES]);
    assert_eq!(early, late, "flat");
    assert!(late < 72 * CAPACITY, "{late}");
    assert!(table.counts().evicted > 0 && table.labels.len() <= lanes.len());
}
