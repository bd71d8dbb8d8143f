//! Traffic policies by service.

use std::collections::BTreeMap;

use super::{
    Findings,
    services::{Given, Teller},
    workloads::Built,
};
use crate::{
    model::policy::{TrafficPolicy, Zones},
    resources::{Resource, Spec, mesh_service::Source, registered::Registered},
};

/// Threshold of zones that keep everything while they have an instance, if they are not tiny: percent.
const ANY: u32 = 1;

pub(super) fn build(
    resources: &[&Resource],
    built: &Built,
    findings: &mut Findings,
) -> BTreeMap<String, TrafficPolicy> {
    let mut found = BTreeMap::new();
    for resource in resources.iter().copied() {
        let Spec::TrafficPolicy(policy) = &resource.spec else { continue };
        if !built.services.contains_key(&policy.service) {
            findings.missing(resource, "spec.service", &policy.service);
        }
        if found.insert(policy.service.clone(), policy.policy.clone()).is_some() {
            findings.add(resource, "spec.service", format!("service {} already has a traffic policy", policy.service));
        }
    }
    found
}

/// What Nacos' own clients do: instances of the caller's cluster first, any if there is none. Of services that somebody
/// wrote a policy for the policy says.
pub(super) fn prefer_clusters(given: &[Given<'_>], policies: &mut BTreeMap<String, TrafficPolicy>) {
    for given in given {
        let Teller::Registry(Registered { source: Source::Nacos, service, .. }) = given.teller else { continue };
        if service.endpoints.iter().any(|endpoint| endpoint.zone.is_some()) {
            let zones = Zones { prefer_same: true, threshold: ANY, ..Zones::default() };
            let near = TrafficPolicy { zones, ..TrafficPolicy::default() };
            policies.entry(given.label()).or_insert(near);
        }
    }
}
