//! `OutboundPolicies`: how calls to a target are carried.

use std::sync::Arc;

use linkerd2_proxy_api::outbound::{OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies};
use mesh_core::model::route::Target;
use mesh_proto::convert::{metadata, outbound, target::read_traffic_spec, validate};
use tonic::{Request, Response, Status};

use super::{
    Published,
    follow::{Answers, follow},
    peer::Peer,
};
use crate::{
    index::View,
    telemetry::{Metrics, Service},
};

/// The service.
pub struct Outbound {
    /// What is published.
    pub published: Arc<Published>,
    /// Control namespace, for names of identities.
    pub control_namespace: Arc<str>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl OutboundPolicies for Outbound {
    type WatchStream = Answers<OutboundPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let (target, namespace) = question(request)?;
        policy(&self.published.view(), &target, &namespace, &self.control_namespace).map(Response::new)
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let (target, namespace) = question(request)?;
        let watch = self.published.watch(self.published.view().outbound_keys(&target, &namespace));
        // An unknown target is refused before the stream begins: clients take that for the end of the question.
        policy(&self.published.view(), &target, &namespace, &self.control_namespace)?;
        let control_namespace = Arc::clone(&self.control_namespace);
        let open = self.metrics.stream(Service::Outbound);
        Ok(Response::new(follow(Arc::clone(&self.published), watch, open, move |view| {
            policy(view, &target, &namespace, &control_namespace)
        })))
    }
}

/// What is asked for, and in which namespace bare names are looked up.
fn question(request: Request<TrafficSpec>) -> Result<(Target, String), Status> {
    let peer = Peer::proven(&request)?;
    let (source, target) =
        read_traffic_spec(request.into_inner()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    peer.in_namespace(&source.namespace)?;
    Ok((target, source.namespace))
}

fn policy(view: &View, target: &Target, namespace: &str, control_namespace: &str) -> Result<OutboundPolicy, Status> {
    let found = view.outbound(target, namespace);
    let found = found.ok_or_else(|| Status::not_found(format!("no service or instance is known for {target}")))?;
    let message = outbound::to_wire(&found.policy, metadata::service(&found.service), control_namespace);
    match validate::outbound(&message) {
        Ok(()) => Ok(message),
        Err(error) => Err(Status::internal(format!("the policy of {target} cannot be sent: {error}"))),
    }
}
