//! What every proxy gets: lane groups and traffic policies; and the groups as they stand at a moment, for askers that do
//! not reckon with time themselves.

use std::{borrow::Cow, collections::BTreeSet};

use mesh_core::{model::lane::LaneGroup, resources::World};

use super::{Key, View};

impl View {
    /// Lane groups with the stage of every lane as it stands at the last tick: what has drained or outlived its time is
    /// closed. Proxies that speak `mesh.v1` get the groups as written and reckon themselves.
    pub fn lanes(&self) -> &[LaneGroup] {
        self.settled.as_deref().unwrap_or(&self.world().groups)
    }
}

/// The groups at `now` (Unix milliseconds); `None` where every lane stands in the stage that is written.
pub(super) fn settled(groups: &[LaneGroup], now: u64) -> Option<Vec<LaneGroup>> {
    let mut settled = Cow::Borrowed(groups);
    for (at, group) in groups.iter().enumerate() {
        for (position, lane) in group.lanes.iter().enumerate() {
            let state = lane.state_at(now, group.max_request_age);
            if state != lane.state {
                settled.to_mut()[at].lanes[position].state = state;
            }
        }
    }
    match settled {
        Cow::Borrowed(_) => None,
        Cow::Owned(settled) => Some(settled),
    }
}

pub(super) fn changed(old: &World, new: &World, changed: &mut BTreeSet<Key>) {
    if old.groups != new.groups || old.traffic != new.traffic {
        changed.insert(Key::Mesh);
    }
}
