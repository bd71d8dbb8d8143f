//! What every proxy gets: lane groups, traffic policies, drained zones and model routes; and the groups as they stand at a moment, for askers that do
//! not reckon with time themselves.

use std::{collections::BTreeSet, sync::Arc};

use mesh_core::{
    lane::{Level, routes, subset},
    model::{
        endpoint::Endpoint,
        lane::LaneGroup,
        route::OutboundPolicy,
        service::{Service, ServiceKey},
    },
    resources::World,
};

use super::{Key, View, services::in_traffic};

impl View {
    /// Lane groups with the stage of every lane as it stands at the last tick: what has drained or outlived its time is
    /// closed. Proxies that speak `mesh.v1` get the groups as written and reckon themselves.
    pub fn lanes(&self) -> &[LaneGroup] {
        self.settled.as_deref().unwrap_or(&self.world().groups)
    }

    /// A policy for askers that know nothing of lanes.
    pub fn routed_by_header(&self, policy: &OutboundPolicy) -> OutboundPolicy {
        routes::by_header(policy, self.lanes(), &|key| self.indexed(key))
    }

    /// Instances of one level of a service, by the level's name in paths; `None` where there is no such service. A
    /// level that nobody knows (any more) has none.
    pub fn in_subset(&self, key: &ServiceKey, name: &str) -> Option<Vec<Arc<Endpoint>>> {
        let service = self.indexed(key)?;
        let positions = if name == subset::subset(&Level::Baseline) {
            service.baseline(self.lanes()).into_owned()
        } else {
            let lane = service.lanes().find(|lane| subset::subset(&Level::Lane((*lane).clone())) == name);
            lane.map(|lane| service.in_lane(lane).to_vec()).unwrap_or_default()
        };
        Some(positions.iter().filter_map(|position| service.endpoints().get(*position).cloned()).collect())
    }

    fn indexed(&self, key: &ServiceKey) -> Option<Service> {
        let port = self.port(key)?;
        Some(Service::new(port.key.clone(), true, in_traffic(port).cloned().collect()).with_groups(self.lanes()))
    }
}

pub(super) fn changed(old: &World, new: &World, changed: &mut BTreeSet<Key>) {
    let is_same = old.groups == new.groups
        && old.traffic == new.traffic
        && old.zones == new.zones
        && old.model_routes == new.model_routes;
    if !is_same {
        changed.insert(Key::Mesh);
    }
}
