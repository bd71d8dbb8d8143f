//! `POST explain`: what an entry decides about a request, which instances serve it at each service of a chain, and why, by
//! the code of the data path. Instances that take no traffic are not counted, nor those that a connected proxy does not use;
//! the answer names both, and says what was not known.

pub(super) mod aside;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use mesh_core::{
    fields::Fields,
    identity::Identity,
    lane::{
        self, Carried, Choice, MayLabel,
        entry::{self, Asked, Place, Prepared},
        trace::trace_id,
    },
    model::{lane::LaneGroup, route::Target, service::Service},
    names::DEFAULT_NAMESPACE,
    route::RequestParts,
};
use mesh_proto::convert::target::authority;
use serde::Deserialize;
use serde_json::{Value, json};

use self::aside::Reports;
use super::zones::{Ground, percent};
use crate::{index::View, publish::proxies::Proxy};

/// Longest chain of services that is explained.
const CHAIN_MAX: usize = 64;

/// What is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    #[serde(default = "get")]
    method: String,
    /// `http://host[:port]/…`; the host is the first service unless `entry` is given.
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// First service, `<name>[.<namespace>][:port]`.
    entry: Option<String>,
    /// Services after it, in order of calls; none = every service that shares a lane group with the first.
    #[serde(default)]
    chain: Vec<String>,
    /// Address of the caller.
    source_ip: Option<IpAddr>,
    /// Identity of the caller; none = some workload of the mesh.
    identity: Option<Identity>,
    /// Where the caller is.
    #[serde(default)]
    from: From,
    /// Zone of the caller, to be told which zones serve.
    zone: Option<String>,
}

/// Where a caller is.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum From {
    /// In the mesh: its label counts where the group trusts it.
    #[default]
    Mesh,
    /// Outside of it: what it says of lanes is taken off.
    Outside,
}

fn get() -> String {
    "GET".to_owned()
}

/// Answers a question.
pub(super) fn explain(view: &View, proxies: &[Proxy], text: &str) -> Result<Value, String> {
    let question: Question = serde_json::from_str(text)
        .map_err(|error| format!("expected JSON with url and, if wanted, method, headers, entry, chain: {error}"))?;
    if question.chain.len() > CHAIN_MAX {
        return Err(format!("a chain of {} services; at most {CHAIN_MAX} are explained", question.chain.len()));
    }
    let uri: http::Uri = question.url.parse().map_err(|error| format!("url: {error}"))?;
    let host = uri.authority().map(|authority| authority.as_str().to_owned());
    let first = question.entry.clone().or(host).ok_or("url names no host, and there is no entry")?;
    let mut services = vec![service(view, &first)?];
    for name in &question.chain {
        services.push(service(view, name)?);
    }
    let label = services[0].key().label().to_owned();
    if question.chain.is_empty() {
        services.extend(neighbours(view, &label));
    }
    let fields: Vec<(&str, &str)> =
        question.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let entry = Entry { view, question: &question, uri: &uri, fields: &Headers(&fields), service: &label };
    let (carried, decided) = entry.decide();
    let chain: Vec<&Service> = services.iter().collect();
    let reports = Reports::of(proxies);
    let usable = |service: &Service, position: usize| reports.against(service, position).is_empty();
    let mut hops = lane::explain(carried.as_ref(), view.lanes(), &chain, &usable);
    if let Some(zone) = &question.zone {
        hops.iter_mut().for_each(|hop| put_zone_first(view, carried.as_ref(), hop, &reports, zone));
    }
    let hops: Vec<_> = hops
        .iter()
        .map(|found| {
            let mut shown = hop(found, &reports);
            if let Some(zone) = &question.zone {
                shown["zones"] = zones(view, found, &reports, zone);
            }
            shown
        })
        .collect();
    Ok(json!({
        "request": { "method": question.method, "url": question.url, "entry": label },
        "entry": decided,
        "label": carried.as_ref().map(|carried| json!({
            "value": carried.to_string(),
            "source": carried.source.label(),
        })),
        "services": hops,
        "health": reports.known(),
    }))
}

/// Services that share a lane group with this one, at each of their ports. Which of them a request visits, and in what
/// order, only the applications know.
fn neighbours(view: &View, label: &str) -> Vec<Service> {
    let takes_part = |group: &&LaneGroup| group.entries.contains(label) || group.members.contains(label);
    let groups: Vec<&LaneGroup> = view.lanes().iter().filter(takes_part).collect();
    let shares = |other: &&String| other.as_str() != label && groups.iter().any(|one| one.members.contains(other));
    let labels: BTreeSet<&String> = view.world().services.keys().filter(shares).collect();
    let ports = labels.into_iter().filter_map(|label| view.service(label)).flat_map(|service| service.ports.values());
    ports.take(CHAIN_MAX).map(|port| Service::new(port.key.clone(), true, port.endpoints.clone())).collect()
}

/// What is decided where the request enters.
struct Entry<'q> {
    view: &'q View,
    question: &'q Question,
    uri: &'q http::Uri,
    fields: &'q dyn Fields,
    service: &'q str,
}

impl Entry<'_> {
    /// The label that the request goes on with, and why.
    fn decide(&self) -> (Option<Carried>, Value) {
        let groups = self.view.lanes();
        let said = lane::carried(self.fields, groups, None);
        let may = match self.question.from {
            From::Outside => MayLabel::None,
            From::Mesh => MayLabel::of(self.question.identity.as_ref(), groups),
        };
        let was_said = said.is_some();
        if let Some(carried) = said.and_then(|said| may.admit(said, groups)) {
            let why = json!({ "decision": "label", "reason": "the request carries a label that counts" });
            return (Some(carried), why);
        }
        let stripped = if was_said { "the label of this caller does not count; " } else { "" };
        let own = [self.service.to_owned()];
        let place = match self.question.from {
            From::Outside => Place::Gateway { own: &[], called: self.service },
            From::Mesh => Place::Service { own: &own, decided: "" },
        };
        if !groups.iter().any(|group| place.decides(group)) {
            let reason = format!("{stripped}{} is no entry of any lane group", self.service);
            return (None, json!({ "decision": "none", "reason": reason }));
        }
        let parts = RequestParts {
            method: &self.question.method,
            host: self.uri.host().unwrap_or_default(),
            path: self.uri.path(),
            query: self.uri.query(),
            fields: self.fields,
        };
        let trace = trace_id(self.fields, groups);
        let asked = Asked::new(parts, self.question.source_ip, self.question.identity.as_ref(), trace);
        match entry::decide(groups, &Prepared::new(groups), place, &asked, super::lanes::now()) {
            Some(stained) => {
                let reason = format!("{stripped}{}", stained.why);
                (Some(stained.carried), json!({ "decision": "stained", "reason": reason }))
            }
            None => {
                let reason = format!("{stripped}no rule holds, and the user is in no share");
                (None, json!({ "decision": "baseline", "reason": reason }))
            }
        }
    }
}

struct Headers<'h>(&'h [(&'h str, &'h str)]);

impl Fields for Headers<'_> {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for (_, value) in self.0.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
            visit(value.as_bytes());
        }
    }
}

/// A service as callers in the default namespace see it; without a port, at its first one.
fn service(view: &View, name: &str) -> Result<Service, String> {
    let target = authority("service", name).map_err(|error| error.to_string())?;
    let Target::Authority(host, number) = target else {
        return Err(format!("{name}: expected the name of a service"));
    };
    let candidates = view.candidates(&host, DEFAULT_NAMESPACE);
    let everywhere = view.world().services.values().filter(|service| service.name == *host);
    let found = candidates.iter().find_map(|label| view.service(label)).or_else(|| only(everywhere));
    let found = found.ok_or_else(|| format!("no service is known as {name}"))?;
    let port = match found.ports.get(&number) {
        Some(port) => Some(port),
        None if name.contains(':') => None,
        None => found.ports.values().next(),
    };
    let port = port.ok_or_else(|| format!("{} has no port {number}", found.label()))?;
    Ok(Service::new(port.key.clone(), true, port.endpoints.clone()))
}

/// The only one, if there is only one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// The level that serves callers in a zone, where the lane's group puts zones first.
fn put_zone_first(view: &View, carried: Option<&Carried>, hop: &mut lane::Hop<'_>, reports: &Reports<'_>, own: &str) {
    let (service, label) = (hop.service, hop.service.key().label());
    let asks = view.world().traffic.get(label).is_some_and(|traffic| traffic.zones.prefer_same);
    if asks && !view.world().drained_zones().contains(own) {
        let is_near = |position: usize| service.endpoints()[position].zone.as_deref() == Some(own);
        let allows = |position| reports.against(service, position).is_empty();
        let usable = lane::Usable::Where(&allows);
        hop.choice = lane::choose_near(carried, view.lanes(), service, usable, &is_near);
    }
}

/// Which zones serve callers in a zone, at the level that serves.
fn zones(view: &View, hop: &lane::Hop<'_>, reports: &Reports<'_>, own: &str) -> Value {
    let members = match &hop.choice {
        Choice::Use { level: lane::Level::Lane(lane), .. } => hop.service.in_lane(lane).to_vec(),
        Choice::Use { level: lane::Level::Baseline, .. } => hop.service.baseline(view.lanes()).into_owned(),
        Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => return json!([]),
    };
    let ground = Ground::among(view, hop.service.key().label(), hop.service.clone(), members, reports);
    let share = |(zone, part, reason): (Option<String>, f64, &'static str)| json!({ "zone": zone, "percent": percent(part), "reason": reason });
    ground.shares(Some(own)).into_iter().map(share).collect()
}

fn hop(hop: &lane::Hop<'_>, reports: &Reports<'_>) -> Value {
    let looked_at: Vec<_> = hop
        .steps
        .iter()
        .map(|step| {
            json!({
                "level": step.level.to_string(),
                "members": step.members,
                "usable": step.usable,
                "verdict": step.verdict.label(),
            })
        })
        .collect();
    let (served_by, reason, instances) = match &hop.choice {
        Choice::Use { level, reason, candidates } => {
            let endpoints = hop.service.endpoints();
            let addresses: Vec<_> =
                candidates.iter().filter_map(|at| endpoints.get(*at)).map(|one| one.address).collect();
            (level.to_string(), reason.label(), addresses)
        }
        Choice::RejectMissing(lane) => (lane.to_string(), "lane_missing", Vec::new()),
        Choice::RejectUnhealthy(lane) => (lane.to_string(), "lane_unhealthy", Vec::new()),
    };
    json!({
        "service": hop.service.key().as_str(),
        "servedBy": served_by,
        "reason": reason,
        "instances": instances,
        "lookedAt": looked_at,
        "aside": reports.aside(hop.service),
    })
}
