//! Reads the documents of a file into resources.

use std::{cell::RefCell, sync::Arc};

use serde_yaml_ng::Value;

use super::{
    Metadata, Resource, Spec, kinds,
    node::{Context, Node},
    problem::{Origin, Problem},
    wording::suggestion,
};
use crate::names;

/// Largest file that is read, bytes: a policy source may be a shared registry, and a parser needs many times the text.
pub const FILE_MAX: usize = 64 << 20;

/// Reads every document of a file.
///
/// # Errors
/// All problems of all documents.
pub fn parse(file: &str, text: &str) -> Result<Vec<Resource>, Vec<Problem>> {
    if text.len() > FILE_MAX {
        let message = format!("{} bytes are too many; at most {FILE_MAX} are read", text.len());
        return Err(vec![Problem { file: Some(file.to_owned()), line: None, path: String::new(), message }]);
    }
    let (mut resources, mut problems) = (Vec::new(), Vec::new());
    for (first_line, document) in documents(text) {
        match one(file, first_line, document) {
            Ok(resource) => resources.extend(resource),
            Err(found) => problems.extend(found),
        }
    }
    problems.sort();
    if problems.is_empty() { Ok(resources) } else { Err(problems) }
}

/// Documents of a stream with the line (from 1) at which each begins: split where a line is `---` or begins with `--- `.
fn documents(text: &str) -> Vec<(u32, &str)> {
    let mut found = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let plain = line.trim_end();
        if plain == "---" || plain == "..." || plain.starts_with("--- #") {
            found.push((first_line, &text[start..at]));
            (start, first_line) = (at + line.len(), number + 1);
        }
        at += line.len();
    }
    found.push((first_line, &text[start..]));
    found
}

fn one(file: &str, first_line: u32, text: &str) -> Result<Option<Resource>, Vec<Problem>> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| {
        let line = error.location().map(|location| first_line + location.line() as u32 - 1);
        let message = format!("not YAML: {}", without_place(&error.to_string()));
        vec![Problem { file: Some(file.to_owned()), line: line.or(Some(first_line)), path: String::new(), message }]
    })?;
    if value.is_null() {
        return Ok(None);
    }
    let document: Arc<str> = text.into();
    let origin = Arc::new(Origin::new(file, first_line, Arc::clone(&document)));
    let context = Context { origin: &origin, subject: subject(&value), problems: RefCell::default() };
    let root = Node::root(&value, &context);
    let read = resource(&root);
    let problems = context.problems.into_inner();
    match read {
        Some((metadata, spec)) if problems.is_empty() => {
            Ok(Some(Resource { metadata, spec, text: document, origin: Arc::clone(&origin) }))
        }
        Some(_) | None => Err(problems),
    }
}

/// The message of a syntax error without its place, which counts lines from the start of the document.
pub(super) fn without_place(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// `<kind> <namespace>/<name>` as far as they can be read.
fn subject(value: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let metadata = value.get("metadata");
    let name = text(metadata.and_then(|metadata| metadata.get("name")));
    let namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
    let namespace = namespace.unwrap_or_else(|| names::DEFAULT_NAMESPACE.to_owned());
    match (text(value.get("kind")), name) {
        (Some(kind), Some(name)) => format!("{kind} {namespace}/{name}"),
        (Some(kind), None) => kind,
        (None, _) => String::new(),
    }
}

fn resource(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let map = root.mapping()?;
    let text = |key: &'static str| match map.get(key) {
        Some(_) => root.child(key).and_then(|node| node.text()),
        None => {
            root.problem(format!("{key} is missing"));
            None
        }
    };
    let (version, kind) = (text("apiVersion"), text("kind"));
    let kind = kind?;
    let Some(known) = kinds::KINDS.iter().find(|known| known.name == kind) else {
        let allowed: Vec<&str> = kinds::KINDS.iter().map(|known| known.name).collect();
        root.child("kind")?.problem(format!("unknown kind {kind:?}{}", suggestion(&kind, &allowed)));
        return None;
    };
    if let Some(version) = version.filter(|version| version != known.api_version) {
        let message = format!("{version:?} is not the version of {kind}: expected {:?}", known.api_version);
        root.child("apiVersion")?.problem(message);
    }
    let (metadata, spec) = (known.read)(root)?;
    Some((Metadata { kind: known.name, ..metadata }, spec))
}
