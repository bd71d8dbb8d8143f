//! Arbitrary outlier detections and health checks.

use mesh_core::model::policy::{HealthCheck, HttpProbe, OutlierDetection, Probe, SuccessRate, TcpProbe};
use proptest::{collection::vec, option, prelude::*};

use super::{span, word};

pub(super) fn outlier() -> impl Strategy<Value = OutlierDetection> {
    let rate = (1..9_u32, 1..9_u32, 1..9_u32).prop_map(|(minimum_hosts, request_volume, standard_deviation_factor)| {
        SuccessRate { minimum_hosts, request_volume, standard_deviation_factor }
    });
    (0..9_u32, 0..9_u32, span(), span(), 0..=100_u32, option::of(rate), any::<bool>()).prop_map(
        |(gateway, local, base, max, percent, success_rate, honour_retry_after)| OutlierDetection {
            consecutive_gateway_failures: gateway,
            consecutive_local_origin_failures: local,
            base_ejection_time: base,
            max_ejection_time: max,
            max_ejection_percent: percent,
            success_rate,
            honour_retry_after,
        },
    )
}

fn probe() -> impl Strategy<Value = Probe> {
    let statuses = vec((100..=599_u16, 100..=599_u16), 1..3);
    let headers = vec((word(), any::<String>()), 0..3);
    let http = (word(), option::of(word()), "[A-Z]{1,4}", headers, statuses).prop_map(
        |(path, host, method, headers, statuses)| Probe::Http(HttpProbe { path, host, method, headers, statuses }),
    );
    let bytes = || vec(any::<u8>(), 0..9);
    let tcp = (bytes(), bytes()).prop_map(|(send, receive)| Probe::Tcp(TcpProbe { send, receive }));
    prop_oneof![http, tcp, word().prop_map(|service| Probe::Grpc { service })]
}

pub(super) fn check() -> impl Strategy<Value = HealthCheck> {
    let maybe = || option::of(span());
    let intervals = (span(), maybe(), maybe(), maybe(), span());
    (probe(), span(), intervals, 0..=100_u32, 1..9_u32, 1..9_u32, 0..9_u32).prop_map(
        |(probe, timeout, intervals, jitter, unhealthy_threshold, healthy_threshold, shared_by)| {
            let (interval, unhealthy_interval, unhealthy_edge_interval, healthy_edge_interval, no_traffic_interval) =
                intervals;
            HealthCheck {
                probe,
                interval,
                timeout,
                jitter,
                unhealthy_threshold,
                healthy_threshold,
                unhealthy_interval,
                unhealthy_edge_interval,
                healthy_edge_interval,
                no_traffic_interval,
                shared_by,
            }
        },
    )
}
