//! Puts together what the controller's streams say: pure state, `apply` takes one event, `publish` makes the next
//! snapshot when something changed. Parts that did not change are shared with the snapshot before.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use mesh_core::{
    lane::{next_change, settled},
    model::{
        endpoint::Endpoint,
        lane::LaneGroup,
        policy::InboundServer,
        route::{Backend, Distribution, HttpRoute, OutboundPolicy, OutboundProtocol, Target},
        service::{Service, ServiceKey},
    },
    snapshot::Snapshot,
};
use mesh_proto::convert::{endpoint::Change, policy::Policy};

/// Targets that are remembered as unknown; the first in order goes when one more joins.
const UNKNOWN_MAX: usize = 1_024;

/// One thing that the controller said, or that we decided about what we follow.
#[derive(Clone, Debug)]
pub enum Event {
    /// A target's policy.
    Target(Target, Arc<OutboundPolicy>),
    /// The controller does not know the target.
    TargetUnknown(Target),
    /// The target is not followed any more, or `unknown` may be asked again.
    TargetForgotten(Target),
    /// First update of a stream: the whole set of instances.
    ServiceReplaced(ServiceKey, Change),
    /// Later update of a stream.
    ServiceChanged(ServiceKey, Change),
    /// The service is not followed any more.
    ServiceForgotten(ServiceKey),
    /// Policy of an inbound port.
    Port(u16, Arc<InboundServer>),
    /// The port has no policy: it is denied.
    PortUnknown(u16),
    /// Everything of `mesh.v1` except the trust anchors, which go through the credentials.
    Policy(Box<Policy>),
    /// Trust anchors in force.
    Anchors(Vec<Arc<[u8]>>),
}

/// The state behind the snapshots.
#[derive(Debug, Default)]
pub struct Builder {
    snapshot: Snapshot,
    /// Lane groups as the controller wrote them; those of the snapshot are settled.
    written: Arc<Vec<LaneGroup>>,
    instances: BTreeMap<ServiceKey, Instances>,
    changed: BTreeSet<ServiceKey>,
    dirty: bool,
}

#[derive(Debug, Default)]
struct Instances {
    exists: bool,
    by_address: BTreeMap<SocketAddr, Arc<Endpoint>>,
}

impl Builder {
    /// Goes on from a snapshot kept on disk.
    pub fn from_snapshot(mut snapshot: Snapshot) -> Self {
        snapshot.set_lanes(Arc::clone(&snapshot.lanes));
        snapshot.set_rates();
        for service in snapshot.services.values_mut() {
            *service = Arc::new(Service::clone(service).with_groups(&snapshot.lanes));
        }
        let instances = snapshot.services.iter().map(|(key, service)| {
            let by_address = service.endpoints().iter().map(|one| (one.address, Arc::clone(one))).collect();
            (key.clone(), Instances { exists: service.exists(), by_address })
        });
        let (instances, written) = (instances.collect(), Arc::clone(&snapshot.lanes));
        Builder { instances, written, changed: BTreeSet::new(), dirty: false, snapshot }
    }

    /// What the last snapshot says, with the events since.
    pub fn current(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether there is something to publish.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Takes in one event. An event that says what is known already changes nothing.
    pub fn apply(&mut self, event: Event) {
        self.dirty |= match event {
            Event::Target(target, policy) => {
                let was_unknown = self.snapshot.unknown.remove(&target);
                put(&mut self.snapshot.outbound, target, policy) || was_unknown
            }
            Event::TargetUnknown(target) => {
                let known = self.snapshot.outbound.remove(&target).is_some();
                self.remember_unknown(target) || known
            }
            Event::TargetForgotten(target) => {
                let known = self.snapshot.outbound.remove(&target).is_some();
                self.snapshot.unknown.remove(&target) || known
            }
            Event::ServiceReplaced(key, change) => self.change_service(key, change, Known::Dropped),
            Event::ServiceChanged(key, change) => self.change_service(key, change, Known::Kept),
            Event::ServiceForgotten(key) => {
                self.instances.remove(&key);
                self.changed.remove(&key);
                self.snapshot.services.remove(&key).is_some()
            }
            Event::Port(port, server) => put(&mut self.snapshot.inbound, port, server),
            Event::PortUnknown(port) => self.snapshot.inbound.remove(&port).is_some(),
            Event::Policy(policy) => self.take_policy(*policy),
            Event::Anchors(anchors) => replace(&mut self.snapshot.trust_anchors, anchors),
        };
    }

    /// Puts every lane into the state it has at `now` (Unix milliseconds), and says when the next one changes by itself.
    pub fn settle(&mut self, now: u64) -> Option<u64> {
        let settled = settled(&self.written, now).map_or_else(|| Arc::clone(&self.written), Arc::new);
        self.dirty |= self.put_lanes(settled);
        next_change(&self.written, now)
    }

    fn put_lanes(&mut self, groups: Arc<Vec<LaneGroup>>) -> bool {
        if self.snapshot.lanes == groups {
            return false;
        }
        self.snapshot.set_lanes(groups);
        // Baseline is prepared per service, for these groups.
        self.changed.extend(self.instances.keys().cloned());
        true
    }

    /// The next snapshot, if anything changed since the last.
    pub fn publish(&mut self) -> Option<Arc<Snapshot>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        for key in std::mem::take(&mut self.changed) {
            if let Some(instances) = self.instances.get(&key) {
                let endpoints = instances.by_address.values().cloned().collect();
                let service = Service::new(key.clone(), instances.exists, endpoints).with_groups(&self.snapshot.lanes);
                self.snapshot.services.insert(key, Arc::new(service));
            }
        }
        self.snapshot.revision += 1;
        let snapshot = Arc::new(self.snapshot.clone());
        snapshot.surroundings();
        Some(snapshot)
    }

    fn remember_unknown(&mut self, target: Target) -> bool {
        if self.snapshot.unknown.len() >= UNKNOWN_MAX && !self.snapshot.unknown.contains(&target) {
            self.snapshot.unknown.pop_first();
        }
        self.snapshot.unknown.insert(target)
    }

    fn change_service(&mut self, key: ServiceKey, change: Change, known: Known) -> bool {
        let is_new = !self.instances.contains_key(&key);
        let instances = self.instances.entry(key.clone()).or_default();
        let changed = instances.take(change, known);
        if changed || is_new {
            self.changed.insert(key);
        }
        changed || is_new
    }

    fn take_policy(&mut self, policy: Policy) -> bool {
        let mut lanes = *self.written != policy.lanes;
        if lanes {
            self.written = Arc::new(policy.lanes);
            lanes = self.put_lanes(Arc::clone(&self.written));
        }
        let snapshot = &mut self.snapshot;
        let mut traffic = policy.traffic;
        for (name, known) in &snapshot.traffic {
            if let Some(new) = traffic.get_mut(name).filter(|new| *new == known) {
                *new = Arc::clone(known);
            }
        }
        let traffic = replace(&mut snapshot.traffic, traffic);
        let zones = *snapshot.drained_zones != policy.drained_zones;
        if zones {
            snapshot.drained_zones = Arc::new(policy.drained_zones);
        }
        let models = shared(&snapshot.model_routes, policy.models);
        let models = replace(&mut snapshot.model_routes, models);
        let revision = replace(&mut snapshot.policy_revision, policy.revision);
        let workload = replace(&mut snapshot.workload, policy.workload);
        if workload || traffic {
            snapshot.set_rates();
        }
        workload || traffic || lanes || zones || models || revision
    }
}

/// What happens to instances that an update does not name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Kept,
    Dropped,
}

impl Instances {
    fn take(&mut self, change: Change, known: Known) -> bool {
        let existed = self.exists;
        let mut changed = false;
        if known == Known::Dropped {
            let named: BTreeSet<SocketAddr> = match &change {
                Change::Add(endpoints) => endpoints.iter().map(|endpoint| endpoint.address).collect(),
                Change::Remove(_) | Change::Empty { .. } => BTreeSet::new(),
            };
            let before = self.by_address.len();
            self.by_address.retain(|address, _| named.contains(address));
            changed |= self.by_address.len() != before;
        }
        match change {
            Change::Add(endpoints) => {
                self.exists = true;
                for endpoint in endpoints {
                    changed |= put(&mut self.by_address, endpoint.address, endpoint);
                }
            }
            Change::Remove(addresses) => {
                for address in addresses {
                    changed |= self.by_address.remove(&address).is_some();
                }
            }
            Change::Empty { exists } => {
                self.exists = exists;
                changed |= !self.by_address.is_empty();
                self.by_address.clear();
            }
        }
        changed || existed != self.exists
    }
}

fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, Arc<V>>, key: K, value: Arc<V>) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

/// The new values; those that did not change are the known ones.
fn shared<T: PartialEq, All: FromIterator<Arc<T>>>(known: &[Arc<T>], new: Vec<Arc<T>>) -> All {
    new.into_iter().map(|new| known.iter().find(|known| **known == new).map_or(new, Arc::clone)).collect()
}

fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    if changed {
        *place = value;
    }
    changed
}

/// Every service that a policy sends to, each once.
pub fn services_of(policy: &OutboundPolicy) -> BTreeSet<&ServiceKey> {
    let mut found = BTreeSet::new();
    match &policy.protocol {
        OutboundProtocol::Detect { opaque, http1, http2, timeout: _ } => {
            add(&mut found, opaque);
            add_routes(&mut found, http1);
            add_routes(&mut found, http2);
        }
        OutboundProtocol::Opaque(distribution) | OutboundProtocol::Tls(distribution) => add(&mut found, distribution),
        OutboundProtocol::Http1(routes) | OutboundProtocol::Http2(routes) | OutboundProtocol::Grpc(routes) => {
            add_routes(&mut found, routes);
        }
    }
    found
}

fn add_routes<'a>(found: &mut BTreeSet<&'a ServiceKey>, routes: &'a [HttpRoute]) {
    routes.iter().flat_map(|route| &route.rules).for_each(|rule| add(found, &rule.backends));
}

fn add<'a>(found: &mut BTreeSet<&'a ServiceKey>, distribution: &'a Distribution) {
    let mut backend = |backend: &'a Backend| match backend {
        Backend::Service(key) => {
            found.insert(key);
        }
        Backend::Forward(_) => {}
    };
    match distribution {
        Distribution::Empty => {}
        Distribution::FirstAvailable(backends) => backends.iter().for_each(&mut backend),
        Distribution::Weighted(backends) => backends.iter().for_each(|(one, _)| backend(one)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_core::model::{
        endpoint::ProtocolHint,
        lane::{Lane, LaneState},
        model_route::{ModelRoute, TokenLimits},
        policy::InboundProtocol,
    };

    use super::*;

    fn endpoint(port: u16, weight: u32) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            weight,
            identity: None,
            server_name: None,
            inbound_port: None,
            hint: ProtocolHint::Unknown,
            lanes: Vec::new(),
            zone: None,
            ready_since: None,
            draining: false,
            healthy: true,
            labels: BTreeMap::new(),
        })
    }

    fn key(name: &str) -> ServiceKey {
        ServiceKey(name.into())
    }

    fn ports(snapshot: &Snapshot, service: &str) -> Vec<u16> {
        snapshot.services[&key(service)].endpoints().iter().map(|endpoint| endpoint.address.port()).collect()
    }

    fn server(port: u16) -> Arc<InboundServer> {
        Arc::new(InboundServer {
            port,
            protocol: InboundProtocol::Detect { timeout: Duration::from_secs(1) },
            authorizations: Vec::new(),
            routes: Vec::new(),
            name: "test".to_owned(),
        })
    }

    #[test]
    fn first_update_of_a_stream_replaces_and_later_ones_change() {
        let mut builder = Builder::default();
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(1, 1), endpoint(2, 1)])));
        builder.apply(Event::ServiceChanged(key("a"), Change::Add(vec![endpoint(3, 1)])));
        builder.apply(Event::ServiceChanged(key("a"), Change::Remove(vec![endpoint(1, 1).address])));
        assert_eq!(ports(&builder.publish().unwrap(), "a"), [2, 3]);
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(3, 1), endpoint(4, 1)])));
        assert_eq!(ports(&builder.publish().unwrap(), "a"), [3, 4]);
        builder.apply(Event::ServiceChanged(key("a"), Change::Empty { exists: false }));
        let snapshot = builder.publish().unwrap();
        assert!(!snapshot.services[&key("a")].exists() && snapshot.services[&key("a")].endpoints().is_empty());
    }

    #[test]
    fn repeated_news_publish_nothing_and_unchanged_parts_are_shared() {
        let mut builder = Builder::default();
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(1, 1)])));
        builder.apply(Event::ServiceReplaced(key("b"), Change::Add(vec![endpoint(2, 1)])));
        builder.apply(Event::Port(80, server(80)));
        let first = builder.publish().unwrap();
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(1, 1)])));
        builder.apply(Event::Port(80, server(80)));
        builder.apply(Event::Policy(Box::default()));
        assert!(builder.publish().is_none());
        builder.apply(Event::ServiceChanged(key("a"), Change::Add(vec![endpoint(1, 2)])));
        let second = builder.publish().unwrap();
        assert_eq!(second.revision, first.revision + 1);
        assert!(Arc::ptr_eq(&first.services[&key("b")], &second.services[&key("b")]));
        assert!(!Arc::ptr_eq(&first.services[&key("a")], &second.services[&key("a")]));
    }

    #[test]
    fn service_without_instances_is_still_known() {
        let mut builder = Builder::default();
        builder.apply(Event::ServiceReplaced(key("a"), Change::Empty { exists: false }));
        assert!(!builder.publish().unwrap().services[&key("a")].exists());
    }

    #[test]
    fn unknown_targets_are_bounded_and_forgotten_ones_can_be_asked_again() {
        let mut builder = Builder::default();
        let target = |number: usize| Target::Authority(format!("{number:05}").into(), 80);
        for number in 0..=UNKNOWN_MAX {
            builder.apply(Event::TargetUnknown(target(number)));
        }
        let snapshot = builder.publish().unwrap();
        assert_eq!(snapshot.unknown.len(), UNKNOWN_MAX);
        assert!(!snapshot.unknown.contains(&target(0)));
        builder.apply(Event::TargetForgotten(target(7)));
        assert!(!builder.publish().unwrap().unknown.contains(&target(7)));
    }

    #[test]
    fn lanes_end_by_time_alone_and_the_same_policy_does_not_open_them_again() {
        let lane = Lane { ends: Some(5_000), ..Lane::new("dev".parse().unwrap()) };
        let group = LaneGroup { revision: 3, lanes: vec![lane], ..LaneGroup::new("g".parse().unwrap()) };
        let policy = || Event::Policy(Box::new(Policy { lanes: vec![group.clone()], ..Policy::default() }));
        let mut builder = Builder::default();
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(1, 1)])));
        builder.apply(policy());
        assert_eq!(builder.settle(4_000), Some(5_000));
        let open = builder.publish().unwrap();
        assert_eq!((open.lanes[0].lanes[0].state, open.lanes[0].revision), (LaneState::Active, 3));
        builder.settle(4_999);
        assert!(builder.publish().is_none());
        assert_eq!(builder.settle(5_000), None);
        let ended = builder.publish().unwrap();
        assert_eq!(ended.lanes[0].lanes[0].state, LaneState::Closed);
        assert!(!Arc::ptr_eq(&open.services[&key("a")], &ended.services[&key("a")]), "baseline is worked out again");
        builder.apply(policy());
        builder.settle(6_000);
        assert!(builder.publish().is_none());
        let mut kept = Builder::from_snapshot(ended.as_ref().clone());
        kept.apply(policy());
        kept.settle(7_000);
        assert_eq!(kept.publish().unwrap().lanes, ended.lanes);
    }

    #[test]
    fn model_routes_are_published_and_those_that_did_not_change_are_shared() {
        let route = |name: &str, host: &str| {
            let (name, hosts) = (name.to_owned(), vec![host.to_owned()]);
            let (models, tokens, drill) = (Vec::new(), TokenLimits::default(), Default::default());
            Arc::new(ModelRoute { name, hosts, models, tokens, drill, body_limit: 0 })
        };
        let policy = |models| Event::Policy(Box::new(Policy { models, ..Policy::default() }));
        let mut builder = Builder::default();
        builder.apply(policy(vec![route("a.x", "a"), route("b.x", "b")]));
        let first = builder.publish().unwrap();
        builder.apply(policy(vec![route("a.x", "a"), route("b.x", "b")]));
        assert!(builder.publish().is_none());
        builder.apply(policy(vec![route("a.x", "a"), route("b.x", "other")]));
        let second = builder.publish().unwrap();
        assert!(Arc::ptr_eq(&first.model_routes[0], &second.model_routes[0]));
        assert_eq!(second.model_routes[1].hosts, ["other"]);
        builder.apply(policy(Vec::new()));
        assert!(builder.publish().unwrap().model_routes.is_empty());
    }

    #[test]
    fn state_goes_on_from_a_snapshot_kept_on_disk() {
        let mut builder = Builder::default();
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(1, 1), endpoint(2, 1)])));
        let kept = builder.publish().unwrap();
        let mut builder = Builder::from_snapshot(kept.as_ref().clone());
        assert!(builder.publish().is_none());
        builder.apply(Event::ServiceReplaced(key("a"), Change::Add(vec![endpoint(2, 1)])));
        let snapshot = builder.publish().unwrap();
        assert_eq!((ports(&snapshot, "a"), snapshot.revision), (vec![2], kept.revision + 1));
    }
}
