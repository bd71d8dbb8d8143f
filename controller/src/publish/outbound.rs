//! `OutboundPolicies`: how calls to a target are carried.

use std::{borrow::Cow, sync::Arc};

use linkerd2_proxy_api::outbound::{OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies};
use mesh_core::model::route::Target;
use mesh_proto::convert::{
    metadata, outbound,
    target::{LaneChoice, read_traffic_spec},
    validate,
};
use tonic::{Request, Response, Status};

use super::{
    Published, Watch,
    follow::{Answers, follow},
    peer::Peer,
};
use crate::{
    index::{Key, View},
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
        let question = question(request)?;
        let _asked = self.look_up(&question).await;
        question.answer(&self.published.view(), &self.control_namespace).map(Response::new)
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let question = question(request)?;
        let mut watch = self.look_up(&question).await;
        if let LaneChoice::Routes = question.lanes {
            // Now that the service is known, its routes may lead to others.
            watch = self.published.watch(question.keys(&self.published.view()));
        }
        // An unknown target is refused before the stream begins: clients take that for the end of the question.
        question.answer(&self.published.view(), &self.control_namespace)?;
        let control_namespace = Arc::clone(&self.control_namespace);
        let open = self.metrics.stream(Service::Outbound);
        let published = Arc::clone(&self.published);
        Ok(Response::new(follow(published, watch, open, move |view| question.answer(view, &control_namespace))))
    }
}

impl Outbound {
    /// Watches what the answer depends on; sources have had the time to look it up where it is not known.
    async fn look_up(&self, question: &Question) -> Watch {
        let view = self.published.view();
        let watch = self.published.watch(question.keys(&view));
        if view.outbound(&question.target, &question.namespace).is_none() {
            watch.looked_up().await;
        }
        watch
    }
}

/// What is asked for.
struct Question {
    target: Target,
    /// Where bare names are looked up.
    namespace: String,
    lanes: LaneChoice,
}

fn question(request: Request<TrafficSpec>) -> Result<Question, Status> {
    let peer = Peer::proven(&request)?;
    let (source, target) =
        read_traffic_spec(request.into_inner()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    peer.in_namespace(&source.namespace)?;
    Ok(Question { target, namespace: source.namespace, lanes: source.lanes })
}

impl Question {
    /// What the answer depends on. Routes by lane depend on the lanes, and on the services that they lead to.
    fn keys(&self, view: &View) -> Vec<Key> {
        let mut keys = view.outbound_keys(&self.target, &self.namespace);
        match self.lanes {
            LaneChoice::Own => (),
            LaneChoice::Routes => {
                keys.push(Key::Mesh);
                let found = view.outbound(&self.target, &self.namespace);
                keys.extend(found.map(|found| Key::Service(found.service.label().to_owned())));
            }
        }
        keys
    }

    fn answer(&self, view: &View, control_namespace: &str) -> Result<OutboundPolicy, Status> {
        let target = &self.target;
        let found = view.outbound(target, &self.namespace);
        let found = found.ok_or_else(|| Status::not_found(format!("no service or instance is known for {target}")))?;
        let policy = match self.lanes {
            LaneChoice::Own => Cow::Borrowed(found.policy.as_ref()),
            LaneChoice::Routes => Cow::Owned(view.routed_by_header(&found.policy)),
        };
        let message = outbound::to_wire(&policy, metadata::service(&found.service), control_namespace);
        match validate::outbound(&message) {
            Ok(()) => Ok(message),
            Err(error) => Err(Status::internal(format!("the policy of {target} cannot be sent: {error}"))),
        }
    }
}
