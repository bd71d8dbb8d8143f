//! One world out of what all sources say. [`Said`] is pure state: resources by source, and services by registry. New
//! resources are taken only when everything compiles with them; what a registry says is always taken.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use mesh_core::{
    lifecycle::Marks,
    resources::{
        Compiled, Domains, Input, Problem, Resource, Spec, compile_all,
        mesh_service::Member,
        registered::Registered,
        services::{Account, Endpoint},
    },
};
use serde::{Deserialize, Serialize};

/// Name of a source, e.g. `file` or `nacos/main`.
pub type SourceName = Arc<str>;

/// What a source tells.
#[derive(Clone, Debug)]
pub enum News {
    /// All resources of a source.
    Resources {
        /// Which source.
        source: SourceName,
        /// What it says, and nothing else.
        resources: Arc<Vec<Resource>>,
    },
    /// What a registry says of some services now; the others are as before.
    Services {
        /// Which source.
        source: SourceName,
        /// By any name that is the source's own; `None` = no longer told.
        services: Vec<(String, Option<Arc<Registered>>)>,
    },
    /// What callers are told of workloads whose proxies are or were connected.
    Marks(Marks),
    /// Workloads whose proxies are connected, by address of their pod.
    Meshed(BTreeMap<IpAddr, Meshed>),
    /// The source has said for the first time whatever it can say.
    Ready(SourceName),
    /// The authority's trust anchors, DER.
    TrustAnchors(Vec<Arc<[u8]>>),
}

/// Who runs at an address behind a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Meshed {
    /// Service account; the trust domain is the mesh's.
    #[serde(flatten)]
    pub account: Account,
    /// Name by which the sidecar calls itself.
    pub pod: String,
    /// Port on which it takes calls of the mesh.
    pub inbound_port: u16,
}

/// What all sources say.
#[derive(Clone, Debug)]
pub struct Said {
    domains: Domains,
    resources: BTreeMap<SourceName, Arc<Vec<Resource>>>,
    registered: BTreeMap<(SourceName, String), Arc<Registered>>,
    /// Registries are asked on demand: services that nobody knows may yet be known.
    open: bool,
    /// Instances of registries are taken for these workloads. Registries say who is there, but not who that is.
    meshed: BTreeMap<IpAddr, Meshed>,
}

impl Said {
    /// Nothing; `open` where there will be registries.
    pub fn new(domains: Domains, open: bool) -> Self {
        Said { domains, resources: BTreeMap::new(), registered: BTreeMap::new(), open, meshed: BTreeMap::new() }
    }

    /// Compiles everything, with `resources` in place of those of `source`.
    ///
    /// # Errors
    /// All problems.
    pub fn compiled_with(&self, source: &str, resources: &[Resource]) -> Result<Compiled, Vec<Problem>> {
        let others = self.resources.iter().filter(|(name, _)| name.as_ref() != source);
        self.compile(others.flat_map(|(_, resources)| resources.iter()).chain(resources))
    }

    /// Compiles everything.
    ///
    /// # Errors
    /// All problems. There are none while nothing is replaced but what registries say.
    pub fn compiled(&self) -> Result<Compiled, Vec<Problem>> {
        self.compile(self.all())
    }

    /// Resources of every source.
    pub fn all(&self) -> impl Iterator<Item = &Resource> {
        self.resources.values().flat_map(|resources| resources.iter())
    }

    /// Whether a source has said its resources.
    pub fn has(&self, source: &str) -> bool {
        self.resources.contains_key(source)
    }

    /// Members of logical services, by the service's label.
    pub fn members(&self) -> BTreeMap<String, BTreeSet<Member>> {
        let of = |resource: &Resource| match &resource.spec {
            Spec::MeshService(spec) => {
                let label = format!("{}.{}", resource.metadata.name, resource.metadata.namespace);
                Some((label, spec.members.iter().cloned().collect()))
            }
            Spec::LaneGroup(_)
            | Spec::Lane(_)
            | Spec::TrafficPolicy(_)
            | Spec::AccessPolicy(_)
            | Spec::ModelRoute(_)
            | Spec::HttpRoute(_)
            | Spec::GrpcRoute(_)
            | Spec::Zone(_)
            | Spec::Services(_) => None,
        };
        self.all().filter_map(of).collect()
    }

    /// Takes the resources of a source in.
    pub fn take(&mut self, source: SourceName, resources: Arc<Vec<Resource>>) {
        self.resources.insert(source, resources);
    }

    /// Takes in what a registry says of a service.
    pub fn register(&mut self, source: &SourceName, name: String, service: Option<Arc<Registered>>) {
        let key = (Arc::clone(source), name);
        match service {
            Some(service) => drop(self.registered.insert(key, service)),
            None => drop(self.registered.remove(&key)),
        }
    }

    /// Takes in who is connected. Who was, and is still registered somewhere, stays known: its instances would be called
    /// without mTLS otherwise.
    pub fn mesh(&mut self, connected: BTreeMap<IpAddr, Meshed>) {
        let services = self.registered.values().map(|registered| &registered.service);
        let registered: BTreeSet<IpAddr> =
            services.flat_map(|service| &service.endpoints).map(|endpoint| endpoint.address.ip()).collect();
        self.meshed.retain(|address, _| registered.contains(address));
        self.meshed.extend(connected);
    }

    /// Who runs behind a sidecar, as far as it is known.
    pub fn meshed(&self) -> &BTreeMap<IpAddr, Meshed> {
        &self.meshed
    }

    /// A service of a registry with the identities of its instances.
    fn identified<'r>(&self, registered: &'r Registered) -> Cow<'r, Registered> {
        let unknown = |endpoint: &Endpoint| {
            let meshed = self.meshed.get(&endpoint.address.ip())?;
            endpoint.identity.is_none().then_some(meshed)
        };
        if !registered.service.endpoints.iter().any(|endpoint| unknown(endpoint).is_some()) {
            return Cow::Borrowed(registered);
        }
        let mut known = registered.clone();
        for endpoint in &mut known.service.endpoints {
            if let Some(meshed) = unknown(endpoint) {
                endpoint.identity = Some(meshed.account.clone());
                endpoint.pod.clone_from(&meshed.pod);
                endpoint.inbound_port = meshed.inbound_port;
            }
        }
        Cow::Owned(known)
    }

    fn compile<'r>(&'r self, resources: impl Iterator<Item = &'r Resource>) -> Result<Compiled, Vec<Problem>> {
        let resources: Vec<&Resource> = resources.collect();
        let registered: Vec<Cow<'_, Registered>> = self.registered.values().map(|one| self.identified(one)).collect();
        let registered: Vec<&Registered> = registered.iter().map(AsRef::as_ref).collect();
        let input = Input { resources: &resources, registered: &registered, open: self.open };
        compile_all(&input, &self.domains)
    }
}

#[cfg(test)]
mod tests;
