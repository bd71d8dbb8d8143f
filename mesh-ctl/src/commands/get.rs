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
        Kind::Models => "models",
        Kind::Proxies => "proxies",
        Kind::Policies => "policies",
        Kind::Sources => "source",
        Kind::Registrations => "registrations",
        Kind::Notes => "notes",
    }
}

fn is_named(item: &Value, kind: Kind, name: &str) -> bool {
    let field = match kind {
        Kind::Services | Kind::Lanes | Kind::Models | Kind::Policies | Kind::Sources => "name",
        Kind::Notes => "path",
        Kind::Endpoints | Kind::Registrations => "service",
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
        Kind::Endpoints => (
            &[
                "NAMESPACE",
                "SERVICE",
                "PORT",
                "ADDRESS",
                "POD",
                "SOURCE",
                "CLUSTER",
                "LANES",
                "ZONE",
                "WEIGHT",
                "REGISTERED",
                "BELIEVED",
                "STATE",
            ],
            endpoint,
        ),
        Kind::Lanes => (&["GROUP", "LANE", "PARENT", "STATE", "ON MISSING", "ON UNHEALTHY", "ENDPOINTS"], lane),
        Kind::Models => {
            (&["NAMESPACE", "ROUTE", "MODEL", "TARGET", "PROVIDER", "ENDPOINT", "PRIORITY", "WEIGHT", "LANE"], models)
        }
        Kind::Proxies => (&["NAMESPACE", "POD", "ROLE", "VERSION", "SERVICE ACCOUNT", "ADMIN"], proxy),
        Kind::Policies => (&["NAMESPACE", "KIND", "NAME"], policy),
        Kind::Sources => (&["NAME", "PLACE", "RESOURCES", "STATE"], source),
        Kind::Registrations => {
            (&["NAMESPACE", "SERVICE", "ADDRESS", "REGISTRY", "REGISTERED AS", "CLUSTER", "STATE"], registration)
        }
        Kind::Notes => (&["WHERE", "WHAT"], note),
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
    let state = match (item["out"].as_str(), item["draining"].as_bool()) {
        (Some(reason), _) => (format!("out: {reason}"), Tone::Odd),
        (None, Some(true)) => ("draining".to_owned(), Tone::Odd),
        (None, _) => ("in traffic".to_owned(), Tone::Good),
    };
    let before = ["namespace", "service", "port", "address", "pod", "source", "cluster", "lanes", "zone", "weight"];
    let cells = before.iter().map(|field| text(item, field)).chain([registered(item), believed(item), state]);
    vec![cells.collect()]
}

/// What a registry says of an instance: weight, and what speaks against it.
fn registered(item: &Value) -> Text {
    let said = &item["registered"];
    let Some(weight) = said["weight"].as_f64() else { return plain("-".to_owned()) };
    let is = |field: &str| said[field].as_bool().unwrap_or(true);
    match (is("enabled"), is("healthy")) {
        (true, true) => (format!("{weight} healthy"), Tone::Good),
        (true, false) => (format!("{weight} unhealthy"), Tone::Odd),
        (false, _) => (format!("{weight} disabled"), Tone::Odd),
    }
}

/// What is believed of its health, and why where that is not what the registry says.
fn believed(item: &Value) -> Text {
    let why = item["why"].as_str().filter(|why| *why != "as the registry says");
    match (item["believed"].as_str(), why) {
        (None, _) => plain("-".to_owned()),
        (Some(believed), None) => plain(believed.to_owned()),
        (Some(believed), Some(why)) => (format!("{believed} ({why})"), Tone::Odd),
    }
}

fn source(item: &Value) -> Vec<Vec<Text>> {
    let facts = &item["facts"];
    let problems = item["problems"].as_array().map_or(0, Vec::len);
    let first = item["problems"][0]["message"].as_str();
    let note = item["notes"][0]["message"].as_str();
    let state = match (facts["connection"].as_str(), first.or(note)) {
        (Some("down"), _) => (format!("away: {}", facts["reason"].as_str().unwrap_or_default()), Tone::Bad),
        (_, Some(first)) if problems > 0 => {
            (format!("{problems} problems, the last good state is in force: {first}"), Tone::Bad)
        }
        (_, Some(note)) => (note.to_owned(), Tone::Bad),
        (Some(_), None) => (format!("connected to {}", facts["server"].as_str().unwrap_or_default()), Tone::Good),
        (None, None) => ("loaded".to_owned(), Tone::Good),
    };
    vec![["name", "place", "resources"].iter().map(|field| text(item, field)).chain([state]).collect()]
}

fn registration(item: &Value) -> Vec<Vec<Text>> {
    let said = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let state = match item["state"].as_str() {
        Some("registered") => (said("verdict"), Tone::Good),
        Some("failed") => (format!("failed: {}", said("reason")), Tone::Bad),
        Some("left out") => plain(said("verdict")),
        Some(_) | None => ("not registered yet".to_owned(), Tone::Odd),
    };
    let fields = ["namespace", "service", "address", "source", "registeredAs", "cluster"];
    vec![fields.iter().map(|field| text(item, field)).chain([state]).collect()]
}

fn note(item: &Value) -> Vec<Vec<Text>> {
    let place = match item["path"].as_str() {
        Some(path) => path.to_owned(),
        None => ["service", "instance", "key"].map(|field| item[field].as_str().unwrap_or_default()).join(" "),
    };
    let what = item["message"].as_str().or(item["problem"].as_str()).unwrap_or_default();
    vec![vec![plain(place), plain(what.to_owned())]]
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

/// A row for each target of each model.
fn models(item: &Value) -> Vec<Vec<Text>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for model in list(&item["models"]) {
        for target in list(&model["targets"]) {
            let endpoint = &target["endpoint"];
            let place = if endpoint["url"].is_null() { text(endpoint, "service") } else { text(endpoint, "url") };
            let start = [text(item, "namespace"), text(item, "name"), text(&model, "name"), text(&target, "name")];
            let end = ["priority", "weight", "lane"].map(|field| text(&target, field));
            rows.push(start.into_iter().chain([text(&target, "provider"), place]).chain(end).collect());
        }
    }
    rows
}

fn proxy(item: &Value) -> Vec<Vec<Text>> {
    let fields = ["namespace", "pod", "role", "version", "serviceAccount", "adminAddress"];
    vec![fields.iter().map(|field| text(item, field)).collect()]
}

fn policy(item: &Value) -> Vec<Vec<Text>> {
    vec![["namespace", "kind", "name"].iter().map(|field| text(item, field)).collect()]
}
