//! A controller that says what the test tells it to, over plaintext on loopback.

use std::{
    collections::HashMap,
    hash::Hash,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use linkerd2_proxy_api::{
    destination::{
        DestinationProfile, GetDestination, Update,
        destination_server::{Destination, DestinationServer},
    },
    identity::{
        CertifyRequest, CertifyResponse,
        identity_server::{Identity, IdentityServer},
    },
    inbound::{
        PortSpec, Server,
        inbound_server_policies_server::{InboundServerPolicies, InboundServerPoliciesServer},
    },
    outbound::{
        OutboundPolicy, TrafficSpec,
        outbound_policies_server::{OutboundPolicies, OutboundPoliciesServer},
    },
};
use mesh_core::model::{policy::InboundServer, route, route::Target, service::ServiceKey};
use mesh_proto::{
    convert::{endpoint::Change, inbound, metadata, outbound, policy::Policy, target},
    mesh::v1::{
        Hello, PolicySnapshot, ProxyReport,
        mesh_policy_server::{MeshPolicy, MeshPolicyServer},
        proxy_report::Report,
    },
};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport};

use crate::follower::Authority;

const CONTROL_NAMESPACE: &str = "lanemesh";
/// Longest wait for something that should happen at once, or after a bounded pause.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Streams that proxies opened, by what they asked for.
struct Opened<K, W> {
    streams: watch::Sender<HashMap<K, mpsc::Sender<Result<W, Status>>>>,
}

impl<K: Clone + Eq + Hash, W: Send + 'static> Opened<K, W> {
    fn new() -> Self {
        Opened { streams: watch::Sender::new(HashMap::new()) }
    }

    fn open(&self, key: K) -> Answers<W> {
        let (sender, answers) = mpsc::channel(16);
        self.streams.send_modify(|streams| drop(streams.insert(key, sender)));
        // A failure ends the stream, as the status of a real one does.
        let mut failed = false;
        Box::pin(ReceiverStream::new(answers).take_while(move |answer| {
            let before = failed;
            failed |= answer.is_err();
            !before
        }))
    }

    async fn get(&self, key: &K) -> mpsc::Sender<Result<W, Status>> {
        let mut streams = self.streams.subscribe();
        let found = timeout(PATIENCE, streams.wait_for(|streams| streams.contains_key(key))).await;
        found.expect("the proxy asks in time").expect("the sender is here")[key].clone()
    }

    fn forget(&self, key: &K) {
        self.streams.send_modify(|streams| drop(streams.remove(key)));
    }
}

type Certify = (CertifyRequest, oneshot::Sender<CertifyResponse>);

struct Services {
    outbound: Opened<Target, OutboundPolicy>,
    services: Opened<ServiceKey, Update>,
    ports: Opened<u16, Server>,
    policies: Opened<(), PolicySnapshot>,
    reports: mpsc::Sender<Report>,
    certify: mpsc::Sender<Certify>,
}

/// The controller.
pub(crate) struct Controller {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    services: Arc<Services>,
    reports: AsyncMutex<mpsc::Receiver<Report>>,
    certify: AsyncMutex<mpsc::Receiver<Certify>>,
    hello: Mutex<Option<Hello>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the test sends on one opened stream.
pub(crate) struct Answering<T, W> {
    sender: mpsc::Sender<Result<W, Status>>,
    to_wire: Box<dyn Fn(T) -> W + Send + Sync>,
}

impl<T, W> Answering<T, W> {
    /// Sends one message, or ends the stream with a status.
    pub(crate) async fn send(&self, answer: Result<T, Status>) {
        let answer = answer.map(|message| (self.to_wire)(message));
        assert!(self.sender.send(answer).await.is_ok(), "the proxy listens");
    }
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (reports, received) = mpsc::channel(64);
        let (certify, asked) = mpsc::channel(16);
        let services = Arc::new(Services {
            outbound: Opened::new(),
            services: Opened::new(),
            ports: Opened::new(),
            policies: Opened::new(),
            reports,
            certify,
        });
        let router = transport::Server::builder()
            .add_service(DestinationServer::from_arc(Arc::clone(&services)))
            .add_service(OutboundPoliciesServer::from_arc(Arc::clone(&services)))
            .add_service(InboundServerPoliciesServer::from_arc(Arc::clone(&services)))
            .add_service(IdentityServer::from_arc(Arc::clone(&services)))
            .add_service(MeshPolicyServer::from_arc(Arc::clone(&services)));
        let server = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("the server runs");
        });
        Controller {
            address,
            services,
            reports: AsyncMutex::new(received),
            certify: AsyncMutex::new(asked),
            hello: Mutex::new(None),
            server,
        }
    }

    pub(crate) async fn outbound(&self, target: &Target) -> Answering<route::OutboundPolicy, OutboundPolicy> {
        let to_wire = |policy| outbound::to_wire(&policy, metadata::implicit("test"), CONTROL_NAMESPACE);
        Answering { sender: self.services.outbound.get(target).await, to_wire: Box::new(to_wire) }
    }

    pub(crate) async fn forget_outbound(&self, target: &Target) {
        self.services.outbound.forget(target);
    }

    pub(crate) async fn service(&self, key: &ServiceKey) -> Answering<Change, Update> {
        let named = key.clone();
        let to_wire = move |change: Change| change.to_wire(&named, CONTROL_NAMESPACE);
        Answering { sender: self.services.services.get(key).await, to_wire: Box::new(to_wire) }
    }

    pub(crate) async fn forget_service(&self, key: &ServiceKey) {
        self.services.services.forget(key);
    }

    pub(crate) async fn port(&self, port: u16) -> Answering<InboundServer, Server> {
        Answering { sender: self.services.ports.get(&port).await, to_wire: Box::new(|one| inbound::to_wire(&one)) }
    }

    pub(crate) async fn publish(&self, policy: &Policy) {
        self.services.policies.get(&()).await.send(Ok(policy.to_wire())).await.expect("the proxy listens");
    }

    /// The first report of the policy stream.
    pub(crate) async fn hello(&self) -> Hello {
        loop {
            if let Some(hello) = self.hello.lock().expect("no test panics while it holds it").take() {
                return hello;
            }
            self.report().await;
        }
    }

    /// How the proxy answered a revision: acknowledged, or refused with a reason.
    pub(crate) async fn answer(&self) -> Result<String, (String, String)> {
        loop {
            match self.report().await {
                Some(Report::Ack(ack)) => return Ok(ack.revision),
                Some(Report::Nack(nack)) => return Err((nack.revision, nack.reason)),
                Some(
                    Report::Hello(_)
                    | Report::Status(_)
                    | Report::Lanes(_)
                    | Report::Probe(_)
                    | Report::Unusable(_)
                    | Report::Models(_)
                    | Report::Lifecycle(_),
                )
                | None => {}
            }
        }
    }

    async fn report(&self) -> Option<Report> {
        let report = timeout(PATIENCE, self.reports.lock().await.recv()).await.expect("the proxy reports in time");
        match report.expect("the server runs") {
            Report::Hello(hello) => {
                *self.hello.lock().expect("no test panics while it holds it") = Some(hello);
                None
            }
            report => Some(report),
        }
    }

    /// Answers the next request for a certificate with one that `authority` signs for so many seconds.
    pub(crate) async fn certify(&self, authority: &Authority, seconds: u64) -> CertifyRequest {
        let asked = timeout(PATIENCE, self.certify.lock().await.recv()).await.expect("the proxy asks in time");
        let (request, answer) = asked.expect("the server runs");
        let end = SystemTime::now() + Duration::from_secs(seconds);
        let response = CertifyResponse {
            leaf_certificate: authority.sign(&request.certificate_signing_request, end),
            intermediate_certificates: Vec::new(),
            valid_until: Some(end.into()),
        };
        answer.send(response).expect("the proxy waits");
        request
    }
}

#[tonic::async_trait]
impl Destination for Services {
    type GetStream = Answers<Update>;
    type GetProfileStream = Answers<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let path = request.into_inner().path;
        Ok(Response::new(self.services.open(ServiceKey(path.as_str().into()))))
    }

    async fn get_profile(&self, _: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        Err(Status::unimplemented("nobody asks for profiles"))
    }
}

#[tonic::async_trait]
impl OutboundPolicies for Services {
    type WatchStream = Answers<OutboundPolicy>;

    async fn get(&self, _: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        Err(Status::unimplemented("proxies watch"))
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let (_, target) = target::read_traffic_spec(request.into_inner()).expect("the proxy asks as it should");
        Ok(Response::new(self.outbound.open(target)))
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for Services {
    type WatchPortStream = Answers<Server>;

    async fn get_port(&self, _: Request<PortSpec>) -> Result<Response<Server>, Status> {
        Err(Status::unimplemented("proxies watch"))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let (_, port) = target::read_port_spec(request.get_ref()).expect("the proxy asks as it should");
        Ok(Response::new(self.ports.open(port)))
    }
}

#[tonic::async_trait]
impl Identity for Services {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        let asked = self.certify.send((request.into_inner(), answer)).await;
        asked.map_err(|_| Status::unavailable("the test is over"))?;
        answered.await.map(Response::new).map_err(|_| Status::unavailable("the test is over"))
    }
}

#[tonic::async_trait]
impl MeshPolicy for Services {
    type WatchStream = Answers<PolicySnapshot>;

    async fn watch(&self, request: Request<Streaming<ProxyReport>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut incoming = request.into_inner();
        let reports = self.reports.clone();
        tokio::spawn(async move {
            while let Ok(Some(ProxyReport { report: Some(report) })) = incoming.message().await {
                if reports.send(report).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(self.policies.open(())))
    }
}
