//! What decides at an entry which requests a lane gets ↔ model: conditions, shares, ramps.

use std::time::Duration;

use mesh_core::model::{
    lane::{Condition, Curve, KeySource, Match, Operator, Ramp, Share, Subject},
    route::Pattern,
};

use super::{Invalid, optional_duration, required, wire_duration};
use crate::mesh::v1::{self as wire, condition::Operator as WireOperator, key_source::Place};

/// Greatest share, hundredths of a percent.
const WHOLE: u32 = 10_000;

pub(super) fn rule_to_wire(rule: &Match) -> wire::EntryRule {
    let (any, conditions) = match rule {
        Match::Any(conditions) => (true, conditions),
        Match::All(conditions) => (false, conditions),
    };
    wire::EntryRule { any, conditions: conditions.iter().map(condition_to_wire).collect() }
}

pub(super) fn rule_from_wire(rule: wire::EntryRule) -> Result<Match, Invalid> {
    let conditions = rule.conditions.into_iter().map(condition_from_wire).collect::<Result<_, _>>()?;
    Ok(if rule.any { Match::Any(conditions) } else { Match::All(conditions) })
}

fn condition_to_wire(condition: &Condition) -> wire::Condition {
    let values = |values: &[String]| wire::Values { values: values.to_vec() };
    let subject = match condition.subject {
        Subject::Header => wire::Subject::Header,
        Subject::Cookie => wire::Subject::Cookie,
        Subject::Query => wire::Subject::Query,
        Subject::Path => wire::Subject::Path,
        Subject::Method => wire::Subject::Method,
        Subject::SourceIp => wire::Subject::SourceIp,
        Subject::Identity => wire::Subject::Identity,
        Subject::Claim => wire::Subject::Claim,
    };
    let operator = match &condition.operator {
        Operator::Equal(value) => WireOperator::Equal(value.clone()),
        Operator::NotEqual(value) => WireOperator::NotEqual(value.clone()),
        Operator::In(list) => WireOperator::In(values(list)),
        Operator::NotIn(list) => WireOperator::NotIn(values(list)),
        Operator::Prefix(value) => WireOperator::Prefix(value.clone()),
        Operator::Regex(pattern) => WireOperator::Regex(pattern.as_str().to_owned()),
        Operator::Present => WireOperator::Present(true),
        Operator::Percentage(share) => WireOperator::Percentage(*share),
    };
    wire::Condition { subject: subject.into(), name: condition.name.clone(), operator: Some(operator) }
}

fn condition_from_wire(condition: wire::Condition) -> Result<Condition, Invalid> {
    let subject = wire::Subject::try_from(condition.subject);
    let subject = match subject.map_err(|error| Invalid::value("condition.subject", error))? {
        wire::Subject::Header => Subject::Header,
        wire::Subject::Cookie => Subject::Cookie,
        wire::Subject::Query => Subject::Query,
        wire::Subject::Path => Subject::Path,
        wire::Subject::Method => Subject::Method,
        wire::Subject::SourceIp => Subject::SourceIp,
        wire::Subject::Identity => Subject::Identity,
        wire::Subject::Claim => Subject::Claim,
    };
    let operator = match required("condition.operator", condition.operator)? {
        WireOperator::Equal(value) => Operator::Equal(value),
        WireOperator::NotEqual(value) => Operator::NotEqual(value),
        WireOperator::In(list) => Operator::In(list.values),
        WireOperator::NotIn(list) => Operator::NotIn(list.values),
        WireOperator::Prefix(value) => Operator::Prefix(value),
        WireOperator::Regex(text) => {
            Operator::Regex(Pattern::try_from(text).map_err(|error| Invalid::value("condition.regex", error))?)
        }
        WireOperator::Present(_) => Operator::Present,
        WireOperator::Percentage(share) => Operator::Percentage(hundredths("condition.percentage", share)?),
    };
    Ok(Condition { subject, name: condition.name, operator })
}

pub(super) fn share_to_wire(share: &Share) -> wire::Share {
    let key = |key: &KeySource| wire::KeySource {
        place: Some(match key {
            KeySource::Header(name) => Place::Header(name.clone()),
            KeySource::Cookie(name) => Place::Cookie(name.clone()),
            KeySource::Claim(name) => Place::Claim(name.clone()),
            KeySource::Query(name) => Place::Query(name.clone()),
            KeySource::SourceIp => Place::SourceIp(true),
            KeySource::TraceId => Place::TraceId(true),
        }),
    };
    let ramp = |ramp: &Ramp| wire::Ramp {
        from: ramp.from,
        to: ramp.to,
        start: ramp.start,
        over: Some(wire_duration(ramp.over)),
        exponential: ramp.curve == Curve::Exponential,
    };
    wire::Share { value: share.value, keys: share.keys.iter().map(key).collect(), ramp: share.ramp.as_ref().map(ramp) }
}

pub(super) fn share_from_wire(share: wire::Share) -> Result<Share, Invalid> {
    Ok(Share {
        value: hundredths("share.value", share.value)?,
        keys: share.keys.into_iter().map(key_from_wire).collect::<Result<_, _>>()?,
        ramp: share.ramp.map(ramp_from_wire).transpose()?,
    })
}

fn key_from_wire(key: wire::KeySource) -> Result<KeySource, Invalid> {
    Ok(match required("key_source.place", key.place)? {
        Place::Header(name) => KeySource::Header(name),
        Place::Cookie(name) => KeySource::Cookie(name),
        Place::Claim(name) => KeySource::Claim(name),
        Place::Query(name) => KeySource::Query(name),
        Place::SourceIp(_) => KeySource::SourceIp,
        Place::TraceId(_) => KeySource::TraceId,
    })
}

fn ramp_from_wire(ramp: wire::Ramp) -> Result<Ramp, Invalid> {
    let over = optional_duration("ramp.over", ramp.over)?;
    Ok(Ramp {
        from: hundredths("ramp.from", ramp.from)?,
        to: hundredths("ramp.to", ramp.to)?,
        start: ramp.start,
        over: over.filter(|over| *over >= Duration::from_millis(1)).ok_or(Invalid::Missing { field: "ramp.over" })?,
        curve: if ramp.exponential { Curve::Exponential } else { Curve::Linear },
    })
}

fn hundredths(field: &'static str, share: u32) -> Result<u32, Invalid> {
    if share <= WHOLE { Ok(share) } else { Err(Invalid::value(field, format!("{share} is more than {WHOLE}"))) }
}
