//! A control plane of a test's own making: it says what the test says, as fast as the test says it. Our controller skips
//! states for whoever is slow; this one says every single change, over plaintext on loopback.
//!
//! What it says first is a world compiled from resources, as our controller compiles it; later changes are said at once to
//! all who listen.

mod services;

use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use linkerd2_proxy_api::{
    destination::{Update, destination_server::DestinationServer},
    identity::identity_server::IdentityServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::{OutboundPolicy as WirePolicy, outbound_policies_server::OutboundPoliciesServer},
};
use mesh_core::{
    model::{
        endpoint::Endpoint,
        lane::LaneGroup,
        route::{OutboundPolicy, Target},
        service::ServiceKey,
    },
    names,
    resources::{Domains, World, compile, parse, world::WorldPort},
};
use mesh_proto::{
    convert::{endpoint::Change, metadata, outbound, policy::Policy},
    mesh::v1::{PolicySnapshot, mesh_policy_server::MeshPolicyServer},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, transport::Server};

use crate::{
    peer::Authority,
    pod::{SERVICE_PORT, TRUST_DOMAIN},
    wait::{PATIENCE, within},
};

/// Messages that wait for one stream; who says more waits, as HTTP/2 has it.
const WAITING: usize = 16;

/// Where one stream hears.
type Listener<W> = mpsc::Sender<Result<W, Status>>;

/// The control plane; ends when dropped.
pub struct ControlPlane {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is said, and who listens.
struct State {
    authority: Authority,
    said: Mutex<Said>,
    /// Revisions that proxies have acknowledged, by pod.
    acknowledged: watch::Sender<BTreeMap<String, u64>>,
    /// Why revisions were refused.
    refused: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Said {
    world: World,
    /// Policies of hosts that no resource makes.
    hosts: HashMap<Target, OutboundPolicy>,
    revision: u64,
    services: HashMap<ServiceKey, Vec<Listener<Update>>>,
    targets: HashMap<Target, Vec<Listener<WirePolicy>>>,
    /// With the pod that listens.
    policies: Vec<(String, Listener<PolicySnapshot>)>,
}

fn domains() -> Domains {
    Domains { trust: TRUST_DOMAIN.to_owned(), ..Domains::default() }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // It may have ended by itself; what it panicked with stands in the test's output.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl ControlPlane {
    /// Starts one that signs with `authority` and knows nothing yet, on a thread of its own: what a test does besides must
    /// not keep it from speaking.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub fn start(address: SocketAddr, authority: Authority) -> ControlPlane {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
        listener.set_nonblocking(true).expect("a listener of our own");
        let state = Arc::new(State {
            authority,
            said: Mutex::default(),
            acknowledged: watch::Sender::new(BTreeMap::new()),
            refused: Arc::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(serving, listener, stopped));
        });
        ControlPlane { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Says what these resources mean, to whoever asks from now on, and lanes to whoever listens.
    ///
    /// # Panics
    /// When they mean nothing.
    pub async fn resources(&self, yaml: &str) {
        let world = parse("test", yaml).and_then(|resources| compile(&resources, &domains()));
        self.state.lock().world = world.unwrap_or_else(|problems| panic!("{problems:#?}"));
        self.lanes(|_| ()).await;
    }

    /// Says how calls to a host are carried.
    pub async fn lead(&self, host: &str, policy: OutboundPolicy) {
        let target = Target::Authority(host.into(), SERVICE_PORT);
        let message = policy_message(&policy);
        let listeners = {
            let mut said = self.state.lock();
            said.hosts.insert(target.clone(), policy);
            said.targets.get(&target).cloned().unwrap_or_default()
        };
        say(&listeners, &message).await;
    }

    /// How calls to a service are carried, as resources say it.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn policy(&self, label: &str) -> OutboundPolicy {
        self.state.lock().port(label).outbound.as_ref().clone()
    }

    /// Path of a service.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn key(&self, label: &str) -> ServiceKey {
        self.state.lock().port(label).key.clone()
    }

    /// Changes one instance of a service, in order of addresses, and says so.
    ///
    /// # Panics
    /// When there is no such instance.
    pub async fn instance(&self, label: &str, at: usize, change: impl FnOnce(&mut Endpoint)) {
        let (message, listeners) = {
            let mut said = self.state.lock();
            let port = said.port_mut(label);
            let mut endpoint = Endpoint::clone(&port.endpoints[at]);
            change(&mut endpoint);
            let endpoint = Arc::new(endpoint);
            port.endpoints[at] = Arc::clone(&endpoint);
            let key = port.key.clone();
            let message = Change::Add(vec![endpoint]).to_wire(&key, names::DEFAULT_CONTROL_NAMESPACE);
            (message, said.services.get(&key).cloned().unwrap_or_default())
        };
        say(&listeners, &message).await;
    }

    /// Changes the lanes and says so; the revision of `mesh.v1` that says it.
    pub async fn lanes(&self, change: impl FnOnce(&mut Vec<LaneGroup>)) -> u64 {
        let (revision, messages) = {
            let mut said = self.state.lock();
            said.revision += 1;
            change(&mut said.world.groups);
            let revision = said.revision;
            said.world.groups.iter_mut().for_each(|group| group.revision = revision);
            let messages: Vec<_> =
                said.policies.iter().map(|(pod, listener)| (said.snapshot(pod), listener.clone())).collect();
            (revision, messages)
        };
        for (message, listener) in messages {
            // Who does not listen any more opens another stream.
            let _ = listener.send(Ok(message)).await;
        }
        revision
    }

    /// Waits until so many proxies have acknowledged a revision, or a later one.
    ///
    /// # Panics
    /// When that takes longer than [`PATIENCE`].
    pub async fn acknowledged(&self, proxies: usize, revision: u64) {
        let mut acknowledged = self.state.acknowledged.subscribe();
        let all = |by: &BTreeMap<String, u64>| by.values().filter(|one| **one >= revision).count() >= proxies;
        let what = format!("{proxies} proxies acknowledge revision {revision}");
        // The sender lives as long as we do.
        let _ = within(&what, PATIENCE, acknowledged.wait_for(all)).await;
    }

    /// Why proxies refused revisions.
    pub fn refused(&self) -> Vec<String> {
        self.state.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(state: Arc<State>, listener: TcpListener, stopped: oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is bound");
    let router = Server::builder()
        .add_service(DestinationServer::from_arc(Arc::clone(&state)))
        .add_service(OutboundPoliciesServer::from_arc(Arc::clone(&state)))
        .add_service(InboundServerPoliciesServer::from_arc(Arc::clone(&state)))
        .add_service(IdentityServer::from_arc(Arc::clone(&state)))
        .add_service(MeshPolicyServer::from_arc(state));
    tokio::select! {
        served = router.serve_with_incoming(TcpListenerStream::new(listener)) => served.expect("the server runs"),
        // An error says the same: nobody wants it any more.
        _ = stopped => (),
    }
}

/// Says something to everybody; who does not listen any more opens another stream.
async fn say<W: Clone>(listeners: &[Listener<W>], message: &W) {
    for listener in listeners {
        let _ = listener.send(Ok(message.clone())).await;
    }
}

fn policy_message(policy: &OutboundPolicy) -> WirePolicy {
    outbound::to_wire(policy, metadata::implicit("test"), names::DEFAULT_CONTROL_NAMESPACE)
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// The first port of a service.
    fn port(&self, label: &str) -> &WorldPort {
        let port = self.world.services.get(label).and_then(|service| service.ports.values().next());
        port.unwrap_or_else(|| panic!("the test said no service {label}"))
    }

    fn port_mut(&mut self, label: &str) -> &mut WorldPort {
        let port = self.world.services.get_mut(label).and_then(|service| service.ports.values_mut().next());
        port.unwrap_or_else(|| panic!("the test said no service {label}"))
    }

    /// What `mesh.v1` says to the proxy of a pod.
    fn snapshot(&self, pod: &str) -> PolicySnapshot {
        let workload = self.world.workloads.get(pod);
        let ports = workload.map(|workload| workload.inbound.keys().copied().collect()).unwrap_or_default();
        let traffic = self.world.traffic.iter().map(|(name, policy)| (name.clone(), Arc::new(policy.clone())));
        Policy {
            revision: self.revision.to_string(),
            lanes: self.world.groups.clone(),
            traffic: traffic.collect(),
            ports,
            ..Policy::default()
        }
        .to_wire()
    }

    /// Listens to the instances of a service.
    fn open_service(&mut self, key: &ServiceKey) -> Option<mpsc::Receiver<Result<Update, Status>>> {
        let port = self.world.services.get(key.label())?.ports.values().find(|port| port.key == *key)?;
        let first = Change::Add(port.endpoints.clone()).to_wire(key, names::DEFAULT_CONTROL_NAMESPACE);
        Some(open(self.services.entry(key.clone()).or_default(), first))
    }

    /// Listens to the policy of a target, as a caller in this namespace means it.
    fn open_target(&mut self, target: &Target, namespace: &str) -> Option<mpsc::Receiver<Result<WirePolicy, Status>>> {
        let Target::Authority(host, number) = target else { return None };
        let known = || {
            let service = self.world.resolve(host, namespace, &domains().cluster)?;
            Some(policy_message(&service.port(*number)?.outbound))
        };
        let first = self.hosts.get(target).map(policy_message).or_else(known)?;
        Some(open(self.targets.entry(target.clone()).or_default(), first))
    }
}

/// One more listener, who hears this first.
fn open<W>(listeners: &mut Vec<Listener<W>>, first: W) -> mpsc::Receiver<Result<W, Status>> {
    let (listener, hears) = mpsc::channel(WAITING);
    listeners.retain(|listener| !listener.is_closed());
    assert!(listener.try_send(Ok(first)).is_ok(), "a new channel has room");
    listeners.push(listener);
    hears
}
