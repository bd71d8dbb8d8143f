//! The order of the sources, and what becomes of contexts that an application keeps for ever.

use std::sync::Arc;

use ahash::RandomState;

use super::*;
use crate::{
    lane::{plain::OwnLane, trace::TraceId, unanimity::Kind},
    model::lane::{Lane, LaneRef},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LINGER: Duration = Duration::from_secs(60);

fn label(lane: &str) -> Label {
    Label { group: None, lane: lane.parse().unwrap() }
}

/// A sidecar whose every source would give another lane.
struct Sidecar {
    groups: Vec<LaneGroup>,
    workload: Workload,
    correlation: Correlation,
    plain: Plain,
    unanimity: Unanimity,
    may_label: MayLabel,
    now: Duration,
}

const LANES: [&str; 7] = ["by-header", "by-baggage", "by-trace", "by-sw8", "by-state", "by-rule", "by-all"];

impl Sidecar {
    fn new() -> Self {
        let mut group = LaneGroup::new("g".parse().unwrap());
        group.lanes = LANES.iter().chain(&["own"]).map(|name| Lane::new(name.parse().unwrap())).collect();
        group.propagation.tracestate = true;
        group.propagation.rederive = true;
        group.propagation.unanimity = true;
        let own = LaneRef { group: group.name.clone(), lane: "own".parse().unwrap() };
        let mut sidecar = Sidecar {
            groups: vec![group],
            workload: Workload { lanes: vec![own], ..Workload::default() },
            correlation: Correlation::new(10, RandomState::new()),
            plain: Plain::new(RandomState::new()),
            unanimity: Unanimity::default(),
            may_label: MayLabel::All,
            now: Duration::from_secs(100),
        };
        sidecar.unanimity.begin(Some(Arc::new(label("by-all"))), Kind::Request, sidecar.now);
        sidecar.correlation.begin(id(), &label("by-trace"), sidecar.now);
        sidecar
    }

    fn found(&mut self, fields: &[(&str, &str)]) -> (Option<String>, Source, Freshness) {
        self.found_with(fields, Some(label("by-rule")))
    }

    fn found_with(&mut self, fields: &[(&str, &str)], rule: Option<Label>) -> (Option<String>, Source, Freshness) {
        let known = Known {
            workload: &self.workload,
            may_label: &self.may_label,
            correlation: &mut self.correlation,
            plain: Some(&mut self.plain),
            unanimity: Some(&self.unanimity),
            rederive: &|_| rule.clone(),
            now: self.now,
        };
        let found = find(&fields, &self.groups, known);
        let source = found.carried.as_ref().map_or(Source::None, |carried| carried.source);
        (found.carried.map(|carried| carried.lane.to_string()), source, found.freshness)
    }
}

fn id() -> TraceId {
    TraceId::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736).unwrap()
}

#[test]
fn first_source_that_answers_wins_in_the_order_of_the_specification() {
    let mut fields = vec![
        ("x-mesh-lane", "by-header"),
        ("baggage", "a=b, mesh-lane=by-baggage"),
        ("traceparent", PARENT),
        ("sw8-correlation", "bWVzaC1sYW5l:Ynktc3c4"),
        ("tracestate", "mesh-lane=by-state"),
    ];
    let sources = [Source::Header, Source::Baggage, Source::Trace, Source::Sw8, Source::Tracestate, Source::Rederived];
    let mut sidecar = Sidecar::new();
    for (lane, source) in LANES.iter().zip(sources) {
        assert_eq!(sidecar.found(&fields), (Some((*lane).to_owned()), source, Freshness::Fresh));
        if !fields.is_empty() {
            fields.remove(0);
        }
    }
    let by_all = (Some("by-all".to_owned()), Source::Unanimity, Freshness::Fresh);
    assert_eq!(sidecar.found_with(&[], None), by_all);
    sidecar.unanimity.begin(None, Kind::Request, sidecar.now);
    assert_eq!(sidecar.found_with(&[], None), (Some("own".to_owned()), Source::Workload, Freshness::Fresh));
    sidecar.workload.lanes.clear();
    assert_eq!(sidecar.found_with(&[], None), (None, Source::None, Freshness::Fresh));
}

#[test]
fn own_lane_fills_no_label_of_a_call_for_a_request_without_one_and_says_why() {
    let mut sidecar = Sidecar::new();
    sidecar.groups[0].propagation = Default::default();
    sidecar.correlation = Correlation::new(10, RandomState::new());
    let own = |sidecar: &mut Sidecar, fields: &[(&str, &str)]| {
        let known = Known {
            workload: &sidecar.workload,
            may_label: &sidecar.may_label,
            correlation: &mut sidecar.correlation,
            plain: Some(&mut sidecar.plain),
            unanimity: None,
            rederive: &|_| None,
            now: sidecar.now,
        };
        let found = find(&fields, &sidecar.groups, known);
        (found.own_lane, found.carried.map(|carried| carried.lane.to_string()))
    };
    let (bare, traced): (&[_], &[_]) = (&[], &[("traceparent", PARENT)]);
    let fills = (Some(OwnLane::Fills), Some("own".to_owned()));
    assert_eq!(own(&mut sidecar, bare), fills);
    let mut ids = TraceIds::default();
    ids.add(id());
    let ticket = sidecar.plain.begin(&ids, sidecar.now);
    assert_eq!(own(&mut sidecar, bare), (Some(OwnLane::InFlight), None));
    assert_eq!(own(&mut sidecar, traced), (Some(OwnLane::OtherTrace), None));
    assert_eq!(own(&mut sidecar, &[("x-mesh-lane", "by-header")]), (None, Some("by-header".to_owned())));
    sidecar.plain.end(ticket, &ids, LINGER, sidecar.now);
    assert_eq!(own(&mut sidecar, bare), (Some(OwnLane::JustEnded), None));
    sidecar.now += Duration::from_secs(1);
    assert_eq!(own(&mut sidecar, bare), fills);
    assert_eq!(own(&mut sidecar, traced), (Some(OwnLane::OtherTrace), None));
    sidecar.now += LINGER;
    assert_eq!(own(&mut sidecar, traced), fills);
    sidecar.workload.lanes.clear();
    assert_eq!(own(&mut sidecar, bare), (None, None));
}

#[test]
fn what_a_group_did_not_ask_for_is_not_a_source() {
    let mut sidecar = Sidecar::new();
    sidecar.groups[0].propagation = Default::default();
    sidecar.workload.lanes.clear();
    assert_eq!(sidecar.found(&[("tracestate", "mesh-lane=by-state")]), (None, Source::None, Freshness::Fresh));
}

#[test]
fn alias_and_plain_header_named_like_the_baggage_key_are_explicit() {
    let mut sidecar = Sidecar::new();
    sidecar.groups[0].carrier.aliases.push("x-mse-tag".to_owned());
    for name in ["X-Mse-Tag", "Mesh-Lane"] {
        let found = sidecar.found(&[(name, "by-header"), ("traceparent", PARENT)]);
        assert_eq!(found, (Some("by-header".to_owned()), Source::Header, Freshness::Fresh), "{name}");
    }
}

#[test]
fn stale_contexts_are_told_and_treated_as_the_group_says() {
    let carried: &[(&str, &str)] = &[("x-mesh-lane", "by-header"), ("traceparent", PARENT)];
    let bare: &[(&str, &str)] = &[("traceparent", PARENT)];
    let cases = [
        (Stale::ByCarrier, Some("by-header"), None),
        (Stale::Honour, Some("by-header"), Some("by-trace")),
        (Stale::Ignore, None, None),
    ];
    for (stale, with_header, without) in cases {
        let mut sidecar = Sidecar::new();
        sidecar.workload.lanes.clear();
        let propagation = &mut sidecar.groups[0].propagation;
        (propagation.stale, propagation.unanimity, propagation.rederive) = (stale, false, false);
        sidecar.correlation.end(id(), LINGER, sidecar.now);
        sidecar.now += LINGER;
        assert_eq!(sidecar.found(bare).2, Freshness::Fresh);
        sidecar.now += Duration::from_secs(1);
        for (fields, expected) in [(carried, with_header), (bare, without)] {
            let (lane, _, freshness) = sidecar.found(fields);
            assert_eq!((lane.as_deref(), freshness), (expected, Freshness::Stale), "{stale:?} {fields:?}");
        }
        assert_eq!(sidecar.found(&[("x-mesh-lane", "by-header")]).0.as_deref(), Some("by-header"), "no trace, no age");
    }
}

#[test]
fn sender_who_may_not_label_is_followed_by_its_trace_alone() {
    let mut sidecar = Sidecar::new();
    sidecar.may_label = MayLabel::None;
    let fields = [("x-mesh-lane", "by-header"), ("sw8-correlation", "bWVzaC1sYW5l:Ynktc3c4"), ("traceparent", PARENT)];
    assert_eq!(sidecar.found(&fields).1, Source::Trace);
    assert_eq!(sidecar.found_with(&fields[..2], None).1, Source::Unanimity);
}

#[test]
fn any_id_of_a_message_of_mixed_stacks_finds_the_lane() {
    let mut sidecar = Sidecar::new();
    let own = "00-00000000000000000000000000000001-00f067aa0ba902b7-01";
    let b3 = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1";
    assert_eq!(sidecar.found(&[("traceparent", own), ("b3", b3)]).0.as_deref(), Some("by-trace"));
}

#[test]
fn carried_label_is_never_replaced_by_the_pods_own_lane() {
    let mut sidecar = Sidecar::new();
    for lane in ["by-baggage", "of-no-group"] {
        let found = sidecar.found(&[("x-mesh-lane", lane)]);
        assert_eq!(found, (Some(lane.to_owned()), Source::Header, Freshness::Fresh));
    }
}
