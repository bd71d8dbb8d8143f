//! Which services there are: those of documents, those that registries know, and the logical ones that a `MeshService`
//! makes of both. The same name in several sources is one service with all instances; a document is right where they
//! differ, then the source that comes first.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use super::Findings;
use crate::{
    names::DEFAULT_NAMESPACE,
    resources::{
        Resource, Spec,
        mesh_service::{Member, MeshService, Source},
        registered::Registered,
        services::{Endpoint, Port, Service},
    },
};

/// Nacos' own name for "no namespace".
const NACOS_NAMESPACE: &str = "public";

/// A service to be built.
pub(super) struct Given<'a> {
    pub(super) service: Cow<'a, Service>,
    pub(super) teller: Teller<'a>,
    /// How many of its instances, the first ones, are the teller's own.
    own: usize,
}

/// Who says that there is a service.
#[derive(Clone, Copy)]
pub(super) enum Teller<'a> {
    /// A document of kind `Services`, at this position of its list.
    Document(&'a Resource, usize),
    /// A registry.
    Registry(&'a Registered),
    /// A `MeshService`.
    Joined(&'a Resource),
}

impl<'a> Given<'a> {
    fn new(service: Cow<'a, Service>, teller: Teller<'a>) -> Self {
        Given { own: service.endpoints.len(), service, teller }
    }

    /// `<name>.<namespace>`.
    pub(super) fn label(&self) -> String {
        label(&self.service)
    }

    /// Whether what it says can change without anybody writing a resource: then nothing about it refuses resources.
    pub(super) fn is_loose(&self) -> bool {
        match self.teller {
            Teller::Document(..) => self.own < self.service.endpoints.len(),
            Teller::Registry(_) | Teller::Joined(_) => true,
        }
    }

    /// Reports what is wrong with a field of the service.
    pub(super) fn wrong(&self, path: &str, message: String, findings: &mut Findings) {
        match self.teller {
            Teller::Document(resource, index) => findings.add(resource, &format!("services[{index}].{path}"), message),
            Teller::Registry(registered) => findings.registered(registered, path, message),
            Teller::Joined(resource) => findings.note(resource, "spec.members", format!("{path}: {message}")),
        }
    }

    /// Reports what is wrong with an instance. False = nobody wrote it, it is left out.
    pub(super) fn wrong_instance(&self, at: usize, field: &str, message: String, findings: &mut Findings) -> bool {
        match self.teller {
            Teller::Document(resource, _) if at >= self.own => {
                let address = self.service.endpoints[at].address;
                findings.note(resource, "services", format!("{}: instance {address}: {message}", self.label()));
                false
            }
            Teller::Document(..) => {
                self.wrong(&format!("endpoints[{at}].{field}"), message, findings);
                true
            }
            Teller::Registry(_) | Teller::Joined(_) => {
                let address = self.service.endpoints[at].address;
                self.wrong(&format!("instance {address}"), message, findings);
                false
            }
        }
    }
}

fn label(service: &Service) -> String {
    format!("{}.{}", service.name, service.namespace)
}

/// Every service: those of documents as they stand there, then those that only registries know, then logical ones.
pub(super) fn gather<'a>(
    resources: &[&'a Resource],
    registered: &[&'a Registered],
    findings: &mut Findings,
) -> Vec<Given<'a>> {
    let mut found = Gathered::default();
    for resource in resources.iter().copied() {
        let Spec::Services(list) = &resource.spec else { continue };
        for (index, service) in list.iter().enumerate() {
            let given = Given::new(Cow::Borrowed(service), Teller::Document(resource, index));
            if let Some(given) = found.add(given) {
                given.wrong("name", format!("service {} is there twice", given.label()), findings);
            }
        }
    }
    for registered in registered.iter().copied() {
        found.join(Given::new(Cow::Borrowed(&registered.service), Teller::Registry(registered)));
    }
    let documents: Vec<&Service> = documents(resources).collect();
    for resource in resources.iter().copied() {
        let Spec::MeshService(spec) = &resource.spec else { continue };
        let service = logical(resource, spec, &documents, registered, findings);
        found.join(Given::new(Cow::Owned(service), Teller::Joined(resource)));
    }
    found.list
}

/// Services found so far.
#[derive(Default)]
struct Gathered<'a> {
    list: Vec<Given<'a>>,
    positions: HashMap<String, usize>,
}

impl<'a> Gathered<'a> {
    /// Adds a service; gives it back where there is one of its name.
    fn add(&mut self, given: Given<'a>) -> Option<Given<'a>> {
        match self.positions.entry(given.label()) {
            Entry::Occupied(_) => Some(given),
            Entry::Vacant(free) => {
                free.insert(self.list.len());
                self.list.push(given);
                None
            }
        }
    }

    /// Adds a service, to the one of its name where there is one.
    fn join(&mut self, given: Given<'a>) {
        let Some(given) = self.add(given) else { return };
        let known = self.positions.get(&given.label()).and_then(|position| self.list.get_mut(*position));
        if let Some(known) = known {
            join(known.service.to_mut(), &given.service);
        }
    }
}

fn documents<'a>(resources: &[&'a Resource]) -> impl Iterator<Item = &'a Service> {
    resources.iter().copied().flat_map(
        |resource| {
            if let Spec::Services(list) = &resource.spec { list.as_slice() } else { &[] }
        },
    )
}

/// Adds ports and instances that `into` does not have.
fn join(into: &mut Service, from: &Service) {
    into.addresses
        .extend(from.addresses.iter().filter(|address| !into.addresses.contains(address)).copied().collect::<Vec<_>>());
    let fresh: Vec<Port> =
        from.ports.iter().filter(|port| into.ports.iter().all(|known| known.port != port.port)).copied().collect();
    into.ports.extend(fresh);
    for endpoint in &from.endpoints {
        add(into, endpoint.clone());
    }
}

fn add(into: &mut Service, endpoint: Endpoint) {
    let same = |known: &Endpoint| (known.address, known.port) == (endpoint.address, endpoint.port);
    if !into.endpoints.iter().any(same) {
        into.endpoints.push(endpoint);
    }
}

/// The service that a `MeshService` makes of its members. Every port of a member is a port of it; a member without that
/// port takes part with its instances at its first port.
fn logical(
    resource: &Resource,
    spec: &MeshService,
    documents: &[&Service],
    registered: &[&Registered],
    findings: &mut Findings,
) -> Service {
    let mut members: Vec<&Service> = Vec::new();
    for (index, member) in spec.members.iter().enumerate() {
        let found = find(member, documents, registered);
        if !found.is_empty() {
            members.extend(found);
            continue;
        }
        match member.source {
            Source::File => {
                let message = format!("no document of kind Services has a service {}", file_label(member));
                findings.add(resource, &format!("spec.members[{index}].name"), message);
            }
            Source::Nacos | Source::Kubernetes | Source::Dns => {
                let message = format!("{} knows no service {} (yet)", member.source, member.name);
                findings.note(resource, &format!("spec.members[{index}].name"), message);
            }
        }
    }
    let (name, namespace) = (resource.metadata.name.clone(), resource.metadata.namespace.clone());
    let address_calls = members.first().map(|first| first.address_calls).unwrap_or_default();
    let any_port = members.iter().find_map(|member| member.any_port);
    let (addresses, ports, endpoints) = Default::default();
    let mut joined = Service { name, namespace, addresses, ports, endpoints, address_calls, any_port };
    for port in members.iter().flat_map(|member| &member.ports) {
        if joined.ports.iter().all(|known| known.port != port.port) {
            joined.ports.push(*port);
        }
    }
    for port in joined.ports.clone() {
        for member in &members {
            let has = member.ports.iter().any(|known| known.port == port.port);
            let from = if has { Some(port.port) } else { member.ports.first().map(|first| first.port) };
            for endpoint in member.endpoints.iter().filter(|endpoint| Some(endpoint.port) == from) {
                add(&mut joined, Endpoint { port: port.port, ..endpoint.clone() });
            }
        }
    }
    joined
}

fn file_label(member: &Member) -> String {
    format!("{}.{}", member.name, member.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE))
}

/// The services that a member means: one of a document, or that of every registry of its kind that has it.
fn find<'a>(member: &Member, documents: &[&'a Service], registered: &[&'a Registered]) -> Vec<&'a Service> {
    let default = match member.source {
        Source::File => {
            let wanted = file_label(member);
            return documents.iter().copied().filter(|service| label(service) == wanted).take(1).collect();
        }
        Source::Nacos => NACOS_NAMESPACE,
        Source::Kubernetes => DEFAULT_NAMESPACE,
        Source::Dns => "",
    };
    let namespace = member.namespace.as_deref().unwrap_or(default);
    let is_meant = |known: &&&Registered| {
        known.source == member.source && known.name == member.name && known.namespace == namespace
    };
    registered.iter().filter(is_meant).map(|known| &known.service).collect()
}
