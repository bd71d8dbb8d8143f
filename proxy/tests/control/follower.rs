//! The control side of a proxy, without workers: streams, credentials, snapshots.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{identity::Identity, snapshot::Snapshot};
use mesh_proto::mesh::v1::Hello;
use mesh_proxy::{
    config::{ControlAddress, ControlPeer, ControlTransport},
    control::{
        client::{self, Proof},
        stream::{Asker, Channels, MISSING_POLICY, Streams},
    },
    drain::Order,
    identity::{
        Credentials,
        rotate::{self, Rotation},
    },
    net::tls::Trust,
    shared::{Ask, Shared},
    telemetry::control::ControlCounters,
    worker::Notice,
};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::controller::{Controller, PATIENCE};

/// A CA.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is malformed");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    pub(crate) fn anchor(&self) -> Arc<[u8]> {
        Arc::from(self.0.der().as_ref())
    }

    /// The certificate for a request, valid from now until `end`.
    pub(crate) fn sign(&self, request: &[u8], end: SystemTime) -> Vec<u8> {
        let mut request =
            CertificateSigningRequestParams::from_der(&request.to_vec().into()).expect("a signing request");
        request.params.not_before = SystemTime::now().into();
        request.params.not_after = end.into();
        request.signed_by(&self.0).expect("a certificate").der().to_vec()
    }
}

/// The control side.
pub(crate) struct Follower {
    pub(crate) authority: Authority,
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
    revision: watch::Receiver<u64>,
    credentials: Arc<watch::Sender<Arc<Credentials>>>,
    missing: watch::Receiver<BTreeSet<String>>,
    token: TempDir,
    streams: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.streams.abort();
    }
}

fn peer(controller: &Controller) -> ControlPeer {
    let address = ControlAddress {
        host: controller.address.ip().to_string(),
        port: controller.address.port(),
        transport: ControlTransport::Plaintext,
    };
    ControlPeer { addresses: vec![address], server_name: String::new() }
}

impl Follower {
    pub(crate) fn start(controller: &Controller) -> Self {
        let authority = Authority::new("root");
        let anchors = vec![authority.anchor()];
        let identity = Identity::new("cluster.local", "demo", "a").expect("an identity");
        let trust = Trust::new(&anchors, "cluster.local", "lanemesh").expect("good anchors");
        let credentials = Credentials { identity, anchors, trust, held: None };
        let credentials = Arc::new(watch::Sender::new(Arc::new(credentials)));
        let (asks, asked) = mpsc::channel(16);
        let (announce, revision) = watch::channel(0);
        let (order, draining) = Order::new();
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::default(),
            tls: ArcSwapOption::empty(),
            outside_tls: ArcSwapOption::empty(),
            ask: asks.clone(),
            revision: revision.clone(),
            draining,
            limits: mesh_proxy::limits::Limits::new().0,
            probing: Default::default(),
        });
        let channel = client::channel(&peer(controller), credentials.subscribe(), Proof::Required);
        let missing = Arc::new(watch::Sender::new(BTreeSet::from([MISSING_POLICY.to_owned()])));
        let streams = Streams {
            channels: Channels { destination: channel.clone(), policy: channel.clone(), mesh: Some(channel) },
            asker: Asker {
                hello: Hello { namespace: "demo".to_owned(), pod: "a-1".to_owned(), ..Hello::default() },
                control_namespace: "lanemesh".to_owned(),
                inbound_ports: BTreeSet::new(),
            },
            shared: Arc::clone(&shared),
            revision: announce,
            credentials: Arc::clone(&credentials),
            missing: Arc::clone(&missing),
            counters: Arc::new(ControlCounters::default()),
            workers: Vec::new(),
            probed: mpsc::channel(1).1,
            order,
            notice: Notice::Given,
        };
        let missing = missing.subscribe();
        let token = TempDir::new().expect("a temporary folder");
        let streams = tokio::spawn(streams.run(Snapshot::default(), asked));
        Follower { authority, asks, shared, revision, credentials, missing, token, streams }
    }

    pub(crate) async fn ask(&self, ask: Ask) {
        self.asks.send(ask).await.expect("the streams run");
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.load()
    }

    /// The first snapshot that is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let shared = Arc::clone(&self.shared);
        let seen = timeout(PATIENCE, self.revision.wait_for(|_| wanted(&shared.load()))).await;
        seen.expect("the snapshot comes in time").expect("the streams run");
        self.shared.load()
    }

    pub(crate) fn missing(&self) -> Vec<String> {
        self.missing.borrow().iter().cloned().collect()
    }

    pub(crate) fn anchors(&self) -> usize {
        self.credentials.borrow().anchors.len()
    }

    /// Renews certificates with this token.
    pub(crate) fn rotate(&self, controller: &Controller, token: &str) -> JoinHandle<()> {
        let token_file = self.token.path().join("token");
        std::fs::write(&token_file, token).expect("the folder is writable");
        let rotation = Rotation {
            peer: peer(controller),
            control_namespace: "lanemesh".to_owned(),
            token_file: Some(token_file),
            trust_bundle_file: None,
            counters: Arc::new(ControlCounters::default()),
        };
        tokio::spawn(rotate::run(rotation, Arc::clone(&self.credentials)))
    }

    /// Waits until there is a certificate.
    pub(crate) async fn certificate(&self) {
        let mut credentials = self.credentials.subscribe();
        let held = timeout(PATIENCE, credentials.wait_for(|credentials| credentials.held.is_some())).await;
        held.expect("a certificate comes in time").expect("the sender is here");
    }
}
