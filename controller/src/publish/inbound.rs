//! `InboundServerPolicies`: who may call a workload's port.

use std::sync::Arc;

use linkerd2_proxy_api::inbound::{PortSpec, Server, inbound_server_policies_server::InboundServerPolicies};
use mesh_core::resources::World;
use mesh_proto::convert::{
    inbound,
    target::{Workload, read_port_spec},
    validate,
};
use tonic::{Request, Response, Status};

use super::{
    Published,
    follow::{Answers, follow},
    peer::Peer,
};
use crate::{
    index::{Key, View},
    telemetry::{Metrics, Service},
};

/// The service.
pub struct Inbound {
    /// What is published.
    pub published: Arc<Published>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl InboundServerPolicies for Inbound {
    type WatchPortStream = Answers<Server>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let (workload, port) = question(&request)?;
        policy(&self.published.view(), &workload, port).map(Response::new)
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let (workload, port) = question(&request)?;
        let watch = self.published.watch([Key::Workload(World::workload_key(&workload.namespace, &workload.pod))]);
        let open = self.metrics.stream(Service::Inbound);
        Ok(Response::new(follow(Arc::clone(&self.published), watch, open, move |view| policy(view, &workload, port))))
    }
}

fn question(request: &Request<PortSpec>) -> Result<(Workload, u16), Status> {
    let peer = Peer::proven(request)?;
    let (workload, port) =
        read_port_spec(request.get_ref()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    peer.in_namespace(&workload.namespace)?;
    Ok((workload, port))
}

fn policy(view: &View, workload: &Workload, port: u16) -> Result<Server, Status> {
    let message = inbound::to_wire(&view.inbound(&workload.namespace, &workload.pod, port));
    match validate::inbound(&message) {
        Ok(()) => Ok(message),
        Err(error) => Err(Status::internal(format!("the policy of port {port} cannot be sent: {error}"))),
    }
}
