//! A worker with one model route, and a client on a raw connection.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{
    model::{
        lane::LaneGroup,
        model_route::{
            BODY_LIMIT, Capabilities, Credential, Drill, ModelEndpoint, ModelRetry, ModelRoute, ModelTarget,
            ModelTimers, NamePattern, Provider, Reason, Security, TokenLimits, VirtualModel,
        },
    },
    snapshot::Snapshot,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};

use super::scripted::{Say, Scripted, unchunk};
use crate::{
    datapath::{self, lane::links::Links},
    limits::Limits,
    net::http1::HeadLimits,
    providers::Room,
    shared::Shared,
    telemetry::worker::{AccessLog, Record, Sink, Tracing, WorkerMetrics},
    worker::{Door, OutsideLanes, Role, Worker, WorkerConfig},
};

/// Bytes of requests that the worker holds at most.
pub(super) const ROOM: usize = 64 * 1024;
/// Longest time that anything here may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Records of a test that nobody has looked at.
const RECORDS: usize = 64;
/// A context of a caller that samples.
pub(super) const TRACEPARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An answer as the client read it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
    pub(super) body: String,
    /// Whether it ended as its framing says.
    pub(super) is_whole: bool,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A worker and all around it.
pub(super) struct Stage {
    worker: Rc<Worker>,
    keys: tempfile::TempDir,
    drill: RefCell<Drill>,
    /// Longest request that routes from here on hold.
    pub(super) body_limit: Cell<usize>,
    /// Models that routes from here on have.
    pub(super) models: RefCell<Vec<&'static str>>,
    /// Lane groups, and services of the workload, from the next route on.
    pub(super) lanes: RefCell<Arc<Vec<LaneGroup>>>,
    pub(super) services: RefCell<Vec<String>>,
    metrics: Arc<WorkerMetrics>,
    records: RefCell<mpsc::Receiver<Box<Record>>>,
}

/// A target at an address that can do everything.
pub(super) fn target(name: &str, address: SocketAddr) -> ModelTarget {
    ModelTarget {
        name: name.to_owned(),
        provider: Provider::Openai,
        endpoint: ModelEndpoint::External {
            security: Security::None,
            host: address.ip().to_string(),
            port: address.port(),
            prefix: String::new(),
            proxy: None,
        },
        model: None,
        credential: None,
        priority: 0,
        weight: 1,
        lane: None,
        context_window: None,
        capabilities: Capabilities::default(),
        limits: Vec::new(),
    }
}

impl Stage {
    /// Runs a test on a worker of its own.
    pub(super) fn run(test: impl AsyncFnOnce(&Stage)) {
        Stage::run_as(Role::Sidecar, test);
    }

    /// As [`Stage::run`], on a worker of this role.
    pub(super) fn run_as(role: Role, test: impl AsyncFnOnce(&Stage)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        runtime.expect("a runtime").block_on(async {
            let stage = Stage::new(role);
            timeout(LIMIT, test(&stage)).await.expect("the test ends in time");
        });
    }

    fn new(role: Role) -> Stage {
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            tls: ArcSwapOption::new(None),
            outside_tls: ArcSwapOption::empty(),
            ask: mpsc::channel(1).0,
            revision: watch::channel(0).1,
            draining: watch::channel(false).1,
            limits: Limits::new().0,
            probing: Default::default(),
        };
        let metrics = Arc::new(WorkerMetrics::new(0));
        let (sent, records) = mpsc::channel(RECORDS);
        let sink = Sink {
            metrics: Arc::clone(&metrics),
            records: sent,
            access_log: AccessLog::Failures,
            // Whoever calls says whether it is sampled.
            tracing: Tracing::On { share: 0.0 },
        };
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let config = WorkerConfig {
            role,
            outbound_listen: nowhere,
            inbound_listen: None,
            admin_listen: None,
            application_address: None,
            trust_domain: "cluster.local".into(),
            control_namespace: "lanemesh".into(),
            head_limits: HeadLimits::default(),
            drain: Default::default(),
            notices: Default::default(),
            outside_lanes: OutsideLanes::Strip,
            outside_tls_listen: None,
            forwarded_hops: 0,
            lane_table: 1,
            secrets_directory: PathBuf::new(),
            model_room: Room::new(ROOM),
            places: Default::default(),
        };
        let links = Links::all(1).0.remove(0);
        let worker = Worker::new(Arc::new(config), Arc::new(shared), sink, links);
        let keys = tempfile::TempDir::new().expect("a folder");
        Stage {
            worker,
            keys,
            drill: RefCell::default(),
            body_limit: Cell::new(BODY_LIMIT),
            models: RefCell::new(vec!["small"]),
            lanes: RefCell::default(),
            services: RefCell::default(),
            metrics,
            records: RefCell::new(records),
        }
    }

    /// Puts the route `llm` of the host `llm.demo` in force: model `small` with these targets, first come first asked.
    pub(super) fn route(&self, targets: Vec<ModelTarget>, timers: ModelTimers) {
        self.limited_route(targets, timers, TokenLimits::default());
    }

    /// As [`Stage::route`], with limits of callers.
    pub(super) fn limited_route(&self, targets: Vec<ModelTarget>, timers: ModelTimers, tokens: TokenLimits) {
        self.changed_route(targets, timers, tokens, |_| ());
    }

    /// As [`Stage::limited_route`], of a model that differs.
    pub(super) fn changed_route(
        &self,
        targets: Vec<ModelTarget>,
        timers: ModelTimers,
        tokens: TokenLimits,
        change: impl FnOnce(&mut VirtualModel),
    ) {
        let prioritised = |(place, target): (usize, ModelTarget)| {
            Arc::new(ModelTarget { priority: u32::try_from(place).unwrap_or(u32::MAX), ..target })
        };
        let mut model = VirtualModel {
            name: NamePattern::Any,
            targets: targets.into_iter().enumerate().map(prioritised).collect(),
            timers,
            retry: ModelRetry::default(),
            hedge: Default::default(),
            escalate: Default::default(),
            on_exhausted: Default::default(),
            mid_stream: Default::default(),
        };
        change(&mut model);
        let named = |name: &&str| VirtualModel { name: NamePattern::Exact((*name).to_owned()), ..model.clone() };
        let names = self.models.borrow().clone();
        let models = names.iter().map(|name| Arc::new(named(name)));
        let route = ModelRoute {
            name: "llm.demo".to_owned(),
            hosts: vec!["llm.demo".to_owned()],
            models: models.collect(),
            tokens,
            drill: self.drill.borrow().clone(),
            body_limit: self.body_limit.get(),
        };
        let mut snapshot = Snapshot { model_routes: vec![Arc::new(route)].into(), ..Snapshot::default() };
        snapshot.set_lanes(self.lanes.borrow().clone());
        snapshot.workload.services.clone_from(&self.services.borrow());
        self.worker.shared.snapshot.store(Arc::new(snapshot));
    }

    /// Routes from here on let these force failures.
    pub(super) fn allow_drills(&self, driller: &str) {
        self.drill.borrow_mut().allow.push(driller.parse().expect("a caller"));
    }

    /// The workload is `demo/<account>` from here on.
    pub(super) fn identify(&self, account: &'static str) {
        self.worker.shared.tls.store(Some(Arc::new(crate::net::tls::tests::material(account))));
    }

    /// Forced failures of a target that were counted.
    pub(super) fn drills(&self, target: &str) -> Vec<&'static str> {
        let drills = self.metrics.models.drills();
        drills.iter().filter(|drill| drill.0.target == target).map(|drill| drill.0.reason).collect()
    }

    /// Requests that were not held for this reason.
    pub(super) fn unheld(&self, why: &str) -> u64 {
        let all = self.metrics.models.unheld_requests();
        all.iter().filter(|one| one.0.why == why).map(|one| one.1.get()).sum()
    }

    /// Bytes of requests that are held.
    pub(super) fn held(&self) -> usize {
        self.worker.config.model_room.taken()
    }

    /// Sends this, and leaves after a moment in which a target may have got it.
    pub(super) async fn say_and_leave(&self, text: &str) {
        let mut client = self.connect().await;
        client.write_all(text.as_bytes()).await.expect("it is sent");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// A file with a key.
    pub(super) fn key(&self, text: &str) -> Credential {
        let path = self.keys.path().join("key");
        std::fs::write(&path, text).expect("a key is written");
        // Clocks of file systems are coarse: another text is another time.
        let age = Duration::from_secs(text.bytes().map(u64::from).sum());
        let file = std::fs::File::options().write(true).open(&path).expect("the key");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + age).expect("its time");
        Credential::File(path.display().to_string())
    }

    /// A target that answers its requests with these, one after the other.
    pub(super) async fn target(&self, script: Vec<Say>) -> Scripted {
        Scripted::new(script).await
    }

    /// Keeps connections warm from here on.
    pub(super) fn keep_warm(&self) {
        tokio::task::spawn_local(super::super::warm::run(Rc::clone(&self.worker)));
    }

    /// Asks for a chat.
    pub(super) async fn chat(&self, body: &str) -> Answer {
        self.ask(&chat(body)).await
    }

    /// As [`Stage::chat`], forcing failures.
    pub(super) async fn drill(&self, fault: &str, body: &str) -> Answer {
        self.with_field(&format!("x-mesh-model-fault: {fault}"), body).await
    }

    /// As [`Stage::chat`], with this field besides.
    pub(super) async fn with_field(&self, line: &str, body: &str) -> Answer {
        self.ask(&chat(body).replacen("\r\n", &format!("\r\n{line}\r\n"), 1)).await
    }

    /// As [`Stage::chat`], by a caller whose trace is sampled.
    pub(super) async fn traced(&self, body: &str) -> Answer {
        self.ask(&chat(body).replacen("\r\n", &format!("\r\n{TRACEPARENT}\r\n"), 1)).await
    }

    /// Records of a call and its attempts, the call first, then the attempts in their order; waits for that of the call.
    pub(super) async fn told(&self) -> Vec<Box<Record>> {
        let mut told = Vec::new();
        loop {
            let record = poll_fn(|cx| self.records.borrow_mut().poll_recv(cx)).await;
            told.push(record.expect("the worker lives"));
            let is_call = |record: &Record| record.model.as_ref().is_some_and(|call| call.attempt().is_none());
            if told.last().is_some_and(|record| is_call(record)) {
                told.sort_by_key(|record| record.model.as_ref().and_then(|call| call.attempt()));
                return told;
            }
        }
    }

    /// Sends a request and reads its answer.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.expect("the request is sent");
        read(&mut client).await
    }

    /// Asks for a chat and leaves once this text has come.
    pub(super) async fn leave_after(&self, body: &str, text: &str) {
        self.ask_until(&chat(body), text).await;
    }

    /// Sends a request and leaves once this text has come; all that came.
    pub(super) async fn ask_until(&self, request: &str, text: &str) -> String {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            let count = client.read_buf(&mut all).await.expect("the answer comes");
            assert!(count > 0, "the answer ended early");
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("its number")).await.expect("a connection");
        let (io, peer) = listener.accept().await.expect("the other end");
        let worker = Rc::clone(&self.worker);
        tokio::task::spawn_local(async move {
            datapath::connection(&worker, io, peer, (Door::Outbound, &Rc::default())).await
        });
        client
    }

    /// Tokens that a target reported: read and written.
    pub(super) fn tokens(&self, target: &str) -> (u64, u64) {
        self.counted(target, 0)
    }

    /// Tokens that were estimated of a target: read and written.
    pub(super) fn estimated(&self, target: &str) -> (u64, u64) {
        self.counted(target, 1)
    }

    fn counted(&self, target: &str, source: usize) -> (u64, u64) {
        let series = self.metrics.models.series();
        let of = |kind: usize| {
            let of_target = series.iter().filter(|series| series.key.target == target);
            of_target.map(|series| series.tokens[source][kind].get()).sum()
        };
        (of(0), of(1))
    }

    /// From whom to whom requests fell back, why, and whether the client had some of the answer.
    pub(super) fn fallbacks(&self) -> Vec<(String, String, &'static str, &'static str)> {
        let counted = self.metrics.models.fallbacks();
        let keys = counted.iter().map(|counted| &counted.0);
        keys.map(|key| (key.from.clone(), key.to.clone(), key.reason, key.committed)).collect()
    }

    /// Why attempts at a target failed.
    pub(super) fn failures(&self, target: &str) -> Vec<Reason> {
        let series = self.metrics.models.series();
        let of_target = series.iter().filter(|series| series.key.target == target);
        of_target
            .flat_map(|series| {
                let failed = |(reason, place): (&Reason, usize)| {
                    std::iter::repeat_n(*reason, usize::try_from(series.failed[place].get()).unwrap_or(0))
                };
                Reason::ALL.iter().zip(0..).flat_map(failed).collect::<Vec<_>>()
            })
            .collect()
    }
}

pub(super) fn chat(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: llm.demo\r\nauthorization: Bearer sk-caller\r\naccept-encoding: gzip\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn read(client: &mut TcpStream) -> Answer {
    let mut all = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n")
            && let Some(answer) = parse(head, rest, false)
        {
            return answer;
        }
        if client.read_buf(&mut all).await.unwrap_or(0) == 0 {
            let text = String::from_utf8_lossy(&all).into_owned();
            let (head, rest) = text.split_once("\r\n\r\n").expect("an answer");
            return parse(head, rest, true).expect("an answer that ended");
        }
    }
}

fn parse(head: &str, rest: &str, ended: bool) -> Option<Answer> {
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = fields.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let (body, is_whole) = match length {
        Some(length) => (rest.get(..length).unwrap_or(rest).to_owned(), rest.len() >= length),
        None => unchunk(rest),
    };
    (is_whole || ended).then_some(Answer { status, fields, body, is_whole })
}
