//! Zones: what the console shows of them, and `POST zone`, by which one is drained or restored. Times are Unix milliseconds.
//!
//! Shares are worked out by the code of the data path, from what is registered and what connected proxies do not use; that
//! capacity counts bit by bit when it comes back, each proxy decides for itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::StatusCode;
use mesh_core::{
    model::{endpoint::WEIGHT_ONE, policy::TrafficPolicy, service::Service},
    names::DEFAULT_NAMESPACE,
    query,
    resources::{World, world::WorldPort, zone::ZoneState},
    zone::{Level, Plan},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Answer, Console, ask, explain::aside::Reports, not_applied, refused};
use crate::{
    index::View,
    sources::{file::Request, zones::ZoneOrder},
};

/// Longest reason that is kept, characters.
const REASON_MAX: usize = 300;

/// What is known of one zone.
#[derive(Default)]
struct Tally {
    services: BTreeSet<String>,
    instances: usize,
    in_traffic: usize,
    weight: f64,
    /// Part of every service's calls that it gets, times the service's capacity.
    calls: f64,
}

/// Every zone that an instance, a workload or a resource names.
pub(super) fn all(console: &Console) -> Vec<Value> {
    let view = console.published.view();
    let (world, proxies) = (view.world(), console.reported.proxies.all());
    let reports = Reports::of(&proxies);
    let mut tallies: BTreeMap<String, Tally> = names(world).into_iter().map(|zone| (zone, Tally::default())).collect();
    let mut capacity = 0.0;
    for (label, service) in &world.services {
        for port in service.ports.values() {
            let level = Ground::of(&view, label, port, &reports);
            for endpoint in &port.endpoints {
                let Some(tally) = endpoint.zone.as_ref().and_then(|zone| tallies.get_mut(zone)) else { continue };
                tally.services.insert(label.clone());
                tally.instances += 1;
                if endpoint.is_open() {
                    tally.in_traffic += 1;
                    tally.weight += f64::from(endpoint.weight) / f64::from(WEIGHT_ONE);
                }
            }
            capacity += level.capacity();
            for (zone, part) in level.parts() {
                if let Some(tally) = zone.and_then(|zone| tallies.get_mut(&zone)) {
                    tally.calls += part * level.capacity();
                }
            }
        }
    }
    let item = |(zone, tally): (&String, &Tally)| {
        let said = world.zones.get(zone);
        json!({
            "zone": zone,
            "state": said.map_or(ZoneState::Serving, |said| said.state),
            "since": said.and_then(|said| said.since),
            "reason": said.map(|said| said.reason.as_str()).filter(|reason| !reason.is_empty()),
            "services": tally.services.len(),
            "instances": tally.instances,
            "inTraffic": tally.in_traffic,
            "weight": tally.weight,
            "shareNow": if capacity > 0.0 { percent(tally.calls / capacity) } else { 0.0 },
        })
    };
    tallies.iter().map(item).collect()
}

fn names(world: &World) -> BTreeSet<String> {
    let of_instances = world.services.values().flat_map(|service| service.ports.values());
    let of_instances = of_instances.flat_map(|port| &port.endpoints).filter_map(|endpoint| endpoint.zone.clone());
    let of_workloads = world.workloads.values().filter_map(|workload| workload.zone.clone());
    of_instances.chain(of_workloads).chain(world.zones.keys().cloned()).collect()
}

/// In hundredths of a percent.
pub(super) fn percent(part: f64) -> f64 {
    (part * 10_000.0).round() / 100.0
}

/// Which zones serve callers of each zone, for one service: baseline's calls.
pub(super) fn shares(console: &Console, query: Option<&str>) -> Result<Value, (StatusCode, String)> {
    let fields = query::fields(query.unwrap_or_default());
    let named = fields.into_iter().find_map(|(name, value)| (name == "service").then_some(value));
    let named = named.ok_or((StatusCode::BAD_REQUEST, "service=<name>.<namespace> is missing".to_owned()))?;
    let label = if named.contains('.') { named } else { format!("{named}.{DEFAULT_NAMESPACE}") };
    let view = console.published.view();
    let service = view.service(&label).ok_or((StatusCode::NOT_FOUND, format!("there is no service {label}")))?;
    let proxies = console.reported.proxies.all();
    let reports = Reports::of(&proxies);
    let mut items = Vec::new();
    for (number, port) in &service.ports {
        let ground = Ground::of(&view, &label, port, &reports);
        for from in names(view.world()) {
            for (to, part, reason) in ground.shares(Some(&from)) {
                let item = json!({
                    "port": number, "from": from, "to": to, "percent": percent(part), "reason": reason,
                });
                items.push(item);
            }
        }
    }
    Ok(json!({ "service": label, "items": items }))
}

/// One port of a service, with what its callers decide by.
pub(super) struct Ground<'v> {
    view: &'v View,
    traffic: TrafficPolicy,
    service: Service,
    /// Positions that take traffic, and those of them that nobody passes over.
    members: Vec<usize>,
    usable: Vec<usize>,
}

impl<'v> Ground<'v> {
    fn of(view: &'v View, label: &str, port: &WorldPort, reports: &Reports<'_>) -> Self {
        let service = Service::new(port.key.clone(), true, port.endpoints.clone()).with_groups(view.lanes());
        let members = service.baseline(view.lanes()).into_owned();
        Ground::among(view, label, service, members, reports)
    }

    /// Of one level alone, whose instances that take traffic are `members`.
    pub(super) fn among(
        view: &'v View,
        label: &str,
        service: Service,
        members: Vec<usize>,
        reports: &Reports<'_>,
    ) -> Self {
        let is_usable = |position: &usize| reports.against(&service, *position).is_empty();
        let usable: Vec<usize> = members.iter().copied().filter(is_usable).collect();
        let usable = if usable.is_empty() { members.clone() } else { usable };
        let traffic = view.world().traffic.get(label).cloned().unwrap_or_default();
        Ground { view, traffic, service, members, usable }
    }

    fn capacity(&self) -> f64 {
        let weight = |position: &usize| f64::from(self.service.endpoints()[*position].weight);
        self.usable.iter().map(weight).sum::<f64>() / f64::from(WEIGHT_ONE)
    }

    fn plan(&self, own: Option<&str>) -> Plan {
        let endpoints = self.service.endpoints();
        let level = Level {
            members: &self.members,
            candidates: &self.usable,
            weight: &|position| endpoints[position].weight,
            zone: &|position| endpoints[position].zone.as_deref(),
            is_sound: &|_| true,
        };
        let drained = self.view.world().drained_zones();
        Plan::new(&self.traffic.zones, own, &drained, &level, (None, Duration::ZERO))
    }

    /// Zones with their part of the calls of callers in `own`, from 0 to 1, and why.
    pub(super) fn shares(&self, own: Option<&str>) -> Vec<(Option<String>, f64, &'static str)> {
        let (plan, endpoints) = (self.plan(own), self.service.endpoints());
        let mut found: BTreeMap<Option<&str>, (f64, &'static str)> = BTreeMap::new();
        for (positions, share) in plan.groups() {
            let weight = |position: &usize| f64::from(endpoints[*position].weight);
            let total: f64 = positions.iter().map(weight).sum();
            for position in positions.iter().filter(|_| share.part > 0.0 && total > 0.0) {
                let zone = endpoints[*position].zone.as_deref();
                let entry = found.entry(zone).or_insert((0.0, share.reason.label()));
                entry.0 += share.part * weight(position) / total;
            }
        }
        found.into_iter().map(|(zone, (part, reason))| (zone.map(str::to_owned), part, reason)).collect()
    }

    /// Zones with their part of all calls, if callers are as many in one zone as in another.
    fn parts(&self) -> Vec<(Option<String>, f64)> {
        let zones: BTreeSet<&str> =
            self.members.iter().filter_map(|at| self.service.endpoints()[*at].zone.as_deref()).collect();
        let callers: Vec<Option<&str>> =
            if zones.is_empty() { vec![None] } else { zones.into_iter().map(Some).collect() };
        let mut found: BTreeMap<Option<String>, f64> = BTreeMap::new();
        for own in &callers {
            for (zone, part, _) in self.shares(*own) {
                *found.entry(zone).or_default() += part / callers.len() as f64;
            }
        }
        found.into_iter().collect()
    }
}

/// What `POST zone` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    /// Name of the zone.
    zone: String,
    verb: Verb,
    #[serde(default)]
    reason: String,
}

/// What can be done to a zone.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Verb {
    Drain,
    Restore,
}

/// Drains or restores a zone; answered when that is in force here, and proxies are being told.
pub(super) async fn change(console: &Console, text: &str) -> Answer {
    let change: Change = match serde_json::from_str(text) {
        Ok(change) => change,
        Err(error) => {
            let reason = format!("expected JSON with zone, verb (drain, restore) and, if wanted, reason: {error}");
            return refused(StatusCode::BAD_REQUEST, &reason);
        }
    };
    let known = names(console.published.view().world());
    if !known.contains(&change.zone) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let reason = format!("nothing is in a zone {}; zones are: {known}", change.zone);
        return refused(StatusCode::NOT_FOUND, &reason);
    }
    let state = match change.verb {
        Verb::Drain => ZoneState::Drained,
        Verb::Restore => ZoneState::Serving,
    };
    let reason = change.reason.chars().take(REASON_MAX).collect();
    let order = ZoneOrder { zone: change.zone.clone(), state, reason };
    let (answer, answered) = oneshot::channel();
    match ask(console, Request::Zone { order, answer }, answered).await {
        Err(answer) => answer,
        Ok(Err(error)) => not_applied(error),
        Ok(Ok(())) => {
            let shown = all(console).into_iter().find(|shown| shown["zone"] == change.zone.as_str());
            super::json(StatusCode::OK, &json!(shown))
        }
    }
}
