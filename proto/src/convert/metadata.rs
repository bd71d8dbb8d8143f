//! Names of configuration objects on the wire. Linkerd proxies refuse policies, routes and backends without them.

use linkerd2_proxy_api::meta::{Metadata, Resource, metadata::Kind};
use mesh_core::{lane::subset, model::service::ServiceKey};

/// API group of routes.
pub const ROUTE_GROUP: &str = "gateway.networking.k8s.io";
/// Name of what nobody configured.
pub const DEFAULT: &str = "default";

/// Metadata of something implicit.
pub fn implicit(name: &str) -> Metadata {
    Metadata { kind: Some(Kind::Default(name.to_owned())) }
}

/// Metadata of a resource called `<namespace>/<name>` or `<name>`; of something implicit for [`DEFAULT`].
pub fn resource(group: &str, kind: &str, name: &str) -> Metadata {
    if name == DEFAULT {
        return implicit(DEFAULT);
    }
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Metadata {
        kind: Some(Kind::Resource(Resource {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            section: String::new(),
            port: 0,
        })),
    }
}

/// Metadata of a service and port, from its path in the Destination API; one level of it is the same service.
pub fn service(key: &ServiceKey) -> Metadata {
    if let Some((_, whole)) = subset::split(key.as_str()) {
        return service(&ServiceKey(whole.into()));
    }
    let (name, namespace) = key.label().split_once('.').unwrap_or((key.name(), ""));
    let port = key.as_str().rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    Metadata {
        kind: Some(Kind::Resource(Resource {
            group: "core".to_owned(),
            kind: "Service".to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            section: String::new(),
            port: port.map_or(0, u32::from),
        })),
    }
}

/// Name of what the metadata describe: `<namespace>/<name>`, `<name>`, or the name of the implicit thing. Empty when
/// nothing is said.
pub fn name(metadata: &Metadata) -> String {
    match &metadata.kind {
        None => String::new(),
        Some(Kind::Default(name)) => name.clone(),
        Some(Kind::Resource(resource)) if resource.namespace.is_empty() => resource.name.clone(),
        Some(Kind::Resource(resource)) => format!("{}/{}", resource.namespace, resource.name),
    }
}
