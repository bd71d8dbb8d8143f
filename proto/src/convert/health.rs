//! Outlier detection and health checks of a traffic policy ↔ model.

use mesh_core::model::policy::{HealthCheck, OutlierDetection, Probe};

use super::{Invalid, optional_duration, required, wire_duration};
use crate::mesh::v1::{self as wire, health_check::Probe as WireProbe};

pub(super) fn outlier_to_wire(outlier: &OutlierDetection) -> wire::OutlierDetection {
    wire::OutlierDetection {
        consecutive_gateway_failures: outlier.consecutive_gateway_failures,
        consecutive_local_origin_failures: outlier.consecutive_local_origin_failures,
        base_ejection_time: Some(wire_duration(outlier.base_ejection_time)),
        max_ejection_time: Some(wire_duration(outlier.max_ejection_time)),
        max_ejection_percent: outlier.max_ejection_percent,
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
    })
}

pub(super) fn check_to_wire(check: &HealthCheck) -> wire::HealthCheck {
    let range = |(low, high): &(u16, u16)| wire::StatusRange { low: (*low).into(), high: (*high).into() };
    wire::HealthCheck {
        probe: Some(match &check.probe {
            Probe::Http { path, host, statuses } => WireProbe::Http(wire::HttpProbe {
                path: path.clone(),
                host: host.clone().unwrap_or_default(),
                statuses: statuses.iter().map(range).collect(),
            }),
            Probe::Tcp => WireProbe::Tcp(wire::TcpProbe {}),
            Probe::Grpc { service } => WireProbe::Grpc(wire::GrpcProbe { service: service.clone() }),
        }),
        interval: Some(wire_duration(check.interval)),
        timeout: Some(wire_duration(check.timeout)),
        unhealthy_threshold: check.unhealthy_threshold,
        healthy_threshold: check.healthy_threshold,
    }
}

pub(super) fn check_from_wire(check: wire::HealthCheck) -> Result<HealthCheck, Invalid> {
    let probe = match required("health_check.probe", check.probe)? {
        WireProbe::Http(http) => Probe::Http {
            path: http.path,
            host: Some(http.host).filter(|host| !host.is_empty()),
            statuses: http.statuses.iter().map(statuses).collect::<Result<_, _>>()?,
        },
        WireProbe::Tcp(wire::TcpProbe {}) => Probe::Tcp,
        WireProbe::Grpc(grpc) => Probe::Grpc { service: grpc.service },
    };
    let default = HealthCheck::new(probe);
    let positive = |threshold: u32, default: u32| if threshold == 0 { default } else { threshold };
    Ok(HealthCheck {
        interval: optional_duration("health_check.interval", check.interval)?.unwrap_or(default.interval),
        timeout: optional_duration("health_check.timeout", check.timeout)?.unwrap_or(default.timeout),
        unhealthy_threshold: positive(check.unhealthy_threshold, default.unhealthy_threshold),
        healthy_threshold: positive(check.healthy_threshold, default.healthy_threshold),
        probe: default.probe,
    })
}

fn statuses(range: &wire::StatusRange) -> Result<(u16, u16), Invalid> {
    let status = |status: u32| {
        let found = u16::try_from(status).ok();
        found.ok_or_else(|| Invalid::value("health_check.http.statuses", format!("{status} is no status")))
    };
    Ok((status(range.low)?, status(range.high)?))
}
