//! One condition of a lane's entry rules.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Node, Object};
use crate::model::lane::{Condition, Operator, Subject};

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
    let subject: Option<Subject> = object.required("on").and_then(|node| node.choice(SUBJECTS));
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
    if subject == Some(Subject::SourceIp) {
        networks(&object, &operator);
    }
    match (named, &name) {
        (true, None) => object.problem("name", "missing: of which header, cookie, query parameter or claim".to_owned()),
        (false, Some(_)) => object.problem("name", "has no meaning here".to_owned()),
        (true, Some(_)) | (false, None) => (),
    }
    Some(Condition { subject: subject?, name: name.unwrap_or_default(), operator })
}

/// Values that a caller's address is compared with must be addresses or networks.
fn networks(object: &Object<'_>, operator: &Operator) {
    let values: &[String] = match operator {
        Operator::Equal(value) | Operator::NotEqual(value) => std::slice::from_ref(value),
        Operator::In(values) | Operator::NotIn(values) => values,
        Operator::Present => &[],
        Operator::Prefix(_) | Operator::Regex(_) | Operator::Percentage(_) => {
            let message = "has no meaning for addresses; expected equal, notEqual, in, notIn or present".to_owned();
            return object.problem("operator", message);
        }
    };
    let is_network = |value: &&String| value.parse::<IpAddr>().is_err() && value.parse::<IpNet>().is_err();
    for value in values.iter().filter(is_network) {
        let key = if values.len() == 1 && object.get("value").is_some() { "value" } else { "values" };
        object.problem(key, format!("{value:?} is no address and no network, e.g. 10.0.0.7 or 10.0.0.0/8"));
    }
}
