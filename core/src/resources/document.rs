//! Reads the documents of a file into resources, and gives the readers of each kind typed, strict access to fields.

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use serde_yaml_ng::{Mapping, Value};

use super::{
    Metadata, Resource, Spec, kinds,
    problem::{Origin, Problem},
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
    let origin = Arc::new(Origin::scan(file, first_line, text));
    let context = Context { origin: &origin, subject: subject(&value), problems: RefCell::default() };
    let root = Node { value: &value, path: String::new(), context: &context };
    let read = resource(&root);
    let problems = context.problems.into_inner();
    match read {
        Some((metadata, spec)) if problems.is_empty() => {
            Ok(Some(Resource { metadata, spec, text: text.into(), origin: origin.clone() }))
        }
        Some(_) | None => Err(problems),
    }
}

/// The message of a syntax error without its place, which counts lines from the start of the document.
fn without_place(message: &str) -> &str {
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
    let (version, kind) = (version?, kind?);
    let Some(known) = kinds::KINDS.iter().find(|known| known.name == kind) else {
        let allowed: Vec<&str> = kinds::KINDS.iter().map(|known| known.name).collect();
        root.child("kind")?.problem(format!("unknown kind {kind:?}{}", suggestion(&kind, &allowed)));
        return None;
    };
    if version != known.api_version {
        let message = format!("{version:?} is not the version of {kind}: expected {:?}", known.api_version);
        root.child("apiVersion")?.problem(message);
    }
    let (metadata, spec) = (known.read)(root)?;
    Some((Metadata { kind: known.name, ..metadata }, spec))
}

/// What all nodes of a document share.
struct Context<'a> {
    origin: &'a Origin,
    subject: String,
    problems: RefCell<Vec<Problem>>,
}

/// A value of a document, with its path.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
    context: &'a Context<'a>,
}

/// A mapping whose fields are known.
#[derive(Clone)]
pub(super) struct Object<'a> {
    node: Node<'a>,
    map: &'a Mapping,
}

impl<'a> Node<'a> {
    /// Records a problem with this value.
    pub(super) fn problem(&self, message: String) {
        let problem = self.context.origin.problem(&self.context.subject, &self.path, message);
        self.context.problems.borrow_mut().push(problem);
    }

    fn wrong_type<T>(&self, expected: impl fmt::Display) -> Option<T> {
        let found = match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Number(value) => format!("the number {value}"),
            Value::String(value) => format!("the text {:?}", shortened(value)),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Tagged(_) => "a tagged value".to_owned(),
        };
        self.problem(format!("expected {expected}, found {found}"));
        None
    }

    fn child(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Node { value, path, context: self.context })
    }

    fn mapping(&self) -> Option<&'a Mapping> {
        match self.value {
            Value::Mapping(map) => Some(map),
            _ => self.wrong_type("a mapping of fields"),
        }
    }

    /// This value as a mapping with these fields and no other.
    pub(super) fn object(&self, fields: &[&str]) -> Option<Object<'a>> {
        let map = self.mapping()?;
        for key in map.keys() {
            let Some(key) = key.as_str() else {
                self.problem("the name of a field is no text".to_owned());
                continue;
            };
            if !fields.contains(&key) {
                let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
                let message = format!("unknown field{}", suggestion(key, fields));
                Node { value: self.value, path, context: self.context }.problem(message);
            }
        }
        Some(Object { node: self.clone(), map })
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Vec<Node<'a>> {
        match self.value {
            Value::Sequence(values) => {
                let element = |(index, value)| {
                    let path = format!("{}[{index}]", self.path);
                    Node { value, path, context: self.context }
                };
                values.iter().enumerate().map(element).collect()
            }
            _ => self.wrong_type("a list").unwrap_or_default(),
        }
    }

    /// A text.
    pub(super) fn text(&self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.clone()),
            _ => self.wrong_type("a text"),
        }
    }

    /// A text that is not empty.
    pub(super) fn filled_text(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            self.problem("may not be empty".to_owned());
        }
        Some(text)
    }

    /// The texts of a list.
    pub(super) fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(Node::filled_text).collect()
    }

    /// A mapping of texts.
    pub(super) fn texts_by_key(&self) -> BTreeMap<String, String> {
        let Some(map) = self.mapping() else { return BTreeMap::new() };
        let mut found = BTreeMap::new();
        for key in map.keys() {
            match key.as_str() {
                Some(name) => {
                    found.extend(self.child(name).and_then(|node| node.text()).map(|text| (name.into(), text)))
                }
                None => self.problem("the name of a field is no text; put it in quotes".to_owned()),
            }
        }
        found
    }

    /// A text that something is parsed from; `allowed` says from what.
    pub(super) fn parsed<T: FromStr>(&self, allowed: &str) -> Option<T> {
        let text = match self.value {
            Value::String(text) => text,
            _ => return self.wrong_type(allowed),
        };
        text.parse().map_err(|_| self.problem(format!("{:?} is not {allowed}", shortened(text)))).ok()
    }

    /// As [`Node::parsed`] where the error of the parser says what is allowed.
    pub(super) fn parsed_saying<T: FromStr<Err: fmt::Display>>(&self) -> Option<T> {
        self.text()?.parse().map_err(|error: T::Err| self.problem(error.to_string())).ok()
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let Value::String(text) = self.value else {
            return self.wrong_type(format_args!("one of {}", allowed.join(", ")));
        };
        let found = words.iter().find(|(word, _)| word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            self.problem(format!("{:?} is not known{}", shortened(text), suggestion(text, &allowed)));
        }
        found
    }

    /// True or false.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number within limits.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        match self.value.as_u64() {
            Some(value) if range.contains(&value) => Some(value),
            _ => self.wrong_type(allowed()),
        }
    }

    /// A number within limits.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        match self.value {
            Value::Number(value) if value.as_f64().is_some_and(|value| range.contains(&value)) => value.as_f64(),
            _ => self.wrong_type(format_args!("a number from {} to {}", range.start(), range.end())),
        }
    }

    /// A port.
    pub(super) fn port(&self) -> Option<u16> {
        self.integer(1..=65_535).map(|port| port as u16)
    }

    /// A time span.
    pub(super) fn duration(&self) -> Option<Duration> {
        const ALLOWED: &str = "a duration, e.g. 500ms, 2s, 1m30s, 1h";
        let Value::String(text) = self.value else { return self.wrong_type(ALLOWED) };
        let parsed = duration(text);
        if parsed.is_none() {
            self.problem(format!("{:?} is not {ALLOWED}", shortened(text)));
        }
        parsed
    }

    /// A DNS label, as names of services and namespaces are.
    pub(super) fn dns_label(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() || text.len() > 63 || !is_dns_label(&text) {
            self.problem(format!(
                "{:?} is no name: 1 to 63 characters of a-z 0-9 -, beginning and ending with a letter or digit",
                shortened(&text)
            ));
        }
        Some(text)
    }

    /// A DNS name: labels joined by dots.
    pub(super) fn dns_name(&self) -> Option<String> {
        let text = self.text()?;
        if text.len() > 253 || !text.split('.').all(is_dns_label) {
            self.problem(format!(
                "{:?} is no name: up to 253 characters of a-z 0-9 - . with a letter or digit at either side of each dot",
                shortened(&text)
            ));
        }
        Some(text)
    }
}

impl<'a> Object<'a> {
    /// A field, if it is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.map.get(key)?;
        self.node.child(key)
    }

    /// A field that must be there.
    pub(super) fn required(&self, key: &str) -> Option<Node<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.problem(key, "missing".to_owned());
        }
        found
    }

    /// The elements of a list; none where the field is absent.
    pub(super) fn list(&self, key: &str) -> Vec<Node<'a>> {
        self.get(key).map(|node| node.list()).unwrap_or_default()
    }

    /// The elements of a list that must have at least one.
    pub(super) fn required_list(&self, key: &str) -> Vec<Node<'a>> {
        let Some(node) = self.required(key) else { return Vec::new() };
        let elements = node.list();
        if elements.is_empty() && node.value.is_sequence() {
            node.problem("at least one element is needed".to_owned());
        }
        elements
    }

    /// Records a problem with a field, whether it is there or not.
    pub(super) fn problem(&self, key: &str, message: String) {
        let path = if self.node.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.node.path) };
        Node { value: self.node.value, path, context: self.node.context }.problem(message);
    }

    /// The mapping itself as a value.
    pub(super) fn node(&self) -> &Node<'a> {
        &self.node
    }
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Reads `1h2m3s4ms`, each unit at most once and in this order (Gateway API, GEP-2257).
fn duration(text: &str) -> Option<Duration> {
    const DIGITS_MAX: usize = 9;
    let mut rest = text;
    let mut total = Duration::ZERO;
    for (unit, nanos) in [("h", 3_600_000_000_000_u64), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)]
    {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let is_unit = |after: &str| after.starts_with(unit) && !(unit == "m" && after.starts_with("ms"));
        if digits > 0 && digits <= DIGITS_MAX && is_unit(after) {
            total += Duration::from_nanos(nanos.checked_mul(number.parse().ok()?)?);
            rest = &after[unit.len()..];
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

/// Text as messages show it.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// `; did you mean x?` where a word is close, and all allowed words.
fn suggestion(word: &str, allowed: &[&str]) -> String {
    let close = allowed.iter().map(|candidate| (distance(word, candidate), candidate)).min();
    let hint = match close {
        Some((distance, candidate)) if distance <= 1 + candidate.len() / 4 => format!("; did you mean {candidate:?}?"),
        Some(_) | None => String::new(),
    };
    format!("{hint} (allowed: {})", allowed.join(", "))
}

/// Edits (insert, remove, replace) between two words, without case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (shortened(one).to_lowercase(), shortened(other).to_lowercase());
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
