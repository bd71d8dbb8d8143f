//! The lane oracle, for what reaches an application by other ways than requests: which lanes this instance belongs to,
//! which lanes of a service have somebody who could take over, and which lane a message means.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use mesh_core::{
    lane::Freshness,
    model::{
        lane::{LaneGroup, LaneRef, LaneState},
        route::{Backend, Distribution, HttpRoute, OutboundPolicy, OutboundProtocol, Target},
        service::{Service, ServiceKey},
    },
    snapshot::Snapshot,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    datapath::lane::oracle::{Kept, Oracle},
    shared::{Ask, Shared},
};

/// Longest wait for the controller's answer about a service that nobody called yet.
const SERVICE_LIMIT: Duration = Duration::from_secs(2);
/// Fields that a question about a message may have.
const FIELDS_MAX: usize = 32;
/// Port of a service that is named without.
const DEFAULT_PORT: u16 = 80;

/// What is answered: status and JSON.
pub(super) type Told = (StatusCode, Value);

fn problem(status: StatusCode, detail: impl Into<String>) -> Told {
    (status, json!({ "status": status.as_u16(), "detail": detail.into() }))
}

/// Lanes of this instance.
pub(super) fn own(shared: &Shared) -> Told {
    let snapshot = shared.load();
    let lanes: Vec<Value> = snapshot.workload.lanes.iter().map(|lane| described(lane, &snapshot.lanes)).collect();
    let told = json!({
        "lanes": lanes,
        "services": snapshot.workload.services,
        "zone": snapshot.workload.zone,
    });
    (StatusCode::OK, told)
}

fn described(lane: &LaneRef, groups: &[LaneGroup]) -> Value {
    json!({ "group": lane.group, "lane": lane.lane, "state": state(lane, groups) })
}

/// Stage of a lane; `None` = no group knows it.
fn state(lane: &LaneRef, groups: &[LaneGroup]) -> Option<LaneState> {
    let group = groups.iter().find(|group| group.name == lane.group)?;
    group.lane(&lane.lane).map(|lane| lane.state)
}

/// Lanes that have instances of a service which take traffic, `<name>.<namespace>` with or without port.
pub(super) async fn active(shared: &Shared, query: Option<&str>) -> Told {
    let wanted =
        fields(query).into_iter().find(|(name, _)| name == "service").map(|(_, value)| value.to_ascii_lowercase());
    let Some(wanted) = wanted else {
        return problem(StatusCode::BAD_REQUEST, "expected ?service=<name>.<namespace>, with or without :<port>");
    };
    let (host, port) = match wanted.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (&*wanted, None),
    };
    let Some(snapshot) = following(shared, host, port).await else {
        return problem(StatusCode::NOT_FOUND, format!("there is no service {wanted}"));
    };
    let services: Vec<&Service> =
        snapshot.services.values().map(|service| &**service).filter(|service| fits(service, host, port)).collect();
    let mut lanes: Vec<&LaneRef> = services.iter().flat_map(|service| service.lanes()).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let instances =
        |lane: &LaneRef| services.iter().map(|service| service.in_lane(lane).len()).max().unwrap_or_default();
    let honoured = |lane: &&LaneRef| match state(lane, &snapshot.lanes) {
        Some(LaneState::Draft | LaneState::Active | LaneState::Draining) => instances(lane) > 0,
        Some(LaneState::Closed | LaneState::Promoted) | None => false,
    };
    let lanes: Vec<Value> = lanes
        .into_iter()
        .filter(honoured)
        .map(|lane| {
            let mut told = described(lane, &snapshot.lanes);
            told["instances"] = instances(lane).into();
            told
        })
        .collect();
    let baseline = services.iter().map(|service| service.baseline(&snapshot.lanes).len()).max().unwrap_or_default();
    (StatusCode::OK, json!({ "service": host, "lanes": lanes, "baseline": { "instances": baseline } }))
}

fn fits(service: &Service, host: &str, port: Option<u16>) -> bool {
    let key = service.key();
    let of_port = |port: u16| key.as_str().rsplit_once(':').is_some_and(|(_, own)| own.parse() == Ok(port));
    service.exists() && key.label() == host && port.is_none_or(of_port)
}

/// A snapshot that knows the service: it is asked for where nobody called it yet. `None` = there is none.
async fn following(shared: &Shared, host: &str, port: Option<u16>) -> Option<std::sync::Arc<Snapshot>> {
    let limit = Instant::now() + SERVICE_LIMIT;
    let mut revision = shared.revision.clone();
    let target = Target::Authority(host.into(), port.unwrap_or(DEFAULT_PORT));
    loop {
        revision.borrow_and_update();
        let snapshot = shared.load();
        if snapshot.services.values().any(|service| fits(service, host, port)) {
            return Some(snapshot);
        }
        if snapshot.unknown.contains(&target) {
            return None;
        }
        // Asking twice is harmless, and the queue is bounded.
        match snapshot.outbound.get(&target) {
            Some(policy) => {
                let unknown = services_of(policy).into_iter().filter(|key| !snapshot.services.contains_key(key));
                unknown.for_each(|key| drop(shared.ask.try_send(Ask::Service(key))));
            }
            None => drop(shared.ask.try_send(Ask::Target(target.clone()))),
        }
        drop(snapshot);
        if !matches!(timeout_at(limit, revision.changed()).await, Ok(Ok(()))) {
            return None;
        }
    }
}

/// Services to which a policy sends.
fn services_of(policy: &OutboundPolicy) -> Vec<ServiceKey> {
    let of = |distribution: &Distribution| -> Vec<ServiceKey> {
        let backends: Vec<&Backend> = match distribution {
            Distribution::Empty => Vec::new(),
            Distribution::FirstAvailable(backends) => backends.iter().collect(),
            Distribution::Weighted(backends) => backends.iter().map(|(backend, _)| backend).collect(),
        };
        let service = |backend: &Backend| match backend {
            Backend::Service(key) => Some(key.clone()),
            Backend::Forward(_) => None,
        };
        backends.into_iter().filter_map(service).collect()
    };
    let of_routes = |routes: &[HttpRoute]| -> Vec<ServiceKey> {
        routes.iter().flat_map(|route| &route.rules).flat_map(|rule| of(&rule.backends)).collect()
    };
    match &policy.protocol {
        OutboundProtocol::Detect { opaque, http1, .. } => of_routes(http1).into_iter().chain(of(opaque)).collect(),
        OutboundProtocol::Http1(routes) | OutboundProtocol::Http2(routes) | OutboundProtocol::Grpc(routes) => {
            of_routes(routes)
        }
        OutboundProtocol::Opaque(to) | OutboundProtocol::Tls(to) => of(to),
    }
}

/// Lane of a message whose headers are given, one parameter each: 200 with the lane, or 404 for baseline.
pub(super) async fn resolve(oracle: &Oracle, query: Option<&str>) -> Told {
    let fields = Kept(fields(query));
    if fields.0.is_empty() {
        return problem(
            StatusCode::BAD_REQUEST,
            "expected headers of the message, such as ?traceparent=… or ?baggage=…",
        );
    }
    let answer = match oracle.resolve(&fields).await {
        Ok(answer) => answer,
        Err(error) => return problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    };
    let stale = answer.freshness == Freshness::Stale;
    match answer.carried {
        Some(carried) => {
            let told = json!({
                "group": carried.group,
                "lane": carried.lane,
                "source": carried.source.label(),
                "stale": stale,
                "ambiguous": answer.ambiguous,
            });
            (StatusCode::OK, told)
        }
        None => (StatusCode::NOT_FOUND, json!({ "level": "baseline", "source": "none", "stale": stale })),
    }
}

/// Parameters of a query, decoded.
fn fields(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(FIELDS_MAX);
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name).into_owned(), decoded(value).into_owned())
        })
        .collect()
}

/// Percent-decoded; `+` stays, as base64 in a header has it.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let hex = |digit: Option<&u8>| digit.and_then(|digit| (*digit as char).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}
