//! The parts of zones, against a model in which callers of all zones call at the same time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        policy::{ZoneFailover, ZoneMatch, ZoneShares},
        route::{PathMatch, RouteMatch},
    },
    pick::mix,
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn preferring() -> Zones {
    Zones { prefer_same: true, ..Zones::default() }
}

fn failing_over(pairs: &[(&str, &str)]) -> Zones {
    let entry = |(from, to): &(&str, &str)| ZoneFailover { from: (*from).to_owned(), to: (*to).to_owned() };
    Zones { failover: pairs.iter().map(entry).collect(), ..preferring() }
}

/// Zones `a`, `b`, … with so much of what is registered.
fn zones<'z>(capacities: &[(f64, f64)]) -> Vec<Capacity<'z>> {
    let zone = |(name, (usable, registered)): (&&'static str, &(f64, f64))| Capacity {
        zone: Some(*name),
        registered: *registered,
        usable: *usable,
    };
    NAMES.iter().zip(capacities).map(zone).collect()
}

fn parts(policy: &Zones, own: &str, zones: &[Capacity<'_>]) -> Vec<f64> {
    shares(policy, Some(own), zones).iter().map(|share| share.part).collect()
}

fn assert_parts(found: &[f64], expected: &[f64]) {
    let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.001);
    assert!(close && found.len() == expected.len(), "{found:?} instead of {expected:?}");
}

/// Load for each unit of capacity, as a multiple of what it would be if all instances had the same.
fn strain(policy: &Zones, zones: &[Capacity<'_>]) -> Vec<f64> {
    let total: f64 = zones.iter().map(|zone| zone.usable).sum();
    let callers: Vec<&str> = zones.iter().filter_map(|zone| zone.zone).collect();
    let mut loads = vec![0.0; zones.len()];
    for own in &callers {
        for (load, part) in loads.iter_mut().zip(parts(policy, own, zones)) {
            *load += part / callers.len() as f64;
        }
    }
    let strain = |(load, zone): (&f64, &Capacity<'_>)| if *load > 0.0 { load / zone.usable * total } else { 0.0 };
    loads.iter().zip(zones).map(strain).collect()
}

#[test]
fn the_own_zone_keeps_everything_while_it_has_enough_and_spills_in_proportion_below() {
    for (lost, own) in [
        (0, 1.0),
        (1, 1.0),
        (3, 1.0),
        (4, 0.989),
        (5, 0.857),
        (6, 0.714),
        (7, 0.559),
        (8, 0.390),
        (9, 0.204),
        (10, 0.0),
    ] {
        let zones = zones(&[(f64::from(10 - lost), 10.0), (10.0, 10.0), (10.0, 10.0)]);
        let rest = (1.0 - own) / 2.0;
        assert_parts(&parts(&preferring(), "a", &zones), &[own, rest, rest]);
        assert_parts(&parts(&preferring(), "b", &zones), &[0.0, 1.0, 0.0]);
        assert!(strain(&preferring(), &zones).iter().all(|strain| *strain < 1.43), "{lost} lost: {zones:?}");
    }
}

#[test]
fn a_small_zone_keeps_what_it_can_bear_alone() {
    let zones = zones(&[(1.0, 1.0), (10.0, 10.0), (10.0, 10.0)]);
    assert_parts(&parts(&preferring(), "a", &zones), &[0.204, 0.398, 0.398]);
    // One that has no instance is a zone all the same, to its callers.
    assert_parts(&parts(&preferring(), "d", &zones), &[0.0, 0.5, 0.5]);
}

#[test]
fn a_zone_that_is_named_takes_over_before_others_as_far_as_it_can() {
    let to_b = failing_over(&[("a", "b")]);
    let healthy = [(10.0, 10.0), (10.0, 10.0), (10.0, 10.0)];
    assert_parts(&parts(&to_b, "a", &zones(&healthy)), &[1.0, 0.0, 0.0]);
    let dead = zones(&[(0.0, 10.0), (10.0, 10.0), (10.0, 10.0)]);
    assert_parts(&parts(&to_b, "a", &dead), &[0.0, 1.0, 0.0]);
    assert_eq!(shares(&to_b, Some("a"), &dead)[1].reason, Reason::Failover);
    // The second in the list once the first is gone, others once both are.
    let list = failing_over(&[("a", "b"), ("a", "c")]);
    let dead = [(0.0, 10.0), (0.0, 10.0), (10.0, 10.0), (10.0, 10.0)];
    assert_parts(&parts(&list, "a", &zones(&dead)), &[0.0, 0.0, 1.0, 0.0]);
    let dead = [(0.0, 10.0), (0.0, 10.0), (0.0, 10.0), (10.0, 10.0)];
    assert_parts(&parts(&list, "a", &zones(&dead)), &[0.0, 0.0, 0.0, 1.0]);
    // Two that fail over to the same one share what it can bear.
    let both = failing_over(&[("a", "b"), ("c", "b")]);
    let dead = zones(&[(0.0, 10.0), (10.0, 10.0), (0.0, 10.0), (10.0, 10.0)]);
    assert_eq!(parts(&both, "a", &dead)[1], parts(&both, "c", &dead)[1]);
    assert!(strain(&both, &dead).iter().all(|strain| *strain < 1.43));
}

#[test]
fn fixed_parts_are_kept_but_for_what_a_zone_cannot_bear() {
    let to = BTreeMap::from([("a".to_owned(), 80), ("b".to_owned(), 20), ("c".to_owned(), 0)]);
    let policy = Zones { distribute: vec![ZoneShares { from: "a".to_owned(), to }], ..Zones::default() };
    let healthy = [(10.0, 10.0), (10.0, 10.0), (10.0, 10.0)];
    assert_parts(&parts(&policy, "a", &zones(&healthy)), &[0.8, 0.2, 0.0]);
    // 70 % are enough; half of that bears half of its part.
    assert_parts(&parts(&policy, "a", &zones(&[(7.0, 10.0), (10.0, 10.0), (10.0, 10.0)])), &[0.8, 0.2, 0.0]);
    let half = parts(&policy, "a", &zones(&[(3.5, 10.0), (10.0, 10.0), (10.0, 10.0)]));
    assert_parts(&half, &[0.4 / 0.6, 0.2 / 0.6, 0.0]);
    assert_parts(&parts(&policy, "a", &zones(&[(0.0, 10.0), (0.0, 10.0), (10.0, 10.0)])), &[0.0, 0.0, 1.0]);
    // Callers of other zones were not spoken of.
    let others = shares(&policy, Some("b"), &zones(&healthy));
    assert!(others.iter().all(|share| share.reason == Reason::NotAsked && (share.part - 1.0 / 3.0).abs() < 1e-9));
}

proptest! {
    #[test]
    fn whatever_is_lost_nobody_gets_more_than_half_again_of_a_fair_share(
        capacities in prop::collection::vec((0_u32..30, 0_u32..30), 1..=4),
        failover in prop::collection::vec((0_usize..4, 0_usize..4), 0..5),
        unknown in 0_u32..20,
    ) {
        let mut zones = zones(&capacities.iter().map(|(usable, lost)| {
            (f64::from(*usable), f64::from(usable + lost))
        }).collect::<Vec<_>>());
        zones.push(Capacity { zone: None, registered: f64::from(unknown), usable: f64::from(unknown) });
        let pairs: Vec<(&str, &str)> =
            failover.iter().filter(|(from, to)| from != to).map(|(from, to)| (NAMES[*from], NAMES[*to])).collect();
        let policy = failing_over(&pairs);
        let total: f64 = zones.iter().map(|zone| zone.usable).sum();
        for own in zones.iter().filter_map(|zone| zone.zone) {
            let parts = parts(&policy, own, &zones);
            let sum: f64 = parts.iter().sum();
            prop_assert!((sum - if total > 0.0 { 1.0 } else { 0.0 }).abs() < 1e-6, "{:?}", parts);
            for (part, zone) in parts.iter().zip(&zones) {
                prop_assert!(*part >= 0.0 && (zone.usable > 0.0 || *part == 0.0), "{:?} of {:?}", parts, zones);
            }
        }
        for strain in strain(&policy, &zones) {
            prop_assert!(strain < 1.43, "{} in {:?}", strain, zones);
        }
    }
}

/// A level of instances by zone; `down` cannot be used, `kept` cannot be relied on.
struct Ground {
    zones: Vec<Option<&'static str>>,
    weights: Vec<u32>,
    down: BTreeSet<usize>,
    kept: BTreeSet<usize>,
    drained: BTreeSet<String>,
}

impl Ground {
    /// So many instances in each of the zones `a`, `b`, ….
    fn of(counts: &[usize]) -> Self {
        let zones: Vec<_> =
            NAMES.iter().zip(counts).flat_map(|(name, count)| std::iter::repeat_n(Some(*name), *count)).collect();
        let weights = vec![10_000; zones.len()];
        Ground { zones, weights, down: BTreeSet::new(), kept: BTreeSet::new(), drained: BTreeSet::new() }
    }

    fn plan(&self, policy: &Zones, own: &str, before: Option<&Plan>, now: u64) -> Plan {
        let members: Vec<usize> = (0..self.zones.len()).collect();
        let candidates: Vec<usize> = members.iter().copied().filter(|at| !self.down.contains(at)).collect();
        let level = Level {
            members: &members,
            candidates: &candidates,
            weight: &|at| self.weights[at],
            zone: &|at| self.zones[at],
            is_sound: &|at| !self.kept.contains(&at),
        };
        Plan::new(policy, Some(own), &self.drained, &level, (before, Duration::from_millis(now)))
    }

    /// Shares of zones in many picks.
    fn measured(&self, plan: &Plan) -> BTreeMap<&'static str, f64> {
        const DRAWS: u64 = 20_000;
        let mut found = BTreeMap::new();
        for draw in 0..DRAWS {
            let (positions, _) = plan.pick(mix(draw + 1), None);
            let zone = self.zones[positions[0]].unwrap();
            let is_one_zone = positions.iter().all(|at| self.zones[*at] == Some(zone));
            *found.entry(if is_one_zone { zone } else { "several" }).or_default() += 1.0 / DRAWS as f64;
        }
        found
    }

    fn part(&self, plan: &Plan, zone: &str) -> f64 {
        self.measured(plan).get(zone).copied().unwrap_or(0.0)
    }
}

#[test]
fn a_pick_offers_the_usable_instances_of_the_zone_that_is_drawn() {
    let mut ground = Ground::of(&[4, 4]);
    let plan = ground.plan(&preferring(), "a", None, 0);
    assert_eq!(plan.pick(0, None), (&[0, 1, 2, 3][..], Reason::Own));
    assert_eq!(plan.pick(u64::MAX, None), (&[0, 1, 2, 3][..], Reason::Own));
    ground.down = BTreeSet::from([1, 2, 3]);
    let plan = ground.plan(&preferring(), "a", None, 0);
    assert_eq!(plan.pick(0, None), (&[0][..], Reason::Own));
    assert_eq!(plan.pick(u64::MAX, None), (&[4, 5, 6, 7][..], Reason::Spill));
    // 1 of 4 has 0.4 of the 2.5 that callers of a zone need; at 0.7 it would keep everything.
    assert!((ground.part(&plan, "a") - 0.571).abs() < 0.01);
}

#[test]
fn without_a_wish_the_balancer_sees_all_zones_at_once() {
    let ground = Ground::of(&[2, 2]);
    let plan = ground.plan(&Zones::default(), "a", None, 0);
    assert_eq!(plan.pick(7, None), (&[0, 1, 2, 3][..], Reason::NotAsked));
    let members = [0, 1];
    let level = Level {
        members: &members,
        candidates: &members,
        weight: &|_| 1,
        zone: &|at| ground.zones[at],
        is_sound: &|_| true,
    };
    let unknown = Plan::new(&preferring(), None, &BTreeSet::new(), &level, (None, Duration::ZERO));
    assert_eq!(unknown.pick(7, None), (&[0, 1][..], Reason::OwnUnknown));
}

#[test]
fn instances_that_stay_only_because_others_are_out_count_as_unavailable() {
    let mut ground = Ground::of(&[6, 4]);
    ground.down = BTreeSet::from([0, 1, 2, 3, 4]);
    ground.kept = BTreeSet::from([5]);
    let plan = ground.plan(&preferring(), "a", None, 0);
    assert_eq!(plan.pick(0, None), (&[6, 7, 8, 9][..], Reason::Spill));
    // Where nobody else is left, they are better than nothing.
    ground.down.extend(6..10);
    assert_eq!(ground.plan(&preferring(), "a", None, 0).pick(0, None), (&[5][..], Reason::NobodyElse));
}

#[test]
fn a_drained_zone_gets_nothing_while_another_can_take_over() {
    let mut ground = Ground::of(&[2, 2, 2]);
    ground.drained.insert("a".to_owned());
    for own in ["a", "b"] {
        let plan = ground.plan(&Zones::default(), own, None, 0);
        assert_eq!(plan.pick(3, None), (&[2, 3, 4, 5][..], Reason::Drained));
        assert_eq!(ground.part(&ground.plan(&preferring(), own, None, 0), "a"), 0.0);
    }
    // Also where a policy names it.
    assert_eq!(ground.plan(&Zones::default(), "a", None, 0).pick(3, Some("a")).1, Reason::Drained);
    ground.down.extend(2..6);
    let plan = ground.plan(&Zones::default(), "b", None, 0);
    assert_eq!(plan.pick(3, None), (&[0, 1][..], Reason::NobodyElse));
}

#[test]
fn what_comes_back_gets_its_part_bit_by_bit_and_what_goes_loses_it_at_once() {
    for policy in [preferring(), Zones::default()] {
        let mut ground = Ground::of(&[10, 10, 10]);
        let whole = ground.plan(&policy, "a", None, 0);
        ground.drained.insert("a".to_owned());
        let mut plan = ground.plan(&policy, "a", Some(&whole), 1_000);
        assert_eq!(ground.part(&plan, "a"), 0.0);
        assert!(!plan.is_returning());
        let (mut last, mut now) = (0.0, 60_000);
        ground.drained.clear();
        plan = ground.plan(&policy, "a", Some(&plan), now);
        assert!(plan.is_returning() && !plan.is_due(Duration::from_millis(now)));
        while plan.is_returning() {
            now += 250;
            assert!(plan.is_due(Duration::from_millis(now)));
            plan = ground.plan(&policy, "a", Some(&plan), now);
            let whole: f64 = plan.counted().iter().map(|zone| zone.now).sum();
            let of_a = plan.groups().filter(|(positions, _)| positions.iter().all(|at| *at < 10));
            let part: f64 = of_a.map(|(_, share)| share.part).sum();
            // Of what counts by then, its instances get no more than half again of a fair share.
            let fair = plan.counted()[0].now / whole;
            assert!(plan.is_returning() || now == 70_000, "{now}");
            assert!(
                !plan.is_returning() || (part >= last && part <= 3.0 * 1.43 * fair),
                "{part} at {now}, fair {fair}"
            );
            last = part;
        }
        assert_eq!(now, 70_000);
    }
}

#[test]
fn a_request_that_a_policy_names_a_zone_for_goes_there_while_somebody_can_be_used() {
    let path = |path: &str| RouteMatch { path: Some(PathMatch::Exact(path.to_owned())), ..RouteMatch::default() };
    let entry = |zone: &str, text: &str| ZoneMatch { request: path(text), zone: zone.to_owned() };
    let policy = Zones { matches: vec![entry("b", "/b"), entry("c", "/c"), entry("a", "/b")], ..preferring() };
    let ask = |path: &str| {
        let fields: &[(&str, &str)] = &[];
        wanted(&policy, &RequestParts { method: "GET", host: "h", path, query: None, fields: &fields })
    };
    assert_eq!([ask("/b"), ask("/c"), ask("/")], [Some(0), Some(1), None]);
    let mut ground = Ground::of(&[2, 2, 0]);
    let plan = ground.plan(&policy, "a", None, 0);
    assert_eq!(plan.pick(1, Some("b")), (&[2, 3][..], Reason::Matched));
    assert_eq!(plan.pick(1, Some("c")), (&[0, 1][..], Reason::Own));
    ground.down.extend([2, 3]);
    assert_eq!(ground.plan(&policy, "a", None, 0).pick(1, Some("b")), (&[0, 1][..], Reason::Own));
}

#[test]
fn a_further_attempt_goes_to_the_same_zone_while_somebody_there_was_not_tried() {
    let ground = Ground::of(&[2, 2]);
    let plan = ground.plan(&preferring(), "a", None, 0);
    assert_eq!(plan.pick_among(0, None, &[1, 2, 3]), (vec![1], Reason::Own));
    assert_eq!(plan.pick_among(0, None, &[2, 3]), (vec![2, 3], Reason::Spill));
    assert_eq!(plan.pick_among(0, Some("b"), &[0, 1, 3]), (vec![3], Reason::Matched));
    assert_eq!(plan.pick_among(0, None, &[7]), (vec![7], Reason::NobodyElse));
}

#[test]
fn requests_of_a_key_go_to_one_zone() {
    assert_eq!(draw(Some(7), 1), draw(Some(7), 2));
    assert_ne!(draw(Some(7), 1), draw(Some(8), 1));
    assert_eq!(draw(None, 5), 5);
}

#[test]
fn few_draws_in_a_row_are_as_even_as_many() {
    for (begin, part) in [(0, 0.2), (7 << 60, 0.204), (mix(3), 0.5), (mix(4), 0.857)] {
        let mut drawn = begin;
        let mut found = 0;
        for _ in 0..600 {
            drawn = next_draw(drawn);
            found += u64::from((drawn as f64) < part * u64::MAX as f64);
        }
        assert!((found as f64 - 600.0 * part).abs() < 3.0, "{found} of 600 for {part}");
    }
}

proptest! {
    #[test]
    fn a_pick_offers_candidates_wherever_there_are_some(
        counts in prop::collection::vec(0_usize..4, 1..=4),
        down in prop::collection::btree_set(0_usize..16, 0..8),
        kept in prop::collection::btree_set(0_usize..16, 0..8),
        drained in prop::collection::btree_set(0_usize..4, 0..3),
        draws in prop::collection::vec(any::<u64>(), 1..8),
        prefer_same in any::<bool>(),
    ) {
        let mut ground = Ground::of(&counts);
        let before = ground.plan(&Zones { prefer_same, ..Zones::default() }, "a", None, 0);
        (ground.down, ground.kept) = (down, kept);
        ground.drained = drained.into_iter().map(|zone| NAMES[zone].to_owned()).collect();
        let candidates: Vec<usize> = (0..ground.zones.len()).filter(|at| !ground.down.contains(at)).collect();
        let is_best = |at: &usize| {
            !ground.kept.contains(at) && ground.zones[*at].is_some_and(|zone| !ground.drained.contains(zone))
        };
        let some_are_best = candidates.iter().any(is_best);
        for (before, now) in [(None, 0), (Some(&before), 0), (Some(&before), 3_000)] {
            let plan = ground.plan(&Zones { prefer_same, ..Zones::default() }, "a", before, now);
            for draw in &draws {
                let (positions, _) = plan.pick(*draw, None);
                prop_assert_eq!(positions.is_empty(), candidates.is_empty());
                prop_assert!(positions.is_sorted());
                prop_assert!(positions.iter().all(|at| candidates.contains(at)));
                prop_assert!(!some_are_best || positions.iter().all(is_best));
            }
        }
    }
}
