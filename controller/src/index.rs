//! What the sources say together: pure state, `apply(event) → what changed`, owned by one task.
//!
//! Readers get immutable views. Knows no gRPC and no client.

pub mod lanes;
pub mod marks;
pub mod policies;
pub mod routes;
pub mod services;
pub mod workloads;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_core::{
    lane,
    lifecycle::Marks,
    model::{lane::LaneGroup, service::ServiceKey},
    resources::{Domains, World},
};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// This is what all sources say together, and nothing else.
    World(Arc<World>),
    /// This is what callers are told of workloads besides.
    Marks(Marks),
    /// The authority's trust anchors, DER.
    TrustAnchors(Vec<Arc<[u8]>>),
    /// It is this moment, Unix milliseconds: lanes drain and end by time alone.
    Tick(u64),
}

/// Something that can be watched by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A service, `<name>.<namespace>`: whether it exists, its ports, routes and instances.
    Service(String),
    /// What an address means: the instance whose application listens there, or a service.
    Address(SocketAddr),
    /// A workload, `<namespace>/<pod>`: its policies, lanes and services.
    Workload(String),
    /// Lane groups, traffic policies, trust anchors: what every proxy gets.
    Mesh,
}

/// One state of the index. Immutable; parts are shared with the state before.
#[derive(Clone, Debug, Default)]
pub struct View {
    world: Arc<World>,
    /// Lane groups as they stand now, where that differs from what is written.
    settled: Option<Arc<Vec<LaneGroup>>>,
    domains: Domains,
    /// Where an instance's address is found: service and port.
    addresses: Arc<HashMap<SocketAddr, Vec<(String, u16)>>>,
    /// Services by the addresses that mean them as a whole.
    service_addresses: Arc<HashMap<IpAddr, String>>,
    anchors: Vec<Arc<[u8]>>,
}

impl View {
    /// Everything known.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Trust domain and domain of service names.
    pub fn domains(&self) -> &Domains {
        &self.domains
    }

    /// Trust anchors, DER.
    pub fn anchors(&self) -> &[Arc<[u8]>] {
        &self.anchors
    }
}

/// The index.
#[derive(Debug)]
pub struct Index {
    view: Arc<View>,
    /// What the sources say; the view's world is marked.
    said: Arc<World>,
    marks: Marks,
    now: u64,
}

impl Index {
    /// An index that knows nothing yet.
    pub fn new(domains: Domains) -> Self {
        let view = Arc::new(View { domains, ..View::default() });
        Index { view, said: Arc::default(), marks: Marks::new(), now: 0 }
    }

    /// The current state.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Takes an event in and says what changed by it.
    pub fn apply(&mut self, event: Event) -> BTreeSet<Key> {
        match event {
            Event::World(world) => {
                self.said = world;
                self.replace(marks::marked(&self.said, &self.marks))
            }
            Event::Marks(marks) if marks == self.marks => BTreeSet::new(),
            Event::Marks(marks) => {
                self.marks = marks;
                self.replace(marks::marked(&self.said, &self.marks))
            }
            Event::TrustAnchors(anchors) if anchors == self.view.anchors => BTreeSet::new(),
            Event::TrustAnchors(anchors) => {
                self.view = Arc::new(View { anchors, ..View::clone(&self.view) });
                BTreeSet::from([Key::Mesh])
            }
            Event::Tick(now) => {
                self.now = now;
                let settled = lane::settled(&self.view.world.groups, now);
                if settled.as_ref() == self.view.settled.as_deref() {
                    return BTreeSet::new();
                }
                self.view = Arc::new(View { settled: settled.map(Arc::new), ..View::clone(&self.view) });
                BTreeSet::from([Key::Mesh])
            }
        }
    }

    fn replace(&mut self, world: Arc<World>) -> BTreeSet<Key> {
        let old = Arc::clone(&self.view);
        let mut changed = BTreeSet::new();
        services::changed(old.world(), &world, &mut changed);
        workloads::changed(old.world(), &world, &mut changed);
        lanes::changed(old.world(), &world, &mut changed);
        if changed.is_empty() {
            return changed;
        }
        let addresses = Arc::new(services::addresses(&world));
        let service_addresses = Arc::new(services::service_addresses(&world));
        let settled = lane::settled(&world.groups, self.now).map(Arc::new);
        self.view = Arc::new(View { world, settled, addresses, service_addresses, ..View::clone(&old) });
        changed
    }
}

/// A service and port by its path in the Destination API.
pub(crate) fn path(key: &ServiceKey) -> Option<(&str, u16)> {
    let (_, port) = key.as_str().rsplit_once(':')?;
    Some((key.label(), port.parse().ok()?))
}

#[cfg(test)]
mod tests;
