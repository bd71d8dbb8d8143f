//! The gRPC services of the control plane.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use linkerd2_proxy_api::{
    destination::{DestinationProfile, GetDestination, Update, destination_server::Destination},
    identity::{CertifyRequest, CertifyResponse, identity_server::Identity},
    inbound::{PortSpec, Server, inbound_server_policies_server::InboundServerPolicies},
    outbound::{OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies},
};
use mesh_core::{model::service::ServiceKey, resources::World};
use mesh_proto::{
    convert::{inbound, target},
    mesh::v1::{Hello, PolicySnapshot, ProxyReport, mesh_policy_server::MeshPolicy, proxy_report::Report},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{State, WAITING};

/// Life of the certificates: longer than any test.
const LIFE: Duration = Duration::from_secs(24 * 3_600);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answers<T: Send + 'static>(hears: mpsc::Receiver<Result<T, Status>>) -> Response<Answers<T>> {
    Response::new(Box::pin(ReceiverStream::new(hears)))
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

#[tonic::async_trait]
impl Destination for State {
    type GetStream = Answers<Update>;
    type GetProfileStream = Answers<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let key = ServiceKey(request.into_inner().path.as_str().into());
        let hears = self.lock().open_service(&key);
        hears.map(answers).ok_or_else(|| Status::not_found(key.to_string()))
    }

    async fn get_profile(&self, _: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        Err(Status::unimplemented("nobody asks for profiles"))
    }
}

#[tonic::async_trait]
impl OutboundPolicies for State {
    type WatchStream = Answers<OutboundPolicy>;

    async fn get(&self, _: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        Err(Status::unimplemented("proxies watch"))
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let (caller, target) = target::read_traffic_spec(request.into_inner()).map_err(unreadable)?;
        let hears = self.lock().open_target(&target, &caller.namespace);
        hears.map(answers).ok_or_else(|| Status::not_found(target.to_string()))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for State {
    type WatchPortStream = Answers<Server>;

    async fn get_port(&self, _: Request<PortSpec>) -> Result<Response<Server>, Status> {
        Err(Status::unimplemented("proxies watch"))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let (workload, port) = target::read_port_spec(request.get_ref()).map_err(unreadable)?;
        let key = World::workload_key(&workload.namespace, &workload.pod);
        let server = self.lock().world.workloads.get(&key).and_then(|workload| workload.inbound.get(&port)).cloned();
        let server = server.ok_or_else(|| Status::not_found(format!("port {port} of {key}")))?;
        let said = tokio_stream::once(Ok(inbound::to_wire(&server)));
        // It never changes; the stream stays open.
        Ok(Response::new(Box::pin(said.chain(tokio_stream::pending()))))
    }
}

#[tonic::async_trait]
impl Identity for State {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let end = SystemTime::now() + LIFE;
        Ok(Response::new(CertifyResponse {
            leaf_certificate: self.authority.sign_request(&request.into_inner().certificate_signing_request, end),
            intermediate_certificates: Vec::new(),
            valid_until: Some(end.into()),
        }))
    }
}

#[tonic::async_trait]
impl MeshPolicy for State {
    type WatchStream = Answers<PolicySnapshot>;

    async fn watch(&self, request: Request<Streaming<ProxyReport>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut reports = request.into_inner();
        let Some(ProxyReport { report: Some(Report::Hello(Hello { namespace, pod, .. })) }) = reports.message().await?
        else {
            return Err(Status::invalid_argument("the first report of a stream must be hello"));
        };
        let pod = World::workload_key(&namespace, &pod);
        let (listener, hears) = mpsc::channel(WAITING);
        {
            let mut said = self.lock();
            let first = said.snapshot(&pod);
            assert!(listener.try_send(Ok(first)).is_ok(), "a new channel has room");
            said.policies.retain(|(_, listener)| !listener.is_closed());
            said.policies.push((pod.clone(), listener));
        }
        let (acknowledged, refused) = (self.acknowledged.clone(), Arc::clone(&self.refused));
        tokio::spawn(async move {
            // One that says nothing we know is passed over.
            while let Ok(Some(ProxyReport { report })) = reports.message().await {
                if let Some(Report::Ack(ack)) = report {
                    let revision = ack.revision.parse().unwrap_or_default();
                    acknowledged.send_modify(|all| {
                        all.insert(pod.clone(), revision);
                    });
                } else if let Some(Report::Nack(nack)) = report {
                    let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
                    refused.push(format!("{pod}: revision {}: {}", nack.revision, nack.reason));
                }
            }
        });
        Ok(answers(hears))
    }
}
