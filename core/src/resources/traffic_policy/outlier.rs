//! The part `outlierDetection` of a traffic policy.

use super::measures::positive;
use crate::{
    model::policy::{OutlierDetection, SuccessRate},
    resources::node::{Node, Object},
};

/// Most failures in a row that may be asked for.
const THRESHOLD_MAX: u64 = 1_000;
/// Most instances or calls that a success rate may ask for.
const COUNT_MAX: u64 = 1_000_000;
/// Thousandths in one.
const THOUSANDTHS: f64 = 1_000.0;

/// Reads `outlierDetection`.
pub(super) fn read(node: &Node<'_>) -> OutlierDetection {
    let default = OutlierDetection::default();
    let fields = [
        "consecutiveGatewayFailures",
        "consecutiveLocalOriginFailures",
        "baseEjectionTime",
        "maxEjectionTime",
        "maxEjectionPercent",
        "successRate",
        "honourRetryAfter",
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
        success_rate: success_rate(&object),
        honour_retry_after: object
            .get("honourRetryAfter")
            .and_then(|node| node.boolean())
            .unwrap_or(default.honour_retry_after),
    }
}

fn success_rate(outlier: &Object<'_>) -> Option<SuccessRate> {
    let object = outlier.get("successRate")?.object(&["minimumHosts", "requestVolume", "standardDeviationFactor"])?;
    let default = SuccessRate::default();
    let count = |key| object.get(key).and_then(|node| node.integer(1..=COUNT_MAX)).map(|count| count as u32);
    let factor = object.get("standardDeviationFactor").and_then(|node| node.number(0.1..=10.0));
    Some(SuccessRate {
        minimum_hosts: count("minimumHosts").unwrap_or(default.minimum_hosts),
        request_volume: count("requestVolume").unwrap_or(default.request_volume),
        standard_deviation_factor: factor
            .map_or(default.standard_deviation_factor, |factor| (factor * THOUSANDTHS).round() as u32),
    })
}
