//! What `mesh.v1` carries: lane groups, traffic policies, trust anchors, the workload ↔ model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_core::{
    model::{
        lane::{Baseline, Carrier, Lane, LaneGroup, LaneName, LaneRef, LaneState, Members, OnMissing, OnUnhealthy},
        policy::{Limits, Timeouts, TrafficPolicy},
    },
    snapshot::Workload,
};

use super::{Invalid, optional_duration, required, wire_duration};
use crate::mesh::v1 as wire;

/// The member that stands for every service.
const EVERY_SERVICE: &str = "*";

/// Everything that one revision of `mesh.v1` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Revision as received.
    pub revision: String,
    /// Lane groups.
    pub lanes: Vec<LaneGroup>,
    /// Traffic policies by `<name>.<namespace>`.
    pub traffic: BTreeMap<String, Arc<TrafficPolicy>>,
    /// Trust anchors, DER; empty = keep what you have.
    pub trust_anchors: Vec<Arc<[u8]>>,
    /// About the workload of the proxy.
    pub workload: Workload,
    /// Ports that the workload serves.
    pub ports: BTreeSet<u16>,
}

impl Policy {
    /// The message.
    pub fn to_wire(&self) -> wire::PolicySnapshot {
        wire::PolicySnapshot {
            revision: self.revision.clone(),
            lane_groups: self.lanes.iter().map(group_to_wire).collect(),
            traffic: self.traffic.iter().map(|(name, policy)| (name.clone(), traffic_to_wire(policy))).collect(),
            trust_anchors: self.trust_anchors.iter().map(|anchor| anchor.to_vec()).collect(),
            workload: Some(wire::Workload {
                lanes: self.workload.lanes.iter().map(ToString::to_string).collect(),
                zone: self.workload.zone.clone().unwrap_or_default(),
                services: self.workload.services.clone(),
                ports: self.ports.iter().copied().map(u32::from).collect(),
            }),
        }
    }

    /// Reads the message.
    ///
    /// # Errors
    /// Names the field; nothing of the message is then used.
    pub fn from_wire(message: wire::PolicySnapshot) -> Result<Self, Invalid> {
        let workload = message.workload.unwrap_or_default();
        let lanes = workload.lanes.iter().map(|text| {
            text.parse::<LaneRef>().map_err(|error| Invalid::value("policy_snapshot.workload.lanes", error))
        });
        let port = |number: &u32| {
            let port = u16::try_from(*number).ok().filter(|port| *port != 0);
            port.ok_or_else(|| Invalid::value("policy_snapshot.workload.ports", format!("{number} is no port")))
        };
        let traffic =
            message.traffic.into_iter().map(|(name, policy)| Ok((name, Arc::new(traffic_from_wire(policy)?))));
        Ok(Policy {
            revision: message.revision,
            lanes: message.lane_groups.into_iter().map(group_from_wire).collect::<Result<_, _>>()?,
            traffic: traffic.collect::<Result<_, Invalid>>()?,
            trust_anchors: message.trust_anchors.into_iter().map(Arc::from).collect(),
            ports: workload.ports.iter().map(port).collect::<Result<_, _>>()?,
            workload: Workload {
                lanes: lanes.collect::<Result<_, _>>()?,
                zone: Some(workload.zone).filter(|zone| !zone.is_empty()),
                services: workload.services,
            },
        })
    }
}

fn group_to_wire(group: &LaneGroup) -> wire::LaneGroup {
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
    }
}

fn group_from_wire(group: wire::LaneGroup) -> Result<LaneGroup, Invalid> {
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
    })
}

fn traffic_to_wire(policy: &TrafficPolicy) -> wire::TrafficPolicy {
    wire::TrafficPolicy {
        connect_timeout: Some(wire_duration(policy.timeouts.connect)),
        request_timeout: policy.timeouts.request.map(wire_duration),
        response_headers_timeout: policy.timeouts.response_headers.map(wire_duration),
        idle_timeout: Some(wire_duration(policy.timeouts.idle)),
        attempts: policy.attempts,
        max_connections: policy.limits.connections,
        max_requests: policy.limits.requests,
    }
}

fn traffic_from_wire(policy: wire::TrafficPolicy) -> Result<TrafficPolicy, Invalid> {
    let default = TrafficPolicy::default();
    let number = |value: u32, default: u32| if value == 0 { default } else { value };
    Ok(TrafficPolicy {
        timeouts: Timeouts {
            connect: optional_duration("traffic_policy.connect_timeout", policy.connect_timeout)?
                .unwrap_or(default.timeouts.connect),
            request: optional_duration("traffic_policy.request_timeout", policy.request_timeout)?,
            response_headers: optional_duration(
                "traffic_policy.response_headers_timeout",
                policy.response_headers_timeout,
            )?,
            idle: optional_duration("traffic_policy.idle_timeout", policy.idle_timeout)?
                .unwrap_or(default.timeouts.idle),
        },
        attempts: number(policy.attempts, default.attempts),
        limits: Limits {
            connections: number(policy.max_connections, default.limits.connections),
            requests: number(policy.max_requests, default.limits.requests),
        },
        labels: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::samples;

    proptest! {
        #[test]
        fn a_policy_reads_back_as_it_was(policy in samples::policy()) {
            prop_assert_eq!(Policy::from_wire(policy.to_wire()), Ok(policy));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let group = |change: fn(&mut wire::LaneGroup)| {
            let mut group = wire::LaneGroup {
                name: "g".to_owned(),
                carrier: Some(wire::Carrier {
                    header: "x".to_owned(),
                    baggage_key: "y".to_owned(),
                    aliases: Vec::new(),
                }),
                lanes: vec![wire::Lane { name: "l".to_owned(), ..wire::Lane::default() }],
                ..wire::LaneGroup::default()
            };
            change(&mut group);
            Policy::from_wire(wire::PolicySnapshot { lane_groups: vec![group], ..wire::PolicySnapshot::default() })
                .map_or_else(|error| error.to_string(), |_| "fine".to_owned())
        };
        assert_eq!(group(|_| ()), "fine");
        assert_eq!(group(|group| group.carrier = None), "lane_group.carrier is missing");
        assert!(group(|group| group.name = "a/b".to_owned()).starts_with("lane_group.name: "));
        assert!(group(|group| group.baseline = 7).starts_with("lane_group.baseline: "));
        assert!(group(|group| group.lanes[0].state = -1).starts_with("lane.state: "));
        assert!(group(|group| group.lanes[0].parent = "ä".to_owned()).starts_with("lane.parent: "));
    }
}
