//! Who may call each port of each workload.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Domains, Findings,
    routes::DETECT_TIMEOUT,
    workloads::{Built, PortUse},
};
use crate::{
    identity::Identity,
    model::policy::{Authorization, Clients, InboundProtocol, InboundRoute, InboundServer, Network},
    resources::{
        Resource, Spec,
        access_policy::{AccessPolicy, Allow, Mode},
        services::Protocol,
        world::WorldPort,
    },
};

type Policy<'r> = (&'r Resource, &'r AccessPolicy);

/// Policies by what they are for.
#[derive(Default)]
struct Policies<'r> {
    /// By `<name>.<namespace>` and port.
    of_services: BTreeMap<(String, u16), Policy<'r>>,
    /// By namespace.
    of_namespaces: BTreeMap<String, Policy<'r>>,
}

/// Gives every port of every meshed workload its policy. Without one: strict, any identity of the trust domain.
pub(super) fn apply(resources: &[&Resource], domains: &Domains, built: &mut Built, findings: &mut Findings) {
    let policies = collect(resources, built, findings);
    for (key, workload) in &mut built.workloads {
        if workload.identity.is_none() {
            continue;
        }
        for (port, usage) in built.ports.get(key).into_iter().flatten() {
            let policy = policies.of(&workload.namespace, usage, findings);
            workload.inbound.insert(*port, Arc::new(server(*port, usage.protocol, policy, domains)));
        }
    }
}

fn collect<'r>(resources: &'r [&'r Resource], built: &Built, findings: &mut Findings) -> Policies<'r> {
    let mut found = Policies::default();
    for resource in resources.iter().copied() {
        let Spec::AccessPolicy(policy) = &resource.spec else { continue };
        let Some(label) = &policy.service else {
            let namespace = &resource.metadata.namespace;
            if let Some((other, _)) = found.of_namespaces.insert(namespace.clone(), (resource, policy)) {
                let message =
                    format!("namespace {namespace} already has {} at {}", other.subject(), other.origin.place(""));
                findings.add(resource, "spec", message);
            }
            continue;
        };
        let Some(service) = built.services.get(label) else {
            findings.missing(resource, "spec.service", label);
            continue;
        };
        for (index, port) in policy.ports.iter().enumerate().filter(|(_, port)| !service.ports.contains_key(port)) {
            let known: Vec<String> = service.ports.keys().map(u16::to_string).collect();
            let message = format!("service {label} has no port {port}; it has {}", known.join(", "));
            built.mismatch((resource, &format!("spec.ports[{index}]")), label, message, findings);
        }
        let covered = |(port, _): &(&u16, &WorldPort)| policy.ports.is_empty() || policy.ports.contains(port);
        for (port, usage) in service.ports.iter().filter(covered) {
            if matches!(usage.protocol, Protocol::Opaque | Protocol::Tls) && !policy.routes.is_empty() {
                let message = format!("port {port} of {label} carries bytes, which no route can read");
                built.mismatch((resource, "spec.routes"), label, message, findings);
            }
            if let Some((other, _)) = found.of_services.insert((label.clone(), *port), (resource, policy)) {
                let message =
                    format!("port {port} of {label} already has {} at {}", other.subject(), other.origin.place(""));
                findings.add(resource, "spec.service", message);
            }
        }
    }
    found
}

impl<'r> Policies<'r> {
    fn of(&self, namespace: &str, usage: &PortUse, findings: &mut Findings) -> Option<Policy<'r>> {
        let mut own = usage.serves.iter().filter_map(|serves| self.of_services.get(serves));
        let first = own.next();
        if let (Some((first, _)), Some((other, _))) = (first, own.find(|other| Some(*other) != first)) {
            let message = format!("covers the same port of a workload as {}", first.subject());
            findings.add(other, "spec.service", message);
        }
        first.or_else(|| self.of_namespaces.get(namespace)).copied()
    }
}

fn server(port: u16, protocol: Protocol, policy: Option<Policy<'_>>, domains: &Domains) -> InboundServer {
    let protocol = inbound_protocol(protocol);
    let Some((resource, policy)) = policy else {
        let authorizations = vec![everybody("default", Mode::Strict)];
        return InboundServer { port, protocol, authorizations, routes: Vec::new(), name: "default".to_owned() };
    };
    let name = format!("{}/{}", resource.metadata.namespace, resource.metadata.name);
    let permissions = |allow: &[Allow], of: &str| -> Vec<Authorization> {
        let permission = |(index, allow)| authorization(format!("{of}[{index}]"), allow, domains);
        allow.iter().enumerate().map(permission).collect()
    };
    let authorizations = match &policy.allow {
        Some(allow) => permissions(allow, &name),
        None => vec![everybody(&name, policy.mode)],
    };
    let routes = policy.routes.iter().map(|route| InboundRoute {
        name: route.name.clone(),
        hosts: Vec::new(),
        matches: route.matches.clone(),
        authorizations: permissions(&route.allow, &format!("{name}/{}", route.name)),
    });
    InboundServer { port, protocol, authorizations, routes: routes.collect(), name }
}

fn everybody(name: &str, mode: Mode) -> Authorization {
    let clients = match mode {
        Mode::Strict => Clients::AnyMeshed,
        Mode::Permissive => Clients::Anyone,
    };
    Authorization { name: name.to_owned(), networks: everywhere(), clients }
}

fn authorization(name: String, allow: &Allow, domains: &Domains) -> Authorization {
    let mut names = allow.identities.clone();
    for (namespace, account) in &allow.service_accounts {
        // Both spellings: a stock Linkerd proxy compares the one that its peer's certificate begins with.
        if let Ok(identity) = Identity::new(&domains.trust, namespace, account) {
            names.extend([identity.to_string(), identity.dns_name(&domains.control_namespace)]);
        }
    }
    let suffix = |namespace: &String| {
        let fixed = [namespace.as_str(), "serviceaccount", "identity", &domains.control_namespace];
        fixed.into_iter().chain(domains.trust.split('.')).map(str::to_owned).collect()
    };
    let suffixes: Vec<Vec<String>> = allow.namespaces.iter().map(suffix).collect();
    let clients = match (allow.plaintext, names.is_empty() && suffixes.is_empty()) {
        (true, _) => Clients::Anyone,
        (false, true) => Clients::AnyMeshed,
        (false, false) => Clients::Identities { names, suffixes },
    };
    let networks = if allow.networks.is_empty() { everywhere() } else { allow.networks.clone() };
    Authorization { name, networks, clients }
}

/// Every IPv4 and IPv6 address.
fn everywhere() -> Vec<Network> {
    let v4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    let v6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));
    [v4, v6].into_iter().map(|net| Network { net, except: Vec::new() }).collect()
}

fn inbound_protocol(protocol: Protocol) -> InboundProtocol {
    match protocol {
        Protocol::Detect => InboundProtocol::Detect { timeout: DETECT_TIMEOUT },
        Protocol::Http1 => InboundProtocol::Http1,
        Protocol::Http2 => InboundProtocol::Http2,
        Protocol::Grpc => InboundProtocol::Grpc,
        Protocol::Opaque => InboundProtocol::Opaque,
        Protocol::Tls => InboundProtocol::Tls,
    }
}
