//! How instances stand now, for `mesh-ctl endpoints`, and what happened to them, for `mesh-ctl events`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use mesh_core::{
    lifecycle::{Condition, Facts, Seen, instance},
    model::{endpoint::WEIGHT_ONE, policy::TrafficPolicy},
    names::DEFAULT_NAMESPACE,
    query,
    resources::World,
};
use serde_json::{Value, json};

use super::{Console, answers::seconds};
use crate::publish::{events::Event, proxies::Proxy};

/// Events in one answer unless fewer are asked for.
const EVENTS_SHOWN: usize = 1_000;

/// What callers said of one instance: who, how they have it, and since when.
type SeenBy = Vec<(String, Seen, Option<u64>)>;

/// Every instance of a service, `<name>` or `<name>.<namespace>`.
pub(super) fn explain(console: &Console, query: Option<&str>) -> Result<Value, (StatusCode, String)> {
    let named = query::fields(query.unwrap_or_default());
    let named = named.into_iter().find_map(|(name, value)| (name == "service").then_some(value));
    let named = named.ok_or((StatusCode::BAD_REQUEST, "service=<name>.<namespace> is missing".to_owned()))?;
    let label = if named.contains('.') { named } else { format!("{named}.{DEFAULT_NAMESPACE}") };
    let view = console.published.view();
    let world = view.world();
    let service = world.services.get(&label);
    let service = service.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no service {label}")))?;
    let proxies = console.reported.proxies.all();
    let lives = console.reported.proxies.said(world);
    let seen = seen(&proxies, &label);
    let workloads = workloads(world, &label);
    let warm_up = world.traffic.get(&label).map_or_else(|| TrafficPolicy::default().warm_up, |policy| policy.warm_up);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut items = Vec::new();
    let policy = world.traffic.get(&label);
    for (number, port) in &service.ports {
        let probers = console.reported.sharing.probers(&port.key);
        for endpoint in &port.endpoints {
            let workload = workloads.get(&endpoint.address);
            let sidecar = workload.and_then(|key| lives.get(*key)).map(|said| (said.state, said.since));
            let by = seen.get(&(*number, endpoint.address)).map_or(&[][..], Vec::as_slice);
            let told: Vec<(Seen, Option<u64>)> = by.iter().map(|(_, seen, since)| (*seen, *since)).collect();
            let facts = Facts { endpoint, sidecar, seen: &told, warm_up, now };
            let mut item = shown(&facts, by);
            item["namespace"] = json!(service.namespace);
            item["service"] = json!(service.name);
            item["port"] = json!(number);
            item["pod"] = json!(workload.and_then(|key| key.split_once('/')).map(|(_, pod)| pod));
            item["probedBy"] = match probers.get(&endpoint.address) {
                Some(who) => json!(who),
                None if policy.is_some_and(|policy| policy.health_check.is_some()) => json!("every caller"),
                None => Value::Null,
            };
            items.push(item);
        }
    }
    Ok(json!({ "service": label, "reportingProxies": proxies.len(), "items": items }))
}

fn shown(facts: &Facts<'_>, by: &[(String, Seen, Option<u64>)]) -> Value {
    let (endpoint, found) = (facts.endpoint, instance(facts));
    let caller =
        |(by, seen, since): &(String, Seen, Option<u64>)| json!({ "proxy": by, "state": seen.label(), "since": since });
    json!({
        "address": endpoint.address,
        "zone": endpoint.zone,
        "lanes": endpoint.lanes,
        "state": found.condition.label(),
        "weight": share(found.weight),
        "ofWeight": share(endpoint.weight),
        "percent": (found.condition == Condition::Warming).then(|| percent(found.weight, endpoint.weight)),
        "reason": found.reason,
        "since": found.since,
        "sidecar": facts.sidecar.map(|(state, _)| state.label()),
        "sidecarSince": facts.sidecar.map(|(_, since)| since),
        "seenBy": by.iter().map(caller).collect::<Vec<_>>(),
    })
}

fn share(weight: u32) -> f64 {
    f64::from(weight) / f64::from(WEIGHT_ONE)
}

fn percent(part: u32, whole: u32) -> u64 {
    (u64::from(part) * 100 + u64::from(whole) / 2) / u64::from(whole.max(1))
}

/// Workloads of a service's instances, by address.
fn workloads<'w>(world: &'w World, label: &str) -> BTreeMap<SocketAddr, &'w String> {
    let mut found = BTreeMap::new();
    for (key, workload) in &world.workloads {
        if workload.services.iter().any(|service| service == label) {
            found.extend(workload.addresses.iter().map(|address| (*address, key)));
        }
    }
    found
}

/// What connected proxies say of the instances of a service, by port and address.
fn seen(proxies: &[Proxy], label: &str) -> BTreeMap<(u16, SocketAddr), SeenBy> {
    let mut found: BTreeMap<(u16, SocketAddr), SeenBy> = BTreeMap::new();
    for proxy in proxies {
        let by = World::workload_key(&proxy.namespace, &proxy.pod);
        for (service, address, seen, since) in proxy.seen() {
            let port = service.as_str().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            if let (true, Some(port)) = (service.label() == label, port) {
                found.entry((port, address)).or_default().push((by.clone(), seen, since.map(seconds)));
            }
        }
    }
    found
}

/// What happened to instances: `after` a number, at most `limit`, of one `service`, `workload` or `kind`.
pub(super) fn events(console: &Console, query: Option<&str>) -> Result<Value, (StatusCode, String)> {
    let fields = query::fields(query.unwrap_or_default());
    let text = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let number = |name: &str, default: u64| match text(name).map(str::parse) {
        None => Ok(default),
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) => Err((StatusCode::BAD_REQUEST, format!("{name} is a whole number"))),
    };
    let (after, limit) = (number("after", 0)?, number("limit", EVENTS_SHOWN as u64)?);
    let is_asked = |event: &Event| {
        let what = &event.what;
        text("service").is_none_or(|service| what.service == service)
            && text("workload").is_none_or(|workload| what.workload == workload)
            && text("kind").is_none_or(|kind| what.kind.label() == kind)
    };
    let all = console.reported.events.after(after);
    let last = all.last().map_or(after, |event| event.number);
    let mut items: Vec<Value> = all.iter().filter(|event| is_asked(event)).map(event).collect();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(EVENTS_SHOWN);
    items.drain(..items.len().saturating_sub(limit));
    Ok(json!({ "last": last, "items": items }))
}

fn event(event: &Event) -> Value {
    let what = &event.what;
    json!({
        "number": event.number,
        "time": event.time,
        "kind": what.kind.label(),
        "workload": what.workload,
        "service": what.service,
        "address": what.address,
        "by": what.by,
        "detail": what.detail,
    })
}
