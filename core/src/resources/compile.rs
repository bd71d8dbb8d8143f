//! Checks resources against each other and makes the world of them.

mod access;
mod lanes;
mod routes;
mod traffic;
mod workloads;

use std::collections::BTreeMap;

use super::{Problem, Resource, World};
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

/// Checks resources against each other and makes the world of them.
///
/// # Errors
/// All problems: duplicates, references to what is not there, cycles.
pub fn compile(resources: &[Resource], domains: &Domains) -> Result<World, Vec<Problem>> {
    let mut findings = Findings::default();
    duplicates(resources, &mut findings);
    let groups = lanes::build(resources, &mut findings);
    let lanes_of = |label: &str, labels: &BTreeMap<String, String>| groups.lanes_of(label, labels);
    let mut built = workloads::build(resources, domains, &lanes_of, &mut findings);
    routes::apply(resources, &mut built, &mut findings);
    access::apply(resources, domains, &mut built, &mut findings);
    let traffic = traffic::build(resources, &built, &mut findings);
    if !findings.problems.is_empty() {
        findings.problems.sort();
        findings.problems.dedup();
        return Err(findings.problems);
    }
    let groups = groups.finish(&built.workloads);
    Ok(World { services: built.services, workloads: built.workloads, groups, traffic })
}

/// Problems found so far.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, resource: &Resource, path: &str, message: String) {
        self.problems.push(resource.origin.problem(&resource.subject(), path, message));
    }
}

fn duplicates(resources: &[Resource], findings: &mut Findings) {
    let mut first: BTreeMap<_, &Resource> = BTreeMap::new();
    for resource in resources.iter().filter(|resource| !resource.metadata.name.is_empty()) {
        if let Some(first) = first.get(&resource.metadata) {
            let message = format!("already defined at {}", first.origin.place("metadata.name"));
            findings.add(resource, "metadata.name", message);
        } else {
            first.insert(&resource.metadata, resource);
        }
    }
}
