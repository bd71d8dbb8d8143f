//! Instances as the console shows them: as callers get them, and beside it as they are registered, with those that take
//! no traffic and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use mesh_core::{
    discovery::nacos::instance::Row,
    model::{
        endpoint::{Endpoint, WEIGHT_ONE},
        service::ServiceKey,
    },
    resources::{Problem, world::WorldService},
};
use serde_json::{Value, json};

use crate::{
    index::View,
    publish::health::Sharing,
    sources::{file, nacos::table::Shown},
};

/// Every instance of every service; `probedBy` names the proxies that probe it for all who call it, and is null where
/// probing is not shared.
pub(super) fn all(view: &View, registered: &[Shown], sharing: &Sharing) -> Vec<Value> {
    let world = view.world();
    let mut pods = BTreeMap::new();
    for workload in world.workloads.values() {
        pods.extend(workload.addresses.iter().map(|address| (*address, workload.pod.as_str())));
    }
    let mut rows = Rows::new(registered);
    let mut items = Vec::new();
    for (label, service) in &world.services {
        for (number, port) in &service.ports {
            let key = ServiceKey(format!("{label}.svc.{}:{number}", view.domains().cluster).into());
            let probers = sharing.probers(&key);
            for endpoint in &port.endpoints {
                let mut shown = in_traffic(service, *number, endpoint, pods.get(&endpoint.address).copied());
                shown["probedBy"] = json!(probers.get(&endpoint.address));
                rows.show(label, endpoint.address, &mut shown);
                items.push(shown);
            }
        }
    }
    items.extend(rows.out());
    items
}

fn in_traffic(service: &WorldService, port: u16, endpoint: &Endpoint, pod: Option<&str>) -> Value {
    json!({
        "namespace": service.namespace,
        "service": service.name,
        "port": port,
        "address": endpoint.address,
        "pod": pod,
        "lanes": endpoint.lanes,
        "zone": endpoint.zone,
        "weight": f64::from(endpoint.weight) / f64::from(WEIGHT_ONE),
        "identity": endpoint.identity,
        "inboundPort": endpoint.inbound_port,
        "readySince": endpoint.ready_since,
        "draining": endpoint.draining,
        "healthy": endpoint.healthy,
        "labels": endpoint.labels,
        "source": file::NAME,
        "out": (endpoint.weight == 0).then_some("weight 0"),
    })
}

/// Registrations, and which of them were shown with an instance.
struct Rows<'r> {
    by_address: BTreeMap<(&'r str, String), (&'r Shown, &'r Row)>,
    seen: BTreeSet<(&'r str, String)>,
}

impl<'r> Rows<'r> {
    fn new(registered: &'r [Shown]) -> Self {
        let of = |shown: &'r Shown| {
            shown.rows.iter().map(move |row| ((shown.label.as_str(), row.address.clone()), (shown, row)))
        };
        Rows { by_address: registered.iter().flat_map(of).collect(), seen: BTreeSet::new() }
    }

    /// Adds what is registered to an instance.
    fn show(&mut self, label: &str, address: SocketAddr, shown: &mut Value) {
        let key = (label, address.to_string());
        let Some((_, (service, row))) = self.by_address.get_key_value(&key) else { return };
        add(service, row, shown);
        self.seen.insert((service.label.as_str(), key.1));
    }

    /// Registrations that no caller gets.
    fn out(&self) -> Vec<Value> {
        let missing = self.by_address.iter().filter(|(key, _)| !self.seen.contains(*key));
        let item = |((label, address), (service, row)): (&(&str, String), &(&Shown, &Row))| {
            let (name, namespace) = label.split_once('.').unwrap_or((label, ""));
            let mut shown = json!({
                "namespace": namespace,
                "service": name,
                "address": address,
                "zone": row.zone,
                "lanes": row.lane.iter().collect::<Vec<_>>(),
                "weight": 0.0,
            });
            add(service, row, &mut shown);
            shown
        };
        missing.map(item).collect()
    }
}

fn add(service: &Shown, row: &Row, shown: &mut Value) {
    shown["source"] = json!(service.source.as_ref());
    shown["cluster"] = json!(row.cluster);
    shown["registered"] = json!({ "weight": row.weight, "enabled": row.enabled, "healthy": row.healthy });
    shown["believed"] = json!(row.believed);
    shown["why"] = json!(row.why.to_string());
    shown["out"] = json!(row.out.as_ref().map(ToString::to_string));
}

/// What is wrong without refusing anything: of resources, and of registrations.
pub(super) fn notes(compiled: &[Problem], registered: &[Shown]) -> Vec<Value> {
    let registered = registered.iter().flat_map(|shown| &shown.notes).map(|note| json!(note));
    compiled.iter().map(|note| json!(note)).chain(registered).collect()
}
