//! `/endpoints`: every instance that this proxy knows, and whether its workers use it.

use mesh_core::{health::Usability, model::endpoint::Endpoint};
use serde_json::{Value, json};

use crate::telemetry::{health::Unusable, metrics::render::Sources};

/// The page: one entry per service and instance. `usability` is `usable`, `draining`, `unhealthy`
/// (says its registry), `out_of_traffic` (weight 0), or what
/// the worker says that has most against it; `workers` is how many have something against it; `probed` is where it is probed:
/// `here`, `elsewhere` or `nowhere`.
pub(super) fn page(sources: &Sources) -> Value {
    let snapshot = sources.shared.load();
    let seen: Vec<_> = sources.workers.iter().map(|worker| worker.all_health().unusable()).collect();
    let board = sources.shared.probing.read();
    let mut items = Vec::new();
    for (key, service) in &snapshot.services {
        for endpoint in service.endpoints() {
            let is_it = |one: &&Unusable| one.service == *key && one.address == endpoint.address;
            let found: Vec<Usability> =
                seen.iter().filter_map(|worker| worker.iter().find(is_it)).map(|one| one.usability).collect();
            items.push(json!({
                "service": key,
                "address": endpoint.address,
                "lanes": endpoint.lanes.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "zone": endpoint.zone,
                "weight": endpoint.weight,
                "usability": usability(endpoint, &found),
                "workers": found.len(),
                "probed": board.place(key, endpoint.address),
            }));
        }
    }
    json!({ "items": items })
}

fn usability(endpoint: &Endpoint, found: &[Usability]) -> &'static str {
    let worst = [
        Usability::FailingHealth,
        Usability::Draining,
        Usability::Ejected,
        Usability::OnTrial,
        Usability::Resting,
        Usability::HalfOpen,
        Usability::Kept,
    ];
    match worst.iter().find(|state| found.contains(state)) {
        _ if endpoint.weight == 0 => "out_of_traffic",
        _ if endpoint.draining => "draining",
        _ if !endpoint.healthy => "unhealthy",
        Some(state) => state.label(),
        None => Usability::Usable.label(),
    }
}
