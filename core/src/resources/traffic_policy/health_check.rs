//! The part `healthCheck` of a traffic policy.

use std::time::Duration;

use super::measures::{at_least, percent, positive};
use crate::{
    model::policy::{HealthCheck, HttpProbe, Probe, TcpProbe},
    resources::{
        node::{Node, is_field_name},
        wording::shortened,
    },
};

/// Most probes in a row that may be asked for.
const THRESHOLD_MAX: u64 = 1_000;
/// Probes more often than this would be a load of their own.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Most callers that may be asked to probe each instance.
const SHARED_BY_MAX: u64 = 100;
/// Most further headers of a probe.
const HEADERS_MAX: usize = 16;
/// Headers that the sidecar sets itself.
const OWN_HEADERS: [&str; 7] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "user-agent"];
/// Methods of a probe, which has no body.
const METHODS: &[(&str, &str)] =
    &[("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS"), ("POST", "POST"), ("PUT", "PUT")];
/// What says what is asked.
const KINDS: [&str; 3] = ["http", "tcp", "grpc"];

/// Reads `healthCheck`.
pub(super) fn read(node: &Node<'_>) -> Option<HealthCheck> {
    let numbers = [
        "interval",
        "timeout",
        "jitter",
        "unhealthyThreshold",
        "healthyThreshold",
        "unhealthyInterval",
        "unhealthyEdgeInterval",
        "healthyEdgeInterval",
        "noTrafficInterval",
        "sharedBy",
    ];
    let object = node.object(&[&KINDS[..], &numbers[..]].concat())?;
    let threshold =
        |key| object.get(key).and_then(|node| node.integer(1..=THRESHOLD_MAX)).map(|threshold| threshold as u32);
    let interval = |key| at_least(&object, key, INTERVAL_MIN);
    let default = HealthCheck::new(Probe::Tcp(TcpProbe::default()));
    let check = HealthCheck {
        interval: interval("interval").unwrap_or(default.interval),
        timeout: positive(&object, "timeout").unwrap_or(default.timeout),
        jitter: object.get("jitter").and_then(|node| percent(&node, 0..=100)).unwrap_or(default.jitter),
        unhealthy_threshold: threshold("unhealthyThreshold").unwrap_or(default.unhealthy_threshold),
        healthy_threshold: threshold("healthyThreshold").unwrap_or(default.healthy_threshold),
        unhealthy_interval: interval("unhealthyInterval"),
        unhealthy_edge_interval: interval("unhealthyEdgeInterval"),
        healthy_edge_interval: interval("healthyEdgeInterval"),
        no_traffic_interval: interval("noTrafficInterval").unwrap_or(default.no_traffic_interval),
        shared_by: object
            .get("sharedBy")
            .and_then(|node| node.integer(0..=SHARED_BY_MAX))
            .map_or(default.shared_by, |callers| callers as u32),
        probe: default.probe,
    };
    let written: Vec<(&str, Node<'_>)> =
        KINDS.into_iter().filter_map(|kind| object.get(kind).map(|node| (kind, node))).collect();
    if written.len() != 1 {
        node.problem(format!("exactly one of http, tcp and grpc says what is asked; here are {}", written.len()));
    }
    let probe = match written.first()? {
        ("http", node) => http(node)?,
        ("grpc", node) => grpc(node)?,
        (_, node) => tcp(node)?,
    };
    Some(HealthCheck { probe, ..check })
}

fn http(node: &Node<'_>) -> Option<Probe> {
    let object = node.object(&["path", "host", "method", "headers", "expectedStatuses"])?;
    let default = HttpProbe::default();
    let host = object.get("host").and_then(|node| node.filled_text()).inspect(|host| {
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte)) {
            object.problem("host", format!("{host:?} is no host"));
        }
    });
    let method = object.get("method").and_then(|node| node.choice(METHODS)).map_or(default.method, str::to_owned);
    let statuses: Vec<(u16, u16)> = object.list("expectedStatuses").iter().filter_map(range).collect();
    Some(Probe::Http(HttpProbe {
        path: object.get("path").and_then(|node| path(&node)).unwrap_or(default.path),
        host,
        method,
        headers: object.get("headers").map(|node| headers(&node)).unwrap_or_default(),
        statuses: if statuses.is_empty() { default.statuses } else { statuses },
    }))
}

fn headers(node: &Node<'_>) -> Vec<(String, String)> {
    let written = node.texts_by_key();
    if written.len() > HEADERS_MAX {
        node.problem(format!("{} headers; at most {HEADERS_MAX} are allowed", written.len()));
    }
    let mut found = Vec::new();
    for (name, value) in written {
        let Some(at) = node.child(&name) else { continue };
        let lower = name.to_ascii_lowercase();
        if !is_field_name(&name) {
            at.problem(format!("{:?} is no header name", shortened(&name)));
        }
        if OWN_HEADERS.contains(&lower.as_str()) {
            at.problem("is set by the sidecar itself; the host has a field of its own".to_owned());
        }
        if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            at.problem("has other than visible ASCII characters".to_owned());
        }
        found.push((lower, value));
    }
    found
}

fn grpc(node: &Node<'_>) -> Option<Probe> {
    let object = node.object(&["service"])?;
    let service = object.get("service").and_then(|node| node.filled_text()).unwrap_or_default();
    Some(Probe::Grpc { service })
}

fn tcp(node: &Node<'_>) -> Option<Probe> {
    let object = node.object(&["send", "receive"])?;
    let read = |key| object.get(key).and_then(|node| payload(&node)).unwrap_or_default();
    Some(Probe::Tcp(TcpProbe { send: read("send"), receive: read("receive") }))
}

/// A text, or `{hex: "50494e47"}`.
fn payload(node: &Node<'_>) -> Option<Vec<u8>> {
    let bytes = match node.as_text() {
        Some(_) => node.filled_text()?.into_bytes(),
        None => {
            let hex = node.object(&["hex"])?.required("hex")?;
            let text = hex.filled_text()?;
            let bytes = from_hex(&text);
            if bytes.is_none() {
                hex.problem(format!("{:?} is not hexadecimal: two digits of 0-9 a-f for each byte", shortened(&text)));
            }
            bytes?
        }
    };
    if bytes.len() > TcpProbe::BYTES_MAX {
        node.problem(format!("{} bytes; at most {} are allowed", bytes.len(), TcpProbe::BYTES_MAX));
    }
    Some(bytes)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
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
