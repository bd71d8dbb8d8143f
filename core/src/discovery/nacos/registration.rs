//! Which workloads are registered with Nacos on their behalf: those whose proxy is here and takes traffic. Pure; the
//! controller carries out what is planned here.
//!
//! What is registered belongs to a connection of the controller and ends with it. Nacos keeps one instance of a service
//! per connection, so that instances of one service are spread over [`Slot`]s, each a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::Duration,
};

use super::{Name, list::DEFAULT_CLUSTER};
use crate::{
    lifecycle::State,
    model::{endpoint::Endpoint, lane::LaneRef},
    resources::{World, nacos::Register, services::Protocol},
};

/// Most instances of one service that are registered: the connections that one controller makes for it.
pub const SLOTS_MAX: usize = 64;
/// How long an instance stays registered whose proxy lost its connection to us, not its life: it comes back, here or at
/// another controller, in less.
pub const GRACE: Duration = Duration::from_secs(3);
/// Key of the metadata that says who registered an instance, as Spring Cloud and others have it …
const REGISTRANT: &str = "preserved.register.source";
/// … and what it says of ours.
const REGISTERED_BY: &str = "LANEMESH";

/// A connection over which instances are registered, by number.
pub type Slot = usize;

/// What a proxy said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// How far its life is.
    pub state: State,
    /// For how long its process has been ready, counted from the first time; `None` = it has not been.
    pub ready: Option<Duration>,
    /// For how long it has not been connected; `None` = it is.
    pub gone: Option<Duration>,
}

/// What is registered about an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Cluster within the service.
    pub cluster: String,
    /// What is said about it.
    pub metadata: BTreeMap<String, String>,
}

/// Everything that should be registered.
pub type Registrations = BTreeMap<(Name, SocketAddr), Registration>;

/// Why an instance is registered or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its proxy is connected and takes traffic.
    Registered,
    /// Its proxy lost its connection a moment ago.
    Awaited,
    /// Its proxy is not connected to this controller.
    NoProxy,
    /// Its proxy has not been ready yet, or its application has not.
    NotReady,
    /// Its proxy is ready; its rule has it wait so much longer.
    Delayed(Duration),
    /// Its proxy takes no new exchanges.
    Draining,
    /// It has weight 0.
    OutOfTraffic,
    /// It is known from a registry, by whoever registered it; what we register ourselves would keep itself alive.
    FromRegistry,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Registered => "registered",
            Verdict::NotReady => "not registered yet: its proxy, or its application, is not ready",
            Verdict::Delayed(left) => {
                return write!(f, "not registered yet: its rule has it wait {} s longer", left.as_secs().max(1));
            }
            Verdict::Awaited => "registered: its proxy lost the connection a moment ago",
            Verdict::NoProxy => "not registered: its proxy is not connected to this controller",
            Verdict::Draining => "not registered: its proxy is draining",
            Verdict::OutOfTraffic => "not registered: it has weight 0",
            Verdict::FromRegistry => "not registered: it is known from a registry",
        })
    }
}

/// Whether an instance is registered by a rule that waits for `delay` after its proxy is ready.
pub fn verdict(endpoint: &Endpoint, presence: Option<Presence>, delay: Duration) -> Verdict {
    if is_from_registry(endpoint) {
        return Verdict::FromRegistry;
    }
    let Some(Presence { state, ready, gone }) = presence else { return Verdict::NoProxy };
    match (ready, gone) {
        _ if endpoint.weight == 0 => Verdict::OutOfTraffic,
        _ if state.is_leaving() => Verdict::Draining,
        (_, Some(gone)) if gone >= GRACE => Verdict::NoProxy,
        // An application that is not ready for a while stays: its callers find that out, and it was there.
        (None, _) => Verdict::NotReady,
        (Some(ready), _) if ready < delay => Verdict::Delayed(delay - ready),
        (Some(_), Some(_)) => Verdict::Awaited,
        (Some(_), None) => Verdict::Registered,
    }
}

fn is_from_registry(endpoint: &Endpoint) -> bool {
    endpoint.labels.contains_key(REGISTRANT)
}

/// Longest delay of the rules that register an instance of a workload, `None` where no rule does.
pub fn concerns(rules: &[Register], world: &World, workload: &str) -> Option<Duration> {
    let workload = world.workloads.get(workload).filter(|workload| workload.identity.is_some())?;
    let services = workload.services.iter().filter_map(|label| world.services.get(label));
    let is_ours = |endpoint: &Endpoint| {
        endpoint.weight > 0 && !is_from_registry(endpoint) && workload.addresses.contains(&endpoint.address)
    };
    let delays = services.flat_map(|service| {
        let has = service.ports.values().any(|port| port.endpoints.iter().any(|endpoint| is_ours(endpoint)));
        let selected = rules.iter().filter(move |rule| has && rule.selects(&service.namespace, &service.name));
        selected.map(|rule| rule.delay)
    });
    delays.max()
}

/// Workloads of which every instance that should be registered is, as `has` says.
pub fn visible(judged: &[Judged], has: &dyn Fn(&Judged) -> bool) -> BTreeSet<String> {
    let mut found: BTreeMap<&str, bool> = BTreeMap::new();
    for one in judged {
        let is_visible = match one.verdict {
            Verdict::Registered | Verdict::Awaited => has(one),
            Verdict::NotReady | Verdict::Delayed(_) | Verdict::NoProxy => false,
            Verdict::Draining | Verdict::OutOfTraffic | Verdict::FromRegistry => continue,
        };
        if let Some(workload) = &one.workload {
            *found.entry(workload).or_insert(true) &= is_visible;
        }
    }
    found.into_iter().filter(|(_, visible)| *visible).map(|(workload, _)| workload.to_owned()).collect()
}

/// An instance that a rule selects, with what is decided of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// `<name>.<namespace>` of the service in the mesh.
    pub label: String,
    /// What it is registered as.
    pub name: Name,
    /// The instance.
    pub address: SocketAddr,
    /// Its workload, `<namespace>/<pod>`, where a proxy of it is or was here.
    pub workload: Option<String>,
    /// Whether it is registered, and why not.
    pub verdict: Verdict,
    /// What is registered about it if it is.
    pub registration: Registration,
}

/// What of these should be registered.
pub fn wanted(judged: &[Judged]) -> Registrations {
    let is_wanted = |judged: &&Judged| matches!(judged.verdict, Verdict::Registered | Verdict::Awaited);
    let registration = |judged: &Judged| ((judged.name.clone(), judged.address), judged.registration.clone());
    judged.iter().filter(is_wanted).map(registration).collect()
}

/// Decides of every instance that a rule selects whether it is registered with one server. `presences` is what is known
/// of proxies, by `<namespace>/<pod>`.
pub fn judge(rules: &[Register], world: &World, presences: &BTreeMap<String, Presence>) -> Vec<Judged> {
    let mut here = BTreeMap::new();
    for (key, presence) in presences {
        let workload = world.workloads.get(key).filter(|workload| workload.identity.is_some());
        let addresses = workload.into_iter().flat_map(|workload| &workload.addresses);
        here.extend(addresses.map(|address| (*address, (key, *presence))));
    }
    let mut found = Vec::new();
    for service in world.services.values() {
        for rule in rules.iter().filter(|rule| rule.selects(&service.namespace, &service.name)) {
            let name = Name::new(&rule.namespace, &rule.group, &service.name);
            let endpoints = service
                .ports
                .values()
                .flat_map(|port| port.endpoints.iter().map(move |endpoint| (endpoint, port.protocol)));
            for (endpoint, protocol) in endpoints {
                let known = here.get(&endpoint.address);
                found.push(Judged {
                    label: service.label(),
                    name: name.clone(),
                    address: endpoint.address,
                    workload: known.map(|(workload, _)| (*workload).clone()),
                    verdict: verdict(endpoint, known.map(|(_, presence)| *presence), rule.delay),
                    registration: registration(rule, endpoint, protocol),
                });
            }
        }
    }
    found
}

fn registration(rule: &Register, endpoint: &Endpoint, protocol: Protocol) -> Registration {
    let identity = endpoint.identity.as_ref().map(|who| format!("{}.{}", who.service_account(), who.namespace()));
    let entries = [
        ("mesh", Some("lanemesh".to_owned())),
        (REGISTRANT, Some(REGISTERED_BY.to_owned())),
        ("lane", lane(&endpoint.lanes, &endpoint.labels)),
        ("zone", endpoint.zone.clone()),
        ("ready_since", endpoint.ready_since.map(|seconds| seconds.to_string())),
        ("protocol", word(protocol).map(str::to_owned)),
        ("lanemesh.io/identity", identity),
    ];
    Registration {
        cluster: rule.cluster.clone().unwrap_or_else(|| DEFAULT_CLUSTER.to_owned()),
        metadata: entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
    }
}

/// The protocol as metadata says it; nothing where it is found out.
fn word(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Detect => None,
        Protocol::Http1 => Some("http1"),
        Protocol::Http2 => Some("http2"),
        Protocol::Grpc => Some("grpc"),
        Protocol::Opaque => Some("opaque"),
        Protocol::Tls => Some("tls"),
    }
}

/// The label by which selectors find the lane of the instance, or the name of the first lane that it is in.
fn lane(lanes: &[LaneRef], labels: &BTreeMap<String, String>) -> Option<String> {
    let label = ["lanemesh.io/lane", "lane"].into_iter().find_map(|key| labels.get(key).cloned());
    label.or_else(|| lanes.first().map(|lane| lane.lane.to_string()))
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Take an instance back.
    Deregister(Slot, Name, SocketAddr, Registration),
    /// Register an instance, or change what is registered of it.
    Register(Slot, Name, SocketAddr, Registration),
}

/// What is registered, and over which connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registered {
    instances: BTreeMap<(Name, SocketAddr), (Slot, Registration)>,
}

impl Registered {
    /// What leads from here to what is wanted: first what is taken back.
    pub fn steps(&self, wanted: &Registrations) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .instances
            .iter()
            .filter(|(key, _)| !wanted.contains_key(*key))
            .map(|((name, address), (slot, old))| Step::Deregister(*slot, name.clone(), *address, old.clone()))
            .collect();
        let mut taken: BTreeMap<&Name, BTreeSet<Slot>> = BTreeMap::new();
        for ((name, _), (slot, _)) in &self.instances {
            taken.entry(name).or_default().insert(*slot);
        }
        for (key, registration) in wanted {
            let (name, address) = key;
            let slot = match self.instances.get(key) {
                Some((_, same)) if same == registration => continue,
                Some((slot, _)) => Some(*slot),
                None => {
                    let taken = taken.entry(name).or_default();
                    let free = (0..SLOTS_MAX).find(|slot| !taken.contains(slot));
                    taken.extend(free);
                    free
                }
            };
            steps.extend(slot.map(|slot| Step::Register(slot, name.clone(), *address, registration.clone())));
        }
        steps
    }

    /// Notes that a step was done.
    pub fn done(&mut self, step: Step) {
        match step {
            Step::Deregister(_, name, address, _) => drop(self.instances.remove(&(name, address))),
            Step::Register(slot, name, address, registration) => {
                self.instances.insert((name, address), (slot, registration));
            }
        }
    }

    /// Notes that a connection ended: what was registered over it is gone.
    pub fn lost(&mut self, slot: Slot) {
        self.instances.retain(|_, (own, _)| *own != slot);
    }

    /// Whether exactly this is registered.
    pub fn has(&self, name: &Name, address: SocketAddr, registration: &Registration) -> bool {
        self.instances.get(&(name.clone(), address)).is_some_and(|(_, own)| own == registration)
    }

    /// How many instances are registered.
    pub fn count(&self) -> usize {
        self.instances.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Domains, compile, nacos, parse};

    const SERVICES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- name: b
  namespace: shop
  ports: [{port: 80, protocol: grpc}]
  endpoints:
  - {address: '10.0.0.1:8080', pod: b-1, zone: z1, labels: {lane: gray}, identity: {serviceAccount: b}}
  - {address: '10.0.0.2:8080', pod: b-2, identity: {serviceAccount: b}}
  - {address: '10.0.0.3:8080', pod: b-3, identity: {serviceAccount: b}, weight: 0}
  - {address: '10.0.0.4:8080', pod: b-4}
  - {address: '10.0.0.5:8080', pod: b-5, identity: {serviceAccount: b}, labels: {preserved.register.source: SPRING_CLOUD}}
- name: c
  namespace: shop
  ports: [{port: 80}]
  endpoints:
  - {address: '10.0.1.1:8080', pod: c-1, identity: {serviceAccount: c}}
";
    const HERE: Presence = Presence { state: State::Ready, ready: Some(Duration::ZERO), gone: None };

    fn rules() -> Vec<Register> {
        let text = "servers: [{addresses: [a], register: [{services: [shop/b], group: G, cluster: hz}]}]";
        nacos::parse("", text).unwrap().remove(0).register
    }

    fn planned(presence: impl Fn(&str) -> Option<Presence>) -> Registrations {
        let domains = Domains {
            trust: "cluster.local".to_owned(),
            cluster: "cluster.local".to_owned(),
            control_namespace: "lanemesh".to_owned(),
        };
        let world = compile(&parse("", SERVICES).unwrap(), &domains).unwrap();
        let presences = world.workloads.keys().filter_map(|key| Some((key.clone(), presence(key)?)));
        wanted(&judge(&rules(), &world, &presences.collect()))
    }

    #[test]
    fn every_selected_instance_has_a_verdict_that_says_why() {
        let world = compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap();
        let presences = ["shop/b-1", "shop/b-3", "shop/b-4"].map(|workload| (workload.to_owned(), HERE));
        let judged = judge(&rules(), &world, &presences.into());
        let said: Vec<_> = judged.iter().map(|one| format!("{} {}: {}", one.label, one.address, one.verdict)).collect();
        assert_eq!(
            said,
            [
                "b.shop 10.0.0.1:8080: registered",
                "b.shop 10.0.0.2:8080: not registered: its proxy is not connected to this controller",
                "b.shop 10.0.0.3:8080: not registered: it has weight 0",
                "b.shop 10.0.0.4:8080: not registered: its proxy is not connected to this controller",
                "b.shop 10.0.0.5:8080: not registered: it is known from a registry",
            ]
        );
        let (one, mut registered) = (&judged[0], Registered::default());
        assert!(!registered.has(&one.name, one.address, &one.registration));
        registered.steps(&wanted(&judged)).into_iter().for_each(|step| registered.done(step));
        assert!(registered.has(&one.name, one.address, &one.registration));
    }

    fn addresses(registrations: &Registrations) -> Vec<String> {
        registrations.keys().map(|(name, address)| format!("{name} {address}")).collect()
    }

    #[test]
    fn instances_in_traffic_are_registered_whose_proxy_is_here() {
        let found = planned(|workload| (workload != "shop/b-2").then_some(HERE));
        assert_eq!(addresses(&found), ["b@@G@public 10.0.0.1:8080"]);
        let (_, registration) = found.first_key_value().unwrap();
        let metadata: Vec<_> = registration.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(registration.cluster, "hz");
        assert_eq!(
            metadata,
            [
                "lane=gray",
                "lanemesh.io/identity=b.shop",
                "mesh=lanemesh",
                "preserved.register.source=LANEMESH",
                "protocol=grpc",
                "zone=z1"
            ]
        );
    }

    #[test]
    fn a_proxy_that_drains_takes_its_instance_back_and_one_that_is_gone_after_a_grace() {
        let gone = |seconds| Presence { gone: Some(Duration::from_secs(seconds)), ..HERE };
        for (presence, expected) in [
            (Some(HERE), 2),
            (Some(Presence { state: State::Draining, ..HERE }), 0),
            (Some(Presence { state: State::Drained, ..HERE }), 0),
            (Some(gone(2)), 2),
            (Some(gone(3)), 0),
            (None, 0),
        ] {
            assert_eq!(planned(|_| presence).len(), expected, "{presence:?}");
        }
    }

    #[test]
    fn an_instance_is_registered_once_its_proxy_was_ready_and_not_before_its_rule_says() {
        let world = compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap();
        let endpoint = &world.services["b.shop"].ports[&80].endpoints[0];
        let ready = |seconds| Some(Presence { ready: Some(Duration::from_secs(seconds)), ..HERE });
        let (none, delay) = (Duration::ZERO, Duration::from_secs(30));
        let left = |seconds| Verdict::Delayed(Duration::from_secs(seconds));
        let not_yet = Some(Presence { state: State::NotReady, ready: None, gone: None });
        let not_any_more = Some(Presence { state: State::NotReady, ..HERE });
        for (presence, delay, expected) in [
            (not_yet, none, Verdict::NotReady),
            (not_any_more, none, Verdict::Registered),
            (ready(0), none, Verdict::Registered),
            (ready(0), delay, left(30)),
            (ready(29), delay, left(1)),
            (ready(30), delay, Verdict::Registered),
        ] {
            assert_eq!(verdict(endpoint, presence, delay), expected, "{presence:?} {delay:?}");
        }
    }

    #[test]
    fn a_workload_is_visible_when_all_of_it_is_registered_that_should_be() {
        let world = compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap();
        let presences = ["shop/b-1", "shop/b-2", "shop/b-3"].map(|workload| (workload.to_owned(), HERE));
        let judged = judge(&rules(), &world, &presences.into());
        let visible = |has: &str| visible(&judged, &|one| one.address.to_string() == has);
        assert_eq!(visible("10.0.0.2:8080"), BTreeSet::from(["shop/b-2".to_owned()]));
        let concerned = |workload| concerns(&rules(), &world, workload);
        assert_eq!((concerned("shop/b-1"), concerned("shop/b-2")), (Some(Duration::ZERO), Some(Duration::ZERO)));
        // Without weight, without sidecar, from a registry, of another service, not there.
        for workload in ["shop/b-3", "shop/b-4", "shop/b-5", "shop/c-1", "shop/x"] {
            assert_eq!(concerned(workload), None, "{workload}");
        }
    }

    #[test]
    fn what_is_taken_back_comes_first_and_instances_of_a_service_have_connections_of_their_own() {
        let both = planned(|_| Some(HERE));
        let mut registered = Registered::default();
        let steps = registered.steps(&both);
        let slots: Vec<_> = steps.iter().map(|step| matches!(step, Step::Register(slot, ..) if *slot < 2)).collect();
        assert_eq!(slots, [true, true]);
        steps.into_iter().for_each(|step| registered.done(step));
        assert_eq!((registered.steps(&both), registered.count()), (Vec::new(), 2));
        let other = planned(|workload| (workload != "shop/b-1").then_some(HERE));
        let steps = registered.steps(&other);
        assert!(matches!(&steps[..], [Step::Deregister(0, _, address, _)] if address.to_string() == "10.0.0.1:8080"));
        steps.into_iter().for_each(|step| registered.done(step));
        registered.lost(1);
        let again = registered.steps(&both);
        assert!(matches!(&again[..], [Step::Register(0, ..), Step::Register(1, ..)]), "{again:?}");
        registered.done(again[0].clone());
        let mut changed = both.clone();
        changed.values_mut().for_each(|registration| registration.cluster = "other".to_owned());
        let steps = registered.steps(&changed);
        assert!(matches!(&steps[..], [Step::Register(0, ..), Step::Register(1, ..)]), "{steps:?}");
    }

    #[test]
    fn more_instances_than_connections_are_left_out() {
        let (_, registration) = planned(|_| Some(HERE)).pop_first().unwrap();
        let many = (0..SLOTS_MAX as u16 + 3)
            .map(|port| ((Name::new("", "", "b"), SocketAddr::from(([10, 0, 0, 1], 1 + port))), registration.clone()));
        assert_eq!(Registered::default().steps(&many.collect()).len(), SLOTS_MAX);
    }
}
