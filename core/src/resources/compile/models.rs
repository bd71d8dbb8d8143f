//! Model routes against each other and against what there is: services, lanes, hosts.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{Domains, Findings, workloads::Built};
use crate::{
    model::{
        lane::{LaneGroup, LaneRef},
        model_route::{ModelEndpoint, ModelRoute, ModelTarget, Security, VirtualModel},
    },
    resources::{Resource, Spec, model_route, services::Protocol},
};

/// What targets are checked against.
struct Known<'k> {
    /// Routes by host.
    hosts: BTreeMap<&'k str, &'k Resource>,
    groups: &'k [LaneGroup],
    built: &'k Built,
    domains: &'k Domains,
}

/// The model routes, ordered by name; targets of each model by priority, then as written.
pub(super) fn build(
    resources: &[&Resource],
    domains: &Domains,
    (built, groups): (&Built, &[LaneGroup]),
    findings: &mut Findings,
) -> Vec<Arc<ModelRoute>> {
    let routes: Vec<(&Resource, &model_route::ModelRoute)> = resources
        .iter()
        .filter_map(|resource| match &resource.spec {
            Spec::ModelRoute(route) => Some((*resource, route.as_ref())),
            Spec::LaneGroup(_)
            | Spec::Lane(_)
            | Spec::TrafficPolicy(_)
            | Spec::AccessPolicy(_)
            | Spec::MeshService(_)
            | Spec::HttpRoute(_)
            | Spec::GrpcRoute(_)
            | Spec::Zone(_)
            | Spec::Services(_) => None,
        })
        .collect();
    claims(&routes, findings);
    let hosts = routes.iter().flat_map(|(resource, route)| route.hosts.iter().map(|host| (host.as_str(), *resource)));
    let known = Known { hosts: hosts.collect(), groups, built, domains };
    let mut found: Vec<Arc<ModelRoute>> = Vec::new();
    for (resource, route) in routes {
        for (at, model) in route.models.iter().enumerate() {
            for (position, target) in model.targets.iter().enumerate() {
                known.check(resource, &format!("spec.models[{at}].targets[{position}]"), target, findings);
            }
        }
        found.push(Arc::new(ordered(resource, route)));
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn ordered(resource: &Resource, route: &model_route::ModelRoute) -> ModelRoute {
    let model = |model: &VirtualModel| {
        let mut model = model.clone();
        model.targets.sort_by_key(|target| target.priority);
        Arc::new(model)
    };
    ModelRoute {
        name: format!("{}.{}", resource.metadata.name, resource.metadata.namespace),
        hosts: route.hosts.clone(),
        models: route.models.iter().map(model).collect(),
        tokens: route.tokens.clone(),
        drill: route.drill.clone(),
        body_limit: route.body_limit,
    }
}

/// A host may stand in one route only: whose limits count is decided before the model of a request is known.
fn claims(routes: &[(&Resource, &model_route::ModelRoute)], findings: &mut Findings) {
    let mut first: BTreeMap<&str, &Resource> = BTreeMap::new();
    for (resource, route) in routes {
        for (at, host) in route.hosts.iter().enumerate() {
            match first.get(host.as_str()) {
                Some(other) if other.metadata != resource.metadata => {
                    let message = format!("{host} already has {} at {}", other.subject(), other.origin.place("spec"));
                    findings.add(resource, &format!("spec.hosts[{at}]"), message);
                }
                Some(_) => {}
                None => {
                    first.insert(host, resource);
                }
            }
        }
    }
}

impl Known<'_> {
    fn check(&self, resource: &Resource, path: &str, target: &ModelTarget, findings: &mut Findings) {
        if let Some(lane) = target.lane.as_deref()
            && !self.has_lane(lane)
        {
            findings.add(resource, &format!("{path}.lane"), format!("there is no lane {lane}"));
        }
        match &target.endpoint {
            ModelEndpoint::External { security, host, .. } => {
                let path = format!("{path}.endpoint");
                self.alias(resource, &path, host, findings);
                let in_clear = *security == Security::None && target.credential.is_some() && !is_own_machine(host);
                if in_clear {
                    let message = format!("the key of {} goes to {host} in the clear (http://)", target.name);
                    findings.note(resource, &path, message);
                }
            }
            ModelEndpoint::Service { authority, .. } => {
                self.service(resource, &format!("{path}.endpoint.service"), authority, findings);
            }
        }
    }

    fn has_lane(&self, lane: &str) -> bool {
        let Ok(LaneRef { group, lane }) = lane.parse() else { return false };
        self.groups.iter().any(|known| known.name == group && known.lane(&lane).is_some())
    }

    /// A target that is itself a host of a model route: the call would come back.
    fn alias(&self, resource: &Resource, path: &str, host: &str, findings: &mut Findings) {
        if let Some(other) = self.hosts.get(host) {
            let message =
                format!("{host} is itself a host of {}: a target is where models are served", other.subject());
            findings.add(resource, path, message);
        }
    }

    fn service(&self, resource: &Resource, path: &str, authority: &str, findings: &mut Findings) {
        let Some((label, port)) = authority.rsplit_once(':') else { return };
        let spellings = ["", ".svc", &format!(".svc.{}", self.domains.cluster)];
        for spelling in spellings {
            self.alias(resource, path, &format!("{label}{spelling}"), findings);
        }
        let Some(service) = self.built.services.get(label) else {
            findings.missing(resource, path, label);
            return;
        };
        let found = port.parse().ok().and_then(|number| service.port(number));
        let message = match found.map(|port| port.protocol) {
            None => {
                let known: Vec<String> = service.ports.keys().map(u16::to_string).collect();
                format!("service {label} has no port {port}; it has {}", known.join(", "))
            }
            Some(Protocol::Opaque | Protocol::Tls) => format!("port {port} of {label} carries bytes, no requests"),
            Some(Protocol::Detect | Protocol::Http1 | Protocol::Http2 | Protocol::Grpc) => return,
        };
        self.built.mismatch((resource, path), label, message, findings);
    }
}

/// Whether a host is this machine, where nobody listens in.
fn is_own_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
