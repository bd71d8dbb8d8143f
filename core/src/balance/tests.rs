//! Shares, stability and bounds of every algorithm, against simple models.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::model::{
    endpoint::{ProtocolHint, WEIGHT_ONE},
    policy::HashOn,
};

fn member(number: u16, weight: u32) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 8_080)),
        weight,
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
    })
}

fn members(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    (0_u16..).zip(weights).map(|(number, weight)| member(number, *weight)).collect()
}

fn on() -> Vec<HashOn> {
    vec![HashOn::SourceIp]
}

fn algorithms() -> [LoadBalancing; 6] {
    [
        LoadBalancing::PeakEwma,
        LoadBalancing::LeastRequest,
        LoadBalancing::RoundRobin,
        LoadBalancing::Random,
        LoadBalancing::RingHash { on: on() },
        LoadBalancing::Maglev { on: on() },
    ]
}

/// Weights of which those below 1.0 are of new instances.
fn warming(weight: &dyn Fn(usize) -> u32) -> Weights<'_> {
    Weights::Warming { weight, is_new: &|position| position == 9 || position == 3 }
}

/// What is offered where nobody is busy.
fn quiet<'a>(candidates: &'a [usize], weights: Weights<'a>, round: u64) -> Offer<'a> {
    Offer {
        candidates,
        weights,
        cost: &|_| 1.0,
        in_flight: &|_| 0,
        key: Some(mix(round.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        random: [mix(round * 2 + 1), mix(mix(round * 2 + 2))],
    }
}

fn shares(how: &LoadBalancing, members: &[Arc<Endpoint>], weights: Weights<'_>, rounds: u64) -> Vec<f64> {
    let candidates: Vec<usize> = (0..members.len()).collect();
    let mut balancer = Balancer::default();
    let mut counts = vec![0_u64; members.len()];
    for round in 0..rounds {
        let (found, _) = balancer.pick(how, members, &quiet(&candidates, weights, round)).unwrap();
        counts[found] += 1;
    }
    counts.iter().map(|count| *count as f64 / rounds as f64).collect()
}

#[test]
fn shares_follow_weights_with_every_algorithm() {
    for weights in [&[10_000, 10_000, 10_000, 10_000][..], &[10_000, 5_000, 2_500], &[100, 300, 600]] {
        let members = members(weights);
        let total: u32 = weights.iter().sum();
        let weight = |position: usize| weights[position];
        for how in algorithms() {
            let found = shares(&how, &members, Weights::Each(&weight), 40_000);
            for (share, weight) in found.iter().zip(weights) {
                let expected = f64::from(*weight) / f64::from(total);
                // Points on a ring are drawn: 160 of an instance stray by some percent of its share.
                let tolerance = if matches!(how, LoadBalancing::RingHash { .. }) { 0.06 } else { 0.012 };
                assert!((share - expected).abs() < tolerance, "{}: {found:?} of {weights:?}", how.word());
            }
        }
    }
}

#[test]
fn a_new_instance_has_the_share_of_its_reduced_weight_with_every_algorithm() {
    let members = members(&[WEIGHT_ONE; 10]);
    for part in [200, 2_500, 5_000, 9_000] {
        let weight = |position: usize| if position == 3 { part } else { WEIGHT_ONE };
        let expected = f64::from(part) / f64::from(part + 9 * WEIGHT_ONE);
        for how in algorithms() {
            let found = shares(&how, &members, warming(&weight), 40_000)[3];
            assert!((found - expected).abs() < 0.03, "{}: {found} instead of {expected}", how.word());
        }
    }
}

/// Exchanges that take as long everywhere, `callers` at a time, each caller with a balancer of its own: share of the last
/// instance, whose weight is reduced.
fn share_under_load(how: &LoadBalancing, part: u32, callers: usize, each: usize) -> f64 {
    const ROUNDS: u64 = 20_000;
    let members = members(&[WEIGHT_ONE; 10]);
    let candidates: Vec<usize> = (0..10).collect();
    let weight = |position: usize| if position == 9 { part } else { WEIGHT_ONE };
    let mut state: Vec<(Balancer, RefCell<[u32; 10]>, Vec<usize>)> =
        (0..callers).map(|_| (Balancer::default(), RefCell::new([0; 10]), Vec::new())).collect();
    let mut count = 0;
    for round in 0..ROUNDS {
        let (balancer, in_flight, queue) = &mut state[round as usize % callers];
        if queue.len() == each {
            in_flight.borrow_mut()[queue.remove(0)] -= 1;
        }
        let busy = |position: usize| in_flight.borrow()[position];
        let cost = |position: usize| f64::from(busy(position)) + 1.0;
        let mut offer = quiet(&candidates, warming(&weight), round);
        (offer.cost, offer.in_flight) = (&cost, &busy);
        let (found, _) = balancer.pick(how, &members, &offer).unwrap();
        in_flight.borrow_mut()[found] += 1;
        queue.push(found);
        count += u64::from(found == 9);
    }
    count as f64 / ROUNDS as f64
}

#[test]
fn a_new_instance_is_not_flooded_because_it_is_idle() {
    for (callers, each) in [(1, 1), (1, 50), (3, 10), (50, 1), (50, 4)] {
        for part in [200, 2_500, 5_000, 9_000] {
            let expected = f64::from(part) / f64::from(part + 9 * WEIGHT_ONE);
            for how in algorithms() {
                let found = share_under_load(&how, part, callers, each);
                let place = format!("{}, {callers} callers with {each} each", how.word());
                assert!((found - expected).abs() < 0.03, "{place}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn a_new_instance_has_its_share_however_fast_or_slow_it_seems() {
    let members = members(&[WEIGHT_ONE; 5]);
    let candidates: Vec<usize> = (0..5).collect();
    let weight = |position: usize| if position == 3 { 2_500 } else { WEIGHT_ONE };
    for seems in [0.01, 100.0] {
        let cost = |position: usize| if position == 3 { seems } else { 1.0 };
        let mut balancer = Balancer::default();
        let mut count = 0;
        for round in 0..20_000 {
            let offer = Offer { cost: &cost, ..quiet(&candidates, warming(&weight), round) };
            let (found, _) = balancer.pick(&LoadBalancing::PeakEwma, &members, &offer).unwrap();
            count += u32::from(found == 3);
        }
        let found = f64::from(count) / 20_000.0;
        assert!((found - 2_500.0 / 42_500.0).abs() < 0.01, "{found} where it seems to cost {seems}");
    }
}

#[test]
fn turns_go_round_and_spread_a_heavy_instance_out() {
    let equal = members(&[1, 1, 1]);
    let mut balancer = Balancer::default();
    let mut turn = |members: &[Arc<Endpoint>], weights: Weights<'_>, round| {
        let candidates: Vec<usize> = (0..members.len()).collect();
        balancer.pick(&LoadBalancing::RoundRobin, members, &quiet(&candidates, weights, round)).unwrap().0
    };
    let six: Vec<usize> = (0..6).map(|round| turn(&equal, Weights::Equal, round)).collect();
    assert_eq!((six[0], six[1], six[2]), (six[3], six[4], six[5]));
    assert_eq!(BTreeSet::from_iter(six), BTreeSet::from([0, 1, 2]));
    let weights = [5, 1, 1];
    let heavy = members(&weights);
    let weight = |position: usize| weights[position];
    let mut balancer = Balancer::default();
    let mut last = Vec::new();
    for round in 0..70 {
        let offer = quiet(&[0, 1, 2], Weights::Each(&weight), round);
        last.push(balancer.pick(&LoadBalancing::RoundRobin, &heavy, &offer).unwrap().0);
    }
    assert_eq!(last.iter().filter(|found| **found == 0).count(), 50);
    assert!(!last.windows(5).any(|five| five.iter().all(|found| *found == 0)), "{last:?}");
}

#[test]
fn turns_are_even_where_several_sets_of_candidates_alternate() {
    let members = members(&[WEIGHT_ONE; 4]);
    let mut balancer = Balancer::default();
    let mut counts = [0_u32; 4];
    for round in 0..400 {
        let candidates: &[usize] = if round % 2 == 0 { &[0, 1] } else { &[2, 3] };
        let offer = quiet(candidates, Weights::Equal, round);
        counts[balancer.pick(&LoadBalancing::RoundRobin, &members, &offer).unwrap().0] += 1;
    }
    assert!(counts.iter().all(|count| (98..=102).contains(count)), "{counts:?}");
}

#[test]
fn instances_that_stay_keep_their_turns() {
    let before = members(&[3, 2, 1]);
    let mut after = before.clone();
    after.remove(1);
    let mut balancer = Balancer::default();
    let weights = |members: &[Arc<Endpoint>]| members.iter().map(|member| member.weight).collect::<Vec<_>>();
    let all = weights(&before);
    let weight = |position: usize| all[position];
    balancer.pick(&LoadBalancing::RoundRobin, &before, &quiet(&[0, 1, 2], Weights::Each(&weight), 1)).unwrap();
    balancer.renew(&before, &after);
    let left = weights(&after);
    let weight = |position: usize| left[position];
    let mut counts = [0; 2];
    for round in 0..40 {
        let offer = quiet(&[0, 1], Weights::Each(&weight), round);
        counts[balancer.pick(&LoadBalancing::RoundRobin, &after, &offer).unwrap().0] += 1;
    }
    assert!((29..=31).contains(&counts[0]), "{counts:?}");
}

fn placed(how: &LoadBalancing, members: &[Arc<Endpoint>], candidates: &[usize], keys: u64) -> Vec<SocketAddr> {
    let mut balancer = Balancer::default();
    let one = |round| balancer.pick(how, members, &quiet(candidates, Weights::Equal, round)).unwrap().0;
    (0..keys).map(one).map(|position| members[position].address).collect()
}

#[test]
fn keys_stay_where_they_are_when_an_instance_cannot_be_used() {
    const KEYS: u64 = 5_000;
    let members = members(&[WEIGHT_ONE; 20]);
    let all: Vec<usize> = (0..20).collect();
    let without: Vec<usize> = all.iter().copied().filter(|position| *position != 7).collect();
    for how in [LoadBalancing::RingHash { on: on() }, LoadBalancing::Maglev { on: on() }] {
        let before = placed(&how, &members, &all, KEYS);
        let after = placed(&how, &members, &without, KEYS);
        for (was, is) in before.iter().zip(&after) {
            assert!(was == is || *was == members[7].address, "{}: {was} became {is}", how.word());
        }
        let taken: BTreeSet<&SocketAddr> =
            before.iter().zip(&after).filter(|(was, is)| was != is).map(|(_, is)| is).collect();
        assert!(taken.len() > 10, "{}: its keys went to {} others only", how.word(), taken.len());
    }
}

#[test]
fn few_keys_move_when_an_instance_comes() {
    const KEYS: u64 = 5_000;
    let before = members(&[WEIGHT_ONE; 20]);
    let mut after = before.clone();
    after.push(member(500, WEIGHT_ONE));
    let (old, new): (Vec<usize>, Vec<usize>) = ((0..20).collect(), (0..21).collect());
    for (how, others) in [(LoadBalancing::RingHash { on: on() }, 0.0), (LoadBalancing::Maglev { on: on() }, 0.05)] {
        let pairs: Vec<(SocketAddr, SocketAddr)> =
            placed(&how, &before, &old, KEYS).into_iter().zip(placed(&how, &after, &new, KEYS)).collect();
        let came = pairs.iter().filter(|(_, is)| *is == after[20].address).count() as f64 / KEYS as f64;
        let moved = pairs.iter().filter(|(was, is)| was != is && *is != after[20].address).count();
        assert!((came - 1.0 / 21.0).abs() < 0.02, "{}: {came} came to the new one", how.word());
        assert!(moved as f64 / KEYS as f64 <= others, "{}: {moved} keys moved between others", how.word());
    }
}

#[test]
fn keys_come_to_a_new_instance_bit_by_bit_and_move_nowhere_else() {
    const KEYS: u64 = 4_000;
    let members = members(&[WEIGHT_ONE; 10]);
    let candidates: Vec<usize> = (0..10).collect();
    for how in [LoadBalancing::RingHash { on: on() }, LoadBalancing::Maglev { on: on() }] {
        let mut balancer = Balancer::default();
        let mut at = |part: u32, key: u64| {
            let weight = |position: usize| if position == 9 { part } else { WEIGHT_ONE };
            balancer.pick(&how, &members, &quiet(&candidates, warming(&weight), key)).unwrap().0
        };
        for key in 0..KEYS {
            let places = [200, 2_000, 5_000, WEIGHT_ONE].map(|part| at(part, key));
            for pair in places.windows(2) {
                assert!(pair[0] == pair[1] || pair[1] == 9, "{}: {places:?}", how.word());
            }
        }
    }
}

#[test]
fn an_instance_of_the_ring_that_is_too_busy_passes_keys_on() {
    let members = members(&[WEIGHT_ONE; 10]);
    let candidates: Vec<usize> = (0..10).collect();
    let in_flight = RefCell::new([0_u32; 10]);
    let mut balancer = Balancer::default();
    // One key alone: without a bound all of it would go to one instance.
    let mut reasons = BTreeSet::new();
    for round in 0..1_000 {
        let busy = |position: usize| in_flight.borrow()[position];
        let offer = Offer { in_flight: &busy, key: Some(42), ..quiet(&candidates, Weights::Equal, round) };
        let (found, reason) = balancer.pick(&LoadBalancing::RingHash { on: on() }, &members, &offer).unwrap();
        in_flight.borrow_mut()[found] += 1;
        reasons.insert(reason == Reason::Key);
    }
    let most = *in_flight.borrow().iter().max().unwrap();
    assert!((100..=126).contains(&most), "{in_flight:?}");
    assert_eq!(reasons, BTreeSet::from([true, false]));
}

#[test]
fn tables_of_great_services_are_bounded() {
    let members = members(&vec![WEIGHT_ONE; 3_000]);
    let ring = Ring::new(&members);
    assert!(format!("{ring:?}").len() > 3_000);
    let candidates: Vec<usize> = (0..3_000).collect();
    for how in [LoadBalancing::RingHash { on: on() }, LoadBalancing::Maglev { on: on() }] {
        let found = placed(&how, &members, &candidates, 20_000);
        let used: BTreeSet<&SocketAddr> = found.iter().collect();
        assert!(used.len() > 2_700, "{}: {} used", how.word(), used.len());
    }
    // A lane of two among thousands.
    for how in [LoadBalancing::RingHash { on: on() }, LoadBalancing::Maglev { on: on() }] {
        let found = placed(&how, &members, &[5, 2_500], 1_000);
        let first = found.iter().filter(|address| **address == members[5].address).count();
        assert!((300..700).contains(&first), "{}: {first} of 1000", how.word());
    }
}

#[test]
fn a_key_is_the_first_that_is_there_and_the_same_everywhere() {
    let places = vec![
        HashOn::Header("x-user".to_owned()),
        HashOn::Cookie { name: "session".to_owned(), ttl: Some(Duration::ZERO) },
        HashOn::Query("user".to_owned()),
        HashOn::SourceIp,
    ];
    let source = "::ffff:10.1.2.3".parse().ok();
    let fields: &[(&str, &str)] = &[("X-User", " ann "), ("cookie", "a=b; session=s1")];
    assert_eq!(key(&places, &fields, Some("user=bob"), source), Key::Found(hash(b"ann")));
    let fields: &[(&str, &str)] = &[("x-user", ""), ("cookie", "a=b; session=s1")];
    assert_eq!(key(&places, &fields, Some("user=bob"), source), Key::Found(hash(b"s1")));
    let none: &[(&str, &str)] = &[];
    assert_eq!(key(&places, &none, Some("x=1&user=b%6fb"), source), Key::Found(hash(b"bob")));
    assert_eq!(key(&places, &none, None, source), Key::Found(hash(&[10, 1, 2, 3])));
    assert_eq!(key(&places, &none, None, None), Key::ToSet(&places[1]));
    assert_eq!(key(&places[..1], &none, None, None), Key::None);
    assert_eq!(hash(b"ann"), 9_265_845_255_492_201_856);
}

#[test]
fn a_request_without_a_key_goes_by_chance() {
    let members = members(&[WEIGHT_ONE; 3]);
    let mut balancer = Balancer::default();
    let mut seen = BTreeSet::new();
    for round in 0..100 {
        let offer = Offer { key: None, ..quiet(&[0, 1, 2], Weights::Equal, round) };
        let (found, reason) = balancer.pick(&LoadBalancing::Maglev { on: on() }, &members, &offer).unwrap();
        assert_eq!(reason, Reason::NoKey);
        seen.insert(found);
    }
    assert_eq!(seen.len(), 3);
}

proptest! {
    #[test]
    fn a_pick_is_a_candidate_with_weight_wherever_there_is_one(
        weights in prop::collection::vec(prop_oneof![Just(0), Just(1), Just(WEIGHT_ONE), any::<u32>()], 1..12),
        usable in prop::collection::vec(any::<bool>(), 12),
        parts in prop::collection::vec(0..=WEIGHT_ONE, 12),
        busy in prop::collection::vec(prop_oneof![Just(0), 0..1_000_u32], 12),
        key in prop::option::of(any::<u64>()),
        rounds in prop::collection::vec(any::<[u64; 2]>(), 1..4),
    ) {
        let members = members(&weights);
        let candidates: Vec<usize> = (0..weights.len()).filter(|position| usable[*position]).collect();
        let weight = |position: usize| (u64::from(weights[position]) * u64::from(parts[position]) / 10_000) as u32;
        let is_there = candidates.iter().any(|position| weight(*position) > 0);
        for how in algorithms() {
            for weights in [Weights::Each(&weight), warming(&weight)] {
                let mut balancer = Balancer::default();
                for random in &rounds {
                    let offer = Offer {
                        candidates: &candidates,
                        weights,
                        cost: &|position| f64::from(busy[position]),
                        in_flight: &|position| busy[position],
                        key,
                        random: *random,
                    };
                    let found = balancer.pick(&how, &members, &offer);
                    prop_assert_eq!(found.is_some(), is_there, "{}", how.word());
                    if let Some((position, _)) = found {
                        prop_assert!(candidates.contains(&position) && weight(position) > 0, "{}", how.word());
                    }
                }
            }
        }
    }
}
