//! Tests of what is believed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{super::Name, *};

const SECOND: Duration = Duration::from_secs(1);

fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

fn host(number: u8) -> Host {
    Host { ip: format!("10.0.0.{number}"), port: 80, ..Host::default() }
}

fn listing(hosts: Vec<Host>, last_ref_time: i64) -> Listing {
    Listing { name: Name::new("", "", "order"), hosts, last_ref_time, reach_protection: false }
}

fn list(numbers: &[u8], last_ref_time: i64) -> Listing {
    listing(numbers.iter().copied().map(host).collect(), last_ref_time)
}

fn numbers(guard: &Guard) -> Vec<u8> {
    guard.instances().map(|(address, ..)| number(address)).collect()
}

fn number(address: SocketAddr) -> u8 {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(ip) => panic!("{ip} is none of ours"),
    }
}

fn believed(guard: &Guard) -> Vec<(Believed, Why)> {
    guard.instances().map(|(_, _, believed, why)| (believed, why)).collect()
}

/// A guard that believes these since 0 s.
fn knowing(known: &[u8]) -> Guard {
    let mut guard = Guard::new(HOLD);
    guard.take(list(known, 1_000), Duration::ZERO);
    guard
}

#[test]
fn lists_are_believed_as_they_stand() {
    let mut guard = Guard::new(HOLD);
    assert_eq!(guard.take(list(&[], 1), Duration::ZERO), Taken::Believed { added: 0, removed: 0 });
    assert_eq!(guard.take(list(&[1, 2], 2), SECOND), Taken::Believed { added: 2, removed: 0 });
    assert_eq!(guard.take(list(&[2, 3], 3), SECOND), Taken::Believed { added: 1, removed: 1 });
    assert_eq!(numbers(&guard), [2, 3]);
    assert_eq!(guard.next_tick(), None);
}

#[test]
fn an_empty_list_after_one_that_was_not_is_believed_when_the_time_is_over() {
    let mut guard = knowing(&[1, 2]);
    let taken = guard.take(list(&[], 2_000), SECOND);
    assert_eq!(taken, Taken::Held { held: 2, because: Because::EmptyList });
    assert_eq!(believed(&guard), [(Believed::Unknown, Why::Held(Because::EmptyList)); 2]);
    assert_eq!(guard.take(list(&[], 3_000), SECOND * 2), Taken::Believed { added: 0, removed: 0 });
    assert_eq!(guard.next_tick(), Some(HOLD + SECOND));
    assert_eq!(guard.tick(HOLD), []);
    assert_eq!(numbers(&guard), [1, 2]);
    assert_eq!(guard.tick(HOLD + SECOND), [address(1), address(2)]);
    assert!(guard.is_empty());
}

#[test]
fn checks_end_the_time_of_one_that_is_gone_and_not_of_one_that_answers() {
    let mut guard = knowing(&[1, 2]);
    assert_eq!(guard.checked(address(1), Answer::Silent), Checked::NotHeld);
    guard.take(list(&[], 2_000), SECOND);
    assert_eq!(guard.to_check().collect::<Vec<_>>(), [address(1), address(2)]);
    let answers = [(Answer::Silent, Checked::Stays), (Answer::Alive, Checked::Stays), (Answer::Silent, Checked::Stays)];
    for (answer, expected) in answers {
        assert_eq!(guard.checked(address(1), answer), expected);
        guard.checked(address(2), Answer::Alive);
    }
    assert_eq!(guard.checked(address(1), Answer::Silent), Checked::Gone);
    assert_eq!(numbers(&guard), [2]);
}

#[test]
fn while_an_empty_list_is_held_missing_ones_stay_beside_those_that_come_back() {
    let mut guard = knowing(&[1, 2, 3]);
    guard.take(list(&[], 2_000), SECOND);
    assert_eq!(guard.take(list(&[2, 4], 3_000), SECOND * 2), Taken::Believed { added: 2, removed: 0 });
    let held = (Believed::Unknown, Why::Held(Because::EmptyList));
    let listed = (Believed::Healthy, Why::Registered);
    assert_eq!(numbers(&guard), [1, 2, 3, 4]);
    assert_eq!(believed(&guard), [held, listed, held, listed]);
    // One that came back and left again did so in order.
    assert_eq!(guard.take(list(&[2], 4_000), SECOND * 3), Taken::Believed { added: 0, removed: 1 });
    guard.tick(HOLD + SECOND);
    assert_eq!(numbers(&guard), [2]);
}

#[test]
fn instances_that_are_missing_after_a_reconnection_are_held() {
    let mut guard = knowing(&[1, 2]);
    guard.reconnected(SECOND);
    assert_eq!(
        guard.take(list(&[2], 10), SECOND * 2),
        Taken::Held { held: 1, because: Because::Reconnected },
        "another server's clock may be behind"
    );
    assert_eq!(guard.tick(SECOND + HOLD), [address(1)]);
    // After the time, removal is believed at once again.
    assert_eq!(guard.take(list(&[3], 20), SECOND * 2 + HOLD), Taken::Believed { added: 1, removed: 1 });
    assert_eq!(numbers(&guard), [3]);
}

#[test]
fn an_empty_list_late_after_a_reconnection_is_held_for_the_whole_time() {
    let mut guard = knowing(&[1]);
    guard.reconnected(SECOND);
    let late = HOLD;
    assert_eq!(guard.take(list(&[], 2_000), late), Taken::Held { held: 1, because: Because::EmptyList });
    assert_eq!(guard.next_tick(), Some(late + HOLD));
}

#[test]
fn a_list_that_comes_late_is_dropped_but_not_for_ever() {
    let mut guard = knowing(&[1]);
    assert_eq!(guard.take(list(&[2], 999), SECOND), Taken::Old { by: 1 });
    assert_eq!(guard.take(list(&[], 1), SECOND), Taken::Old { by: 999 });
    assert_eq!(numbers(&guard), [1]);
    assert_eq!(guard.take(list(&[3], 1_000), SECOND), Taken::Believed { added: 1, removed: 1 }, "as new");
    assert_eq!(guard.take(list(&[4], 0), SECOND), Taken::Believed { added: 1, removed: 1 }, "of unknown age");
    guard.take(list(&[4], 1_000), SECOND);
    // The clock of the server was set back: its lists are older than the last one from now on.
    assert_eq!(guard.take(list(&[5], 500), SECOND * 2), Taken::Old { by: 500 });
    assert_eq!(guard.take(list(&[5], 600), SECOND * 31), Taken::Old { by: 400 });
    assert_eq!(guard.take(list(&[5], 700), SECOND * 32), Taken::Believed { added: 1, removed: 1 });
    assert_eq!(guard.take(list(&[6], 600), SECOND * 33), Taken::Old { by: 100 });
}

#[test]
fn what_an_earlier_run_knew_stays_until_the_registry_answers_and_is_held_then() {
    let mut guard = Guard::restored(HOLD, vec![host(1), host(2)]);
    assert_eq!(believed(&guard), [(Believed::Unknown, Why::Restored); 2]);
    guard.reconnected(HOLD * 9);
    assert_eq!(guard.tick(HOLD * 10), []);
    let late = HOLD * 11;
    assert_eq!(guard.take(list(&[], 1), late), Taken::Held { held: 2, because: Because::Restored });
    guard.take(list(&[1, 3], 2), late + SECOND);
    assert_eq!(numbers(&guard), [1, 2, 3]);
    assert_eq!(guard.tick(late + HOLD), [address(2)]);
    assert_eq!(numbers(&guard), [1, 3]);
}

#[test]
fn health_is_the_registrys_word_unless_it_gave_up_on_it_or_says_it_of_nobody() {
    let sick = |number| Host { healthy: false, ..host(number) };
    let disabled = |number| Host { enabled: false, ..host(number) };
    /// Listed hosts, whether protection is reached, and what is believed of each.
    type Case = (Vec<Host>, bool, &'static [(Believed, Why)]);
    let cases: [Case; 5] = [
        (
            vec![host(1), sick(2)],
            false,
            &[(Believed::Healthy, Why::Registered), (Believed::Unhealthy, Why::Registered)],
        ),
        (vec![host(1), host(2)], true, &[(Believed::Unknown, Why::Protection); 2]),
        (vec![sick(1), sick(2)], false, &[(Believed::Unknown, Why::NobodyHealthy); 2]),
        (vec![sick(1), sick(2)], true, &[(Believed::Unknown, Why::Protection); 2]),
        // One that takes no traffic helps nobody.
        (
            vec![sick(1), disabled(2)],
            false,
            &[(Believed::Unknown, Why::NobodyHealthy), (Believed::Healthy, Why::Registered)],
        ),
    ];
    for (hosts, reach_protection, expected) in cases {
        let mut guard = Guard::new(HOLD);
        guard.take(Listing { reach_protection, ..listing(hosts.clone(), 1) }, Duration::ZERO);
        assert_eq!(believed(&guard), expected, "{hosts:?} {reach_protection}");
    }
}

#[test]
fn one_that_was_unhealthy_when_it_went_missing_is_not_preferred_to_one_that_is_listed() {
    let mut guard = Guard::new(HOLD);
    guard.take(listing(vec![Host { healthy: false, ..host(1) }, host(2)], 1), Duration::ZERO);
    guard.take(list(&[], 2), SECOND);
    assert_eq!(believed(&guard), [(Believed::Unknown, Why::Held(Because::EmptyList)); 2]);
    guard.take(list(&[2], 3), SECOND);
    assert_eq!(believed(&guard)[0], (Believed::Unhealthy, Why::Held(Because::EmptyList)));
}

#[test]
fn of_two_registrations_of_one_address_the_one_that_serves_best_is_used() {
    let in_cluster = |cluster: &str| Host { cluster: cluster.to_owned(), ..host(1) };
    let cases = [
        (in_cluster("b"), in_cluster("a"), "a"),
        (in_cluster("b"), Host { healthy: false, ..in_cluster("a") }, "b"),
        (in_cluster("b"), Host { enabled: false, ..in_cluster("a") }, "b"),
        (Host { weight: 2.0, ..in_cluster("b") }, in_cluster("a"), "b"),
    ];
    for (first, second, used) in cases {
        for hosts in [[&first, &second], [&second, &first]] {
            let mut guard = Guard::new(HOLD);
            guard.take(listing(hosts.map(Clone::clone).into(), 1), Duration::ZERO);
            let found: Vec<_> = guard.instances().map(|(_, host, ..)| host.cluster.clone()).collect();
            assert_eq!(found, [used]);
            assert_eq!(guard.unused().len(), 1);
            assert_eq!(guard.unused()[0].instead.as_deref(), Some(used));
        }
    }
    let mut guard = Guard::new(HOLD);
    guard.take(listing(vec![Host { port: 0, ..host(1) }], 1), Duration::ZERO);
    assert!(guard.is_empty());
    assert_eq!(guard.unused()[0].instead, None);
}

/// What happens to a guard.
#[derive(Clone, Debug)]
enum Event {
    List(BTreeSet<u8>),
    /// A list that is older than the last by so many milliseconds.
    Late(BTreeSet<u8>, i64),
    Reconnected,
    Checked(u8, bool),
    Passed(Duration),
}

const INSTANCES: std::ops::Range<u8> = 0..6;
const MODEL_HOLD: Duration = Duration::from_secs(60);

fn events(length: usize) -> impl Strategy<Value = Vec<Event>> {
    let some = || {
        prop_oneof![
            2 => Just(BTreeSet::new()),
            3 => prop::collection::btree_set(INSTANCES, 0..6),
        ]
    };
    let event = prop_oneof![
        6 => some().prop_map(Event::List),
        2 => (some(), 1..5_000_i64).prop_map(|(list, by)| Event::Late(list, by)),
        1 => Just(Event::Reconnected),
        5 => (INSTANCES, any::<bool>()).prop_map(|(number, alive)| Event::Checked(number, alive)),
        5 => (0..20_u64).prop_map(|seconds| Event::Passed(Duration::from_secs(seconds))),
        1 => Just(Event::Passed(MODEL_HOLD)),
    ];
    prop::collection::vec(event, length)
}

/// The rules once more, as plainly as they can be said: for each instance until when it is believed to be there.
#[derive(Default)]
struct Model {
    listed: BTreeSet<u8>,
    held: BTreeMap<u8, (Duration, u32)>,
    suspicious_until: Duration,
    late_since: Option<Duration>,
}

impl Model {
    fn list(&mut self, list: &BTreeSet<u8>, now: Duration) {
        self.late_since = None;
        for missing in self.listed.difference(list) {
            if list.is_empty() {
                self.held.insert(*missing, (now + MODEL_HOLD, 0));
            } else if now < self.suspicious_until {
                self.held.insert(*missing, (self.suspicious_until, 0));
            }
        }
        self.held.retain(|number, _| !list.contains(number));
        self.listed = list.clone();
    }

    fn apply(&mut self, event: &Event, now: Duration) {
        match event {
            Event::List(list) => self.list(list, now),
            Event::Late(list, _) => {
                let since = *self.late_since.get_or_insert(now);
                if now - since >= OLD_AT_MOST {
                    self.list(list, now);
                }
            }
            Event::Reconnected => {
                self.late_since = None;
                self.suspicious_until = now + MODEL_HOLD;
            }
            Event::Checked(number, alive) => {
                if let Some((_, failures)) = self.held.get_mut(number) {
                    *failures = if *alive { 0 } else { *failures + 1 };
                }
            }
            Event::Passed(_) => {}
        }
        self.held.retain(|_, (until, failures)| *until > now && *failures < FAILURES);
    }

    fn there(&self) -> Vec<u8> {
        self.listed.iter().chain(self.held.keys()).copied().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Plays events on a guard; calls `after` with the guard, the event and the time after each.
fn play(events: &[Event], mut after: impl FnMut(&Guard, &Event, Duration)) -> (Guard, Duration, i64) {
    let (mut guard, mut now, mut clock) = (Guard::new(MODEL_HOLD), Duration::ZERO, 1_000_000);
    for event in events {
        match event {
            Event::List(set) => {
                clock += 1;
                guard.take(list(&set.iter().copied().collect::<Vec<_>>(), clock), now);
            }
            Event::Late(set, by) => {
                let taken = guard.take(list(&set.iter().copied().collect::<Vec<_>>(), clock - by), now);
                if !matches!(taken, Taken::Old { .. }) {
                    clock -= by;
                }
            }
            Event::Reconnected => guard.reconnected(now),
            Event::Checked(number, alive) => {
                guard.checked(address(*number), if *alive { Answer::Alive } else { Answer::Silent });
            }
            Event::Passed(time) => {
                now += *time;
                guard.tick(now);
            }
        }
        after(&guard, event, now);
    }
    (guard, now, clock)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn five_hundred_random_events_come_to_what_a_model_says(events in events(500)) {
        // A late list right after a reconnection has nothing to be late against: a list comes first.
        let mut prepared = Vec::new();
        for event in events {
            let reconnected = matches!(event, Event::Reconnected);
            prepared.push(event);
            if reconnected {
                prepared.push(Event::List(BTreeSet::from([1, 2, 3])));
            }
        }
        prepared.insert(0, Event::List(BTreeSet::new()));
        let mut model = Model::default();
        let mut differences = Vec::new();
        play(&prepared, |guard, event, now| {
            model.apply(event, now);
            if numbers(guard) != model.there() {
                differences.push((event.clone(), numbers(guard), model.there()));
            }
        });
        prop_assert!(differences.is_empty(), "{:?}", differences.first());
    }

    #[test]
    fn nobody_is_lost_to_an_empty_list_while_he_answers_and_the_time_is_not_over(events in events(200)) {
        // Since when each was missing from every list, and whether the last check of him was answered.
        let mut missing: BTreeMap<u8, (Duration, bool)> = BTreeMap::new();
        let mut before = BTreeSet::new();
        let mut lost = Vec::new();
        play(&events, |guard, event, now| {
            let listed: BTreeSet<u8> = guard.listed.keys().map(|address| number(*address)).collect();
            if listed.is_empty() {
                missing.extend(before.iter().map(|number| (*number, (now, true))));
            }
            missing.retain(|number, _| !listed.contains(number));
            if let Event::Checked(number, alive) = event
                && let Some(known) = missing.get_mut(number)
            {
                known.1 &= *alive;
            }
            let there = numbers(guard);
            let wrong = missing.iter().find(|(number, (since, answers))| {
                *answers && now < *since + MODEL_HOLD && !there.contains(number)
            });
            lost.extend(wrong.map(|(number, _)| (*number, event.clone())));
            before = listed;
        });
        prop_assert!(lost.is_empty(), "{:?}", lost.first());
    }

    #[test]
    fn a_list_that_stands_is_believed_in_the_end(events in events(100), last in prop::collection::btree_set(INSTANCES, 0..6)) {
        let (mut guard, now, clock) = play(&events, |_, _, _| ());
        let last: Vec<u8> = last.into_iter().collect();
        guard.take(list(&last, clock + 1), now);
        guard.tick(now + MODEL_HOLD);
        prop_assert_eq!(numbers(&guard), last);
        prop_assert_eq!(guard.next_tick(), None);
    }
}

#[test]
fn a_hundred_flaps_never_leave_an_empty_list() {
    let mut guard = knowing(&[1, 2, 3]);
    for flap in 1..=100_u32 {
        let now = SECOND * flap;
        guard.take(list(&[], 1_000 + i64::from(flap) * 10), now);
        assert_eq!(numbers(&guard), [1, 2, 3], "flap {flap}");
        guard.take(list(&[1, 2, 3], 1_005 + i64::from(flap) * 10), now);
        assert!(believed(&guard).iter().all(|(believed, _)| *believed == Believed::Healthy), "flap {flap}");
    }
}
