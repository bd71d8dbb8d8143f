//! A service as a registry knows it: what a source of services says beside the resources that people write.

use std::fmt;

use super::{mesh_service::Source, services::Service};

/// A service of a registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// Which registry.
    pub source: Source,
    /// Name there, as a `MeshService` names it; for Nacos `<service>`, or `<group>@@<service>` outside DEFAULT_GROUP.
    pub name: String,
    /// Namespace there; empty where the source has none.
    pub namespace: String,
    /// What it is in the mesh. Instances that take no traffic are not enabled.
    pub service: Service,
}

/// `<source> <namespace>/<name>`, as notes name it.
impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registered { source, name, namespace, .. } = self;
        if namespace.is_empty() { write!(f, "{source} {name}") } else { write!(f, "{source} {namespace}/{name}") }
    }
}
