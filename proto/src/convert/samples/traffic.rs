//! Arbitrary traffic policies.

use std::{collections::BTreeMap, time::Duration};

use mesh_core::model::policy::{
    Backoff, GrpcCode, HashOn, Limits, LoadBalancing, RateKey, RateLimit, Retries, RetryBudget, RetryOn, Timeouts,
    TrafficPolicy, WarmUp, ZoneFailover, ZoneMatch, ZoneShares, Zones,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};

use super::{health, models, route_match, span, word};

fn timeouts() -> BoxedStrategy<Timeouts> {
    (span(), option::of(span()), option::of(span()), option::of(span()), span())
        .prop_map(|(connect, request, per_try, response_headers, idle)| Timeouts {
            connect,
            request,
            per_try,
            response_headers,
            idle,
        })
        .boxed()
}

fn retries() -> BoxedStrategy<Retries> {
    let words = vec![
        RetryOn::ConnectFailure,
        RetryOn::RefusedStream,
        RetryOn::Reset,
        RetryOn::ServerError,
        RetryOn::GatewayError,
        RetryOn::Retriable4xx,
    ];
    let on = prop_oneof![
        select(words),
        (400..=599_u16).prop_map(RetryOn::Status),
        (1..=16_u8).prop_map(|code| RetryOn::Grpc(GrpcCode::try_from(code).unwrap())),
    ];
    let budget =
        (any::<u32>(), any::<u32>()).prop_map(|(percent, min_per_second)| RetryBudget { percent, min_per_second });
    let backoff = (span(), span()).prop_map(|(base, max)| Backoff { base, max });
    (1..=u32::MAX, vec(on, 0..4), vec("[A-Z]{1,7}", 0..3), budget, backoff, any::<u32>())
        .prop_map(|(attempts, on, methods, budget, backoff, body_limit)| Retries {
            attempts,
            on,
            methods,
            budget,
            backoff,
            body_limit,
        })
        .boxed()
}

fn balancing() -> BoxedStrategy<LoadBalancing> {
    let on = || {
        let place = prop_oneof![
            word().prop_map(HashOn::Header),
            (word(), option::of(span())).prop_map(|(name, ttl)| HashOn::Cookie { name, ttl }),
            any::<String>().prop_map(HashOn::Query),
            Just(HashOn::SourceIp),
        ];
        vec(place, 1..3)
    };
    prop_oneof![
        Just(LoadBalancing::PeakEwma),
        Just(LoadBalancing::LeastRequest),
        Just(LoadBalancing::RoundRobin),
        Just(LoadBalancing::Random),
        on().prop_map(|on| LoadBalancing::RingHash { on }),
        on().prop_map(|on| LoadBalancing::Maglev { on }),
    ]
    .boxed()
}

fn warm_up() -> BoxedStrategy<WarmUp> {
    (span(), 100..=1_000_u32, 1..=100_u32, any::<bool>())
        .prop_map(|(duration, curve, floor, after_recovery)| WarmUp {
            duration: duration.max(Duration::from_millis(1)),
            curve,
            floor,
            after_recovery,
        })
        .boxed()
}

fn zones() -> BoxedStrategy<Zones> {
    let failover = (word(), word()).prop_map(|(from, to)| ZoneFailover { from, to });
    let shares = (word(), btree_map(word(), 0..=100_u32, 0..3)).prop_map(|(from, to)| ZoneShares { from, to });
    let matches = (route_match(), word()).prop_map(|(request, zone)| ZoneMatch { request, zone });
    (any::<bool>(), 1..=100_u32, vec(failover, 0..3), vec(shares, 0..3), vec(matches, 0..3))
        .prop_map(|(prefer_same, threshold, failover, distribute, matches)| Zones {
            prefer_same,
            threshold,
            failover,
            distribute,
            matches,
        })
        .boxed()
}

fn rate_limit() -> BoxedStrategy<RateLimit> {
    let key = prop_oneof![
        Just(RateKey::Identity),
        Just(RateKey::Namespace),
        Just(RateKey::Route),
        Just(RateKey::Lane),
        word().prop_map(RateKey::Header),
    ];
    let amounts = (1..=u64::MAX, 1..=3_600_u64, 1..=u64::MAX);
    (word(), vec(route_match(), 0..3), vec(key, 0..3), amounts, models::store(), models::choice(), models::choice())
        .prop_map(|(name, matches, key, (requests, seconds, burst), store, on_store_down, mode)| RateLimit {
            name,
            matches,
            key,
            requests,
            per: Duration::from_secs(seconds),
            burst,
            store,
            on_store_down,
            mode,
        })
        .boxed()
}

pub(super) fn policy() -> BoxedStrategy<TrafficPolicy> {
    let limits = (1..9_u32, 1..9_u32, 1..9_u32).prop_map(|(connections, pending, requests)| Limits {
        connections,
        pending,
        requests,
    });
    let choice = (balancing(), option::of(warm_up()), zones());
    let health = (health::outlier(), option::of(health::check()), 0..=100_u32);
    (timeouts(), retries(), limits, choice, health, vec(rate_limit(), 0..3))
        .prop_map(|(timeouts, retries, limits, choice, health, rate_limits)| {
            let (load_balancing, warm_up, zones) = choice;
            let (outlier_detection, health_check, panic_threshold) = health;
            TrafficPolicy {
                timeouts,
                retries,
                limits,
                load_balancing,
                warm_up,
                outlier_detection,
                health_check,
                panic_threshold,
                zones,
                rate_limits,
                labels: BTreeMap::new(),
            }
        })
        .boxed()
}
