//! Typed, strict access to the fields of a document: what is wrong is recorded with its place, and reading goes on.

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use serde_yaml_ng::{Mapping, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    problem::{Origin, Problem},
    wording::{shortened, suggestion},
};
use crate::{identity::Identity, model::route::Pattern};

/// Longest header name that may be written, bytes.
const FIELD_NAME_MAX: usize = 128;

/// What all nodes of a document share.
pub(super) struct Context<'a> {
    /// Where the fields stand.
    pub(super) origin: &'a Origin,
    /// The resource, as problems name it.
    pub(super) subject: String,
    /// What was found wrong.
    pub(super) problems: RefCell<Vec<Problem>>,
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
    /// The document itself.
    pub(super) fn root(value: &'a Value, context: &'a Context<'a>) -> Self {
        Node { value, path: String::new(), context }
    }

    /// Records a problem with this value.
    pub(super) fn problem(&self, message: String) {
        let problem = self.context.origin.problem(&self.context.subject, &self.path, message);
        self.context.problems.borrow_mut().push(problem);
    }

    /// Records a problem with a part of this value; an empty path is all of it.
    pub(super) fn problem_at(&self, path: &str, message: String) {
        let path = if path.is_empty() { self.path.clone() } else { format!("{}.{path}", self.path) };
        Node { value: self.value, path, context: self.context }.problem(message);
    }

    /// This value as JSON.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        let json = serde_json::to_value(self.value);
        json.map_err(|error| self.problem(format!("cannot be written as JSON: {error}"))).ok()
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

    /// A field, if it is there and not null.
    pub(super) fn child(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Node { value, path, context: self.context })
    }

    /// This value as a mapping.
    pub(super) fn mapping(&self) -> Option<&'a Mapping> {
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

    /// The text, where it is one.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// Whether this is the text `expected`.
    pub(super) fn is_text(&self, expected: &str) -> bool {
        self.as_text() == Some(expected)
    }

    /// The name of a header field, in lower case.
    pub(super) fn field_name(&self) -> Option<String> {
        let text = self.text()?;
        if !is_field_name(&text) {
            self.problem(format!("{:?} is no header name", shortened(&text)));
        }
        Some(text.to_ascii_lowercase())
    }

    /// The name of an identity, as written.
    pub(super) fn identity(&self) -> Option<String> {
        let text = self.text()?;
        self.parsed_saying::<Identity>().map(|_| text)
    }

    /// A regular expression over a whole value.
    pub(super) fn pattern(&self) -> Option<Pattern> {
        match Pattern::try_from(self.text()?) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.problem(not_a_pattern(&error));
                None
            }
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

    /// Whether this is `false`.
    pub(super) fn is_false(&self) -> bool {
        matches!(self.value, Value::Bool(false))
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

    /// A moment, as Unix milliseconds.
    pub(super) fn timestamp(&self) -> Option<u64> {
        const ALLOWED: &str = "a moment as RFC 3339 writes it, e.g. 2026-11-25T12:00:00Z";
        let Value::String(text) = self.value else { return self.wrong_type(ALLOWED) };
        let parsed = moment(text);
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
}

/// Whether a text is the name of a header field (a token, RFC 9110 5.6.2).
pub(super) fn is_field_name(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= FIELD_NAME_MAX && text.bytes().all(token)
}

/// Whether a text is one label of a DNS name, in lower case.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Reads `1h2m3s4ms`, each unit at most once and in this order (Gateway API, GEP-2257).
pub(super) fn duration(text: &str) -> Option<Duration> {
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

/// Unix milliseconds of an RFC 3339 moment that is not before 1970.
fn moment(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

/// What is wrong with a regular expression, in one line.
pub(super) fn not_a_pattern(error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().map_or("", |line| line.trim_start_matches("error: "));
    format!("no regular expression: {reason}")
}
