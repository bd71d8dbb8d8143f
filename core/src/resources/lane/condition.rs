//! One condition of a lane's entry rules.

use super::Node;
use crate::model::route::Pattern;

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// Name of the header, cookie, query parameter or claim; empty for subjects that have none.
    pub name: String,
    /// What must hold.
    pub operator: Operator,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// A query parameter.
    Query,
    /// The path.
    Path,
    /// The method.
    Method,
    /// Address of the caller; values are addresses or networks.
    SourceIp,
    /// Identity of the caller.
    Identity,
    /// A claim of a token.
    Claim,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// The value is this.
    Equal(String),
    /// The value is not this.
    NotEqual(String),
    /// The value is one of these.
    In(Vec<String>),
    /// The value is none of these.
    NotIn(Vec<String>),
    /// The value begins with this.
    Prefix(String),
    /// The whole value matches this.
    Regex(Pattern),
    /// There is a value.
    Present,
    /// The hash of the value falls into this share, hundredths of a percent.
    Percentage(u32),
}

const SUBJECTS: &[(&str, Subject)] = &[
    ("header", Subject::Header),
    ("cookie", Subject::Cookie),
    ("query", Subject::Query),
    ("path", Subject::Path),
    ("method", Subject::Method),
    ("sourceIP", Subject::SourceIp),
    ("identity", Subject::Identity),
    ("claim", Subject::Claim),
];

/// Operators as words, before their values are read.
#[derive(Clone, Copy)]
enum Word {
    Equal,
    NotEqual,
    In,
    NotIn,
    Prefix,
    Regex,
    Present,
    Percentage,
}

const OPERATORS: &[(&str, Word)] = &[
    ("equal", Word::Equal),
    ("notEqual", Word::NotEqual),
    ("in", Word::In),
    ("notIn", Word::NotIn),
    ("prefix", Word::Prefix),
    ("regex", Word::Regex),
    ("present", Word::Present),
    ("percentage", Word::Percentage),
];

/// Reads `{on: header, name: x-user, operator: in, values: [a, b]}`.
pub(super) fn read(node: &Node<'_>) -> Option<Condition> {
    let object = node.object(&["on", "name", "operator", "value", "values"])?;
    let subject = object.required("on").and_then(|node| node.choice(SUBJECTS));
    let name = object.get("name").and_then(|node| node.filled_text());
    let word = object.required("operator").and_then(|node| node.choice(OPERATORS));
    let value = || object.required("value").and_then(|node| node.text());
    let values = || object.required_list("values").iter().filter_map(Node::text).collect();
    let (unused, operator) = match word? {
        Word::Equal => ("values", Operator::Equal(value()?)),
        Word::NotEqual => ("values", Operator::NotEqual(value()?)),
        Word::Prefix => ("values", Operator::Prefix(value()?)),
        Word::Regex => ("values", Operator::Regex(object.required("value").and_then(|node| node.pattern())?)),
        Word::Percentage => ("values", Operator::Percentage(super::hundredths(&object.required("value")?)?)),
        Word::In => ("value", Operator::In(values())),
        Word::NotIn => ("value", Operator::NotIn(values())),
        Word::Present => ("value", Operator::Present),
    };
    if object.get(unused).is_some() {
        object.problem(unused, "has no meaning with this operator".to_owned());
    }
    let named = match subject? {
        Subject::Header | Subject::Cookie | Subject::Query | Subject::Claim => true,
        Subject::Path | Subject::Method | Subject::SourceIp | Subject::Identity => false,
    };
    match (named, &name) {
        (true, None) => object.problem("name", "missing: of which header, cookie, query parameter or claim".to_owned()),
        (false, Some(_)) => object.problem("name", "has no meaning here".to_owned()),
        (true, Some(_)) | (false, None) => (),
    }
    Some(Condition { subject: subject?, name: name.unwrap_or_default(), operator })
}
