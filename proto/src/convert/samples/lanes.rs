//! Arbitrary lane groups.

use std::time::Duration;

use mesh_core::model::lane::{
    Baseline, Carrier, Condition, Curve, KeySource, LINGER_MAX, Lane, LaneGroup, LaneState, Match, Members, OnMissing,
    OnUnhealthy, Operator, Propagation, Ramp, Share, Stale, Subject,
};
use proptest::{collection::vec, option, prelude::*};

use super::{identity, lane_ref, span, word};

fn condition() -> BoxedStrategy<Condition> {
    let subject = prop_oneof![
        Just(Subject::Header),
        Just(Subject::Cookie),
        Just(Subject::Query),
        Just(Subject::Path),
        Just(Subject::Method),
        Just(Subject::SourceIp),
        Just(Subject::Identity),
        Just(Subject::Claim),
    ];
    let operator = prop_oneof![
        word().prop_map(Operator::Equal),
        word().prop_map(Operator::NotEqual),
        vec(word(), 0..3).prop_map(Operator::In),
        vec(word(), 0..3).prop_map(Operator::NotIn),
        word().prop_map(Operator::Prefix),
        word().prop_map(|text| Operator::Regex(text.try_into().unwrap())),
        Just(Operator::Present),
        (0..=10_000_u32).prop_map(Operator::Percentage),
    ];
    (subject, word(), operator).prop_map(|(subject, name, operator)| Condition { subject, name, operator }).boxed()
}

fn rule() -> BoxedStrategy<Match> {
    let conditions = || vec(condition(), 0..3);
    prop_oneof![conditions().prop_map(Match::Any), conditions().prop_map(Match::All)].boxed()
}

fn share() -> BoxedStrategy<Share> {
    let key = prop_oneof![
        word().prop_map(KeySource::Header),
        word().prop_map(KeySource::Cookie),
        word().prop_map(KeySource::Claim),
        word().prop_map(KeySource::Query),
        Just(KeySource::SourceIp),
        Just(KeySource::TraceId),
    ];
    let curve = prop_oneof![Just(Curve::Linear), Just(Curve::Exponential)];
    let ramp = (0..=10_000_u32, 0..=10_000_u32, any::<u64>(), 1..1_000_000_u64, curve)
        .prop_map(|(from, to, start, over, curve)| Ramp { from, to, start, over: Duration::from_millis(over), curve });
    (0..=10_000_u32, vec(key, 0..3), option::of(ramp))
        .prop_map(|(value, keys, ramp)| Share { value, keys, ramp })
        .boxed()
}

fn propagation() -> BoxedStrategy<Propagation> {
    let stale = prop_oneof![Just(Stale::ByCarrier), Just(Stale::Honour), Just(Stale::Ignore)];
    (vec(word(), 0..3), 0..=LINGER_MAX.as_millis() as u64, any::<[bool; 3]>(), stale)
        .prop_map(|(trace_headers, linger, [tracestate, rederive, unanimity], stale)| Propagation {
            trace_headers,
            linger: Duration::from_millis(linger),
            tracestate,
            rederive,
            unanimity,
            stale,
        })
        .boxed()
}

fn lane() -> BoxedStrategy<Lane> {
    let state = prop_oneof![
        Just(LaneState::Draft),
        Just(LaneState::Active),
        Just(LaneState::Draining),
        Just(LaneState::Closed),
        Just(LaneState::Promoted),
    ];
    let missing = prop_oneof![Just(OnMissing::Fallback), Just(OnMissing::Reject)];
    let unhealthy = prop_oneof![Just(OnUnhealthy::Fallback), Just(OnUnhealthy::Stay), Just(OnUnhealthy::Reject)];
    let entry = (any::<u32>(), option::of(rule()), option::of(share()));
    let times = (any::<u64>(), option::of(1..=u64::MAX), option::of(1..=u64::MAX));
    (lane_ref(), any::<bool>(), state, (missing, unhealthy, any::<u32>()), entry, times)
        .prop_map(|(name, parent, state, (on_missing, on_unhealthy, min_healthy), entry, times)| Lane {
            name: name.lane,
            parent: parent.then_some(name.group),
            state,
            on_missing,
            on_unhealthy,
            min_healthy,
            priority: entry.0,
            rule: entry.1,
            share: entry.2,
            created: times.0,
            state_since: times.1,
            ends: times.2,
        })
        .boxed()
}

pub(super) fn group() -> BoxedStrategy<LaneGroup> {
    let baseline = prop_oneof![Just(Baseline::NotInActiveLane), Just(Baseline::Untagged)];
    let members = prop_oneof![
        Just(Members::All),
        vec(word(), 0..3).prop_map(|names| Members::Named(names.into_iter().collect())),
    ];
    let carrier = (word(), word(), vec(word(), 0..3)).prop_map(|(header, baggage_key, aliases)| Carrier {
        header,
        baggage_key,
        aliases,
    });
    let trusted = option::of(vec(identity(), 0..3).prop_map(|all| all.into_iter().collect()));
    let more = (word(), trusted, propagation(), span(), any::<bool>());
    (lane_ref(), any::<u64>(), vec(word(), 0..3), members, carrier, (baseline, vec(lane(), 0..4)), more)
        .prop_map(|(name, revision, entries, members, carrier, (baseline, lanes), more)| LaneGroup {
            name: name.group,
            revision,
            entries: entries.into_iter().collect(),
            members,
            carrier,
            baseline,
            salt: more.0,
            trusted: more.1,
            propagation: more.2,
            max_request_age: more.3,
            zone_first: more.4,
            lanes,
        })
        .boxed()
}
