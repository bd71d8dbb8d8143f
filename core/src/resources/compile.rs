//! Checks resources against each other and makes the world of them.

mod access;
mod lanes;
mod models;
mod routes;
mod services;
mod traffic;
mod workloads;

use std::collections::BTreeMap;

use super::{Problem, Resource, Spec, World, registered::Registered, zone::Zone};
use crate::names;

/// Names that every identity and service path ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domains {
    /// Trust domain of identities.
    pub trust: String,
    /// Domain of service names (`<name>.<namespace>.svc.<cluster>`).
    pub cluster: String,
    /// Namespace of the control plane, a part of Linkerd-style identity names.
    pub control_namespace: String,
}

impl Default for Domains {
    fn default() -> Self {
        Domains {
            trust: names::DEFAULT_TRUST_DOMAIN.to_owned(),
            cluster: names::DEFAULT_CLUSTER_DOMAIN.to_owned(),
            control_namespace: names::DEFAULT_CONTROL_NAMESPACE.to_owned(),
        }
    }
}

/// What is compiled together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// Resources of every source.
    pub resources: &'a [&'a Resource],
    /// Services that registries know, in order of their sources.
    pub registered: &'a [&'a Registered],
    /// Whether registries may know more services than `registered`, since they are asked on demand: then a reference to
    /// a service that nobody knows is a note, not a problem.
    pub open: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// What the sources say together.
    pub world: World,
    /// What is wrong but refuses nothing: services that are not there (yet), instances that a registry describes badly.
    pub notes: Vec<Problem>,
}

/// Checks resources against each other and makes the world of them.
///
/// # Errors
/// All problems: duplicates, references to what is not there, cycles.
pub fn compile(resources: &[Resource], domains: &Domains) -> Result<World, Vec<Problem>> {
    let resources: Vec<&Resource> = resources.iter().collect();
    let input = Input { resources: &resources, ..Input::default() };
    compile_all(&input, domains).map(|compiled| compiled.world)
}

/// Checks resources against each other and against what registries know, and makes the world of all of it.
///
/// # Errors
/// All problems of resources, as in [`compile`]. What a registry says is never a problem: it gives notes.
pub fn compile_all(input: &Input<'_>, domains: &Domains) -> Result<Compiled, Vec<Problem>> {
    let Input { resources, registered, open } = *input;
    let mut findings = Findings { open, ..Findings::default() };
    duplicates(resources, &mut findings);
    let groups = lanes::build(resources, &mut findings);
    let lanes_of = |label: &str, labels: &BTreeMap<String, String>| groups.lanes_of(label, labels);
    let given = services::gather(resources, registered, &mut findings);
    let mut built = workloads::build(&given, domains, &lanes_of, &mut findings);
    routes::apply(resources, domains, &mut built, &mut findings);
    access::apply(resources, domains, &mut built, &mut findings);
    let mut traffic = traffic::build(resources, &built, &mut findings);
    traffic::prefer_clusters(&given, &mut traffic);
    let zones = zones(resources, &mut findings);
    let model_routes = models::build(resources, domains, (&built, &groups.groups), &mut findings);
    let Findings { mut problems, mut notes, .. } = findings;
    for list in [&mut problems, &mut notes] {
        list.sort();
        list.dedup();
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let groups = groups.finish(&built.workloads);
    let world = World { services: built.services, workloads: built.workloads, groups, traffic, zones, model_routes };
    Ok(Compiled { world, notes })
}

/// Problems found so far.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    notes: Vec<Problem>,
    /// See [`Input::open`].
    open: bool,
}

impl Findings {
    fn add(&mut self, resource: &Resource, path: &str, message: String) {
        self.problems.push(resource.origin.problem(&resource.subject(), path, message));
    }

    /// Something that refuses nothing.
    fn note(&mut self, resource: &Resource, path: &str, message: String) {
        self.notes.push(resource.origin.problem(&resource.subject(), path, message));
    }

    /// A reference to a service that nobody knows.
    fn missing(&mut self, resource: &Resource, path: &str, label: &str) {
        if self.open {
            self.note(resource, path, format!("no source knows a service {label} (yet)"));
        } else {
            self.add(resource, path, format!("there is no service {label}"));
        }
    }

    /// Something about what a registry says.
    fn registered(&mut self, registered: &Registered, path: &str, message: String) {
        self.notes.push(Problem { file: None, line: None, path: format!("{registered}: {path}"), message });
    }
}

/// What is said of each zone, once.
fn zones(resources: &[&Resource], findings: &mut Findings) -> BTreeMap<String, Zone> {
    let mut found: BTreeMap<String, Zone> = BTreeMap::new();
    for resource in resources.iter().copied() {
        let Spec::Zone(zone) = &resource.spec else { continue };
        if found.insert(zone.zone.clone(), zone.clone()).is_some() {
            findings.add(resource, "spec.zone", format!("another resource speaks of zone {} already", zone.zone));
        }
    }
    found
}

fn duplicates(resources: &[&Resource], findings: &mut Findings) {
    let mut first: BTreeMap<_, &Resource> = BTreeMap::new();
    for resource in resources.iter().copied().filter(|resource| !resource.metadata.name.is_empty()) {
        if let Some(first) = first.get(&resource.metadata) {
            let message = format!("already defined at {}", first.origin.place("metadata.name"));
            findings.add(resource, "metadata.name", message);
        } else {
            first.insert(&resource.metadata, resource);
        }
    }
}
