//! When a level is used whole, and when not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    lane::{Carried, Choice, Source, Usable, choose},
    model::{
        endpoint::{Endpoint, ProtocolHint, WEIGHT_ONE},
        lane::{Lane, LaneRef},
        service::ServiceKey,
    },
};

fn endpoint(number: usize, lanes: Vec<LaneRef>) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, 1], 1_000 + number as u16).into(),
        weight: WEIGHT_ONE,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: ProtocolHint::Unknown,
        lanes,
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: BTreeMap::new(),
    }
}

fn lane() -> LaneRef {
    LaneRef { group: "g".parse().unwrap(), lane: "canary".parse().unwrap() }
}

/// As many instances of the lane and of baseline as there are states.
fn world(on_unhealthy: OnUnhealthy, in_lane: usize, baseline: usize) -> (Service, LaneGroup) {
    let lanes = vec![Lane { on_unhealthy, ..Lane::new(lane().lane) }];
    let group = LaneGroup { revision: 1, lanes, ..LaneGroup::new(lane().group) };
    let marked = (0..in_lane).map(|number| endpoint(number, vec![lane()]));
    let plain = (0..baseline).map(|number| endpoint(in_lane + number, Vec::new()));
    let endpoints = marked.chain(plain).map(Into::into).collect();
    let service = Service::new(ServiceKey("b.demo.svc.x:1".into()), true, endpoints);
    (service.with_groups(std::slice::from_ref(&group)), group)
}

/// What a pick of this request chooses from.
fn chosen(
    world: &(Service, LaneGroup),
    carried: Option<&Carried>,
    states: &[Usability],
    tried: &[usize],
    threshold: u32,
) -> Option<(Level, Vec<usize>, Panic)> {
    let groups = std::slice::from_ref(&world.1);
    let usability = |position: usize| states[position];
    let allows = |position: usize| states[position].allows();
    match choose(carried, groups, &world.0, Usable::Where(&allows)) {
        Choice::Use { level, candidates, .. } => {
            let tried = |position: usize| tried.contains(&position);
            let (found, panic) = widen((&level, candidates), (&world.0, groups), &usability, &tried, threshold);
            let found = found.into_owned();
            Some((level, found, panic))
        }
        Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => None,
    }
}

fn label() -> Carried {
    Carried { group: None, lane: lane().lane, source: Source::Header }
}

#[test]
fn baseline_is_used_whole_where_less_than_half_of_it_is_usable() {
    use Usability::{Draining, Ejected, FailingHealth, HalfOpen, Usable};
    for (states, tried, expected, panic) in [
        (&[Usable, Usable, Ejected, Ejected][..], &[][..], &[0, 1][..], Panic::Calm),
        (&[Usable, FailingHealth, Ejected, Ejected], &[], &[0, 1, 2, 3], Panic::FailOpen),
        (&[Usable, FailingHealth, Ejected, Ejected], &[0, 1], &[2, 3], Panic::FailOpen),
        (&[Usable, FailingHealth, Ejected], &[0, 1, 2], &[0, 1, 2], Panic::FailOpen),
        (&[HalfOpen, Usable, Ejected, Ejected], &[], &[0, 1], Panic::Calm),
        // Two of three leave by their own wish: what stays is whole.
        (&[Usable, Draining, Draining], &[], &[0], Panic::Calm),
        (&[FailingHealth, Draining, FailingHealth], &[], &[0, 2], Panic::FailOpen),
        // Nobody else is left: those that drain serve, as ever.
        (&[Draining, Draining], &[], &[0, 1], Panic::Calm),
        (&[FailingHealth], &[], &[0], Panic::FailOpen),
    ] {
        let world = world(OnUnhealthy::Fallback, 0, states.len());
        let found = chosen(&world, None, states, tried, 50);
        assert_eq!(found, Some((Level::Baseline, expected.to_vec(), panic)), "{states:?}");
    }
}

#[test]
fn lane_that_can_be_left_never_panics_and_one_that_stays_does() {
    use Usability::{FailingHealth, Usable};
    let states = [Usable, FailingHealth, FailingHealth, Usable];
    for (on_unhealthy, expected, panic) in [
        (OnUnhealthy::Fallback, &[0][..], Panic::Calm),
        (OnUnhealthy::Stay, &[0, 1, 2], Panic::FailOpen),
        (OnUnhealthy::Reject, &[0, 1, 2], Panic::FailOpen),
    ] {
        let world = world(on_unhealthy, 3, 1);
        let found = chosen(&world, Some(&label()), &states, &[], 50);
        assert_eq!(found, Some((Level::Lane(lane()), expected.to_vec(), panic)), "{on_unhealthy:?}");
    }
    let nobody = [FailingHealth, FailingHealth, FailingHealth, Usable];
    assert_eq!(chosen(&world(OnUnhealthy::Reject, 3, 1), Some(&label()), &nobody, &[], 50), None);
    let falls = chosen(&world(OnUnhealthy::Fallback, 3, 1), Some(&label()), &nobody, &[], 50);
    assert_eq!(falls, Some((Level::Baseline, vec![3], Panic::Calm)));
}

proptest! {
    #[test]
    fn panic_is_by_share_alone_and_never_takes_anybody_away(
        states in prop::collection::vec(prop::sample::select(Usability::ALL.to_vec()), 1..12),
        tried in prop::collection::vec(0..12_usize, 0..4),
        threshold in 0..=100_u32,
    ) {
        let world = world(OnUnhealthy::Fallback, 0, states.len());
        let (_, found, panic) = chosen(&world, None, &states, &tried, threshold).unwrap();
        let staying: Vec<usize> = (0..states.len()).filter(|at| states[*at] != Usability::Draining).collect();
        let usable: Vec<usize> = (0..states.len()).filter(|at| states[*at].allows()).collect();
        let few = (usable.len() as f64) < staying.len() as f64 * f64::from(threshold) / 100.0;
        prop_assert_eq!(panic, if few { Panic::FailOpen } else { Panic::Calm });
        match panic {
            Panic::FailOpen => prop_assert!(
                staying.iter().all(|at| found.contains(at) || tried.contains(at)) && !found.is_empty()
            ),
            Panic::Calm if usable.is_empty() => prop_assert_eq!(found.len(), states.len()),
            Panic::Calm => prop_assert_eq!(found, usable),
        }
    }
}
