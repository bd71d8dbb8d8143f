//! A certificate authority, workers, snapshots, and scripted peers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{
    drain::Limits,
    identity::Identity,
    lane::correlation::CAPACITY,
    model::{
        endpoint::{Endpoint, ProtocolHint, WEIGHT_ONE},
        policy::{Authorization, Clients, InboundProtocol, InboundServer, Network},
        route::{Backend, Distribution, HttpRoute, HttpRule, OutboundPolicy, OutboundProtocol, RouteTimeouts, Target},
        service::{Service, ServiceKey},
    },
    snapshot::Snapshot,
};
use mesh_proxy::{
    datapath::lane::links::Links,
    net::{
        http1::HeadLimits,
        tls::{KeyAndChain, TlsMaterial, Trust},
    },
    shared::{ASK_QUEUE, Ask, Shared},
    telemetry::worker::{AccessLog, RECORD_QUEUE, Record, Sink, Tracing, WorkerMetrics},
    worker::{self, Notices, OutsideLanes, Role, Stage, WorkerConfig, WorkerHandle},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

pub(crate) const DOMAIN: &str = "cluster.local";
pub(crate) const CONTROL: &str = "lanemesh";
/// Everybody is told at once, and nobody is waited for without need.
pub(crate) const DRAIN: Limits = Limits {
    grace: Duration::from_secs(10),
    floor: Duration::ZERO,
    window: Duration::ZERO,
    streams: Duration::from_secs(6),
};
/// Longest that a test waits for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn anchor(&self) -> Arc<[u8]> {
        Arc::from(self.0.der().as_ref())
    }

    pub(crate) fn material(&self, account: &str) -> Arc<TlsMaterial> {
        let identity = identity(account);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![
            SanType::URI(identity.to_string().try_into().unwrap()),
            SanType::DnsName(identity.dns_name(CONTROL).try_into().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let own = KeyAndChain { key: key.into(), chain: vec![certificate.der().clone()] };
        let trust = Trust::new(&[self.0.der()], DOMAIN, CONTROL).unwrap();
        Arc::new(TlsMaterial::new(&own, &trust).unwrap())
    }
}

pub(crate) fn identity(account: &str) -> Identity {
    Identity::new(DOMAIN, "demo", account).unwrap()
}

/// A worker with its shared state.
pub(crate) struct Proxy {
    pub(crate) outbound: SocketAddr,
    pub(crate) inbound: SocketAddr,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) records: mpsc::Receiver<Box<Record>>,
    revision: watch::Sender<u64>,
    draining: watch::Sender<bool>,
    handle: Option<WorkerHandle>,
}

impl Proxy {
    pub(crate) fn start(tls: Option<Arc<TlsMaterial>>) -> Self {
        Proxy::start_with(tls, |_| {})
    }

    pub(crate) fn start_with(tls: Option<Arc<TlsMaterial>>, change: impl FnOnce(&mut WorkerConfig)) -> Self {
        Proxy::start_linked(tls, Links::all(1).0.remove(0), change)
    }

    /// One worker of several.
    pub(crate) fn start_linked(
        tls: Option<Arc<TlsMaterial>>,
        links: Links,
        change: impl FnOnce(&mut WorkerConfig),
    ) -> Self {
        let (ask, asks) = mpsc::channel(ASK_QUEUE);
        let (revision, watched) = watch::channel(0);
        let (draining, drain) = watch::channel(false);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            tls: ArcSwapOption::new(tls),
            outside_tls: ArcSwapOption::empty(),
            ask,
            revision: watched,
            draining: drain,
            limits: mesh_proxy::limits::Limits::new().0,
            probing: Default::default(),
        });
        let (records, recorded) = mpsc::channel(RECORD_QUEUE);
        let metrics = Arc::new(WorkerMetrics::new(0));
        let sink = Sink { metrics: Arc::clone(&metrics), records, access_log: AccessLog::All, tracing: Tracing::Off };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = WorkerConfig {
            role: Role::Sidecar,
            outbound_listen: any,
            inbound_listen: Some(any),
            admin_listen: None,
            application_address: None,
            trust_domain: DOMAIN.into(),
            control_namespace: CONTROL.into(),
            head_limits: HeadLimits::default(),
            drain: DRAIN,
            notices: Notices::default(),
            outside_lanes: OutsideLanes::Strip,
            outside_tls_listen: None,
            forwarded_hops: 0,
            secrets_directory: std::path::PathBuf::new(),
            model_room: mesh_proxy::providers::Room::new(1024 * 1024),
            lane_table: CAPACITY,
            places: Default::default(),
        };
        change(&mut config);
        let handle = worker::spawn(Arc::new(config), Arc::clone(&shared), sink, links).unwrap();
        Proxy {
            outbound: handle.outbound,
            inbound: handle.inbound.unwrap(),
            metrics,
            shared,
            asks,
            records: recorded,
            revision,
            draining,
            handle: Some(handle),
        }
    }

    /// Replaces the snapshot.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.shared.load());
        change(&mut snapshot);
        snapshot.revision += 1;
        let revision = snapshot.revision;
        self.shared.snapshot.store(Arc::new(snapshot));
        self.revision.send_replace(revision);
    }

    /// Waits until the worker, on its way down, has come to `stage`.
    pub(crate) async fn reached(&self, stage: Stage) {
        let mut stages = self.handle.as_ref().unwrap().stage.clone();
        tokio::time::timeout(LIMIT, stages.wait_for(|reached| *reached >= stage)).await.unwrap().unwrap();
    }

    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until the worker has drained.
    pub(crate) async fn drained(mut self) {
        let handle = self.handle.take().unwrap();
        let joined = tokio::task::spawn_blocking(move || handle.join());
        tokio::time::timeout(LIMIT, joined).await.unwrap().unwrap().unwrap();
    }

    /// The next record, of one kind of exchange.
    pub(crate) async fn record(&mut self) -> Box<Record> {
        tokio::time::timeout(LIMIT, self.records.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.draining.send_replace(true);
        // The thread ends by itself; a test does not wait for it.
        drop(self.handle.take());
    }
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey(format!("{name}.demo.svc.cluster.local:80").into())
}

pub(crate) fn endpoint(address: SocketAddr, meshed: Option<(&str, SocketAddr)>) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address,
        weight: WEIGHT_ONE,
        identity: meshed.map(|(account, _)| identity(account)),
        server_name: None,
        inbound_port: meshed.map(|(_, inbound)| inbound.port()),
        hint: ProtocolHint::Unknown,
        lanes: Vec::new(),
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: Default::default(),
    })
}

/// Calls to `host` go to the service `name`, whose instances are `endpoints`.
pub(crate) fn route(snapshot: &mut Snapshot, target: Target, name: &str, endpoints: Vec<Arc<Endpoint>>) {
    let key = key(name);
    let to = || Distribution::FirstAvailable(vec![Backend::Service(key.clone())]);
    let routes = || {
        vec![HttpRoute {
            name: "default".into(),
            hosts: Vec::new(),
            rules: vec![HttpRule {
                matches: Vec::new(),
                filters: Vec::new(),
                backends: to(),
                timeouts: RouteTimeouts::default(),
                retry: None,
            }],
        }]
    };
    let protocol =
        OutboundProtocol::Detect { timeout: Duration::from_secs(5), opaque: to(), http1: routes(), http2: routes() };
    snapshot.outbound.insert(target, Arc::new(OutboundPolicy { protocol }));
    snapshot.services.insert(key.clone(), Arc::new(Service::new(key, true, endpoints)));
}

pub(crate) fn authority(host: &str) -> Target {
    Target::Authority(host.into(), 80)
}

/// The inbound port `port` may be called by `clients`.
pub(crate) fn allow(snapshot: &mut Snapshot, port: u16, protocol: InboundProtocol, clients: Clients) {
    let networks = vec![Network { net: "0.0.0.0/0".parse().unwrap(), except: Vec::new() }];
    let authorizations = vec![Authorization { name: "test".into(), networks, clients }];
    let server = InboundServer { port, protocol, authorizations, routes: Vec::new(), name: "test".into() };
    snapshot.inbound.insert(port, Arc::new(server));
}

pub(crate) const DETECT: InboundProtocol = InboundProtocol::Detect { timeout: Duration::from_secs(5) };

/// Caller's and callee's sidecar, and where the callee's application listens.
pub(crate) struct Pair {
    pub(crate) caller: Proxy,
    pub(crate) callee: Proxy,
    pub(crate) application: TcpListener,
}

impl Pair {
    /// Calls to `b.demo` reach the application over mutual TLS.
    pub(crate) async fn start() -> Self {
        Pair::start_under(&Authority::new()).await
    }

    /// As [`Pair::start`], with certificates of `issuer`.
    pub(crate) async fn start_under(issuer: &Authority) -> Self {
        let application = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = application.local_addr().unwrap();
        let caller = Proxy::start(Some(issuer.material("a")));
        let callee = Proxy::start(Some(issuer.material("b")));
        caller.publish(|snapshot| {
            let endpoint = endpoint(address, Some(("b", callee.inbound)));
            route(snapshot, authority("b.demo"), "b", vec![endpoint]);
        });
        callee.publish(|snapshot| allow(snapshot, address.port(), DETECT, Clients::AnyMeshed));
        Pair { caller, callee, application }
    }

    pub(crate) async fn call(&self) -> Peer {
        Peer::connect(self.caller.outbound).await
    }

    pub(crate) async fn application(&self) -> Peer {
        Peer(tokio::time::timeout(LIMIT, self.application.accept()).await.unwrap().unwrap().0)
    }
}

/// A scripted peer.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Peer(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    /// Reads until what was read ends with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        let more = async {
            while !read.ends_with(end.as_bytes()) {
                match self.0.read_u8().await {
                    Ok(byte) => read.push(byte),
                    Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&read)),
                }
            }
        };
        if tokio::time::timeout(LIMIT, more).await.is_err() {
            panic!("no {end:?} in {:?}", String::from_utf8_lossy(&read));
        }
        String::from_utf8(read).unwrap()
    }

    /// The head of a message.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        tokio::time::timeout(LIMIT, self.0.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    /// Everything until the end; `Err` = the connection was cut.
    pub(crate) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tokio::time::timeout(LIMIT, self.0.read_to_end(&mut bytes)).await.unwrap()?;
        Ok(bytes)
    }
}

/// Whether a head has this field with this value.
pub(crate) fn has(head: &str, field: &str) -> bool {
    head.lines().any(|line| line.eq_ignore_ascii_case(field))
}
