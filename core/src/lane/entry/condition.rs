//! Whether a condition of a lane's rule holds for a request.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{
    bucket::bucket_of_rule,
    request::{Asked, values},
    seen::Value,
};
use crate::model::lane::{Condition, Lane, LaneGroup, Operator, Subject};

/// Whether the condition holds, where it finds `found`.
///
/// A header, cookie, parameter or claim may have several values (repeated headers and parameters, cookies sent twice,
/// claims that are lists; one header line is one value, commas or not):
///
/// - `equal`, `in`, `prefix`, `regex` hold when they do for any of them, and never for an absent value;
/// - `notEqual` and `notIn` are the opposite of `equal` and `in`: they hold when no value is equal, so that an absent value
///   is not equal to anything;
/// - `present` holds for an empty value, too;
/// - `percentage` looks at the first value only, and never holds for an absent one.
///
/// A prefix of the path is one of its text; `regex` must match the whole value. Values of headers are compared without the
/// white space around them, paths as the server will resolve them, everything with case.
pub(super) fn holds(condition: &Condition, lane: (&LaneGroup, &Lane), asked: &Asked<'_>, found: Value<'_>) -> bool {
    let any = match found {
        Value::Absent => false,
        Value::One(value) => fits(condition, lane, asked, value),
        Value::Anew => {
            let (mut any, mut first) = (false, true);
            values(condition, asked, &mut |value| {
                let counts = std::mem::take(&mut first) || !matches!(condition.operator, Operator::Percentage(_));
                any |= counts && fits(condition, lane, asked, value);
            });
            any
        }
    };
    any != holds_for_none(condition)
}

/// Whether one value is what the operator, or its opposite, asks for.
fn fits(condition: &Condition, (group, lane): (&LaneGroup, &Lane), asked: &Asked<'_>, value: &[u8]) -> bool {
    let equals = |wanted: &String| match condition.subject {
        Subject::SourceIp => asked.source.is_some_and(|source| is_in(wanted, source)),
        Subject::Header
        | Subject::Cookie
        | Subject::Query
        | Subject::Path
        | Subject::Method
        | Subject::Identity
        | Subject::Claim => value == wanted.as_bytes(),
    };
    match &condition.operator {
        Operator::Equal(wanted) | Operator::NotEqual(wanted) => equals(wanted),
        Operator::In(list) | Operator::NotIn(list) => list.iter().any(equals),
        Operator::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
        Operator::Regex(pattern) => std::str::from_utf8(value).is_ok_and(|text| pattern.matches(text)),
        Operator::Present => true,
        Operator::Percentage(share) => u32::from(bucket_of_rule(&group.salt, lane.name.as_str(), value)) < *share,
    }
}

/// Whether the condition holds where nothing is there to look at: whether it is the opposite of another.
pub(super) fn holds_for_none(condition: &Condition) -> bool {
    match condition.operator {
        Operator::NotEqual(_) | Operator::NotIn(_) => true,
        Operator::Equal(_)
        | Operator::In(_)
        | Operator::Prefix(_)
        | Operator::Regex(_)
        | Operator::Present
        | Operator::Percentage(_) => false,
    }
}

/// Whether an address is the one, or in the network, that is written; IPv4 mapped into IPv6 is IPv4.
fn is_in(written: &str, address: IpAddr) -> bool {
    match written.parse::<IpNet>() {
        Ok(network) => network.contains(&address),
        Err(_) => written.parse::<IpAddr>().is_ok_and(|one| one.to_canonical() == address),
    }
}

/// As in `header x-user is "alice"`; for `explain` and the access log.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self.subject {
            Subject::Header => "header ",
            Subject::Cookie => "cookie ",
            Subject::Query => "query parameter ",
            Subject::Path => "path",
            Subject::Method => "method",
            Subject::SourceIp => "source address",
            Subject::Identity => "caller's identity",
            Subject::Claim => "claim ",
        };
        write!(f, "{subject}{} ", self.name)?;
        match &self.operator {
            Operator::Equal(value) => write!(f, "is {value:?}"),
            Operator::NotEqual(value) => write!(f, "is not {value:?}"),
            Operator::In(values) => write!(f, "is one of {values:?}"),
            Operator::NotIn(values) => write!(f, "is none of {values:?}"),
            Operator::Prefix(prefix) => write!(f, "begins with {prefix:?}"),
            Operator::Regex(pattern) => write!(f, "matches {:?}", pattern.as_str()),
            Operator::Present => f.write_str("is present"),
            Operator::Percentage(share) => write!(f, "is in {}.{:02} % of values", share / 100, share % 100),
        }
    }
}
