//! The lane oracle, for what reaches an application by other ways than requests: which lanes this instance belongs to,
//! which lanes of a service have somebody who could take over, and which lane a message means.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::StatusCode;
use mesh_core::{
    lane::{Carried, Choice, Freshness, Level, Living, Source, Strength, Usable, baseline_strength, choose, living},
    model::{
        lane::{InvalidName, LaneGroup, LaneRef, LaneState},
        route::{Backend, Distribution, HttpRoute, OutboundPolicy, OutboundProtocol, Target},
        service::{Service, ServiceKey},
    },
    outcome::Outcome,
    query,
    snapshot::Snapshot,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    datapath::lane::oracle::{Kept, Oracle},
    shared::{Ask, Shared},
    telemetry::{health::Unusable, metrics::render::Sources},
};

/// Longest wait for the controller's answer about a service that nobody called yet.
const SERVICE_LIMIT: Duration = Duration::from_secs(2);
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

/// Lanes of a service, `<name>.<namespace>` with or without port, for which a usable instance lives; and, of a lane that is
/// asked for (`lane=`), who serves it.
pub(super) async fn active(sources: &Sources, oracle: &Oracle, text: Option<&str>) -> Told {
    let fields = query::fields(text.unwrap_or_default());
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let Some(wanted) = field("service").map(str::to_ascii_lowercase) else {
        return problem(StatusCode::BAD_REQUEST, "expected ?service=<name>.<namespace>, with or without :<port>");
    };
    let label = match field("lane").map(label).transpose() {
        Ok(label) => label,
        Err(error) => return problem(StatusCode::BAD_REQUEST, format!("lane: {error}")),
    };
    let (host, port) = match wanted.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (&*wanted, None),
    };
    let Some(snapshot) = following(&sources.shared, host, port).await else {
        return problem(StatusCode::NOT_FOUND, format!("there is no service {wanted}"));
    };
    let services: Vec<&Service> =
        snapshot.services.values().map(|service| &**service).filter(|service| fits(service, host, port)).collect();
    services.iter().for_each(|service| oracle.note_use(service.key()));
    let seen = Seen::of(sources);
    let mut lanes: BTreeMap<&LaneRef, Living<'_>> = BTreeMap::new();
    let mut baseline = Strength::default();
    for service in &services {
        let usable = |position| seen.allows(service, position);
        for living in living(service, &snapshot.lanes, Usable::Where(&usable)) {
            let known = lanes.entry(living.lane).or_insert_with(|| living.clone());
            known.strength = known.strength.max(living.strength);
        }
        baseline = baseline.max(baseline_strength(service, &snapshot.lanes, Usable::Where(&usable)));
    }
    let lanes: Vec<Value> = lanes
        .into_values()
        .map(|Living { lane, state, strength }| {
            let Strength { usable, instances } = strength;
            json!({ "group": lane.group, "lane": lane.lane, "state": state, "instances": instances, "usable": usable })
        })
        .collect();
    let baseline = json!({ "instances": baseline.instances, "usable": baseline.usable });
    let mut told = json!({ "service": host, "lanes": lanes, "baseline": baseline });
    if let Some(label) = label {
        told["servedBy"] = served_by(&services, &snapshot.lanes, &seen, &label);
    }
    (StatusCode::OK, told)
}

/// A label as it stands in a message: `<lane>` or `<group>/<lane>`.
fn label(text: &str) -> Result<Carried, InvalidName> {
    let (group, lane) = match text.split_once('/') {
        Some((group, lane)) => (Some(group.parse()?), lane),
        None => (None, text),
    };
    Ok(Carried { group, lane: lane.parse()?, source: Source::Header })
}

/// Who serves a label here, as for a call; of several ports a lane's answer goes before baseline's.
fn served_by(services: &[&Service], groups: &[LaneGroup], seen: &Seen, label: &Carried) -> Value {
    let choose = |service: &&Service| {
        let usable = |position| seen.allows(service, position);
        match choose(Some(label), groups, service, Usable::Where(&usable)) {
            Choice::Use { level, reason, .. } => (Some(level), reason.label()),
            Choice::RejectMissing(_) => (None, Outcome::LaneMissing.label()),
            Choice::RejectUnhealthy(_) => (None, Outcome::LaneUnhealthy.label()),
        }
    };
    let choices: Vec<(Option<Level>, &str)> = services.iter().map(choose).collect();
    let lane = choices.iter().find(|(level, _)| matches!(level, Some(Level::Lane(_))));
    let found = lane.or(choices.first());
    let (level, reason) = found.map_or((None, Outcome::NoRoute.label()), |(level, reason)| (level.as_ref(), *reason));
    json!({ "level": level.map(Level::to_string), "reason": reason })
}

/// What the workers have against instances.
struct Seen(Vec<Arc<Vec<Unusable>>>);

impl Seen {
    fn of(sources: &Sources) -> Seen {
        Seen(sources.workers.iter().map(|worker| worker.all_health().unusable()).collect())
    }

    /// Whether every worker would pick the instance.
    fn allows(&self, service: &Service, position: usize) -> bool {
        let Some(endpoint) = service.endpoints().get(position) else { return false };
        let is_it = |one: &&Unusable| one.service == *service.key() && one.address == endpoint.address;
        self.0.iter().flat_map(|worker| worker.iter()).filter(is_it).all(|one| one.usability.allows())
    }
}

fn fits(service: &Service, host: &str, port: Option<u16>) -> bool {
    let key = service.key();
    let of_port = |port: u16| key.as_str().rsplit_once(':').is_some_and(|(_, own)| own.parse() == Ok(port));
    service.exists() && key.label() == host && port.is_none_or(of_port)
}

/// A snapshot that knows the service: it is asked for where nobody called it yet, and followed for as long as it is asked
/// about. `None` = there is none.
async fn following(shared: &Shared, host: &str, port: Option<u16>) -> Option<Arc<Snapshot>> {
    let limit = Instant::now() + SERVICE_LIMIT;
    let mut revision = shared.revision.clone();
    let target = Target::Authority(host.into(), port.unwrap_or(DEFAULT_PORT));
    // Asking for what is known already says that it is in use.
    if shared.load().outbound.contains_key(&target) {
        drop(shared.ask.try_send(Ask::Target(target.clone())));
    }
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
pub(super) async fn resolve(oracle: &Oracle, text: Option<&str>) -> Told {
    let fields = Kept(query::fields(text.unwrap_or_default()));
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
