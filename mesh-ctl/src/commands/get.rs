//! `mesh-ctl get`: what the controller knows, as tables for people and whole for programs.

use serde_json::{Value, json};

use crate::{
    args::{self, Kind},
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

/// Shows a collection, or what of it has the given name and namespace.
///
/// # Errors
/// When the controller cannot be reached, or nothing has the name.
pub(crate) async fn run(controller: &Controller, get: &args::Get) -> Result<Exit, Failure> {
    let collection = collection(get.kind);
    let mut items = controller.items(collection).await?;
    items.retain(|item| get.namespace.as_ref().is_none_or(|namespace| item["namespace"] == namespace.as_str()));
    if let Some(name) = &get.name {
        items.retain(|item| is_named(item, get.kind, name));
        if items.is_empty() {
            return Err(Failure::plain(format!("the controller knows no {collection} called {name}"))
                .advise(format!("`mesh-ctl get {collection}` lists what it knows")));
        }
    }
    let text = match output::structured(&json!({ "items": items }), get.output)? {
        Some(text) => text,
        None if items.is_empty() => format!("no {collection}\n"),
        None => {
            let (headings, row) = columns(get.kind);
            output::lines(&output::table(headings, items.iter().flat_map(row)))
        }
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn collection(kind: Kind) -> &'static str {
    match kind {
        Kind::Services => "services",
        Kind::Endpoints => "endpoints",
        Kind::Lanes => "lanes",
        Kind::Proxies => "proxies",
        Kind::Policies => "policies",
    }
}

fn is_named(item: &Value, kind: Kind, name: &str) -> bool {
    let field = match kind {
        Kind::Services | Kind::Lanes | Kind::Policies => "name",
        Kind::Endpoints => "service",
        Kind::Proxies => "pod",
    };
    let found = item[field].as_str().unwrap_or_default();
    match name.strip_suffix('*') {
        Some(start) => found.starts_with(start),
        None => found == name,
    }
}

/// Headings and rows of a table; an item may make several rows.
type Columns = (&'static [&'static str], fn(&Value) -> Vec<Vec<Text>>);

fn columns(kind: Kind) -> Columns {
    match kind {
        Kind::Services => (&["NAMESPACE", "NAME", "PORTS", "ENDPOINTS"], service),
        Kind::Endpoints => {
            (&["NAMESPACE", "SERVICE", "PORT", "ADDRESS", "POD", "LANES", "ZONE", "WEIGHT", "STATE"], endpoint)
        }
        Kind::Lanes => (&["GROUP", "LANE", "PARENT", "STATE", "ON MISSING", "ON UNHEALTHY", "ENDPOINTS"], lane),
        Kind::Proxies => (&["NAMESPACE", "POD", "ROLE", "VERSION", "SERVICE ACCOUNT", "ADMIN"], proxy),
        Kind::Policies => (&["NAMESPACE", "KIND", "NAME"], policy),
    }
}

fn text(item: &Value, field: &str) -> Text {
    plain(match &item[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => {
            let word = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            items.iter().map(word).collect::<Vec<_>>().join(",")
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    })
}

fn service(item: &Value) -> Vec<Vec<Text>> {
    let ports = item["ports"].as_array().into_iter().flatten();
    let ports: Vec<String> = ports
        .map(|port| match port["protocol"].as_str() {
            Some(protocol) => format!("{}/{protocol}", port["port"]),
            None => port.to_string(),
        })
        .collect();
    vec![vec![text(item, "namespace"), text(item, "name"), plain(ports.join(",")), text(item, "endpoints")]]
}

fn endpoint(item: &Value) -> Vec<Vec<Text>> {
    let state = match (item["draining"].as_bool(), item["weight"].as_f64()) {
        (Some(true), _) => ("draining".to_owned(), Tone::Odd),
        (_, Some(0.0)) => ("out of traffic".to_owned(), Tone::Odd),
        _ => ("in traffic".to_owned(), Tone::Good),
    };
    let fields = ["namespace", "service", "port", "address", "pod", "lanes", "zone", "weight"];
    vec![fields.iter().map(|field| text(item, field)).chain([state]).collect()]
}

fn lane(item: &Value) -> Vec<Vec<Text>> {
    let group = text(item, "name");
    let lanes = item["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lanes.is_empty() {
        return vec![vec![group, plain("(no lanes)")]];
    }
    let row = |lane: &Value| {
        let parent = lane["parent"].as_str().unwrap_or("baseline");
        let fields = ["state", "onMissing", "onUnhealthy", "endpoints"];
        let start = [group.clone(), text(lane, "name"), plain(parent)];
        start.into_iter().chain(fields.iter().map(|field| text(lane, field))).collect()
    };
    lanes.iter().map(row).collect()
}

fn proxy(item: &Value) -> Vec<Vec<Text>> {
    let fields = ["namespace", "pod", "role", "version", "serviceAccount", "adminAddress"];
    vec![fields.iter().map(|field| text(item, field)).collect()]
}

fn policy(item: &Value) -> Vec<Vec<Text>> {
    vec![["namespace", "kind", "name"].iter().map(|field| text(item, field)).collect()]
}
