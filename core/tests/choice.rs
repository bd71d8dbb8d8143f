//! Choosing instances per hop: what becomes of a lane whose instances are absent, fail their health check, are ejected or
//! drain, for everything that a lane can say about it; who may be ejected; and where further attempts go.

use mesh_core::{
    health::{Permission, permission},
    lane::{Carried, Choice, Level, Reason, Source, Turn, Usable, choose, choose_again, choose_near, leak},
    model::{
        endpoint::{Endpoint, ProtocolHint},
        lane::{Lane, LaneGroup, LaneName, LaneRef, LaneState, OnMissing, OnUnhealthy},
        policy::OutlierDetection,
        service::{Service, ServiceKey},
    },
    snapshot::Workload,
};

fn name(text: &str) -> LaneName {
    text.parse().expect("names of this test are well-formed")
}

fn reference(lane: &str) -> LaneRef {
    LaneRef { group: name("g"), lane: name(lane) }
}

fn label(lane: &str) -> Carried {
    Carried { group: None, lane: name(lane), source: Source::Header }
}

/// How the instances of a lane are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Well,
    Absent,
    /// Failing health or ejected: to the choice they are the same.
    Unusable,
    Draining,
    OutOfTraffic,
}

/// A lane's two instances and the other levels; two instances of baseline.
struct World {
    service: Service,
    usable: Vec<bool>,
    group: LaneGroup,
}

impl World {
    /// Levels by name with the states of their instances, `""` being baseline.
    fn new(lanes: Vec<Lane>, levels: &[(&str, &[State])]) -> World {
        let mut endpoints = Vec::new();
        let mut usable = Vec::new();
        for (level, states) in levels {
            for state in states.iter().filter(|state| **state != State::Absent) {
                let port = 1_000 + endpoints.len() as u16;
                endpoints.push(Endpoint {
                    address: ([127, 0, 0, 1], port).into(),
                    weight: if *state == State::OutOfTraffic { 0 } else { 10_000 },
                    identity: None,
                    server_name: None,
                    inbound_port: None,
                    hint: ProtocolHint::Unknown,
                    lanes: if level.is_empty() { Vec::new() } else { vec![reference(level)] },
                    zone: None,
                    ready_since: None,
                    draining: *state == State::Draining,
                    healthy: true,
                    labels: Default::default(),
                });
                usable.push(*state != State::Unusable);
            }
        }
        let group = LaneGroup { revision: 1, lanes, ..LaneGroup::new(name("g")) };
        let key = ServiceKey("b.demo.svc.cluster.local:80".into());
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        let service = Service::new(key, true, endpoints).with_groups(std::slice::from_ref(&group));
        World { service, usable, group }
    }

    fn serve(&self, lane: Option<&str>) -> String {
        let usable = |position: usize| self.usable[position];
        let carried = lane.map(label);
        let groups = std::slice::from_ref(&self.group);
        shown(&choose(carried.as_ref(), groups, &self.service, Usable::Where(&usable)))
    }

    fn again(&self, level: Level, turn: Turn, tried: &[usize]) -> String {
        let usable = |position: usize| self.usable[position];
        let groups = std::slice::from_ref(&self.group);
        let tried = |position: usize| tried.contains(&position);
        let before = (&level, Reason::Matched);
        shown(&choose_again(before, turn, groups, &self.service, Usable::Where(&usable), &tried))
    }

    fn may_eject(&self, position: usize) -> bool {
        let usable = |position: usize| self.usable[position];
        let groups = std::slice::from_ref(&self.group);
        let policy = OutlierDetection::default();
        permission(&self.service, groups, position, &usable, &policy) == Permission::Granted
    }
}

fn shown(choice: &Choice<'_>) -> String {
    match choice {
        Choice::Use { level, reason, candidates } => {
            let positions: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            format!("{level} {} {}", reason.label(), positions.join(","))
        }
        Choice::RejectMissing(lane) => format!("reject {lane} missing"),
        Choice::RejectUnhealthy(lane) => format!("reject {lane} unhealthy"),
    }
}

const WELL: &[State] = &[State::Well, State::Well];

#[test]
fn lane_without_usable_instances_does_what_it_says_for_every_reason() {
    use State::{Absent, Draining, OutOfTraffic, Unusable, Well};
    // Instances of the lane, minHealthy, and what fallback, stay and reject lead to. Baseline is 2 and 3 where the lane
    // has two instances, 0 and 1 where it has none.
    let unhealthy_both = ["baseline unhealthy 2,3", "g/l unhealthy 0,1", "reject g/l unhealthy"];
    let unhealthy_second = ["baseline unhealthy 2,3", "g/l unhealthy 0", "reject g/l unhealthy"];
    let serves_first = ["g/l matched 0"; 3];
    let cases: &[([State; 2], u32, [&str; 3])] = &[
        ([Well, Well], 1, ["g/l matched 0,1"; 3]),
        ([Well, Well], 2, ["g/l matched 0,1"; 3]),
        ([Well, Well], 3, ["baseline unhealthy 2,3", "g/l unhealthy 0,1", "reject g/l unhealthy"]),
        ([Unusable, Unusable], 0, unhealthy_both),
        ([Unusable, Unusable], 1, unhealthy_both),
        ([Draining, Draining], 0, unhealthy_both),
        ([Draining, Draining], 1, unhealthy_both),
        ([Unusable, Draining], 1, ["baseline unhealthy 2,3", "g/l unhealthy 0", "reject g/l unhealthy"]),
        ([Well, Unusable], 1, serves_first),
        ([Well, Unusable], 2, unhealthy_second),
        ([Well, Draining], 1, serves_first),
        ([Well, Draining], 2, unhealthy_second),
        ([Well, OutOfTraffic], 1, serves_first),
    ];
    for (states, min_healthy, expected) in cases {
        for (on_unhealthy, expected) in
            [OnUnhealthy::Fallback, OnUnhealthy::Stay, OnUnhealthy::Reject].into_iter().zip(expected)
        {
            for on_missing in [OnMissing::Fallback, OnMissing::Reject] {
                let lane = Lane { on_unhealthy, on_missing, min_healthy: *min_healthy, ..Lane::new(name("l")) };
                let world = World::new(vec![lane], &[("l", states), ("", WELL)]);
                let case = format!("{states:?} min {min_healthy} {on_unhealthy:?} {on_missing:?}");
                assert_eq!(world.serve(Some("l")), *expected, "{case}");
                assert_eq!(world.serve(None), "baseline unlabelled 2,3", "{case}");
            }
        }
    }
    // Nobody registered, or only such as were taken out of traffic: missing, whatever is said of unhealthy ones.
    for (states, baseline) in [([Absent, Absent], "0,1"), ([OutOfTraffic, OutOfTraffic], "2,3")] {
        for on_unhealthy in [OnUnhealthy::Fallback, OnUnhealthy::Stay, OnUnhealthy::Reject] {
            for (on_missing, expected) in [
                (OnMissing::Fallback, format!("baseline missing {baseline}")),
                (OnMissing::Reject, "reject g/l missing".to_owned()),
            ] {
                let lane = Lane { on_unhealthy, on_missing, ..Lane::new(name("l")) };
                let world = World::new(vec![lane], &[("l", &states), ("", WELL)]);
                assert_eq!(world.serve(Some("l")), expected, "{states:?} {on_unhealthy:?} {on_missing:?}");
            }
        }
    }
}

#[test]
fn chain_of_parents_is_walked_by_what_each_level_says_and_keeps_the_first_reason() {
    use State::{Absent, Draining, Unusable, Well};
    type Case<'a> = (&'a [State], &'a [State], OnMissing, OnUnhealthy, &'a str);
    let cases: &[Case<'_>] = &[
        (&[Well], &[Well], OnMissing::Fallback, OnUnhealthy::Fallback, "g/p.l matched 0"),
        (&[Absent], &[Well], OnMissing::Fallback, OnUnhealthy::Fallback, "g/p missing 0"),
        (&[Unusable], &[Well], OnMissing::Fallback, OnUnhealthy::Fallback, "g/p unhealthy 1"),
        (&[Draining], &[Well], OnMissing::Fallback, OnUnhealthy::Fallback, "g/p unhealthy 1"),
        (&[Absent], &[Unusable], OnMissing::Fallback, OnUnhealthy::Fallback, "baseline missing 1,2"),
        (&[Unusable], &[Absent], OnMissing::Fallback, OnUnhealthy::Fallback, "baseline unhealthy 1,2"),
        (&[Unusable], &[Absent], OnMissing::Reject, OnUnhealthy::Fallback, "reject g/p missing"),
        (&[Absent], &[Unusable], OnMissing::Fallback, OnUnhealthy::Reject, "reject g/p unhealthy"),
        (&[Absent], &[Unusable], OnMissing::Fallback, OnUnhealthy::Stay, "g/p missing 0"),
        (&[Draining], &[Draining], OnMissing::Fallback, OnUnhealthy::Stay, "g/p unhealthy 1"),
    ];
    for (child, parent, on_missing, on_unhealthy, expected) in cases {
        let lanes = vec![
            Lane { on_missing: *on_missing, on_unhealthy: *on_unhealthy, ..Lane::new(name("p")) },
            Lane::new(name("p.l")),
        ];
        let world = World::new(lanes, &[("p.l", child), ("p", parent), ("", WELL)]);
        assert_eq!(world.serve(Some("p.l")), *expected, "{child:?} {parent:?} {on_missing:?} {on_unhealthy:?}");
    }
}

#[test]
fn a_group_that_puts_zones_first_passes_over_levels_without_instances_in_the_zone_of_the_caller() {
    let stays = Lane { on_unhealthy: OnUnhealthy::Stay, ..Lane::new(name("dev.stays")) };
    let lanes = vec![Lane::new(name("dev")), Lane::new(name("dev.alice")), stays];
    // Positions: baseline 0 and 1, dev 2, dev.alice 3, dev.stays 4.
    let levels = [("", WELL), ("dev", &WELL[..1]), ("dev.alice", &WELL[..1]), ("dev.stays", &WELL[..1])];
    let mut world = World::new(lanes, &levels);
    let serve = |world: &World, lane: &str, near: &[usize]| {
        let usable = |position: usize| world.usable[position];
        let is_near = |position: usize| near.contains(&position);
        let groups = std::slice::from_ref(&world.group);
        shown(&choose_near(Some(&label(lane)), groups, &world.service, Usable::Where(&usable), &is_near))
    };
    assert_eq!(serve(&world, "dev.alice", &[0]), "g/dev.alice matched 3");
    world.group.zone_first = true;
    for (lane, near, expected) in [
        ("dev.alice", &[3, 0][..], "g/dev.alice matched 3"),
        ("dev.alice", &[2, 0], "g/dev other_zone 2"),
        ("dev.alice", &[1], "baseline other_zone 0,1"),
        ("dev.alice", &[], "g/dev.alice matched 3"),
        ("dev.stays", &[0, 2], "g/dev.stays matched 4"),
        ("dev", &[0], "baseline other_zone 0,1"),
    ] {
        assert_eq!(serve(&world, lane, near), expected, "{lane} {near:?}");
    }
}

#[test]
fn baseline_serves_with_what_it_has() {
    use State::{Draining, Unusable, Well};
    for (states, expected) in [
        (&[Well, Unusable][..], "baseline unlabelled 0"),
        (&[Unusable, Unusable], "baseline unlabelled 0,1"),
        (&[Unusable, Draining], "baseline unlabelled 0"),
        (&[Draining, Draining], "baseline unlabelled 0,1"),
        (&[], "baseline unlabelled "),
    ] {
        let world = World::new(vec![Lane::new(name("l"))], &[("", states), ("l", WELL)]);
        assert_eq!(world.serve(None), expected, "{states:?}");
    }
}

#[test]
fn lane_that_can_be_left_may_lose_every_instance_and_others_may_not() {
    use State::{Absent, Draining, Unusable, Well};
    type Case<'a> = (&'a [State], &'a [State], [bool; 3]);
    // Instances of the lane and of baseline; may the lane's first be ejected with fallback, stay, reject?
    let cases: &[Case<'_>] = &[
        (&[Well], WELL, [true, false, false]),
        (&[Well], &[Well, Unusable], [true, false, false]),
        // Nobody else would serve.
        (&[Well], &[Absent], [false, false, false]),
        (&[Well], &[Unusable], [false, false, false]),
        (&[Well], &[Draining], [false, false, false]),
        (&[Well, Well], WELL, [true, true, true]),
        (&[Well, Unusable], WELL, [true, false, false]),
        (&[Well, Well, Unusable], WELL, [true, false, false]),
        (&[Well, Well, Well, Unusable], WELL, [true, true, true]),
        (&[Well, Well, Unusable, Unusable], WELL, [true, false, false]),
    ];
    for (lane_states, baseline, expected) in cases {
        for (on_unhealthy, expected) in
            [OnUnhealthy::Fallback, OnUnhealthy::Stay, OnUnhealthy::Reject].into_iter().zip(expected)
        {
            let lane = Lane { on_unhealthy, ..Lane::new(name("l")) };
            let world = World::new(vec![lane], &[("l", lane_states), ("", baseline)]);
            assert_eq!(world.may_eject(0), *expected, "{lane_states:?} {baseline:?} {on_unhealthy:?}");
        }
    }
}

#[test]
fn half_of_baseline_may_be_ejected_and_one_always_stays() {
    for (size, allowed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let mut states = vec![State::Well; size];
        let mut ejected = 0;
        for position in 0..size {
            let world = World::new(Vec::new(), &[("", &states)]);
            if world.may_eject(position) {
                states[position] = State::Unusable;
                ejected += 1;
            }
        }
        assert_eq!(ejected, allowed, "of {size}");
    }
}

#[test]
fn further_attempts_stay_on_the_level_and_only_the_last_goes_one_down() {
    use State::{Absent, Unusable, Well};
    let lane = Level::Lane(reference("l"));
    let world = |on_unhealthy, lane: &[State], baseline: &[State]| {
        World::new(vec![Lane { on_unhealthy, ..Lane::new(name("l")) }], &[("l", lane), ("", baseline)])
    };
    let fallback = OnUnhealthy::Fallback;
    let two = world(fallback, WELL, WELL);
    assert_eq!(two.again(lane.clone(), Turn::Further, &[0]), "g/l matched 1");
    assert_eq!(two.again(lane.clone(), Turn::Last, &[0]), "g/l matched 1");
    assert_eq!(two.again(lane.clone(), Turn::Further, &[0, 1]), "g/l matched 0,1");
    assert_eq!(two.again(lane.clone(), Turn::Last, &[0, 1]), "baseline retried 2,3");
    for on_unhealthy in [OnUnhealthy::Stay, OnUnhealthy::Reject] {
        let world = world(on_unhealthy, WELL, WELL);
        assert_eq!(world.again(lane.clone(), Turn::Last, &[0, 1]), "g/l matched 0,1", "{on_unhealthy:?}");
    }
    // It was ejected by the attempt that failed.
    assert_eq!(world(fallback, &[Unusable], WELL).again(lane.clone(), Turn::Last, &[0]), "baseline retried 1,2");
    assert_eq!(world(fallback, &[Unusable], WELL).again(lane.clone(), Turn::Further, &[0]), "g/l matched 0");
    // Nowhere to go.
    assert_eq!(world(fallback, &[Well], &[Absent]).again(lane, Turn::Last, &[0]), "g/l matched 0");
}

#[test]
fn baseline_is_never_retried_into_a_lane() {
    let world = World::new(vec![Lane::new(name("l"))], &[("l", WELL), ("", WELL)]);
    for turn in [Turn::Further, Turn::Last] {
        assert_eq!(world.again(Level::Baseline, turn, &[2]), "baseline matched 3", "{turn:?}");
        assert_eq!(world.again(Level::Baseline, turn, &[2, 3]), "baseline matched 2,3", "{turn:?}");
    }
}

#[test]
fn request_that_reaches_a_lane_without_its_label_is_a_leak() {
    let lanes =
        |state| vec![Lane { state, ..Lane::new(name("dev")) }, Lane::new(name("dev.alice")), Lane::new(name("other"))];
    let pod = |lanes: &[&str]| Workload {
        lanes: lanes.iter().map(|lane| reference(lane)).collect(),
        services: vec!["b.demo".to_owned()],
        ..Workload::default()
    };
    type Case<'a> = (&'a [&'a str], LaneState, Option<&'a str>, Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (&[], LaneState::Active, None, None),
        (&[], LaneState::Active, Some("dev"), None),
        (&["dev"], LaneState::Active, Some("dev"), None),
        (&["dev"], LaneState::Active, Some("dev.alice"), None),
        (&["dev"], LaneState::Active, None, Some("g/dev")),
        (&["dev"], LaneState::Active, Some("other"), Some("g/dev")),
        (&["dev"], LaneState::Active, Some("nowhere"), Some("g/dev")),
        (&["dev"], LaneState::Closed, None, None),
        (&["dev"], LaneState::Promoted, None, None),
        (&["dev.alice"], LaneState::Active, Some("dev"), Some("g/dev.alice")),
        (&["dev.alice", "other"], LaneState::Active, Some("other"), None),
    ];
    for (own, state, carried, expected) in cases {
        let group = LaneGroup { lanes: lanes(*state), ..LaneGroup::new(name("g")) };
        let found = leak(carried.map(label).as_ref(), &[group], &pod(own)).map(|lane| lane.to_string());
        assert_eq!(found.as_deref(), *expected, "{own:?} {state:?} {carried:?}");
    }
}
