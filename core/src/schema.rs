//! JSON Schema, as much of it as a cheap check of an answer needs: <https://json-schema.org/draft/2020-12/schema>.
//!
//! A schema is read strictly: a keyword that would not be checked is refused, so that no check is believed in that does not
//! happen. There are no references, formats or patterns. A schema is a tree of bounded size, and so is what a check costs:
//! each of its nodes looks at a value once.

mod check;
mod read;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

pub use self::{
    check::Unfit,
    read::{NODES_MAX, NotASchema},
};

/// What a value must be. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    source: Value,
    rule: Arc<Rule>,
}

/// One schema of the tree; what is not said is not looked at.
#[derive(Debug, Default)]
struct Rule {
    kinds: Option<Vec<Kind>>,
    /// `enum`, and `const` as one of one value: the value must be in each.
    values: Vec<Vec<Value>>,
    any_of: Vec<Rule>,
    properties: BTreeMap<String, Rule>,
    required: Vec<String>,
    others: Others,
    items: Option<Box<Rule>>,
    number: Range<Number>,
    above: Range<Number>,
    length: Range<u64>,
    count: Range<u64>,
}

/// Bounds of a value.
#[derive(Clone, Debug)]
struct Range<T> {
    least: Option<T>,
    most: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Range { least: None, most: None }
    }
}

/// `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// `additionalProperties`.
#[derive(Debug, Default)]
enum Others {
    #[default]
    Allowed,
    Refused,
    Of(Box<Rule>),
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    pub fn new(source: Value) -> Result<Schema, Vec<NotASchema>> {
        let rule = Arc::new(read::read(&source)?);
        Ok(Schema { source, rule })
    }

    /// As it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first thing that is wrong with it. It does not repeat what the value says.
    pub fn check(&self, value: &Value) -> Result<(), Unfit> {
        check::check(&self.rule, value)
    }
}

/// The rules follow from what was written.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Schema {}

/// As it was written.
impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |problems: Vec<NotASchema>| {
            serde::de::Error::custom(problems.first().map(ToString::to_string).unwrap_or_default())
        };
        Schema::new(Value::deserialize(deserializer)?).map_err(wrong)
    }
}
