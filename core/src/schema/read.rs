//! Reads a schema strictly.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::{Kind, Others, Range, Rule};

/// Schemas inside each other at most.
const DEPTH_MAX: usize = 16;
/// Schemas in one, itself included, and values that are listed in it.
pub const NODES_MAX: usize = 1_000;
/// Keywords that are checked.
const CHECKED: [&str; 16] = [
    "type",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
];
/// Keywords that only tell people something.
const TOLD: [&str; 6] = ["$schema", "title", "description", "default", "examples", "$comment"];

/// What is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct NotASchema {
    /// Where, as in `properties.name.type`; empty for all of it.
    pub path: String,
    /// What.
    pub message: String,
}

struct Reader {
    problems: Vec<NotASchema>,
    nodes: usize,
}

/// Reads it.
pub(super) fn read(source: &Value) -> Result<Rule, Vec<NotASchema>> {
    let mut reader = Reader { problems: Vec::new(), nodes: 0 };
    let rule = reader.rule(source, "", 0);
    if reader.nodes > NODES_MAX {
        reader.problem("", format!("more than {NODES_MAX} schemas and values"));
    }
    if reader.problems.is_empty() { Ok(rule) } else { Err(reader.problems) }
}

impl Reader {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(NotASchema { path: path.to_owned(), message: message.into() });
    }

    fn rule(&mut self, source: &Value, path: &str, depth: usize) -> Rule {
        self.nodes += 1;
        let Value::Object(members) = source else {
            self.problem(path, "expected a mapping of keywords");
            return Rule::default();
        };
        if depth >= DEPTH_MAX {
            self.problem(path, format!("more than {DEPTH_MAX} schemas inside each other"));
            return Rule::default();
        }
        // Once is enough to say it, and there is no end to what else could be wrong.
        if self.nodes > NODES_MAX {
            return Rule::default();
        }
        for keyword in members.keys().filter(|keyword| !CHECKED.contains(&keyword.as_str())) {
            if !TOLD.contains(&keyword.as_str()) {
                let message = format!("this keyword is not checked; those that are: {}", CHECKED.join(", "));
                self.problem(&inside(path, keyword), message);
            }
        }
        Rule {
            kinds: self.kinds(members, path),
            values: self.values(members, path),
            any_of: self.any_of(members, path, depth),
            properties: self.properties(members, path, depth),
            required: self.required(members, path),
            others: self.others(members, path, depth),
            items: self.schema(members, "items", path, depth),
            number: self.numbers(members, ["minimum", "maximum"], path),
            above: self.numbers(members, ["exclusiveMinimum", "exclusiveMaximum"], path),
            length: self.counts(members, ["minLength", "maxLength"], path),
            count: self.counts(members, ["minItems", "maxItems"], path),
        }
    }

    fn kinds(&mut self, members: &Map<String, Value>, path: &str) -> Option<Vec<Kind>> {
        let written = members.get("type")?;
        let words: Vec<&Value> = match written {
            Value::Array(words) => words.iter().collect(),
            word => vec![word],
        };
        let kinds: Option<Vec<Kind>> = words.into_iter().map(|word| Kind::of(word.as_str()?)).collect();
        match kinds {
            Some(kinds) if !kinds.is_empty() => Some(kinds),
            Some(_) | None => {
                let message = "expected null, boolean, integer, number, string, array or object, or a list of them";
                self.problem(&inside(path, "type"), message);
                None
            }
        }
    }

    fn values(&mut self, members: &Map<String, Value>, path: &str) -> Vec<Vec<Value>> {
        let mut all: Vec<Vec<Value>> = members.get("const").map(|value| vec![value.clone()]).into_iter().collect();
        match members.get("enum") {
            Some(Value::Array(values)) if !values.is_empty() => {
                self.nodes += values.len();
                all.push(values.clone());
            }
            Some(_) => self.problem(&inside(path, "enum"), "expected a list of at least one value"),
            None => {}
        }
        all
    }

    fn any_of(&mut self, members: &Map<String, Value>, path: &str, depth: usize) -> Vec<Rule> {
        let path = inside(path, "anyOf");
        match members.get("anyOf") {
            Some(Value::Array(schemas)) if !schemas.is_empty() => {
                let each = schemas.iter().enumerate();
                each.map(|(at, schema)| self.rule(schema, &format!("{path}[{at}]"), depth + 1)).collect()
            }
            Some(_) => {
                self.problem(&path, "expected a list of at least one schema");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn properties(&mut self, members: &Map<String, Value>, path: &str, depth: usize) -> BTreeMap<String, Rule> {
        let path = inside(path, "properties");
        match members.get("properties") {
            Some(Value::Object(properties)) => properties
                .iter()
                .map(|(name, schema)| (name.clone(), self.rule(schema, &inside(&path, name), depth + 1)))
                .collect(),
            Some(_) => {
                self.problem(&path, "expected a mapping of schemas");
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        }
    }

    fn required(&mut self, members: &Map<String, Value>, path: &str) -> Vec<String> {
        let names = match members.get("required") {
            Some(Value::Array(names)) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
            None => Some(Vec::new()),
        };
        names.unwrap_or_else(|| {
            self.problem(&inside(path, "required"), "expected a list of names");
            Vec::new()
        })
    }

    fn others(&mut self, members: &Map<String, Value>, path: &str, depth: usize) -> Others {
        match members.get("additionalProperties") {
            None | Some(Value::Bool(true)) => Others::Allowed,
            Some(Value::Bool(false)) => Others::Refused,
            Some(_) => {
                let schema = self.schema(members, "additionalProperties", path, depth);
                schema.map_or(Others::Allowed, Others::Of)
            }
        }
    }

    fn schema(&mut self, members: &Map<String, Value>, name: &str, path: &str, depth: usize) -> Option<Box<Rule>> {
        let schema = members.get(name)?;
        Some(Box::new(self.rule(schema, &inside(path, name), depth + 1)))
    }

    fn numbers(&mut self, members: &Map<String, Value>, [least, most]: [&str; 2], path: &str) -> Range<Number> {
        let mut number = |name: &str| match members.get(name)? {
            Value::Number(number) => Some(number.clone()),
            _ => {
                self.problem(&inside(path, name), "expected a number");
                None
            }
        };
        Range { least: number(least), most: number(most) }
    }

    fn counts(&mut self, members: &Map<String, Value>, [least, most]: [&str; 2], path: &str) -> Range<u64> {
        let mut count = |name: &str| {
            let found = members.get(name)?.as_u64();
            if found.is_none() {
                self.problem(&inside(path, name), "expected a whole number from 0");
            }
            found
        };
        let range = Range { least: count(least), most: count(most) };
        if range.least.zip(range.most).is_some_and(|(least, most)| least > most) {
            self.problem(&inside(path, most), format!("is less than {least}: nothing could pass"));
        }
        range
    }
}

fn inside(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
