//! Checks a value.

use std::{cmp::Ordering, fmt};

use serde_json::{Number, Value};

use super::{Kind, Others, Rule};

/// What is wrong with a value: where, and the keyword that it does not pass. Names are those of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Where, as in `rooms[3].name`; empty for all of it.
    pub path: String,
    /// The keyword.
    pub keyword: &'static str,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unfit { path, keyword } = self;
        if path.is_empty() { write!(f, "`{keyword}`") } else { write!(f, "`{keyword}` of {path}") }
    }
}

impl Kind {
    /// As schemas write it.
    pub(super) fn of(word: &str) -> Option<Kind> {
        Some(match word {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "string" => Kind::String,
            "array" => Kind::Array,
            "object" => Kind::Object,
            _ => return None,
        })
    }

    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Null, Value::Null)
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Number, Value::Number(_))
            | (Kind::String, Value::String(_))
            | (Kind::Array, Value::Array(_))
            | (Kind::Object, Value::Object(_)) => true,
            // 1.0 is one, too.
            (Kind::Integer, Value::Number(number)) => {
                whole(number).is_some() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            (
                Kind::Null | Kind::Boolean | Kind::Integer | Kind::Number | Kind::String | Kind::Array | Kind::Object,
                _,
            ) => false,
        }
    }
}

/// Checks a value against a rule.
pub(super) fn check(rule: &Rule, value: &Value) -> Result<(), Unfit> {
    general(rule, value)?;
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => of_number(rule, number),
        Value::String(text) => {
            let length = || text.chars().count() as u64;
            let (least, most) = (rule.length.least, rule.length.most);
            unless(least.is_some_and(|least| length() < least), "minLength")?;
            unless(most.is_some_and(|most| length() > most), "maxLength")
        }
        Value::Array(values) => {
            let (count, least, most) = (values.len() as u64, rule.count.least, rule.count.most);
            unless(least.is_some_and(|least| count < least), "minItems")?;
            unless(most.is_some_and(|most| count > most), "maxItems")?;
            let Some(items) = &rule.items else { return Ok(()) };
            let each = |(at, value)| check(items, value).map_err(|unfit| within(&format!("[{at}]"), unfit));
            values.iter().enumerate().try_for_each(each)
        }
        Value::Object(members) => {
            unless(rule.required.iter().any(|name| !members.contains_key(name)), "required")?;
            members.iter().try_for_each(|(name, value)| match (rule.properties.get(name), &rule.others) {
                (Some(property), _) => check(property, value).map_err(|unfit| within(name, unfit)),
                (None, Others::Allowed) => Ok(()),
                (None, Others::Refused) => unless(true, "additionalProperties"),
                // What others are called is the value's to say, and is not repeated.
                (None, Others::Of(rule)) => check(rule, value).map_err(|unfit| within("*", unfit)),
            })
        }
    }
}

/// Keywords that look at values of every kind.
fn general(rule: &Rule, value: &Value) -> Result<(), Unfit> {
    unless(rule.kinds.as_ref().is_some_and(|kinds| !kinds.iter().any(|kind| kind.is(value))), "type")?;
    let is_listed = |values: &Vec<Value>| values.iter().any(|listed| same(listed, value));
    unless(!rule.values.iter().all(is_listed), "enum")?;
    let fits = |one: &Rule| check(one, value).is_ok();
    unless(!rule.any_of.is_empty() && !rule.any_of.iter().any(fits), "anyOf")
}

fn of_number(rule: &Rule, number: &Number) -> Result<(), Unfit> {
    let is = |bound: &Option<Number>, wrong: &[Ordering]| {
        bound.as_ref().is_some_and(|bound| wrong.contains(&compare(number, bound)))
    };
    unless(is(&rule.number.least, &[Ordering::Less]), "minimum")?;
    unless(is(&rule.number.most, &[Ordering::Greater]), "maximum")?;
    unless(is(&rule.above.least, &[Ordering::Less, Ordering::Equal]), "exclusiveMinimum")?;
    unless(is(&rule.above.most, &[Ordering::Greater, Ordering::Equal]), "exclusiveMaximum")
}

fn unless(is_wrong: bool, keyword: &'static str) -> Result<(), Unfit> {
    if is_wrong { Err(Unfit { path: String::new(), keyword }) } else { Ok(()) }
}

fn within(outer: &str, unfit: Unfit) -> Unfit {
    let stroke = if unfit.path.is_empty() || unfit.path.starts_with('[') { "" } else { "." };
    Unfit { path: format!("{outer}{stroke}{}", unfit.path), ..unfit }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))
}

/// Whole numbers exactly, others as near as they can be held.
fn compare(one: &Number, other: &Number) -> Ordering {
    if let (Some(one), Some(other)) = (whole(one), whole(other)) {
        return one.cmp(&other);
    }
    let (one, other) = (one.as_f64().unwrap_or(0.0), other.as_f64().unwrap_or(0.0));
    // Zero is zero, whatever its sign; JSON has nothing that has no order.
    one.partial_cmp(&other).unwrap_or(Ordering::Equal)
}

/// Equal as JSON Schema has it: 1 is 1.0, and the order of members says nothing.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Ordering::Equal,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_there = |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(is_there)
        }
        (one, other) => one == other,
    }
}
