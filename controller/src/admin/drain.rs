//! `POST drain`: orders sidecars to drain, down their own streams. What may be asked is decided here, by the world and the
//! table of proxies: nobody is left without an instance by mistake.

use std::collections::BTreeSet;

use http::StatusCode;
use mesh_core::{
    lifecycle::{Kind, State},
    names::DEFAULT_NAMESPACE,
    resources::{World, world::WorldService},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::{Console, answers};
use crate::publish::{events::What, proxies::Proxy};

/// What `POST drain` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    /// Pod, namespace/pod, or a service (all of its pods).
    name: String,
    /// Do it although a service keeps no instance that takes calls.
    #[serde(default)]
    leave_none: bool,
}

/// Why an order is not given.
type Refused = (StatusCode, String);

/// Gives the order, and answers whom it is for.
pub(super) fn order(console: &Console, text: &str) -> Result<Value, Refused> {
    let request: Request = serde_json::from_str(text).map_err(|error| {
        let expected = "expected JSON with name and, if wanted, leaveNone";
        (StatusCode::BAD_REQUEST, format!("{expected}: {error}"))
    })?;
    let (view, all) = (console.published.view(), console.reported.proxies.all());
    let chosen = chosen(&request.name, view.world(), &all)?;
    let keys: BTreeSet<String> = chosen.iter().map(|proxy| key(proxy)).collect();
    if let Some(old) = chosen.iter().find(|proxy| proxy.started == 0) {
        let what = format!("the proxy of {} is of a version that takes no orders ({})", key(old), old.version);
        return Err((StatusCode::CONFLICT, what));
    }
    if !request.leave_none
        && let Some(service) = left_without(view.world(), &keys, &ordered(console, &all))
    {
        let what =
            format!("service {service} would have no instance left that takes calls; leaveNone says that it may");
        return Err((StatusCode::CONFLICT, what));
    }
    let standings = &console.reported.standings;
    // Before whoever is woken can say what came of it.
    for key in &keys {
        console.reported.events.note(&console.metrics, What::of_workload(Kind::DrainOrdered, key));
    }
    let told = chosen.iter().map(|proxy| standings.order(&key(proxy), proxy.started)).collect();
    console.published.wake(&told);
    info!(pods = ?keys, "ordered to drain");
    let all = console.reported.proxies.all();
    let items = all.iter().filter(|proxy| keys.contains(&key(proxy))).map(|proxy| answers::proxy(proxy, standings));
    Ok(json!({ "items": items.collect::<Vec<_>>() }))
}

fn key(proxy: &Proxy) -> String {
    World::workload_key(&proxy.namespace, &proxy.pod)
}

/// Those that are ordered to drain already: some may not have begun.
fn ordered(console: &Console, all: &[Proxy]) -> BTreeSet<String> {
    let standings = &console.reported.standings;
    all.iter().filter(|proxy| standings.is_ordered(&key(proxy), proxy.started)).map(key).collect()
}

/// Whom a name means: one pod, or every connected pod of a service.
fn chosen<'p>(name: &str, world: &World, all: &'p [Proxy]) -> Result<Vec<&'p Proxy>, Refused> {
    let by_pod = |proxy: &&Proxy| proxy.pod == name || key(proxy) == name;
    let pods: Vec<&Proxy> = all.iter().filter(by_pod).collect();
    let keys: BTreeSet<String> = pods.iter().map(|proxy| key(proxy)).collect();
    match keys.len() {
        0 => {}
        1 => return Ok(pods),
        _ => {
            let found = keys.into_iter().collect::<Vec<_>>().join(", ");
            return Err((StatusCode::CONFLICT, format!("{name} means several pods ({found}); say which")));
        }
    }
    let label = if name.contains('.') { name.to_owned() } else { format!("{name}.{DEFAULT_NAMESPACE}") };
    let of_service =
        |proxy: &&Proxy| world.workloads.get(&key(proxy)).is_some_and(|workload| workload.services.contains(&label));
    let pods: Vec<&Proxy> = all.iter().filter(of_service).collect();
    if pods.is_empty() {
        let what = format!("no proxy is connected here of a pod {name}, nor of a service {label}");
        return Err((StatusCode::NOT_FOUND, what));
    }
    Ok(pods)
}

/// A service that takes calls now and would have no instance left for them, where others have been `ordered` to drain.
fn left_without(world: &World, drained: &BTreeSet<String>, ordered: &BTreeSet<String>) -> Option<String> {
    let chosen = drained.iter().filter_map(|key| world.workloads.get(key));
    let labels: BTreeSet<&String> = chosen.flat_map(|workload| &workload.services).collect();
    let leaving = drained.union(ordered).filter_map(|key| world.workloads.get(key));
    let addresses: BTreeSet<_> = leaving.flat_map(|workload| &workload.addresses).collect();
    let serves = |service: &WorldService, stays: &dyn Fn(&std::net::SocketAddr) -> bool| {
        let endpoints = service.ports.values().flat_map(|port| &port.endpoints);
        endpoints.filter(|endpoint| endpoint.is_open()).any(|endpoint| stays(&endpoint.address))
    };
    let services = labels.into_iter().filter_map(|label| world.services.get(label));
    let mut without =
        services.filter(|one| serves(one, &|_| true) && !serves(one, &|address| !addresses.contains(address)));
    without.next().map(WorldService::label)
}

/// How far the life of a proxy is, for people.
pub(super) fn life(proxy: &Proxy) -> &'static str {
    match proxy.life {
        Some(life) => life.state.label(),
        None if proxy.draining => State::Draining.label(),
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::resources::{Domains, compile, parse};

    use super::*;

    const SERVICES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- name: b
  namespace: shop
  ports: [{port: 80}]
  endpoints:
  - {address: '10.0.0.1:8080', pod: b-1, identity: {serviceAccount: b}}
  - {address: '10.0.0.2:8080', pod: b-2, identity: {serviceAccount: b}}
  - {address: '10.0.0.3:8080', pod: b-3, identity: {serviceAccount: b}, weight: 0}
";

    #[test]
    fn nobody_is_left_without_an_instance_unless_that_is_said() {
        let world = compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap();
        let keys = |pods: &[&str]| pods.iter().map(|pod| World::workload_key("shop", pod)).collect();
        let left = |pods: &[&str], ordered: &[&str]| left_without(&world, &keys(pods), &keys(ordered));
        assert_eq!(left(&["b-1"], &[]), None);
        assert_eq!(left(&["b-1", "b-2"], &[]), Some("b.shop".to_owned()));
        // The first has not begun yet.
        assert_eq!(left(&["b-2"], &["b-1"]), Some("b.shop".to_owned()));
        // It takes no calls.
        assert_eq!(left(&["b-3"], &[]), None);
    }
}
