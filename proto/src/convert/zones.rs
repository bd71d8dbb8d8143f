//! Zones of a traffic policy, and conditions on requests ↔ model.

use mesh_core::model::{
    policy::{ZoneFailover, ZoneMatch, ZoneShares, Zones},
    route::{PathMatch, RouteMatch, ValueCondition, ValueMatch},
};

use super::{Invalid, required, routes::pattern, traffic::unless_zero};
use crate::mesh::v1::{self as wire, request_match::Path, value_match::Value};

pub(super) fn to_wire(zones: &Zones) -> wire::Zones {
    wire::Zones {
        prefer_same: zones.prefer_same,
        threshold: zones.threshold,
        failover: zones
            .failover
            .iter()
            .map(|entry| wire::ZoneFailover { from: entry.from.clone(), to: entry.to.clone() })
            .collect(),
        distribute: zones
            .distribute
            .iter()
            .map(|entry| wire::ZoneShares { from: entry.from.clone(), to: entry.to.clone() })
            .collect(),
        matches: zones
            .matches
            .iter()
            .map(|entry| wire::ZoneMatch { request: Some(match_to_wire(&entry.request)), zone: entry.zone.clone() })
            .collect(),
    }
}

pub(super) fn from_wire(zones: wire::Zones) -> Result<Zones, Invalid> {
    let zone_match = |entry: wire::ZoneMatch| {
        let request = match_from_wire(required("zone_match.request", entry.request)?)?;
        Ok::<_, Invalid>(ZoneMatch { request, zone: entry.zone })
    };
    let failover = |entry: wire::ZoneFailover| ZoneFailover { from: entry.from, to: entry.to };
    let shares = |entry: wire::ZoneShares| ZoneShares { from: entry.from, to: entry.to };
    Ok(Zones {
        prefer_same: zones.prefer_same,
        threshold: unless_zero(zones.threshold, Zones::default().threshold),
        failover: zones.failover.into_iter().map(failover).collect(),
        distribute: zones.distribute.into_iter().map(shares).collect(),
        matches: zones.matches.into_iter().map(zone_match).collect::<Result<_, _>>()?,
    })
}

pub(super) fn match_to_wire(condition: &RouteMatch) -> wire::RequestMatch {
    wire::RequestMatch {
        path: condition.path.as_ref().map(|path| match path {
            PathMatch::Exact(text) => Path::Exact(text.clone()),
            PathMatch::Prefix(text) => Path::Prefix(text.clone()),
            PathMatch::Regex(pattern) => Path::Regex(pattern.as_str().to_owned()),
        }),
        method: condition.method.clone().unwrap_or_default(),
        headers: condition.headers.iter().map(value_to_wire).collect(),
        query: condition.query.iter().map(value_to_wire).collect(),
    }
}

pub(super) fn match_from_wire(condition: wire::RequestMatch) -> Result<RouteMatch, Invalid> {
    let path = match condition.path {
        None => None,
        Some(Path::Exact(text)) => Some(PathMatch::Exact(text)),
        Some(Path::Prefix(text)) => Some(PathMatch::Prefix(text)),
        Some(Path::Regex(text)) => Some(PathMatch::Regex(pattern("request_match.regex", text)?)),
    };
    Ok(RouteMatch {
        path,
        method: Some(condition.method).filter(|method| !method.is_empty()),
        headers: condition.headers.into_iter().map(value_from_wire).collect::<Result<_, _>>()?,
        query: condition.query.into_iter().map(value_from_wire).collect::<Result<_, _>>()?,
    })
}

fn value_to_wire(condition: &ValueMatch) -> wire::ValueMatch {
    let value = match &condition.value {
        ValueCondition::Exact(text) => Value::Exact(text.clone()),
        ValueCondition::Regex(pattern) => Value::Regex(pattern.as_str().to_owned()),
    };
    wire::ValueMatch { name: condition.name.clone(), value: Some(value) }
}

fn value_from_wire(condition: wire::ValueMatch) -> Result<ValueMatch, Invalid> {
    let value = match required("value_match.value", condition.value)? {
        Value::Exact(text) => ValueCondition::Exact(text),
        Value::Regex(text) => ValueCondition::Regex(pattern("value_match.regex", text)?),
    };
    Ok(ValueMatch { name: condition.name, value })
}
