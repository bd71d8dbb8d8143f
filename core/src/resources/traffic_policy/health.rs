//! The parts `outlierDetection` and `healthCheck` of a traffic policy.

use std::time::Duration;

use crate::{
    model::policy::{HealthCheck, OutlierDetection, Probe},
    resources::node::{Node, Object},
};

/// Most failures or successes in a row that may be asked for.
const THRESHOLD_MAX: u64 = 1_000;
/// Probes more often than this would be a load of their own.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Reads `outlierDetection`.
pub(super) fn outlier_detection(node: &Node<'_>) -> OutlierDetection {
    let default = OutlierDetection::default();
    let fields = [
        "consecutiveGatewayFailures",
        "consecutiveLocalOriginFailures",
        "baseEjectionTime",
        "maxEjectionTime",
        "maxEjectionPercent",
    ];
    let Some(object) = node.object(&fields) else { return default };
    let count = |key, max| object.get(key).and_then(|node| node.integer(0..=max)).map(|count| count as u32);
    let base = positive(&object, "baseEjectionTime");
    let max = positive(&object, "maxEjectionTime");
    let base_ejection_time = base.unwrap_or(default.base_ejection_time);
    if let Some(max) = max
        && max < base_ejection_time
    {
        object.problem("maxEjectionTime", format!("is less than baseEjectionTime ({base_ejection_time:?})"));
    }
    OutlierDetection {
        consecutive_gateway_failures: count("consecutiveGatewayFailures", THRESHOLD_MAX)
            .unwrap_or(default.consecutive_gateway_failures),
        consecutive_local_origin_failures: count("consecutiveLocalOriginFailures", THRESHOLD_MAX)
            .unwrap_or(default.consecutive_local_origin_failures),
        base_ejection_time,
        max_ejection_time: max.unwrap_or(default.max_ejection_time).max(base_ejection_time),
        max_ejection_percent: count("maxEjectionPercent", 100).unwrap_or(default.max_ejection_percent),
    }
}

/// Reads `healthCheck`.
pub(super) fn health_check(node: &Node<'_>) -> Option<HealthCheck> {
    let kinds = ["http", "tcp", "grpc"];
    let numbers = ["interval", "timeout", "unhealthyThreshold", "healthyThreshold"];
    let object = node.object(&[&kinds[..], &numbers[..]].concat())?;
    let written: Vec<&str> = kinds.into_iter().filter(|kind| object.get(kind).is_some()).collect();
    if written.len() != 1 {
        node.problem(format!("exactly one of http, tcp and grpc says what is asked; here are {}", written.len()));
    }
    let probe = match *written.first()? {
        "http" => http(&object.get("http")?)?,
        "grpc" => grpc(&object.get("grpc")?)?,
        _ => object.get("tcp")?.object(&[]).map(|_| Probe::Tcp)?,
    };
    let default = HealthCheck::new(probe);
    let threshold =
        |key| object.get(key).and_then(|node| node.integer(1..=THRESHOLD_MAX)).map(|threshold| threshold as u32);
    let interval = positive(&object, "interval").unwrap_or(default.interval);
    if interval < INTERVAL_MIN {
        object.problem("interval", format!("is less than {INTERVAL_MIN:?}"));
    }
    Some(HealthCheck {
        interval,
        timeout: positive(&object, "timeout").unwrap_or(default.timeout),
        unhealthy_threshold: threshold("unhealthyThreshold").unwrap_or(default.unhealthy_threshold),
        healthy_threshold: threshold("healthyThreshold").unwrap_or(default.healthy_threshold),
        probe: default.probe,
    })
}

fn http(node: &Node<'_>) -> Option<Probe> {
    let object = node.object(&["path", "host", "expectedStatuses"])?;
    let path = object.get("path").and_then(|node| path(&node)).unwrap_or_else(|| "/".to_owned());
    let host = object.get("host").and_then(|node| node.filled_text()).inspect(|host| {
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte)) {
            object.problem("host", format!("{host:?} is no host"));
        }
    });
    let mut statuses: Vec<(u16, u16)> = object.list("expectedStatuses").iter().filter_map(range).collect();
    if statuses.is_empty() {
        statuses.push((200, 299));
    }
    Some(Probe::Http { path, host, statuses })
}

fn grpc(node: &Node<'_>) -> Option<Probe> {
    let object = node.object(&["service"])?;
    let service = object.get("service").and_then(|node| node.filled_text()).unwrap_or_default();
    Some(Probe::Grpc { service })
}

fn path(node: &Node<'_>) -> Option<String> {
    let path = node.filled_text()?;
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        node.problem(format!("{path:?} is no path: it begins with / and has visible ASCII characters only"));
    }
    Some(path)
}

/// `200`, or `200-299`.
fn range(node: &Node<'_>) -> Option<(u16, u16)> {
    let Some(text) = node.as_text() else {
        let status = node.integer(100..=599)? as u16;
        return Some((status, status));
    };
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    let found = match text.split_once('-') {
        Some((low, high)) => status(low).zip(status(high)).filter(|(low, high)| low <= high),
        None => status(text).map(|status| (status, status)),
    };
    if found.is_none() {
        node.problem(format!("{text:?} is no status or range of them, e.g. 200 or 200-299"));
    }
    found
}

fn positive(object: &Object<'_>, key: &str) -> Option<Duration> {
    let duration = object.get(key)?.duration()?;
    if duration.is_zero() {
        object.problem(key, "may not be 0; leave it out for the default".to_owned());
    }
    Some(duration)
}
