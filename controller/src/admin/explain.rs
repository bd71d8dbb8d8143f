//! `POST explain`: which instances serve a request at each service of a chain, and why, by the code of the data path.

use std::collections::BTreeMap;

use mesh_core::{
    fields::Fields,
    lane::{self, Choice},
    model::{route::Target, service::Service},
    names::DEFAULT_NAMESPACE,
};
use mesh_proto::convert::target::authority;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::index::{View, services::in_traffic};

/// Longest chain of services that is explained.
const CHAIN_MAX: usize = 64;

/// What is asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    /// Shown again; lanes do not depend on it yet.
    #[serde(default)]
    method: String,
    /// `http://host[:port]/…`; the host is the first service unless `entry` is given.
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// First service, `<name>[.<namespace>][:port]`.
    entry: Option<String>,
    /// Services after it, in order of calls.
    #[serde(default)]
    chain: Vec<String>,
}

/// Answers a question.
pub(super) fn explain(view: &View, text: &str) -> Result<Value, String> {
    let question: Question = serde_json::from_str(text)
        .map_err(|error| format!("expected JSON with url and, if wanted, method, headers, entry, chain: {error}"))?;
    if question.chain.len() > CHAIN_MAX {
        return Err(format!("a chain of {} services; at most {CHAIN_MAX} are explained", question.chain.len()));
    }
    let uri: http::Uri = question.url.parse().map_err(|error| format!("url: {error}"))?;
    let host = uri.authority().map(|authority| authority.as_str().to_owned());
    let first = question.entry.clone().or(host).ok_or("url names no host, and there is no entry")?;
    let mut services = Vec::new();
    for name in std::iter::once(&first).chain(&question.chain) {
        services.push(service(view, name)?);
    }
    let fields: Vec<(&str, &str)> =
        question.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let groups = &view.world().groups;
    let carried = lane::carried(&Headers(&fields), groups, None);
    let chain: Vec<&Service> = services.iter().collect();
    let hops: Vec<_> = lane::explain(carried.as_ref(), groups, &chain).iter().map(hop).collect();
    Ok(json!({
        "request": { "method": question.method, "url": question.url, "entry": first },
        "label": carried.as_ref().map(|carried| json!({
            "value": carried.to_string(),
            "source": carried.source.label(),
        })),
        "services": hops,
    }))
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
    Ok(Service::new(port.key.clone(), true, in_traffic(port).cloned().collect()))
}

/// The only one, if there is only one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

fn hop(hop: &lane::Hop<'_>) -> Value {
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
    })
}
