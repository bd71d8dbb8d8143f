//! Lanes against a second, simple statement of the same rules, and labels against hostile headers.

use std::borrow::Cow;

use mesh_core::{
    lane::{Carried, Choice, Level, Source, Usable, baggage, carried, choose, explain, foreign_baggage},
    model::{
        endpoint::{Endpoint, ProtocolHint},
        lane::{Baseline, Lane, LaneGroup, LaneName, LaneRef, LaneState, Members, OnMissing, OnUnhealthy},
        service::{Service, ServiceKey},
    },
    snapshot::Workload,
};
use proptest::prelude::*;

const LANES: [&str; 5] = ["canary", "dev", "dev.alice", "dev.alice.x", "blue"];

fn name(text: &str) -> LaneName {
    text.parse().expect("names of this test are well-formed")
}

fn reference(lane: &str) -> LaneRef {
    LaneRef { group: name("g"), lane: name(lane) }
}

fn label(lane: &str) -> Carried {
    Carried { group: None, lane: name(lane), source: Source::Header }
}

fn lane(text: &str) -> Lane {
    Lane::new(name(text))
}

fn group(lanes: Vec<Lane>) -> LaneGroup {
    LaneGroup { revision: 1, lanes, ..LaneGroup::new(name("g")) }
}

fn endpoint(index: usize, lanes: &[&str]) -> Endpoint {
    Endpoint {
        address: ([127, 0, 0, 1], 1_000 + index as u16).into(),
        weight: 10_000,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: ProtocolHint::Unknown,
        lanes: lanes.iter().map(|lane| reference(lane)).collect(),
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: Default::default(),
    }
}

fn service(endpoints: Vec<Endpoint>) -> Service {
    let key = ServiceKey("b.demo.svc.cluster.local:80".into());
    Service::new(key, true, endpoints.into_iter().map(Into::into).collect())
}

fn any_lane(text: &'static str) -> impl Strategy<Value = Lane> {
    let parent = prop::option::weighted(0.3, prop::sample::select(&LANES[..]));
    let state = prop::sample::select(vec![
        LaneState::Active,
        LaneState::Active,
        LaneState::Draft,
        LaneState::Draining,
        LaneState::Closed,
        LaneState::Promoted,
    ]);
    let missing = prop::sample::select(vec![OnMissing::Fallback, OnMissing::Fallback, OnMissing::Reject]);
    let unhealthy = prop::sample::select(vec![OnUnhealthy::Fallback, OnUnhealthy::Stay, OnUnhealthy::Reject]);
    (parent, state, missing, unhealthy, 0..3_u32).prop_map(move |(parent, state, on_missing, on_unhealthy, min)| Lane {
        parent: parent.filter(|parent| *parent < text).map(name),
        state,
        on_missing,
        on_unhealthy,
        min_healthy: min,
        ..lane(text)
    })
}

fn any_group() -> impl Strategy<Value = LaneGroup> {
    let lanes: Vec<_> = LANES.iter().map(|text| prop::option::weighted(0.8, any_lane(text))).collect();
    let baseline = prop::sample::select(vec![Baseline::Untagged, Baseline::NotInActiveLane]);
    let members = prop::sample::select(vec![true, true, true, false]);
    (lanes, baseline, members).prop_map(|(lanes, baseline, member)| LaneGroup {
        baseline,
        members: if member { Members::All } else { Members::Named(["other.demo".to_owned()].into()) },
        ..group(lanes.into_iter().flatten().collect())
    })
}

fn any_endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (prop::sample::subsequence(LANES.to_vec(), 0..=2), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    prop::collection::vec(one, 0..10).prop_map(|endpoints| {
        let build = |(index, (lanes, closed, draining)): (usize, (Vec<&str>, bool, bool))| Endpoint {
            weight: if closed { 0 } else { 10_000 },
            // Who is unhealthy by the word of its registry is treated like one who drains.
            draining: draining && index % 2 == 0,
            healthy: !draining || index % 2 == 0,
            ..endpoint(index, &lanes)
        };
        endpoints.into_iter().enumerate().map(build).collect()
    })
}

/// What a request gets, without reasons.
#[derive(Debug, PartialEq)]
enum Served {
    By(Option<String>, Vec<usize>),
    RejectedMissing(String),
    RejectedUnhealthy(String),
}

/// The rules once more, as plainly as they can be said.
fn expected(wanted: Option<&str>, group: &LaneGroup, endpoints: &[Endpoint], usable: &[bool]) -> Served {
    let is_member = group.members.contains("b.demo");
    let open = |at: &usize| endpoints[*at].weight > 0 && !endpoints[*at].draining && endpoints[*at].healthy;
    let drains = |at: &usize| endpoints[*at].weight > 0 && !open(at);
    let state = |text: &str| group.lanes.iter().find(|lane| lane.name.as_str() == text).map(|lane| lane.state);
    let honoured = |text: &str| matches!(state(text), Some(LaneState::Draft | LaneState::Active | LaneState::Draining));
    let is_in = |at: usize, text: &str| endpoints[at].lanes.iter().any(|lane| lane.lane.as_str() == text);
    let mut next = wanted.filter(|text| is_member && honoured(text)).map(str::to_owned);
    while let Some(text) = next {
        let lane = group.lanes.iter().find(|lane| lane.name.as_str() == text).expect("levels are lanes");
        let members: Vec<usize> = (0..endpoints.len()).filter(open).filter(|at| is_in(*at, &text)).collect();
        let draining: Vec<usize> = (0..endpoints.len()).filter(drains).filter(|at| is_in(*at, &text)).collect();
        let able: Vec<usize> = members.iter().copied().filter(|at| usable[*at]).collect();
        if honoured(&text) {
            if members.is_empty() && draining.is_empty() {
                if lane.on_missing == OnMissing::Reject {
                    return Served::RejectedMissing(text);
                }
            } else if !able.is_empty() && able.len() >= lane.min_healthy as usize {
                return Served::By(Some(text), able);
            } else if lane.on_unhealthy == OnUnhealthy::Reject {
                return Served::RejectedUnhealthy(text);
            } else if lane.on_unhealthy == OnUnhealthy::Stay {
                return Served::By(Some(text), first_of([able, members, draining]));
            }
        }
        let dotted =
            |text: &str| text.match_indices('.').map(|(at, _)| text[..at].to_owned()).rev().collect::<Vec<_>>();
        next = match &lane.parent {
            Some(parent) => Some(parent.to_string()).filter(|parent| state(parent).is_some()),
            None => dotted(&text).into_iter().find(|shorter| state(shorter).is_some()),
        };
    }
    let plain = |at: &usize| {
        !is_member
            || endpoints[*at].lanes.iter().all(|lane| match state(lane.lane.as_str()) {
                Some(LaneState::Draft | LaneState::Active | LaneState::Draining) => false,
                Some(LaneState::Promoted) => true,
                Some(LaneState::Closed) | None => group.baseline == Baseline::NotInActiveLane,
            })
    };
    let members: Vec<usize> = (0..endpoints.len()).filter(open).filter(plain).collect();
    let able: Vec<usize> = members.iter().copied().filter(|at| usable[*at]).collect();
    let draining: Vec<usize> = (0..endpoints.len()).filter(drains).filter(plain).collect();
    Served::By(None, first_of([able, members, draining]))
}

fn first_of(lists: [Vec<usize>; 3]) -> Vec<usize> {
    lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

fn served(choice: Choice<'_>) -> Served {
    match choice {
        Choice::Use { level: Level::Lane(lane), candidates, .. } => {
            Served::By(Some(lane.lane.to_string()), candidates.into_owned())
        }
        Choice::Use { level: Level::Baseline, candidates, .. } => Served::By(None, candidates.into_owned()),
        Choice::RejectMissing(lane) => Served::RejectedMissing(lane.lane.to_string()),
        Choice::RejectUnhealthy(lane) => Served::RejectedUnhealthy(lane.lane.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn level_and_candidates_follow_the_rules(
        group in any_group(),
        endpoints in any_endpoints(),
        wanted in prop::option::of(prop::sample::select(LANES.to_vec())),
        usable in prop::collection::vec(prop::bool::weighted(0.7), 10),
    ) {
        let service = service(endpoints.clone());
        let groups = [group];
        let carried = wanted.map(label);
        let allowed = |at: usize| usable[at];
        let plain = served(choose(carried.as_ref(), &groups, &service, Usable::Where(&allowed)));
        prop_assert_eq!(&plain, &expected(wanted, &groups[0], &endpoints, &usable));
        let prepared = service.clone().with_groups(&groups);
        let fast = served(choose(carried.as_ref(), &groups, &prepared, Usable::Where(&allowed)));
        prop_assert_eq!(&plain, &fast);
        let all = served(choose(carried.as_ref(), &groups, &prepared, Usable::All));
        prop_assert_eq!(all, expected(wanted, &groups[0], &endpoints, &[true; 10]));
    }

    #[test]
    fn a_label_survives_any_other_baggage(
        lane in "[A-Za-z0-9._-]{1,63}",
        named in prop::option::of("[A-Za-z0-9._-]{1,63}"),
        others in prop::collection::vec("[ -~\u{80}-\u{ff}]{0,300}", 0..60),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let ours = Carried { group: named.as_deref().map(name), lane: name(&lane), source: Source::Baggage };
        let mut lines: Vec<Vec<u8>> = others.into_iter().map(String::into_bytes).collect();
        lines.push(noise);
        let before = Lines(&lines);
        let line = baggage(&before, "mesh-lane", Some(&ours)).expect("there is a label to send").into_owned();
        prop_assert!(line.len() <= 8_192);
        let first = format!("mesh-lane={lane}");
        prop_assert!(line.starts_with(first.as_bytes()));
        prop_assert!(line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
        let after = [line.clone()];
        prop_assert_eq!(carried(&Lines(&after), &[], None), Some(ours));
        let after = Lines(&after);
        let stripped = baggage(&after, "mesh-lane", None).map(Cow::into_owned);
        prop_assert_eq!(stripped.clone().and_then(|line| carried(&Lines(&[line]), &[], None)), None);
        let again = baggage(&after, "mesh-lane", carried(&after, &[], None).as_ref());
        prop_assert_eq!(again.as_deref(), Some(line.as_slice()));
    }
}

/// Baggage lines of a message.
struct Lines<'l>(&'l [Vec<u8>]);

impl mesh_core::fields::Fields for Lines<'_> {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        if name == "baggage" {
            self.0.iter().for_each(|line| visit(line));
        }
    }
}

#[test]
fn label_is_read_from_the_first_source_that_has_a_well_formed_one() {
    let mut shop = group(vec![lane("canary")]);
    shop.carrier.aliases = vec!["x-mse-tag".to_owned()];
    let workload = Workload { lanes: vec![reference("canary")], ..Workload::default() };
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<(&'a str, Source)>);
    let cases: &[Case<'_>] = &[
        (&[("x-mesh-lane", "a"), ("baggage", "mesh-lane=b")], Some(("a", Source::Header))),
        (&[("X-Mesh-Lane", "g/a")], Some(("g/a", Source::Header))),
        (&[("x-mesh-lane", "a b"), ("baggage", "mesh-lane=b")], Some(("b", Source::Baggage))),
        (&[("x-mesh-lane", "a/b/c")], Some(("canary", Source::Workload))),
        (&[("x-mesh-lane", "")], Some(("canary", Source::Workload))),
        (&[("x-mse-tag", "a")], Some(("a", Source::Header))),
        (&[("mesh-lane", "a"), ("baggage", "mesh-lane=b")], Some(("a", Source::Header))),
        (&[("baggage", "x=1,mesh-lane=b;p=1")], Some(("b", Source::Baggage))),
        (&[("baggage", "x=1"), ("baggage", " mesh-lane = b , y=2")], Some(("b", Source::Baggage))),
        (&[("baggage", "mesh-lane=%62%6c")], Some(("bl", Source::Baggage))),
        (&[("baggage", "mesh-lane=g%2Fb")], Some(("g/b", Source::Baggage))),
        (&[("baggage", "mesh-lane-group=g,mesh-lane=b")], Some(("g/b", Source::Baggage))),
        (&[("baggage", "mesh-lane=%6")], Some(("canary", Source::Workload))),
        (&[("baggage", "mesh-lane=%ff")], Some(("canary", Source::Workload))),
        (&[("baggage", "mesh-lanes=b")], Some(("canary", Source::Workload))),
        (&[], Some(("canary", Source::Workload))),
    ];
    for (fields, expected) in cases {
        let found = carried(fields, std::slice::from_ref(&shop), Some(&workload));
        let found = found.map(|found| (found.to_string(), found.source));
        assert_eq!(found, expected.map(|(text, source)| (text.to_owned(), source)), "{fields:?}");
        let inbound = carried(fields, std::slice::from_ref(&shop), None);
        assert!(inbound.is_none_or(|found| found.source != Source::Workload), "{fields:?}");
    }
}

#[test]
fn own_lane_fills_an_absent_label_only_while_it_is_honoured() {
    let workload = Workload { lanes: vec![reference("canary")], ..Workload::default() };
    let fields: &[(&str, &str)] = &[];
    for (state, filled) in [
        (LaneState::Draft, true),
        (LaneState::Active, true),
        (LaneState::Draining, true),
        (LaneState::Closed, false),
        (LaneState::Promoted, false),
    ] {
        let groups = [group(vec![Lane { state, ..lane("canary") }])];
        assert_eq!(carried(&fields, &groups, Some(&workload)).is_some(), filled, "{state:?}");
    }
    assert_eq!(carried(&fields, &[], Some(&workload)), None);
}

#[test]
fn foreign_members_beyond_the_limit_are_dropped_from_the_end() {
    let foreign: Vec<String> = (0..200).map(|index| format!("key{index}={}", "v".repeat(90))).collect();
    let line = foreign.join(",");
    let fields: &[(&str, &str)] = &[("baggage", &line)];
    let sent = baggage(&fields, "mesh-lane", Some(&label("canary"))).expect("there is a label");
    let sent = String::from_utf8(sent.into_owned()).expect("members were ASCII");
    assert!(sent.len() <= 8_192 && sent.len() > 8_000, "{}", sent.len());
    assert!(sent.starts_with("mesh-lane=canary,key0="));
    let kept = sent.split(',').count() - 1;
    assert_eq!(sent, format!("mesh-lane=canary,{}", foreign[..kept].join(",")));
}

#[test]
fn members_of_every_group_are_stripped_from_what_carries_no_lane() {
    let mut shop = group(vec![lane("canary")]);
    shop.carrier.baggage_key = "Gray".to_owned();
    let fields: &[(&str, &str)] =
        &[("baggage", "a=1, gray=canary;p=1,mesh-lane=x"), ("baggage", "gray-group=g,b=2;q,mesh-lane-group=g,broken")];
    assert_eq!(foreign_baggage(&fields, &[shop]).as_deref(), Some(&b"a=1,b=2;q"[..]));
    let fields: &[(&str, &str)] = &[("baggage", "mesh-lane=x")];
    assert_eq!(foreign_baggage(&fields, &[]), None);
}

#[test]
fn outside_its_groups_a_service_is_routed_as_if_there_were_no_lanes() {
    let service = service(vec![endpoint(0, &[]), endpoint(1, &["canary"])]);
    let groups = [LaneGroup { members: Members::Named(["a.demo".to_owned()].into()), ..group(vec![lane("canary")]) }];
    let Choice::Use { level, reason, candidates } = choose(Some(&label("canary")), &groups, &service, Usable::All)
    else {
        panic!("rejected")
    };
    assert_eq!((level, reason.label(), candidates.as_ref()), (Level::Baseline, "outside_group", &[0, 1][..]));
}

#[test]
fn prepared_baseline_is_used_only_for_the_groups_it_was_prepared_for() {
    let service = service(vec![endpoint(0, &[]), endpoint(1, &["canary"])]);
    let open = [group(vec![Lane { state: LaneState::Promoted, ..lane("canary") }])];
    let closed = [LaneGroup { revision: 2, ..group(vec![lane("canary")]) }];
    let prepared = service.with_groups(&open);
    let candidates = |groups: &[LaneGroup]| served(choose(None, groups, &prepared, Usable::All));
    assert_eq!(candidates(&open), Served::By(None, vec![0, 1]));
    assert_eq!(candidates(&closed), Served::By(None, vec![0]));
}

#[test]
fn explain_shows_every_level_of_every_hop() {
    let groups = [group(vec![lane("dev"), Lane { on_missing: OnMissing::Fallback, ..lane("dev.alice") }])];
    let a = service(vec![endpoint(0, &[])]);
    let b = service(vec![endpoint(0, &[]), endpoint(1, &["dev"])]);
    let hops = explain(Some(&label("dev.alice")), &groups, &[&a, &b], &|_, _| true);
    let shown: Vec<Vec<String>> = hops
        .iter()
        .map(|hop| hop.steps.iter().map(|step| format!("{} {}", step.level, step.verdict.label())).collect())
        .collect();
    assert_eq!(shown[0], ["g/dev.alice missing", "g/dev missing", "baseline serves"]);
    assert_eq!(shown[1], ["g/dev.alice missing", "g/dev serves"]);
    assert!(matches!(&hops[1].choice, Choice::Use { reason, .. } if reason.label() == "missing"));
}
