//! Arbitrary outlier detections and health checks.

use mesh_core::model::policy::{HealthCheck, OutlierDetection, Probe};
use proptest::{collection::vec, option, prelude::*};

use super::{span, word};

pub(super) fn outlier() -> impl Strategy<Value = OutlierDetection> {
    (0..9_u32, 0..9_u32, span(), span(), 0..=100_u32).prop_map(|(gateway, local, base, max, percent)| {
        OutlierDetection {
            consecutive_gateway_failures: gateway,
            consecutive_local_origin_failures: local,
            base_ejection_time: base,
            max_ejection_time: max,
            max_ejection_percent: percent,
        }
    })
}

pub(super) fn check() -> impl Strategy<Value = HealthCheck> {
    let statuses = vec((100..=599_u16, 100..=599_u16), 1..3);
    let http =
        (word(), option::of(word()), statuses).prop_map(|(path, host, statuses)| Probe::Http { path, host, statuses });
    let probe = prop_oneof![http, Just(Probe::Tcp), word().prop_map(|service| Probe::Grpc { service })];
    (probe, span(), span(), 1..9_u32, 1..9_u32).prop_map(|(probe, interval, timeout, unhealthy, healthy)| HealthCheck {
        probe,
        interval,
        timeout,
        unhealthy_threshold: unhealthy,
        healthy_threshold: healthy,
    })
}
