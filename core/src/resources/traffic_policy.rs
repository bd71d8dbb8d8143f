//! Kind `TrafficPolicy`: how calls to a service are treated.

mod health;

use std::time::Duration;

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

/// Most attempts that may be asked for: more would multiply an outage.
const ATTEMPTS_MAX: u64 = 10;
/// Most connections or requests that may be asked for.
const LIMIT_MAX: u64 = 1_000_000;

/// Reads the specification.
pub(super) fn read(spec: &Node<'_>, namespace: &str) -> Option<TrafficPolicy> {
    let spec =
        spec.object(&["service", "timeouts", "retries", "limits", "outlierDetection", "healthCheck", "zones"])?;
    let service = spec.required("service").and_then(|node| service_label(&node, namespace));
    let mut policy = Policy::default();
    if let Some(node) = spec.get("timeouts") {
        policy.timeouts = timeouts(&node);
    }
    if let Some(node) = spec.get("retries").and_then(|node| node.object(&["attempts"])) {
        let attempts = node.required("attempts").and_then(|node| node.integer(1..=ATTEMPTS_MAX));
        policy.attempts = attempts.map_or(policy.attempts, |attempts| attempts as u32);
    }
    if let Some(node) = spec.get("limits") {
        policy.limits = limits(&node);
    }
    if let Some(node) = spec.get("outlierDetection") {
        policy.outlier_detection = health::outlier_detection(&node);
    }
    policy.health_check = spec.get("healthCheck").and_then(|node| health::health_check(&node));
    if let Some(node) = spec.get("zones").and_then(|node| node.object(&["preferSame"])) {
        policy.zones.prefer_same = node.required("preferSame").and_then(|node| node.boolean()).unwrap_or_default();
    }
    Some(TrafficPolicy { service: service?, policy })
}

fn timeouts(node: &Node<'_>) -> Timeouts {
    let default = Timeouts::default();
    let Some(object) = node.object(&["connect", "request", "responseHeaders", "idle"]) else { return default };
    let read = |key| object.get(key).and_then(|node| node.duration().map(|duration| (node, duration)));
    let positive = |key| {
        let (node, duration): (Node<'_>, Duration) = read(key)?;
        if duration.is_zero() {
            node.problem("may not be 0; leave it out for the default".to_owned());
        }
        Some(duration)
    };
    let unlimited_if_zero = |key| read(key).map(|(_, duration)| duration).filter(|duration| !duration.is_zero());
    Timeouts {
        connect: positive("connect").unwrap_or(default.connect),
        request: unlimited_if_zero("request"),
        response_headers: unlimited_if_zero("responseHeaders"),
        idle: positive("idle").unwrap_or(default.idle),
    }
}

fn limits(node: &Node<'_>) -> Limits {
    let default = Limits::default();
    let Some(object) = node.object(&["connections", "requests"]) else { return default };
    let read = |key| object.get(key).and_then(|node| node.integer(1..=LIMIT_MAX)).map(|limit| limit as u32);
    Limits {
        connections: read("connections").unwrap_or(default.connections),
        requests: read("requests").unwrap_or(default.requests),
    }
}
