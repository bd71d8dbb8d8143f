//! Traffic policies by service.

use std::collections::BTreeMap;

use super::{Findings, workloads::Built};
use crate::{
    model::policy::TrafficPolicy,
    resources::{Resource, Spec},
};

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
