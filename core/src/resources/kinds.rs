//! Every kind of resource that is read, with its version and reader. A new kind is a row here.

use super::{
    Metadata, Spec, access_policy, grpc_route, http_route, lane, lane_group, mesh_service, model_route,
    node::{Node, Object},
    services, traffic_policy, zone,
};
use crate::{
    model::lane::LaneName,
    names::{self, API_VERSION},
};

/// What a reader makes of a document; the kind is filled in by the caller.
type Read = fn(&Node<'_>) -> Option<(Metadata, Spec)>;

/// A kind.
pub(super) struct Kind {
    /// Name of the kind.
    pub(super) name: &'static str,
    /// The one version that is read.
    pub(super) api_version: &'static str,
    /// Reader of the whole document.
    pub(super) read: Read,
}

/// Group and version of the Gateway API's routes.
const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// All kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind { name: "LaneGroup", api_version: API_VERSION, read: lane_group },
    Kind { name: "Lane", api_version: API_VERSION, read: lane },
    Kind { name: "TrafficPolicy", api_version: API_VERSION, read: traffic_policy },
    Kind { name: "AccessPolicy", api_version: API_VERSION, read: access_policy },
    Kind { name: "MeshService", api_version: API_VERSION, read: mesh_service },
    Kind { name: "ModelRoute", api_version: API_VERSION, read: model_route },
    Kind { name: "HTTPRoute", api_version: GATEWAY_API, read: http_route },
    Kind { name: "GRPCRoute", api_version: GATEWAY_API, read: grpc_route },
    Kind { name: "Zone", api_version: API_VERSION, read: zone },
    Kind { name: "Services", api_version: API_VERSION, read: services },
];

/// Fields of `metadata` that are read, and those that Kubernetes adds.
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "managedFields",
    "ownerReferences",
];

/// Metadata and specification of a document.
fn head<'a>(root: &Node<'a>) -> Option<(Metadata, Node<'a>)> {
    let document = root.object(&["apiVersion", "kind", "metadata", "spec", "status"])?;
    let metadata = document.required("metadata").and_then(|node| metadata(&node));
    let spec = document.required("spec");
    Some((metadata?, spec?))
}

fn metadata(node: &Node<'_>) -> Option<Metadata> {
    let object: Object<'_> = node.object(METADATA)?;
    let name = object.required("name").and_then(|node| node.dns_name());
    let namespace = object.get("namespace").and_then(|node| node.dns_label());
    for key in ["labels", "annotations"] {
        object.get(key).map(|node| node.texts_by_key());
    }
    Some(Metadata {
        kind: "",
        namespace: namespace.unwrap_or_else(|| names::DEFAULT_NAMESPACE.to_owned()),
        name: name?,
    })
}

/// The resource's name as name of a lane or group.
fn lane_name(root: &Node<'_>, metadata: &Metadata) -> Option<LaneName> {
    match metadata.name.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            root.problem(format!("metadata.name: {error}"));
            None
        }
    }
}

fn lane_group(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let name = lane_name(root, &metadata)?;
    let group = lane_group::read(&spec, &metadata.namespace, name)?;
    Some((metadata, Spec::LaneGroup(Box::new(group))))
}

fn lane(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let name = lane_name(root, &metadata)?;
    let created = root.child("metadata").and_then(|metadata| metadata.child("creationTimestamp"));
    let lane = lane::read(&spec, name, created.and_then(|node| node.timestamp()))?;
    Some((metadata, Spec::Lane(Box::new(lane))))
}

fn traffic_policy(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let policy = traffic_policy::read(&spec, &metadata.namespace)?;
    Some((metadata, Spec::TrafficPolicy(Box::new(policy))))
}

fn access_policy(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let policy = access_policy::read(&spec, &metadata.namespace)?;
    Some((metadata, Spec::AccessPolicy(Box::new(policy))))
}

fn mesh_service(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    Some((metadata, Spec::MeshService(mesh_service::read(&spec)?)))
}

fn model_route(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let route = model_route::read(&spec, &metadata.namespace)?;
    Some((metadata, Spec::ModelRoute(Box::new(route))))
}

fn http_route(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let route = http_route::read(&spec, &metadata.namespace)?;
    Some((metadata, Spec::HttpRoute(route)))
}

fn grpc_route(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let route = grpc_route::read(&spec, &metadata.namespace)?;
    Some((metadata, Spec::GrpcRoute(route)))
}

fn zone(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let (metadata, spec) = head(root)?;
    let zone = zone::read(&spec, &metadata.name)?;
    Some((metadata, Spec::Zone(zone)))
}

fn services(root: &Node<'_>) -> Option<(Metadata, Spec)> {
    let document = root.object(&["apiVersion", "kind", "services"])?;
    let metadata = Metadata { kind: "", namespace: names::DEFAULT_NAMESPACE.to_owned(), name: String::new() };
    Some((metadata, Spec::Services(services::read(&document))))
}
