//! `mesh.v1.MeshPolicy`: lane groups, traffic policies, model routes, trust anchors and the proxy's own workload as versioned
//! snapshots, each acknowledged or refused.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::stream;
use mesh_core::{
    lifecycle::Standing,
    resources::{World, world::WorldWorkload},
};
use mesh_proto::{
    convert::policy::Policy,
    mesh::v1::{Hello, PolicySnapshot, ProxyReport, mesh_policy_server::MeshPolicy, proxy_report::Report},
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::{
    Published, Reported, Watch,
    events::What,
    follow::Answers,
    peer::{Peer, Proof},
    proxies::{Entry, Observed},
};
use crate::{
    index::{Key, View},
    telemetry::{Metrics, OpenStream, Service},
};

/// How long a new stream may take to say who it is.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of the hash that a revision shows, as hexadecimal digits: no two contents of one mesh share 64 bits.
const REVISION_BYTES: usize = 8;

/// The service.
pub struct Mesh {
    /// What is published.
    pub published: Arc<Published>,
    /// What proxies report.
    pub reported: Reported,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl MeshPolicy for Mesh {
    type WatchStream = Answers<PolicySnapshot>;

    async fn watch(&self, request: Request<Streaming<ProxyReport>>) -> Result<Response<Self::WatchStream>, Status> {
        let peer = Peer::proven(&request)?;
        let stream = Unnamed {
            peer,
            reports: request.into_inner(),
            published: Arc::clone(&self.published),
            reported: self.reported.clone(),
            open: self.metrics.stream(Service::Mesh),
            metrics: Arc::clone(&self.metrics),
        };
        Ok(Response::new(Box::pin(stream::unfold(State::Unnamed(Box::new(stream)), next))))
    }
}

/// The snapshot for one proxy. Its revision is a hash of the rest, so that replicas which read the same sources give
/// equal contents equal revisions.
pub fn snapshot(view: &View, standing: Standing, namespace: &str, pod: &str) -> PolicySnapshot {
    let (workload, ports) = view.about(namespace, pod);
    let policy = Policy {
        revision: String::new(),
        lanes: view.world().groups.clone(),
        traffic: view.world().traffic.iter().map(|(name, policy)| (name.clone(), Arc::new(policy.clone()))).collect(),
        trust_anchors: view.anchors().to_vec(),
        workload,
        ports,
        drained_zones: view.world().drained_zones(),
        models: view.world().model_routes.to_vec(),
        standing,
    };
    let mut message = policy.to_wire();
    let hash = Sha256::digest(message.encode_to_vec());
    message.revision = hash.iter().take(REVISION_BYTES).map(|byte| format!("{byte:02x}")).collect();
    message
}

fn unix_milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

enum State {
    Unnamed(Box<Unnamed>),
    Named(Box<Named>),
    Done,
}

/// A stream that has not said who it is.
struct Unnamed {
    peer: Peer,
    reports: Streaming<ProxyReport>,
    published: Arc<Published>,
    reported: Reported,
    open: OpenStream,
    metrics: Arc<Metrics>,
}

/// A stream of a known proxy.
struct Named {
    reports: Streaming<ProxyReport>,
    published: Arc<Published>,
    watch: Watch,
    entry: Entry,
    reported: Reported,
    /// SPIFFE identity, or `<namespace>/<service account>` where nothing proves one.
    caller: String,
    namespace: String,
    pod: String,
    /// When its process began.
    started: u64,
    sent: Option<String>,
    open: OpenStream,
    metrics: Arc<Metrics>,
}

async fn next(state: State) -> Option<(Result<PolicySnapshot, Status>, State)> {
    let mut named = match state {
        State::Done => return None,
        State::Named(named) => named,
        State::Unnamed(unnamed) => match unnamed.name().await {
            Ok(named) => Box::new(named),
            Err(status) => return Some((Err(status), State::Done)),
        },
    };
    match named.snapshot().await {
        Ok(Some(snapshot)) => Some((Ok(snapshot), State::Named(named))),
        Ok(None) => None,
        Err(status) => Some((Err(status), State::Done)),
    }
}

impl Unnamed {
    async fn name(mut self) -> Result<Named, Status> {
        let first = timeout(HELLO_DEADLINE, self.reports.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello within 10 s"))??;
        let Some(ProxyReport { report: Some(Report::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first report of a stream must be hello"));
        };
        self.peer.is_account(&hello.namespace, &hello.service_account)?;
        let Hello { namespace, pod, .. } = hello.clone();
        info!(namespace, pod, version = hello.version, peer = %self.peer.address, "proxy connected");
        let identity = match &self.peer.proof {
            Proof::Mesh(identity) => Some(identity.clone()),
            Proof::Loopback | Proof::Nothing => None,
        };
        let account = || format!("{}/{}", hello.namespace, hello.service_account);
        let caller = identity.as_ref().map_or_else(account, ToString::to_string);
        let keys = [Key::Mesh, Key::Workload(World::workload_key(&namespace, &pod))];
        Ok(Named {
            watch: self.published.watch(keys),
            entry: self.reported.proxies.enter(&hello, identity, self.peer.address),
            reported: self.reported,
            reports: self.reports,
            published: self.published,
            caller,
            namespace,
            pod,
            started: hello.started,
            sent: None,
            open: self.open,
            metrics: self.metrics,
        })
    }
}

impl Named {
    /// The next snapshot to send; `None` when the proxy ended the stream.
    async fn snapshot(&mut self) -> Result<Option<PolicySnapshot>, Status> {
        loop {
            let view = self.published.view();
            let workload = World::workload_key(&self.namespace, &self.pod);
            let standing = self.reported.standings.of(&workload, self.started, view.world());
            let snapshot = snapshot(&view, standing, &self.namespace, &self.pod);
            if self.sent.as_ref() != Some(&snapshot.revision) {
                self.entry.sent(&snapshot.revision);
                self.sent = Some(snapshot.revision.clone());
                self.open.sent();
                return Ok(Some(snapshot));
            }
            if !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Takes reports in until something to send may have changed; false when the proxy ended the stream.
    async fn wait(&mut self) -> Result<bool, Status> {
        loop {
            tokio::select! {
                changed = self.watch.changed() => return changed.map(|()| true),
                message = self.reports.message() => match message {
                    Ok(Some(ProxyReport { report: Some(report) })) => self.report(&report),
                    Ok(Some(ProxyReport { report: None })) => (),
                    Ok(None) => {
                        info!(namespace = self.namespace, pod = self.pod, "proxy ended its stream");
                        return Ok(false);
                    }
                    Err(status) => {
                        info!(namespace = self.namespace, pod = self.pod, reason = %status, "proxy disconnected");
                        return Ok(false);
                    }
                },
            }
        }
    }

    fn report(&self, report: &Report) {
        let (namespace, pod) = (&self.namespace, &self.pod);
        match report {
            Report::Ack(ack) => debug!(namespace, pod, revision = ack.revision, "snapshot acknowledged"),
            Report::Nack(nack) => {
                let reason: String = nack.reason.chars().take(500).collect();
                warn!(namespace, pod, revision = nack.revision, reason, "snapshot refused by proxy");
                self.metrics.nacked();
            }
            Report::Status(_) | Report::Unusable(_) | Report::Lifecycle(_) => (),
            Report::Lanes(lanes) => self.reported.statistics.note(lanes, unix_milliseconds()),
            Report::Models(usage) => self.reported.usage.note(&self.caller, usage),
            Report::Probe(note) => self.reported.probes.note(namespace, pod, note),
            Report::Hello(_) => warn!(namespace, pod, "second hello on a stream passed over"),
        }
        let noticed = self.entry.report(report);
        if !noticed.is_empty() {
            self.note(noticed);
        }
    }

    /// Notes what the proxy observed of instances that are still there: those that are gone did not recover.
    fn note(&self, noticed: Vec<Observed>) {
        let (view, by) = (self.published.view(), World::workload_key(&self.namespace, &self.pod));
        for Observed { kind, service, address } in noticed {
            let Some(port) = view.port(&service) else { continue };
            if port.endpoints.iter().all(|endpoint| endpoint.address != address) {
                continue;
            }
            let label = service.label();
            let is_it = |workload: &&WorldWorkload| workload.addresses.contains(&address);
            let workloads = view.world().workloads.iter().filter(|(_, one)| one.services.iter().any(|of| of == label));
            let workload = workloads.filter(|(_, one)| is_it(one)).map(|(key, _)| key.clone()).next();
            let what = What {
                kind,
                workload: workload.unwrap_or_default(),
                service: label.to_owned(),
                address: Some(address),
                by: by.clone(),
                detail: String::new(),
            };
            self.reported.events.note(&self.metrics, what);
        }
    }
}
