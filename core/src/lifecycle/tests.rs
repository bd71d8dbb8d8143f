//! Who is marked, since when, and for how long.

use super::*;

const NOW: u64 = 1_800_000_000;

fn said(state: State, since: u64) -> Said {
    let ready_since = (state != State::NotReady).then_some(NOW);
    Said { state, since, ready_since, host: [10, 0, 0, 1].into() }
}

fn here(said: impl IntoIterator<Item = Said>) -> BTreeMap<String, Said> {
    said.into_iter().map(|said| ("demo/b-1".to_owned(), said)).collect()
}

/// What became of the one sidecar, and whether its workload is marked.
fn renew(sidecars: &mut Sidecars, said: Option<Said>, listed: bool, seconds: u64) -> (Vec<Change>, bool) {
    let changed = sidecars.renew(&here(said), &|_| listed, Duration::from_secs(seconds));
    let marked = sidecars.marks().get("demo/b-1").is_some_and(|mark| mark.draining);
    (changed.into_iter().map(|changed| changed.change).collect(), marked)
}

#[test]
fn a_mark_lasts_from_the_order_to_drain_until_a_sidecar_is_ready_again() {
    let mut sidecars = Sidecars::default();
    let mut step = |said, seconds| renew(&mut sidecars, said, true, seconds);
    let entered = |state| vec![Change::Entered(state)];
    assert_eq!(step(Some(said(State::NotReady, NOW)), 0), (entered(State::NotReady), false));
    assert_eq!(step(Some(said(State::Ready, NOW)), 1), (entered(State::Ready), false));
    assert_eq!(step(Some(said(State::Ready, NOW)), 2), (vec![], false));
    assert_eq!(step(Some(said(State::Draining, NOW + 9)), 9), (entered(State::Draining), true));
    assert_eq!(step(Some(said(State::Drained, NOW + 12)), 12), (entered(State::Drained), true));
    assert_eq!(step(None, 13), (vec![Change::Left], true));
    assert_eq!(step(Some(said(State::NotReady, NOW + 20)), 20), (entered(State::NotReady), true));
    assert_eq!(step(Some(said(State::Ready, NOW + 21)), 21), (entered(State::Ready), false));
    assert_eq!(step(None, 22), (vec![Change::Lost], false));
}

#[test]
fn a_sidecar_that_only_lost_its_connection_comes_back_without_a_change() {
    let mut sidecars = Sidecars::default();
    let ready = Some(said(State::Ready, NOW));
    renew(&mut sidecars, ready, true, 0);
    assert_eq!(renew(&mut sidecars, None, true, 1).0, [Change::Lost]);
    assert_eq!(renew(&mut sidecars, ready, true, 5), (vec![], false));
}

#[test]
fn a_mark_is_forgotten_some_time_after_its_sidecar_and_sooner_where_its_source_forgot_the_workload() {
    for (listed, last) in [(false, FORGOTTEN), (true, FORGOTTEN_LISTED)] {
        let mut sidecars = Sidecars::default();
        renew(&mut sidecars, Some(said(State::Draining, NOW)), true, 0);
        renew(&mut sidecars, None, true, 0);
        assert!(renew(&mut sidecars, None, listed, last.as_secs() - 1).1, "{listed}");
        assert!(sidecars.remembers());
        assert!(!renew(&mut sidecars, None, listed, last.as_secs()).1, "{listed}");
        assert!(!sidecars.remembers());
    }
}

#[test]
fn of_two_sidecars_of_a_workload_a_ready_one_counts_then_one_that_leaves() {
    let (old, new) = (said(State::Draining, NOW), said(State::NotReady, NOW + 1));
    assert_eq!(old.of_two(new), old);
    assert_eq!(new.of_two(old), old);
    let ready = said(State::Ready, NOW);
    for other in State::ALL.map(|state| said(state, NOW)) {
        assert_eq!((ready.of_two(other), other.of_two(ready)), (ready, ready));
    }
    let later = said(State::Ready, NOW + 1);
    assert_eq!((ready.of_two(later), later.of_two(ready)), (later, later));
}

#[test]
fn what_is_remembered_of_those_that_are_gone_is_bounded_and_the_oldest_go_first() {
    let all: BTreeMap<String, Said> =
        (0..GONE_MAX + 2).map(|number| (format!("demo/b-{number}"), said(State::Draining, NOW))).collect();
    let mut others = all.clone();
    let first = [others.pop_first(), others.pop_first()].map(|one| one.unwrap().0);
    let mut sidecars = Sidecars::default();
    for (seconds, here) in [(0, &all), (1, &others), (2, &BTreeMap::new())] {
        sidecars.renew(here, &|_| true, Duration::from_secs(seconds));
    }
    let marks = sidecars.marks();
    assert_eq!(marks.len(), GONE_MAX);
    assert!(first.iter().all(|workload| !marks.contains_key(workload)));
}
