//! What the console shows, as JSON. Times are seconds since 1970.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use mesh_core::{
    identity::Identity,
    names::DEFAULT_NAMESPACE,
    query,
    resources::{Resource, Spec, World, traffic_policy},
};
use mesh_proto::convert::time;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Console, drain, endpoints, lanes, models, zones};
use crate::{
    compose::SourceName,
    config::duration,
    publish::{probes::Seen, proxies::Proxy, standings::Standings},
    sign::tokens::Grant,
    sources::{
        SourceState, file,
        nacos::{
            register::{Ledger, Shown as Registration, State},
            table::Shown,
        },
    },
};

/// Collections, for people who asked for another one.
pub(super) const COLLECTIONS: &str = "services, endpoints, endpoints/explain, events, lanes, models, models/usage, policies, policies/explain, proxies, probes/<trace id>, \
                                      resources, source, registrations, notes, zones, zones/shares, version";

/// Life of a token when none is asked for.
const TOKEN_LIFE: &str = "24h";

/// The answer to a GET.
pub(super) fn collection(console: &Console, name: &str) -> Option<Value> {
    let view = console.published.view();
    if let Some(trace) = name.strip_prefix("probes/") {
        return Some(json!({ "items": probes(console, trace) }));
    }
    let items = match name {
        "services" => services(view.world(), &console.registered.all()),
        "endpoints" => endpoints::all(&view, &console.registered.all(), &console.reported.sharing),
        "lanes" => lanes::groups(console),
        "zones" => zones::all(console),
        "models" => models::routes(view.world()),
        "policies" => policies(console.states.resources().iter().flat_map(|list| list.iter())),
        "proxies" => {
            let all = console.reported.proxies.all();
            all.iter().map(|one| proxy(one, &console.reported.standings)).collect()
        }
        "resources" => resources(console.states.resources().iter().flat_map(|list| list.iter())),
        "source" => console.states.all().iter().map(source).collect(),
        "registrations" => registrations(console),
        "notes" => {
            let states = console.states.all();
            let of_sources = states.iter().flat_map(|state| &state.notes).map(|note| json!(note));
            let others = endpoints::notes(&console.published.notes(), &console.registered.all());
            of_sources.chain(others).collect()
        }
        "version" => return Some(json!({ "version": env!("CARGO_PKG_VERSION") })),
        _ => return None,
    };
    Some(json!({ "items": items }))
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn services(world: &World, shown: &[Shown]) -> Vec<Value> {
    let mut registered: BTreeMap<String, Vec<SourceName>> = BTreeMap::new();
    for shown in shown {
        registered.entry(shown.label.clone()).or_default().push(Arc::clone(&shown.source));
    }
    let service = |service: &mesh_core::resources::world::WorldService| {
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|(number, port)| json!({ "port": number, "protocol": port.protocol, "endpoints": port.endpoints.len() }))
            .collect();
        json!({
            "namespace": service.namespace,
            "name": service.name,
            "addresses": service.addresses,
            "ports": ports,
            "endpoints": service.ports.values().map(|port| port.endpoints.len()).sum::<usize>(),
            "sources": registered.get(&service.label()).map_or_else(|| vec![file::NAME.into()], Vec::clone),
        })
    };
    world.services.values().map(service).collect()
}

/// Kinds of resources that are policies.
const POLICIES: [&str; 4] = ["TrafficPolicy", "AccessPolicy", "HTTPRoute", "GRPCRoute"];

fn policies<'r>(resources: impl Iterator<Item = &'r Resource>) -> Vec<Value> {
    let policies = resources.filter(|resource| POLICIES.contains(&resource.metadata.kind));
    policies.map(|resource| json!(resource.metadata)).collect()
}

/// The traffic policy in force for a service (`<name>.<namespace>`), field by field.
pub(super) fn policy(console: &Console, query: Option<&str>) -> Result<Value, (StatusCode, String)> {
    let fields = query::fields(query.unwrap_or_default());
    let named = fields.into_iter().find_map(|(name, value)| (name == "service").then_some(value));
    let named = named.ok_or((StatusCode::BAD_REQUEST, "service=<name>.<namespace> is missing".to_owned()))?;
    let service = if named.contains('.') { named } else { format!("{named}.{DEFAULT_NAMESPACE}") };
    let view = console.published.view();
    if !view.world().services.contains_key(&service) {
        return Err((StatusCode::NOT_FOUND, format!("there is no service {service}")));
    }
    let resources = console.states.resources();
    let of_service = |resource: &&Resource| match &resource.spec {
        Spec::TrafficPolicy(policy) => policy.service == service,
        Spec::LaneGroup(_)
        | Spec::Lane(_)
        | Spec::AccessPolicy(_)
        | Spec::MeshService(_)
        | Spec::ModelRoute(_)
        | Spec::HttpRoute(_)
        | Spec::GrpcRoute(_)
        | Spec::Zone(_)
        | Spec::Services(_) => false,
    };
    let written = resources.iter().flat_map(|list| list.iter()).find(of_service);
    let fields = traffic_policy::explain(written.map(|resource| resource.text.as_ref()));
    // Without a policy, instances of registries with clusters are chosen as their own clients choose.
    let near = written.is_none() && view.world().traffic.get(&service).is_some_and(|policy| policy.zones.prefer_same);
    let policy = match (written, near) {
        (Some(resource), _) => format!("{}/{}", resource.metadata.namespace, resource.metadata.name),
        (None, true) => "none; its registry has zones, so zones.preferSame is true and zones.threshold is 1".to_owned(),
        (None, false) => "none".to_owned(),
    };
    Ok(json!({ "service": service, "policy": policy, "fields": fields }))
}

fn resources<'r>(resources: impl Iterator<Item = &'r Resource>) -> Vec<Value> {
    let resource = |resource: &Resource| {
        let mut value = json!(resource.metadata);
        value["text"] = json!(resource.text);
        value
    };
    resources.map(resource).collect()
}

fn source(state: &SourceState) -> Value {
    json!({
        "name": state.name.as_ref(),
        "facts": state.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
        "place": state.place,
        "loaded": state.loaded.map(seconds),
        "refused": state.refused.map(seconds),
        "problems": state.problems,
        "notes": state.notes,
        "resources": state.resources.len(),
    })
}

/// Workloads that rules of registries select, with what is decided of each and how it stands.
fn registrations(console: &Console) -> Vec<Value> {
    let item = |source: &SourceName, shown: &Registration| {
        let Registration { judged, state } = shown;
        let (service, namespace) = judged.label.split_once('.').unwrap_or((&judged.label, ""));
        let (state, reason, remedy) = match state {
            State::Registered => ("registered", None, None),
            State::Waiting => ("waiting", None, None),
            State::Failed(reason, remedy) => ("failed", Some(reason), Some(remedy)),
            State::LeftOut => ("left out", None, None),
        };
        json!({
            "source": source.as_ref(),
            "namespace": namespace,
            "service": service,
            "address": judged.address,
            "registeredAs": judged.name.to_string(),
            "cluster": judged.registration.cluster,
            "metadata": judged.registration.metadata,
            "verdict": judged.verdict.to_string(),
            "state": state,
            "reason": reason,
            "remedy": remedy,
        })
    };
    let of = |ledger: &Ledger| ledger.rows().iter().map(|shown| item(&ledger.source, shown)).collect::<Vec<_>>();
    console.ledgers.iter().flat_map(of).collect()
}

/// A proxy, and what it is told of itself.
pub(super) fn proxy(proxy: &Proxy, standings: &Standings) -> Value {
    let workload = World::workload_key(&proxy.namespace, &proxy.pod);
    json!({
        "namespace": proxy.namespace,
        "pod": proxy.pod,
        "serviceAccount": proxy.service_account,
        "identity": proxy.identity,
        "role": proxy.role,
        "version": proxy.version,
        "address": proxy.address,
        "adminAddress": proxy.admin_address,
        "currentRevision": proxy.current,
        "appliedRevision": proxy.acked,
        "refusedReason": proxy.nack,
        "certificateNotAfter": proxy.certificate_not_after.map(seconds),
        "snapshotWritten": proxy.snapshot_written.map(seconds),
        "started": proxy.started,
        "life": drain::life(proxy),
        "lifeSince": proxy.life.map(|life| seconds(life.since)),
        "readySince": proxy.life.and_then(|life| life.ready_since).map(seconds),
        "drainOrdered": standings.is_ordered(&workload, proxy.started),
        "draining": proxy.draining,
        "subscriptions": proxy.subscriptions,
        "unusableInstances": proxy.unusable.len(),
        "connectedSince": seconds(proxy.connected_since),
    })
}

fn probes(console: &Console, trace: &str) -> Vec<Value> {
    let seen = |seen: &Seen| {
        let note = &seen.note;
        let start = note.start.and_then(|start| time("start", start).ok()).unwrap_or(UNIX_EPOCH);
        json!({
            "namespace": seen.namespace,
            "pod": seen.pod,
            "direction": note.direction,
            "service": note.service,
            "label": note.label,
            "source": note.source,
            "level": note.level,
            "reason": note.reason,
            "outcome": note.outcome,
            "status": note.status,
            "endpoint": note.endpoint,
            "start": start.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64,
        })
    };
    console.reported.probes.of(trace).iter().map(seen).collect()
}

/// What `POST tokens` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenRequest {
    namespace: Option<String>,
    service_account: String,
    pod: Option<String>,
    ttl: Option<String>,
}

/// Signs a token.
pub(super) fn token(console: &Console, text: &str) -> Result<Value, String> {
    let request: TokenRequest = serde_json::from_str(text)
        .map_err(|error| format!("expected JSON with serviceAccount and, if wanted, namespace, pod, ttl: {error}"))?;
    let namespace = request.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let view = console.published.view();
    let trust_domain = &view.domains().trust;
    let identity =
        Identity::new(trust_domain, namespace, &request.service_account).map_err(|error| error.to_string())?;
    let ttl = request.ttl.as_deref().unwrap_or(TOKEN_LIFE);
    let life = duration(ttl).map_err(|error| format!("ttl: {error}"))?;
    let now = SystemTime::now();
    let grant = Grant { identity, pod: request.pod, life };
    let token = console.tokens.sign(&grant, now).map_err(|error| error.to_string())?;
    Ok(json!({ "token": token, "identity": grant.identity, "expires": seconds(now + life) }))
}
