//! `mesh-ctl lane explain`: the decision at each service for a request given by method, URL and headers, made by the
//! same code as a proxy's. Instances count as healthy: what a proxy has ejected only that proxy knows.

use std::{collections::BTreeSet, sync::Arc};

use mesh_core::{
    fields::Fields,
    lane::{self, Carried, Choice, Hop, Step},
    model::{lane::LaneGroup, service::Service},
    names,
    resources::{self, Domains, World},
};
use serde_json::{Value, json};

use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Tone, plain},
};

/// Explains a request.
///
/// # Errors
/// When the controller cannot be reached or knows no such service.
pub(crate) async fn explain(controller: &Controller, explain: &args::Explain) -> Result<Exit, Failure> {
    let world = world(controller).await?;
    let entry = entry(&world, explain)?;
    let headers: Vec<(&str, &str)> =
        explain.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let fields: &dyn Fields = &headers.as_slice();
    let carried = lane::carried(fields, &world.groups, None);
    let services = chain(&world, &entry);
    let hops: Vec<Hop<'_>> = services
        .iter()
        .flat_map(|service| lane::explain(carried.as_ref(), &world.groups, &[service.as_ref()]))
        .collect();
    let label = label(carried.as_ref());
    let whole = json!({
        "request": { "method": explain.method, "url": explain.url.to_string(), "entry": entry },
        "label": carried.as_ref().map(|carried| json!({
            "value": carried.to_string(),
            "source": carried.source.label(),
        })),
        "services": hops.iter().map(described).collect::<Vec<_>>(),
    });
    let text = match output::structured(&whole, explain.output)? {
        Some(text) => text,
        None => format!(
            "{} {} enters at {entry}, {label}\n\n{}",
            explain.method,
            explain.url,
            output::lines(&output::table(
                &["SERVICE", "SERVED BY", "REASON", "INSTANCES", "LEVELS LOOKED AT"],
                hops.iter().map(row)
            ))
        ),
    };
    output::print(&text);
    let refused = hops.iter().any(|hop| matches!(hop.choice, Choice::RejectMissing(_) | Choice::RejectUnhealthy(_)));
    Ok(if refused { Exit::NotWell } else { Exit::Well })
}

/// What the controller's resources say, compiled as it does itself.
async fn world(controller: &Controller) -> Result<World, Failure> {
    let mut all = Vec::new();
    for item in controller.items("resources").await? {
        let text = item["text"].as_str().unwrap_or_default();
        all.extend(resources::parse("resource", text).map_err(differs)?);
    }
    resources::compile(&all, &Domains::default()).map_err(differs)
}

fn differs(problems: Vec<resources::Problem>) -> Failure {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    Failure::plain(format!("this mesh-ctl does not understand what the controller serves: {first}"))
        .advise("use the mesh-ctl of the controller's version; `mesh-ctl version` shows both")
}

/// The service at which the request enters, `<name>.<namespace>`.
fn entry(world: &World, explain: &args::Explain) -> Result<String, Failure> {
    let named = explain.entry.as_deref().or_else(|| explain.url.host());
    let Some(named) = named else {
        return Err(
            Failure::usage("the URL names no host").advise("write http://SERVICE.NAMESPACE/PATH, or give --entry")
        );
    };
    match world.resolve(named, names::DEFAULT_NAMESPACE, &Domains::default().cluster) {
        Some(service) => Ok(service.label()),
        None => Err(Failure::plain(format!("the controller knows no service {named}"))
            .advise("name it NAME.NAMESPACE; `mesh-ctl get services` lists them")),
    }
}

/// The entry, then every service that shares a lane group with it. Which of them a request visits, and in what order,
/// only the applications know.
fn chain(world: &World, entry: &str) -> Vec<Arc<Service>> {
    let groups: Vec<&LaneGroup> =
        world.groups.iter().filter(|group| group.entries.contains(entry) || group.members.contains(entry)).collect();
    let mut labels = BTreeSet::new();
    for label in world.services.keys().filter(|label| label.as_str() != entry) {
        if groups.iter().any(|group| group.members.contains(label)) {
            labels.insert(label.as_str());
        }
    }
    let ports = |label: &str| world.services.get(label).into_iter().flat_map(|service| service.ports.values());
    [entry]
        .into_iter()
        .chain(labels)
        .flat_map(ports)
        .map(|port| Arc::new(Service::new(port.key.clone(), true, port.endpoints.clone())))
        .collect()
}

fn label(carried: Option<&Carried>) -> String {
    match carried {
        Some(carried) => format!("carries the label {carried} ({})", carried.source.label()),
        None => "carries no label".to_owned(),
    }
}

fn steps(steps: &[Step]) -> String {
    let step = |step: &Step| format!("{} {} ({}/{})", step.level, step.verdict.label(), step.usable, step.members);
    steps.iter().map(step).collect::<Vec<_>>().join(", then ")
}

fn served(hop: &Hop<'_>) -> (String, &'static str, Vec<String>) {
    match &hop.choice {
        Choice::Use { level, reason, candidates } => {
            let address =
                |position: &usize| hop.service.endpoints().get(*position).map(|endpoint| endpoint.address.to_string());
            (level.to_string(), reason.label(), candidates.iter().filter_map(address).collect())
        }
        Choice::RejectMissing(lane) => (format!("nobody: 503, {lane}"), "lane_missing", Vec::new()),
        Choice::RejectUnhealthy(lane) => (format!("nobody: 503, {lane}"), "lane_unhealthy", Vec::new()),
    }
}

fn row(hop: &Hop<'_>) -> Vec<output::Text> {
    let (level, reason, instances) = served(hop);
    let tone = if instances.is_empty() { Tone::Bad } else { Tone::Good };
    vec![
        plain(hop.service.key().as_str()),
        (level, tone),
        plain(reason),
        plain(instances.join(",")),
        plain(steps(&hop.steps)),
    ]
}

fn described(hop: &Hop<'_>) -> Value {
    let (level, reason, instances) = served(hop);
    let looked_at: Vec<Value> = hop
        .steps
        .iter()
        .map(|step| {
            json!({
                "level": step.level.to_string(),
                "verdict": step.verdict.label(),
                "members": step.members,
                "usable": step.usable,
            })
        })
        .collect();
    json!({
        "service": hop.service.key().as_str(),
        "servedBy": level,
        "reason": reason,
        "instances": instances,
        "lookedAt": looked_at,
    })
}
