//! Lane groups and lanes ↔ model; what decides at an entry stands in `entry`.

use std::collections::BTreeSet;

use mesh_core::{
    identity::Identity,
    model::lane::{
        Baseline, Carrier, LINGER_MAX, Lane, LaneGroup, LaneName, LaneState, MAX_REQUEST_AGE, Members, OnMissing,
        OnUnhealthy, Propagation, Stale,
    },
};

use super::{Invalid, entry, optional_duration, required, wire_duration};
use crate::mesh::v1 as wire;

/// The member that stands for every service.
const EVERY_SERVICE: &str = "*";

pub(super) fn group_to_wire(group: &LaneGroup) -> wire::LaneGroup {
    wire::LaneGroup {
        name: group.name.to_string(),
        revision: group.revision,
        entries: group.entries.iter().cloned().collect(),
        services: match &group.members {
            Members::All => vec![EVERY_SERVICE.to_owned()],
            Members::Named(names) => names.iter().cloned().collect(),
        },
        carrier: Some(wire::Carrier {
            header: group.carrier.header.clone(),
            baggage_key: group.carrier.baggage_key.clone(),
            aliases: group.carrier.aliases.clone(),
        }),
        baseline: match group.baseline {
            Baseline::NotInActiveLane => wire::Baseline::NotInActiveLane,
            Baseline::Untagged => wire::Baseline::Untagged,
        }
        .into(),
        lanes: group.lanes.iter().map(lane_to_wire).collect(),
        salt: group.salt.clone(),
        trusted: group
            .trusted
            .as_ref()
            .map(|trusted| wire::Trusted { identities: trusted.iter().map(ToString::to_string).collect() }),
        propagation: Some(propagation_to_wire(&group.propagation)),
        max_request_age: Some(wire_duration(group.max_request_age)),
        zone_first: group.zone_first,
    }
}

pub(super) fn group_from_wire(group: wire::LaneGroup) -> Result<LaneGroup, Invalid> {
    let carrier = required("lane_group.carrier", group.carrier)?;
    if carrier.header.is_empty() || carrier.baggage_key.is_empty() {
        return Err(Invalid::Missing { field: "lane_group.carrier.header or baggage_key" });
    }
    let baseline = wire::Baseline::try_from(group.baseline);
    Ok(LaneGroup {
        name: lane_name("lane_group.name", &group.name)?,
        revision: group.revision,
        entries: group.entries.into_iter().collect(),
        members: if group.services.iter().any(|service| service == EVERY_SERVICE) {
            Members::All
        } else {
            Members::Named(group.services.into_iter().collect())
        },
        carrier: Carrier {
            header: carrier.header.to_ascii_lowercase(),
            baggage_key: carrier.baggage_key,
            aliases: carrier.aliases.into_iter().map(|alias| alias.to_ascii_lowercase()).collect(),
        },
        baseline: match baseline.map_err(|error| Invalid::value("lane_group.baseline", error))? {
            wire::Baseline::NotInActiveLane => Baseline::NotInActiveLane,
            wire::Baseline::Untagged => Baseline::Untagged,
        },
        lanes: group.lanes.into_iter().map(lane_from_wire).collect::<Result<_, _>>()?,
        salt: group.salt,
        trusted: group.trusted.map(trusted_from_wire).transpose()?,
        propagation: group.propagation.map(propagation_from_wire).transpose()?.unwrap_or_default(),
        max_request_age: optional_duration("lane_group.max_request_age", group.max_request_age)?
            .unwrap_or(MAX_REQUEST_AGE),
        zone_first: group.zone_first,
    })
}

fn trusted_from_wire(trusted: wire::Trusted) -> Result<BTreeSet<Identity>, Invalid> {
    let identity = |text: &String| text.parse().map_err(|error| Invalid::value("trusted.identities", error));
    trusted.identities.iter().map(identity).collect()
}

fn propagation_to_wire(propagation: &Propagation) -> wire::Propagation {
    wire::Propagation {
        trace_headers: propagation.trace_headers.clone(),
        linger: Some(wire_duration(propagation.linger)),
        tracestate: propagation.tracestate,
        rederive: propagation.rederive,
        unanimity: propagation.unanimity,
        stale: match propagation.stale {
            Stale::ByCarrier => wire::Stale::ByCarrier,
            Stale::Honour => wire::Stale::Honour,
            Stale::Ignore => wire::Stale::Ignore,
        }
        .into(),
    }
}

fn propagation_from_wire(propagation: wire::Propagation) -> Result<Propagation, Invalid> {
    let stale = wire::Stale::try_from(propagation.stale);
    let linger = optional_duration("propagation.linger", propagation.linger)?;
    Ok(Propagation {
        trace_headers: propagation.trace_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
        linger: linger.unwrap_or(Propagation::default().linger).min(LINGER_MAX),
        tracestate: propagation.tracestate,
        rederive: propagation.rederive,
        unanimity: propagation.unanimity,
        stale: match stale.map_err(|error| Invalid::value("propagation.stale", error))? {
            wire::Stale::ByCarrier => Stale::ByCarrier,
            wire::Stale::Honour => Stale::Honour,
            wire::Stale::Ignore => Stale::Ignore,
        },
    })
}

fn lane_name(field: &'static str, text: &str) -> Result<LaneName, Invalid> {
    text.parse().map_err(|error| Invalid::value(field, error))
}

fn lane_to_wire(lane: &Lane) -> wire::Lane {
    wire::Lane {
        name: lane.name.to_string(),
        parent: lane.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: match lane.state {
            LaneState::Draft => wire::LaneState::Draft,
            LaneState::Active => wire::LaneState::Active,
            LaneState::Draining => wire::LaneState::Draining,
            LaneState::Closed => wire::LaneState::Closed,
            LaneState::Promoted => wire::LaneState::Promoted,
        }
        .into(),
        on_missing: match lane.on_missing {
            OnMissing::Fallback => wire::OnMissing::Fallback,
            OnMissing::Reject => wire::OnMissing::Reject,
        }
        .into(),
        on_unhealthy: match lane.on_unhealthy {
            OnUnhealthy::Fallback => wire::OnUnhealthy::Fallback,
            OnUnhealthy::Stay => wire::OnUnhealthy::Stay,
            OnUnhealthy::Reject => wire::OnUnhealthy::Reject,
        }
        .into(),
        min_healthy: lane.min_healthy,
        priority: lane.priority,
        rule: lane.rule.as_ref().map(entry::rule_to_wire),
        share: lane.share.as_ref().map(entry::share_to_wire),
        created: lane.created,
        state_since: lane.state_since.unwrap_or(0),
        ends: lane.ends.unwrap_or(0),
    }
}

fn lane_from_wire(lane: wire::Lane) -> Result<Lane, Invalid> {
    let state = wire::LaneState::try_from(lane.state).map_err(|error| Invalid::value("lane.state", error))?;
    let on_missing =
        wire::OnMissing::try_from(lane.on_missing).map_err(|error| Invalid::value("lane.on_missing", error))?;
    let on_unhealthy =
        wire::OnUnhealthy::try_from(lane.on_unhealthy).map_err(|error| Invalid::value("lane.on_unhealthy", error))?;
    Ok(Lane {
        name: lane_name("lane.name", &lane.name)?,
        parent: match lane.parent.as_str() {
            "" => None,
            parent => Some(lane_name("lane.parent", parent)?),
        },
        state: match state {
            wire::LaneState::Draft => LaneState::Draft,
            wire::LaneState::Active => LaneState::Active,
            wire::LaneState::Draining => LaneState::Draining,
            wire::LaneState::Closed => LaneState::Closed,
            wire::LaneState::Promoted => LaneState::Promoted,
        },
        on_missing: match on_missing {
            wire::OnMissing::Fallback => OnMissing::Fallback,
            wire::OnMissing::Reject => OnMissing::Reject,
        },
        on_unhealthy: match on_unhealthy {
            wire::OnUnhealthy::Fallback => OnUnhealthy::Fallback,
            wire::OnUnhealthy::Stay => OnUnhealthy::Stay,
            wire::OnUnhealthy::Reject => OnUnhealthy::Reject,
        },
        min_healthy: lane.min_healthy,
        priority: lane.priority,
        rule: lane.rule.map(entry::rule_from_wire).transpose()?,
        share: lane.share.map(entry::share_from_wire).transpose()?,
        created: lane.created,
        state_since: Some(lane.state_since).filter(|moment| *moment != 0),
        ends: Some(lane.ends).filter(|moment| *moment != 0),
    })
}
