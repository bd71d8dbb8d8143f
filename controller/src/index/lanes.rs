//! What every proxy gets: lane groups and traffic policies.

use std::collections::BTreeSet;

use mesh_core::resources::World;

use super::Key;

pub(super) fn changed(old: &World, new: &World, changed: &mut BTreeSet<Key>) {
    if old.groups != new.groups || old.traffic != new.traffic {
        changed.insert(Key::Mesh);
    }
}
