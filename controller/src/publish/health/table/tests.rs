//! Who is asked to probe what, and what the others hear.

use futures_util::FutureExt as _;
use mesh_core::resources::{self, Domains};

use super::*;
use crate::index::{Event, Index};

/// The service `b` with so many instances, each probed by so many of its callers.
fn view(instances: u8, count: usize) -> Arc<View> {
    let mut yaml = "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n\
                    - name: b\n  namespace: demo\n  ports: [{port: 80}]\n  endpoints:\n"
        .to_owned();
    for number in 1..=instances {
        yaml += &format!("  - {{address: '127.1.0.{number}:80', identity: {{serviceAccount: b}}}}\n");
    }
    yaml += &format!(
        "---\napiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: b, namespace: demo}}\n\
         spec: {{service: b, healthCheck: {{tcp: {{}}, sharedBy: {count}}}}}\n"
    );
    let resources = resources::parse("test", &yaml).unwrap_or_else(|problems| panic!("{yaml}{problems:?}"));
    let mut index = Index::new(Domains::default());
    index.apply(Event::World(Arc::new(resources::compile(&resources, &Domains::default()).unwrap())));
    index.view()
}

fn key() -> ServiceKey {
    ServiceKey("b.demo.svc.cluster.local:80".into())
}

fn instance(number: u8) -> SocketAddr {
    ([127, 1, 0, number], 80).into()
}

fn calls(traffic: Traffic, failing: &[SocketAddr], passing: &BTreeSet<SocketAddr>) -> Calls {
    let mut seen: BTreeMap<_, _> = passing.iter().map(|address| (*address, ProbeResult::Succeeded)).collect();
    seen.extend(failing.iter().map(|address| (*address, ProbeResult::Failed)));
    Calls::from([(key(), Called { traffic, seen })])
}

/// Callers that call `b` and have seen nothing yet.
fn callers(table: &Arc<Sharing>, count: usize, view: &View) -> Vec<Seat> {
    let enter = |number| {
        let seat = table.enter(format!("demo/a-{number}"));
        seat.report(calls(Traffic::Flowing, &[], &BTreeSet::new()), view);
        seat
    };
    (0..count).map(enter).collect()
}

fn of(seat: &Seat) -> Shares {
    seat.shares().remove(&key()).expect("the service is shared")
}

/// How many callers probe each instance.
fn load(seats: &[Seat]) -> BTreeMap<SocketAddr, usize> {
    let mut load = BTreeMap::new();
    for address in seats.iter().flat_map(|seat| of(seat).probe) {
        *load.entry(address).or_default() += 1;
    }
    load
}

#[test]
fn each_instance_is_probed_by_as_many_as_the_policy_says() {
    let (table, view) = (Arc::default(), view(50, 3));
    let seats = callers(&table, 100, &view);
    let load = load(&seats);
    assert_eq!((load.len(), load.values().all(|count| *count == 3)), (50, true), "{load:?}");
    assert_eq!(of(&seats[0]).unknown.len(), 50);
    assert_eq!(table.probers(&key()).len(), 50);
}

#[test]
fn few_callers_probe_everything_each() {
    let (table, view) = (Arc::default(), view(4, 3));
    let seats = callers(&table, 2, &view);
    assert!(seats.iter().all(|seat| of(seat).probe.len() == 4));
}

#[test]
fn instances_of_a_caller_that_leaves_are_taken_over_and_no_others_move() {
    let (table, view) = (Arc::default(), view(50, 3));
    let mut seats = callers(&table, 10, &view);
    let before: Vec<_> = seats.iter().map(|seat| of(seat).probe).collect();
    drop(seats.remove(4));
    assert!(load(&seats).values().all(|count| *count == 3));
    let stayed = before.iter().enumerate().filter(|(number, _)| *number != 4).map(|(_, probe)| probe);
    assert!(stayed.zip(&seats).all(|(before, seat)| before.is_subset(&of(seat).probe)));
}

#[test]
fn those_who_call_probe_before_those_who_do_not() {
    let (table, view) = (Arc::default(), view(10, 3));
    let seats = callers(&table, 10, &view);
    for seat in &seats[..8] {
        seat.report(calls(Traffic::None, &[], &BTreeSet::new()), &view);
    }
    assert!(seats[..8].iter().all(|seat| of(seat).probe.is_empty()));
    assert!(seats[8..].iter().all(|seat| of(seat).probe.len() == 10));
    for seat in &seats[8..] {
        seat.report(calls(Traffic::None, &[], &BTreeSet::new()), &view);
    }
    assert!(load(&seats).values().all(|count| *count == 3));
}

#[test]
fn word_of_most_of_those_who_probe_is_heard_by_all_and_nobody_elses() {
    let (table, view) = (Arc::default(), view(1, 3));
    let seats = callers(&table, 10, &view);
    let ill = [instance(1)];
    let is_failing = || {
        let heard: BTreeSet<bool> = seats.iter().map(|seat| of(seat).failing.contains(&ill[0])).collect();
        assert_eq!(heard.len(), 1, "all hear the same");
        heard.contains(&true)
    };
    let says = |seat: &Seat, failing: bool| {
        let probe = of(seat).probe;
        seat.report(calls(Traffic::Flowing, if failing { &ill } else { &[] }, &probe), &view);
    };
    let (probing, others): (Vec<&Seat>, Vec<&Seat>) = seats.iter().partition(|seat| !of(seat).probe.is_empty());
    others.iter().for_each(|seat| says(seat, true));
    assert!(!is_failing(), "who does not probe has no say");
    for (seat, failing, expected) in [(0, false, false), (1, true, false), (2, true, true), (1, false, false)] {
        says(probing[seat], failing);
        assert_eq!(is_failing(), expected, "prober {seat} says {failing}");
    }
}

#[test]
fn verdict_stays_while_who_probes_changes_until_the_new_ones_know() {
    let (table, view) = (Arc::default(), view(1, 1));
    let mut seats = callers(&table, 2, &view);
    let prober = usize::from(of(&seats[0]).probe.is_empty());
    seats[prober].report(calls(Traffic::Flowing, &[instance(1)], &BTreeSet::new()), &view);
    drop(seats.remove(prober));
    let left = &seats[0];
    assert_eq!((of(left).probe.len(), of(left).failing.len()), (1, 1));
    left.report(calls(Traffic::Flowing, &[], &[instance(1)].into()), &view);
    assert!(of(left).failing.is_empty());
}

#[tokio::test]
async fn callers_are_told_of_what_changes_for_them() {
    let (table, few, many) = (Arc::default(), view(2, 3), view(5, 3));
    let seats = callers(&table, 4, &few);
    for seat in &seats {
        let _ = seat.news().now_or_never();
    }
    seats[0].refresh(&many);
    for seat in &seats {
        seat.news().await;
    }
    assert_eq!(load(&seats).len(), 5);
    seats[0].refresh(&view(5, 0));
    assert!(seats.iter().all(|seat| seat.shares().is_empty()), "not shared any more");
}
