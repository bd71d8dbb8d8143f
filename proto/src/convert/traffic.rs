//! Traffic policies ↔ model. What a controller of an earlier version leaves out has its default.

use std::collections::BTreeMap;

use mesh_core::model::policy::{
    Backoff, HashOn, Limits, LoadBalancing, Retries, RetryBudget, RetryOn, Timeouts, TrafficPolicy, WarmUp,
};

use super::{Invalid, health, optional_duration, rate_limits, required, wire_duration, zones};
use crate::mesh::v1::{self as wire, hash_on::Place};

pub(super) fn to_wire(policy: &TrafficPolicy) -> wire::TrafficPolicy {
    wire::TrafficPolicy {
        connect_timeout: Some(wire_duration(policy.timeouts.connect)),
        request_timeout: policy.timeouts.request.map(wire_duration),
        per_try_timeout: policy.timeouts.per_try.map(wire_duration),
        response_headers_timeout: policy.timeouts.response_headers.map(wire_duration),
        idle_timeout: Some(wire_duration(policy.timeouts.idle)),
        attempts: policy.retries.attempts,
        retries: Some(retries_to_wire(&policy.retries)),
        max_connections: policy.limits.connections,
        max_pending: policy.limits.pending,
        max_requests: policy.limits.requests,
        load_balancing: Some(balancing_to_wire(&policy.load_balancing)),
        warm_up: Some(warm_up_to_wire(policy.warm_up)),
        outlier_detection: Some(health::outlier_to_wire(&policy.outlier_detection)),
        health_check: policy.health_check.as_ref().map(health::check_to_wire),
        panic_threshold: Some(policy.panic_threshold),
        zones: Some(zones::to_wire(&policy.zones)),
        rate_limits: policy.rate_limits.iter().map(rate_limits::to_wire).collect(),
    }
}

pub(super) fn from_wire(policy: wire::TrafficPolicy) -> Result<TrafficPolicy, Invalid> {
    let default = TrafficPolicy::default();
    Ok(TrafficPolicy {
        timeouts: Timeouts {
            connect: optional_duration("traffic_policy.connect_timeout", policy.connect_timeout)?
                .unwrap_or(default.timeouts.connect),
            request: optional_duration("traffic_policy.request_timeout", policy.request_timeout)?,
            per_try: optional_duration("traffic_policy.per_try_timeout", policy.per_try_timeout)?,
            response_headers: optional_duration(
                "traffic_policy.response_headers_timeout",
                policy.response_headers_timeout,
            )?,
            idle: optional_duration("traffic_policy.idle_timeout", policy.idle_timeout)?
                .unwrap_or(default.timeouts.idle),
        },
        retries: Retries {
            attempts: unless_zero(policy.attempts, default.retries.attempts),
            ..policy.retries.map(retries_from_wire).transpose()?.unwrap_or_default()
        },
        limits: Limits {
            connections: unless_zero(policy.max_connections, default.limits.connections),
            pending: unless_zero(policy.max_pending, default.limits.pending),
            requests: unless_zero(policy.max_requests, default.limits.requests),
        },
        load_balancing: policy.load_balancing.map(balancing_from_wire).transpose()?.unwrap_or_default(),
        warm_up: match policy.warm_up {
            None => default.warm_up,
            Some(warm_up) => warm_up_from_wire(warm_up)?,
        },
        outlier_detection: policy.outlier_detection.map(health::outlier_from_wire).transpose()?.unwrap_or_default(),
        health_check: policy.health_check.map(health::check_from_wire).transpose()?,
        panic_threshold: policy.panic_threshold.unwrap_or(default.panic_threshold),
        zones: policy.zones.map(zones::from_wire).transpose()?.unwrap_or_default(),
        rate_limits: policy.rate_limits.into_iter().map(rate_limits::from_wire).collect::<Result<_, _>>()?,
        labels: BTreeMap::new(),
    })
}

/// A number that is its default where it was not sent.
pub(super) fn unless_zero(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

fn balancing_to_wire(balancing: &LoadBalancing) -> wire::LoadBalancing {
    let place = |on: &HashOn| match on {
        HashOn::Header(name) => Place::Header(name.clone()),
        HashOn::Cookie { name, ttl } => {
            Place::Cookie(wire::HashCookie { name: name.clone(), ttl: ttl.map(wire_duration) })
        }
        HashOn::Query(name) => Place::Query(name.clone()),
        HashOn::SourceIp => Place::SourceIp(true),
    };
    wire::LoadBalancing {
        algorithm: balancing.word().to_owned(),
        hash_on: balancing.hash_on().iter().map(|on| wire::HashOn { place: Some(place(on)) }).collect(),
    }
}

fn balancing_from_wire(balancing: wire::LoadBalancing) -> Result<LoadBalancing, Invalid> {
    let place = |on: wire::HashOn| {
        Ok(match required("hash_on.place", on.place)? {
            Place::Header(name) => HashOn::Header(name),
            Place::Cookie(cookie) => {
                HashOn::Cookie { name: cookie.name, ttl: optional_duration("hash_cookie.ttl", cookie.ttl)? }
            }
            Place::Query(name) => HashOn::Query(name),
            Place::SourceIp(_) => HashOn::SourceIp,
        })
    };
    let on = balancing.hash_on.into_iter().map(place).collect::<Result<Vec<_>, Invalid>>()?;
    let is_empty = on.is_empty();
    let found = LoadBalancing::of_word(&balancing.algorithm, on)
        .ok_or_else(|| Invalid::value("load_balancing.algorithm", format!("{:?} is not known", balancing.algorithm)))?;
    match found {
        LoadBalancing::RingHash { .. } | LoadBalancing::Maglev { .. } if is_empty => {
            Err(Invalid::Missing { field: "load_balancing.hash_on" })
        }
        LoadBalancing::RingHash { .. }
        | LoadBalancing::Maglev { .. }
        | LoadBalancing::PeakEwma
        | LoadBalancing::LeastRequest
        | LoadBalancing::RoundRobin
        | LoadBalancing::Random => Ok(found),
    }
}

fn warm_up_to_wire(warm_up: Option<WarmUp>) -> wire::WarmUp {
    match warm_up {
        None => wire::WarmUp::default(),
        Some(warm_up) => wire::WarmUp {
            duration: Some(wire_duration(warm_up.duration)),
            curve: warm_up.curve,
            floor: warm_up.floor,
            after_recovery: warm_up.after_recovery,
        },
    }
}

fn warm_up_from_wire(warm_up: wire::WarmUp) -> Result<Option<WarmUp>, Invalid> {
    let duration = optional_duration("warm_up.duration", warm_up.duration)?.unwrap_or_default();
    if duration.is_zero() {
        return Ok(None);
    }
    let within = |field, value: u32, range: std::ops::RangeInclusive<u32>| {
        let allowed = || Invalid::value(field, format!("{value} is not from {} to {}", range.start(), range.end()));
        range.contains(&value).then_some(value).ok_or_else(allowed)
    };
    Ok(Some(WarmUp {
        duration,
        curve: within("warm_up.curve", warm_up.curve, 100..=1_000)?,
        floor: within("warm_up.floor", warm_up.floor, 1..=100)?,
        after_recovery: warm_up.after_recovery,
    }))
}

fn retries_to_wire(retries: &Retries) -> wire::Retries {
    wire::Retries {
        on: retries.on.iter().map(RetryOn::to_string).collect(),
        methods: retries.methods.clone(),
        budget_percent: retries.budget.percent,
        budget_min_per_second: retries.budget.min_per_second,
        backoff_base: Some(wire_duration(retries.backoff.base)),
        backoff_max: Some(wire_duration(retries.backoff.max)),
        body_limit: retries.body_limit,
    }
}

/// Everything but the number of attempts, which stands beside it.
fn retries_from_wire(retries: wire::Retries) -> Result<Retries, Invalid> {
    let default = Retries::default();
    let failure = |text: &String| {
        text.parse::<RetryOn>().map_err(|error| Invalid::value("retries.on", format!("{text:?} {error}")))
    };
    Ok(Retries {
        attempts: default.attempts,
        on: retries.on.iter().map(failure).collect::<Result<_, _>>()?,
        methods: retries.methods,
        budget: RetryBudget { percent: retries.budget_percent, min_per_second: retries.budget_min_per_second },
        backoff: Backoff {
            base: optional_duration("retries.backoff_base", retries.backoff_base)?.unwrap_or(default.backoff.base),
            max: optional_duration("retries.backoff_max", retries.backoff_max)?.unwrap_or(default.backoff.max),
        },
        body_limit: retries.body_limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_controller_does_not_say_has_its_default() {
        assert_eq!(from_wire(wire::TrafficPolicy::default()), Ok(TrafficPolicy::default()));
        let outlier = wire::OutlierDetection { consecutive_gateway_failures: 7, ..wire::OutlierDetection::default() };
        let check = wire::HealthCheck {
            probe: Some(wire::health_check::Probe::Tcp(wire::TcpProbe::default())),
            ..wire::HealthCheck::default()
        };
        let earlier = wire::TrafficPolicy {
            attempts: 2,
            outlier_detection: Some(outlier),
            health_check: Some(check),
            zones: Some(wire::Zones { prefer_same: true, ..wire::Zones::default() }),
            ..wire::TrafficPolicy::default()
        };
        let read = from_wire(earlier).unwrap();
        assert_eq!(read.retries, Retries { attempts: 2, ..Retries::default() });
        assert!(read.outlier_detection.honour_retry_after && read.outlier_detection.success_rate.is_none());
        let check = read.health_check.unwrap();
        assert_eq!((check.jitter, check.shared_by, check.no_traffic_interval.as_secs()), (10, 3, 60));
        assert_eq!((read.zones.prefer_same, read.zones.threshold), (true, 70));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let says = |change: fn(&mut wire::TrafficPolicy)| {
            let mut policy = wire::TrafficPolicy::default();
            change(&mut policy);
            from_wire(policy).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
        };
        let balancing =
            |algorithm: &str| Some(wire::LoadBalancing { algorithm: algorithm.to_owned(), hash_on: Vec::new() });
        assert_eq!(says(|_| ()), "fine");
        assert!(from_wire(wire::TrafficPolicy { load_balancing: balancing("best"), ..Default::default() }).is_err());
        assert!(from_wire(wire::TrafficPolicy { load_balancing: balancing("maglev"), ..Default::default() }).is_err());
        let warm_up = |policy: &mut wire::TrafficPolicy| {
            let duration = Some(prost_types::Duration { seconds: 1, nanos: 0 });
            policy.warm_up = Some(wire::WarmUp { duration, curve: 99, floor: 1, after_recovery: false });
        };
        assert_eq!(says(warm_up), "warm_up.curve: 99 is not from 100 to 1000");
        let retries = |policy: &mut wire::TrafficPolicy| {
            policy.retries = Some(wire::Retries { on: vec!["always".to_owned()], ..Default::default() });
        };
        assert!(says(retries).starts_with("retries.on: \"always\" is no failure"));
        let limits = |policy: &mut wire::TrafficPolicy| policy.rate_limits.push(wire::RateLimit::default());
        assert!(says(limits).starts_with("rate_limit."));
    }
}
