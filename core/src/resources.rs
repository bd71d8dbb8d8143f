//! What people write: resources of `lanemesh.io/v1alpha1`, Gateway API routes, and the service list of the file source.
//! Strict: an unknown field is an error that names its path, and all problems of all documents are reported together.
//!
//! [`parse`] reads one file; [`compile`] checks resources against each other and makes the [`World`] that the controller
//! serves. A file or set with any problem yields nothing else: the last good world keeps serving.

pub mod access_policy;
mod compile;
pub mod document;
pub mod edit;
mod grpc_route;
pub mod http_route;
mod kinds;
pub mod lane;
pub mod lane_group;
pub mod mesh_service;
pub mod model_route;
pub mod nacos;
mod node;
pub mod problem;
mod reference;
pub mod registered;
pub mod services;
pub mod traffic_policy;
mod wording;
pub mod world;
pub mod zone;

pub use compile::{Compiled, Domains, Input, compile, compile_all};
pub use document::parse;
pub use problem::Problem;
pub use world::World;

use std::sync::Arc;

use serde::Serialize;

/// One resource as written, checked by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resource {
    /// Kind, name and place.
    pub metadata: Metadata,
    /// What it says.
    #[serde(skip)]
    pub spec: Spec,
    /// The document as written, without the separator.
    pub text: Arc<str>,
    /// Where its fields stand, for problems found later.
    #[serde(skip)]
    pub origin: Arc<problem::Origin>,
}

/// Kind, name and place of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Metadata {
    /// Kind, as in the document.
    pub kind: &'static str,
    /// Namespace; `default` unless written.
    pub namespace: String,
    /// Name within kind and namespace; empty for the kind `Services`, which has none.
    pub name: String,
}

/// What a resource says, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// A lane group.
    LaneGroup(Box<lane_group::LaneGroup>),
    /// A lane.
    Lane(Box<lane::Lane>),
    /// How calls to a service are treated.
    TrafficPolicy(Box<traffic_policy::TrafficPolicy>),
    /// Who may call.
    AccessPolicy(Box<access_policy::AccessPolicy>),
    /// One service over several sources.
    MeshService(mesh_service::MeshService),
    /// Virtual models.
    ModelRoute(Box<model_route::ModelRoute>),
    /// Routes of HTTP requests.
    HttpRoute(http_route::Route),
    /// Routes of gRPC calls.
    GrpcRoute(http_route::Route),
    /// Whether a zone takes traffic.
    Zone(zone::Zone),
    /// Services of the file source.
    Services(Vec<services::Service>),
}

impl Spec {
    /// The lane, if it is one.
    pub fn lane(&self) -> Option<&lane::Lane> {
        match self {
            Spec::Lane(lane) => Some(lane),
            Spec::LaneGroup(_)
            | Spec::TrafficPolicy(_)
            | Spec::AccessPolicy(_)
            | Spec::MeshService(_)
            | Spec::ModelRoute(_)
            | Spec::HttpRoute(_)
            | Spec::GrpcRoute(_)
            | Spec::Zone(_)
            | Spec::Services(_) => None,
        }
    }
}

impl Resource {
    /// `<kind> <namespace>/<name>`, as problems name it.
    pub fn subject(&self) -> String {
        let Metadata { kind, namespace, name } = &self.metadata;
        if name.is_empty() { (*kind).to_owned() } else { format!("{kind} {namespace}/{name}") }
    }
}
