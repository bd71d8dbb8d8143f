//! The curve of a new instance, and when nobody warms up.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::model::{
    endpoint::{Endpoint, ProtocolHint},
    service::{Service, ServiceKey},
};

const NOW: u64 = 1_800_000_000_000;

fn endpoint(number: u16) -> Endpoint {
    Endpoint {
        address: SocketAddr::from(([10, 0, 0, 1], number)),
        weight: WEIGHT_ONE,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: ProtocolHint::Unknown,
        lanes: Vec::new(),
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: BTreeMap::new(),
    }
}

fn service(endpoints: Vec<Endpoint>) -> Service {
    Service::new(ServiceKey("a.b.svc.x:1".into()), true, endpoints.into_iter().map(Arc::new).collect())
}

#[test]
fn the_curve_is_that_of_the_specification() {
    let default = WarmUp::default();
    for (seconds, expected) in [(0, 200), (12, 200), (17, 201), (30, 625), (60, 2_500), (90, 5_625), (119, 9_834)] {
        let found = share(&default, seconds * 1_000);
        assert!(found.abs_diff(expected) <= 1, "{seconds} s: {found} instead of {expected}");
    }
    assert_eq!((share(&default, 120_000), share(&default, u64::MAX)), (WEIGHT_ONE, WEIGHT_ONE));
    let straight = WarmUp { curve: 100, floor: 1, ..default };
    assert_eq!((share(&straight, 60_000), share(&straight, 0)), (5_000, 100));
}

proptest! {
    #[test]
    fn any_curve_rises_from_the_floor_to_the_whole(
        curve in 100..=1_000_u32,
        floor in 1..=100_u32,
        length in 1..10_000_000_u64,
        ages in prop::array::uniform2(0..10_000_000_u64),
    ) {
        let policy = WarmUp { duration: Duration::from_millis(length), curve, floor, after_recovery: false };
        let [early, late] = [ages[0].min(ages[1]), ages[0].max(ages[1])].map(|age| share(&policy, age));
        prop_assert!(floor * 100 <= early && early <= late && late <= WEIGHT_ONE, "{early} {late}");
        let passed = ages[0].min(length) as f64 / length as f64;
        let exact = passed.powf(f64::from(curve) / 100.0).max(f64::from(floor) / 100.0);
        let found = f64::from(share(&policy, ages[0])) / f64::from(WEIGHT_ONE);
        prop_assert!((found - exact).abs() < 0.002, "{found} instead of {exact}");
    }

    #[test]
    fn a_positive_weight_stays_positive_and_never_grows(weight in any::<u32>(), share in 1..=WEIGHT_ONE) {
        let found = weighed(weight, share);
        prop_assert!(found <= weight && (found > 0) == (weight > 0));
        prop_assert_eq!(weighed(weight, WEIGHT_ONE), weight);
    }

    #[test]
    fn the_cap_is_one_at_least_and_rises_with_share_and_load(
        weight in 1..=WEIGHT_ONE,
        share in 1..WEIGHT_ONE,
        load in 0.0..1e6_f64,
    ) {
        let found = cap(weight, share, load);
        prop_assert!(found >= 1);
        prop_assert!(found <= cap(weight, share + 1, load) && found <= cap(weight, share, load * 2.0));
        let expected = load * f64::from(weight) / f64::from(WEIGHT_ONE) * f64::from(share) / f64::from(WEIGHT_ONE);
        prop_assert!(f64::from(found) >= expected);
    }
}

#[test]
fn nobody_warms_up_where_half_of_the_level_is_new() {
    for (new, level, expected) in
        [(0, 10, false), (1, 10, true), (4, 10, true), (5, 10, false), (10, 10, false), (1, 1, false), (1, 2, false)]
    {
        assert_eq!(applies(new, level), expected, "{new} of {level}");
    }
}

#[test]
fn instances_of_the_first_list_are_new_by_what_the_controller_says_of_them_alone() {
    let policy = WarmUp::default();
    let mut endpoints: Vec<Endpoint> = (1..=3).map(endpoint).collect();
    endpoints[1].ready_since = Some(NOW / 1_000 - 60);
    endpoints[2].ready_since = Some(NOW / 1_000 - 600);
    let service = service(endpoints);
    let newcomers = Newcomers::default().renewed(Seen::AtOnce, &service, &policy, NOW);
    assert_eq!(newcomers.warming(&service, &policy, NOW), [(1, NOW - 60_000)]);
    assert_eq!(newcomers.warming(&service, &policy, NOW + 60_000), []);
}

#[test]
fn one_that_comes_later_starts_when_it_is_seen_or_ready_whichever_is_later() {
    let policy = WarmUp::default();
    let first = service(vec![endpoint(1)]);
    let mut endpoints: Vec<Endpoint> = (1..=3).map(endpoint).collect();
    endpoints[1].ready_since = Some(NOW / 1_000 - 600);
    endpoints[2].ready_since = Some(NOW / 1_000 + 5);
    let second = service(endpoints);
    let newcomers = Newcomers::default().renewed(Seen::After(&first), &second, &policy, NOW);
    // The clock of the third goes before ours.
    assert_eq!(newcomers.warming(&second, &policy, NOW), [(1, NOW), (2, NOW)]);
    assert_eq!(newcomers.warming(&second, &policy, NOW + 10_000), [(1, NOW), (2, NOW + 5_000)]);
    // It stays as new as it is when others come, and is forgotten when it has warmed up.
    let third = service((1..=4).map(endpoint).collect());
    let again = newcomers.renewed(Seen::After(&second), &third, &policy, NOW + 30_000);
    assert_eq!(again.warming(&third, &policy, NOW + 30_000), [(1, NOW), (2, NOW), (3, NOW + 30_000)]);
    let later = again.renewed(Seen::After(&third), &third, &policy, NOW + 500_000);
    assert_eq!(later, Newcomers::default());
}

#[test]
fn a_ready_since_that_never_comes_says_nothing() {
    let policy = WarmUp::default();
    let service = service(vec![endpoint(1), Endpoint { ready_since: Some(NOW), ..endpoint(2) }]);
    let newcomers = Newcomers::default().renewed(Seen::AtOnce, &service, &policy, NOW);
    assert_eq!(newcomers.warming(&service, &policy, NOW), []);
}

#[test]
fn one_that_takes_no_traffic_at_first_starts_when_it_does() {
    let policy = WarmUp::default();
    let first = service(vec![endpoint(1)]);
    let ill = service(vec![endpoint(1), Endpoint { healthy: false, ..endpoint(2) }]);
    let newcomers = Newcomers::default().renewed(Seen::After(&first), &ill, &policy, NOW);
    assert_eq!(newcomers.warming(&ill, &policy, NOW), []);
    let well = service(vec![endpoint(1), endpoint(2)]);
    let newcomers = newcomers.renewed(Seen::After(&ill), &well, &policy, NOW + 300_000);
    assert_eq!(newcomers.warming(&well, &policy, NOW + 300_000), [(1, NOW + 300_000)]);
}

#[test]
fn one_that_was_unhealthy_warms_up_again_where_the_policy_says_so() {
    let well = service(vec![endpoint(1), endpoint(2)]);
    let ill = service(vec![endpoint(1), Endpoint { healthy: false, ..endpoint(2) }]);
    for (after_recovery, expected) in [(false, vec![]), (true, vec![(1, NOW + 9)])] {
        let policy = WarmUp { after_recovery, ..WarmUp::default() };
        let newcomers = Newcomers::default().renewed(Seen::AtOnce, &well, &policy, NOW);
        let newcomers = newcomers.renewed(Seen::After(&well), &ill, &policy, NOW + 1);
        let newcomers = newcomers.renewed(Seen::After(&ill), &well, &policy, NOW + 9);
        assert_eq!(newcomers.warming(&well, &policy, NOW + 9), expected, "{after_recovery}");
    }
    let mut newcomers = Newcomers::default();
    newcomers.recovered(endpoint(2).address, NOW);
    assert_eq!(newcomers.warming(&well, &WarmUp::default(), NOW + 1), [(1, NOW)]);
}

#[test]
fn new_candidates_have_their_part_and_as_many_exchanges_as_it_makes_them_have() {
    let policy = WarmUp::default();
    let busy = std::cell::RefCell::new([10_u32; 6]);
    let mut parts = Parts::default();
    let mut at = |candidates: &[usize], warming: &[(usize, u64)], now| {
        let level =
            Level { candidates, weight: &|_| WEIGHT_ONE, in_flight: &|position| busy.borrow()[position], random: 7 };
        let reason = parts.work_out(&policy, warming, now, &level);
        let weights: Vec<u32> = (0..6).map(|position| parts.weight(position, WEIGHT_ONE)).collect();
        let without: Vec<u32> = (0..6).map(|position| parts.weight_without_cap(position, WEIGHT_ONE)).collect();
        (reason, weights, without)
    };
    let whole = vec![WEIGHT_ONE; 6];
    let all = [0, 1, 2, 3, 4, 5];
    assert_eq!(at(&all, &[], NOW), (Reason::NobodyNew, whole.clone(), whole.clone()));
    assert_eq!(at(&all, &[(1, NOW - 120_000)], NOW), (Reason::NobodyNew, whole.clone(), whole.clone()));
    // It is new, and no candidate.
    assert_eq!(at(&[0, 2, 3], &[(1, NOW)], NOW).0, Reason::NobodyNew);
    assert_eq!(at(&[0, 1], &[(1, NOW)], NOW), (Reason::HalfNew, whole.clone(), whole.clone()));
    // With 10 exchanges, as everybody has, a quarter of the weight is full: 5 and some are its share with headroom.
    let quarter = vec![WEIGHT_ONE, WEIGHT_ONE, WEIGHT_ONE, WEIGHT_ONE, 2_500, WEIGHT_ONE];
    let full = vec![WEIGHT_ONE, WEIGHT_ONE, WEIGHT_ONE, WEIGHT_ONE, 0, WEIGHT_ONE];
    assert_eq!(at(&all, &[(4, NOW - 60_000)], NOW), (Reason::Warming, full, quarter.clone()));
    busy.borrow_mut()[4] = 5;
    assert_eq!(at(&all, &[(4, NOW - 60_000)], NOW), (Reason::Warming, quarter.clone(), quarter));
    // On a quiet level it may have one.
    *busy.borrow_mut() = [0; 6];
    assert_eq!(at(&all, &[(4, NOW)], NOW).1[4], 200);
}
