//! Kind `TrafficPolicy`: how calls to a service are treated. What its fields mean stands in `fields`, of which the reference
//! page is made.

mod balancing;
mod fields;
mod health_check;
mod measures;
mod outlier;
mod rate_limits;
mod retries;
mod shown;
mod zones;

pub(super) use self::zones::zone as zone_name;
pub use self::{
    fields::{Absent, FIELDS, Field},
    shown::{Origin, Shown, explain},
};

use self::measures::{percent, positive};
use super::{node::Node, reference::service_label};
use crate::model::policy::{Limits, Timeouts, TrafficPolicy as Policy};

/// What a traffic policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficPolicy {
    /// Service that it is for, `<name>.<namespace>`.
    pub service: String,
    /// How its calls are treated.
    pub policy: Policy,
}

/// Most connections or requests that may be asked for.
const LIMIT_MAX: u64 = 1_000_000;

/// Fields of the specification.
const SPEC: &[&str] = &[
    "service",
    "timeouts",
    "retries",
    "limits",
    "loadBalancing",
    "warmUp",
    "outlierDetection",
    "healthCheck",
    "panicThreshold",
    "zones",
    "rateLimits",
];

/// Reads the specification.
pub(super) fn read(node: &Node<'_>, namespace: &str) -> Option<TrafficPolicy> {
    let spec = node.object(SPEC)?;
    let default = Policy::default();
    let service = spec.required("service").and_then(|node| service_label(&node, namespace));
    let policy = Policy {
        timeouts: spec.get("timeouts").map_or(default.timeouts, |node| timeouts(&node)),
        retries: spec.get("retries").map_or(default.retries, |node| retries::read(&node)),
        limits: spec.get("limits").map_or(default.limits, |node| limits(&node)),
        load_balancing: spec.get("loadBalancing").and_then(|node| balancing::read(&node)).unwrap_or_default(),
        warm_up: spec.get("warmUp").map_or(default.warm_up, |node| balancing::warm_up(&node)),
        outlier_detection: spec.get("outlierDetection").map(|node| outlier::read(&node)).unwrap_or_default(),
        health_check: spec.get("healthCheck").and_then(|node| health_check::read(&node)),
        panic_threshold: spec
            .get("panicThreshold")
            .and_then(|node| percent(&node, 0..=100))
            .unwrap_or(default.panic_threshold),
        zones: spec.get("zones").map(|node| zones::read(&node)).unwrap_or_default(),
        rate_limits: rate_limits::read(&spec),
        labels: default.labels,
    };
    Some(TrafficPolicy { service: service?, policy })
}

fn timeouts(node: &Node<'_>) -> Timeouts {
    let default = Timeouts::default();
    let Some(object) = node.object(&["connect", "request", "perTry", "responseHeaders", "idle"]) else {
        return default;
    };
    let unlimited_if_zero =
        |key| object.get(key).and_then(|node| node.duration()).filter(|duration| !duration.is_zero());
    let (request, per_try) = (unlimited_if_zero("request"), unlimited_if_zero("perTry"));
    if let (Some(request), Some(per_try)) = (request, per_try)
        && per_try > request
    {
        object.problem("perTry", format!("is more than request ({request:?}), which ends the exchange before"));
    }
    Timeouts {
        connect: positive(&object, "connect").unwrap_or(default.connect),
        request,
        per_try,
        response_headers: unlimited_if_zero("responseHeaders"),
        idle: positive(&object, "idle").unwrap_or(default.idle),
    }
}

fn limits(node: &Node<'_>) -> Limits {
    let default = Limits::default();
    let Some(object) = node.object(&["connections", "pending", "requests"]) else { return default };
    let read = |key| object.get(key).and_then(|node| node.integer(1..=LIMIT_MAX)).map(|limit| limit as u32);
    Limits {
        connections: read("connections").unwrap_or(default.connections),
        pending: read("pending").unwrap_or(default.pending),
        requests: read("requests").unwrap_or(default.requests),
    }
}
