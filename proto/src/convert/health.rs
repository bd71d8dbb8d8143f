//! Outlier detection and health checks of a traffic policy ↔ model.

use mesh_core::model::policy::{HealthCheck, HttpProbe, OutlierDetection, Probe, SuccessRate, TcpProbe};

use super::{Invalid, optional_duration, required, traffic::unless_zero, wire_duration};
use crate::mesh::v1::{self as wire, health_check::Probe as WireProbe};

pub(super) fn outlier_to_wire(outlier: &OutlierDetection) -> wire::OutlierDetection {
    wire::OutlierDetection {
        consecutive_gateway_failures: outlier.consecutive_gateway_failures,
        consecutive_local_origin_failures: outlier.consecutive_local_origin_failures,
        base_ejection_time: Some(wire_duration(outlier.base_ejection_time)),
        max_ejection_time: Some(wire_duration(outlier.max_ejection_time)),
        max_ejection_percent: outlier.max_ejection_percent,
        success_rate: outlier.success_rate.map(|rate| wire::SuccessRate {
            minimum_hosts: rate.minimum_hosts,
            request_volume: rate.request_volume,
            standard_deviation_factor: rate.standard_deviation_factor,
        }),
        ignore_retry_after: !outlier.honour_retry_after,
    }
}

pub(super) fn outlier_from_wire(outlier: wire::OutlierDetection) -> Result<OutlierDetection, Invalid> {
    let default = OutlierDetection::default();
    Ok(OutlierDetection {
        consecutive_gateway_failures: outlier.consecutive_gateway_failures,
        consecutive_local_origin_failures: outlier.consecutive_local_origin_failures,
        base_ejection_time: optional_duration("outlier_detection.base_ejection_time", outlier.base_ejection_time)?
            .unwrap_or(default.base_ejection_time),
        max_ejection_time: optional_duration("outlier_detection.max_ejection_time", outlier.max_ejection_time)?
            .unwrap_or(default.max_ejection_time),
        max_ejection_percent: outlier.max_ejection_percent,
        success_rate: outlier.success_rate.map(success_rate),
        honour_retry_after: !outlier.ignore_retry_after,
    })
}

fn success_rate(rate: wire::SuccessRate) -> SuccessRate {
    let default = SuccessRate::default();
    SuccessRate {
        minimum_hosts: unless_zero(rate.minimum_hosts, default.minimum_hosts),
        request_volume: unless_zero(rate.request_volume, default.request_volume),
        standard_deviation_factor: unless_zero(rate.standard_deviation_factor, default.standard_deviation_factor),
    }
}

pub(super) fn check_to_wire(check: &HealthCheck) -> wire::HealthCheck {
    wire::HealthCheck {
        probe: Some(probe_to_wire(&check.probe)),
        interval: Some(wire_duration(check.interval)),
        timeout: Some(wire_duration(check.timeout)),
        jitter: Some(check.jitter),
        unhealthy_threshold: check.unhealthy_threshold,
        healthy_threshold: check.healthy_threshold,
        unhealthy_interval: check.unhealthy_interval.map(wire_duration),
        unhealthy_edge_interval: check.unhealthy_edge_interval.map(wire_duration),
        healthy_edge_interval: check.healthy_edge_interval.map(wire_duration),
        no_traffic_interval: Some(wire_duration(check.no_traffic_interval)),
        shared_by: Some(check.shared_by),
    }
}

fn probe_to_wire(probe: &Probe) -> WireProbe {
    let range = |(low, high): &(u16, u16)| wire::StatusRange { low: (*low).into(), high: (*high).into() };
    let header = |(name, value): &(String, String)| wire::ProbeHeader { name: name.clone(), value: value.clone() };
    match probe {
        Probe::Http(http) => WireProbe::Http(wire::HttpProbe {
            path: http.path.clone(),
            host: http.host.clone().unwrap_or_default(),
            statuses: http.statuses.iter().map(range).collect(),
            method: http.method.clone(),
            headers: http.headers.iter().map(header).collect(),
        }),
        Probe::Tcp(tcp) => WireProbe::Tcp(wire::TcpProbe { send: tcp.send.clone(), receive: tcp.receive.clone() }),
        Probe::Grpc { service } => WireProbe::Grpc(wire::GrpcProbe { service: service.clone() }),
    }
}

pub(super) fn check_from_wire(check: wire::HealthCheck) -> Result<HealthCheck, Invalid> {
    let default = HealthCheck::new(probe_from_wire(required("health_check.probe", check.probe)?)?);
    Ok(HealthCheck {
        interval: optional_duration("health_check.interval", check.interval)?.unwrap_or(default.interval),
        timeout: optional_duration("health_check.timeout", check.timeout)?.unwrap_or(default.timeout),
        jitter: check.jitter.unwrap_or(default.jitter),
        unhealthy_threshold: unless_zero(check.unhealthy_threshold, default.unhealthy_threshold),
        healthy_threshold: unless_zero(check.healthy_threshold, default.healthy_threshold),
        unhealthy_interval: optional_duration("health_check.unhealthy_interval", check.unhealthy_interval)?,
        unhealthy_edge_interval: optional_duration(
            "health_check.unhealthy_edge_interval",
            check.unhealthy_edge_interval,
        )?,
        healthy_edge_interval: optional_duration("health_check.healthy_edge_interval", check.healthy_edge_interval)?,
        no_traffic_interval: optional_duration("health_check.no_traffic_interval", check.no_traffic_interval)?
            .unwrap_or(default.no_traffic_interval),
        shared_by: check.shared_by.unwrap_or(default.shared_by),
        probe: default.probe,
    })
}

fn probe_from_wire(probe: WireProbe) -> Result<Probe, Invalid> {
    Ok(match probe {
        WireProbe::Http(http) => Probe::Http(HttpProbe {
            path: http.path,
            host: Some(http.host).filter(|host| !host.is_empty()),
            method: Some(http.method).filter(|method| !method.is_empty()).unwrap_or(HttpProbe::default().method),
            headers: http.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            statuses: http.statuses.iter().map(statuses).collect::<Result<_, _>>()?,
        }),
        WireProbe::Tcp(tcp) => Probe::Tcp(TcpProbe { send: tcp.send, receive: tcp.receive }),
        WireProbe::Grpc(grpc) => Probe::Grpc { service: grpc.service },
    })
}

fn statuses(range: &wire::StatusRange) -> Result<(u16, u16), Invalid> {
    let status = |status: u32| {
        let found = u16::try_from(status).ok();
        found.ok_or_else(|| Invalid::value("health_check.http.statuses", format!("{status} is no status")))
    };
    Ok((status(range.low)?, status(range.high)?))
}
