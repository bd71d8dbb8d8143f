//! What `mesh.v1` carries: lane groups, traffic policies, model routes, trust anchors, the workload ↔ model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_core::{
    lifecycle::Standing,
    model::{
        lane::{LaneGroup, LaneRef},
        model_route::ModelRoute,
        policy::TrafficPolicy,
    },
    snapshot::Workload,
};

use super::{Invalid, lanes, lifecycle, models, traffic};
use crate::mesh::v1 as wire;

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
    /// Zones that are drained.
    pub drained_zones: BTreeSet<String>,
    /// Model routes.
    pub models: Vec<Arc<ModelRoute>>,
    /// How the process of the proxy stands with the controller.
    pub standing: Standing,
}

impl Policy {
    /// The message.
    pub fn to_wire(&self) -> wire::PolicySnapshot {
        wire::PolicySnapshot {
            revision: self.revision.clone(),
            lane_groups: self.lanes.iter().map(lanes::group_to_wire).collect(),
            traffic: self.traffic.iter().map(|(name, policy)| (name.clone(), traffic::to_wire(policy))).collect(),
            trust_anchors: self.trust_anchors.iter().map(|anchor| anchor.to_vec()).collect(),
            workload: Some(wire::Workload {
                lanes: self.workload.lanes.iter().map(ToString::to_string).collect(),
                zone: self.workload.zone.clone().unwrap_or_default(),
                services: self.workload.services.clone(),
                ports: self.ports.iter().copied().map(u32::from).collect(),
                served: self.workload.served.iter().map(served_to_wire).collect(),
            }),
            drained_zones: self.drained_zones.iter().cloned().collect(),
            model_routes: self.models.iter().map(|route| models::to_wire(route)).collect(),
            standing: lifecycle::standing_to_wire(self.standing),
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
        let served = workload.served.into_iter().map(|served| Ok((port(&served.port)?, served.services)));
        let traffic =
            message.traffic.into_iter().map(|(name, policy)| Ok((name, Arc::new(traffic::from_wire(policy)?))));
        let models = message.model_routes.into_iter().map(|route| models::from_wire(route).map(Arc::new));
        Ok(Policy {
            standing: lifecycle::standing_from_wire(message.standing)?,
            models: models.collect::<Result<_, _>>()?,
            drained_zones: message.drained_zones.into_iter().collect(),
            revision: message.revision,
            lanes: message.lane_groups.into_iter().map(lanes::group_from_wire).collect::<Result<_, _>>()?,
            traffic: traffic.collect::<Result<_, Invalid>>()?,
            trust_anchors: message.trust_anchors.into_iter().map(Arc::from).collect(),
            ports: workload.ports.iter().map(port).collect::<Result<_, _>>()?,
            workload: Workload {
                lanes: lanes.collect::<Result<_, _>>()?,
                zone: Some(workload.zone).filter(|zone| !zone.is_empty()),
                services: workload.services,
                served: served.collect::<Result<_, Invalid>>()?,
            },
        })
    }
}

fn served_to_wire((port, services): (&u16, &Vec<String>)) -> wire::ServedPort {
    wire::ServedPort { port: u32::from(*port), services: services.clone() }
}

fn port(number: &u32) -> Result<u16, Invalid> {
    let port = u16::try_from(*number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Invalid::value("policy_snapshot.workload.ports", format!("{number} is no port")))
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
