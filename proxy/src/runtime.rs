//! Joins the parts and owns every long-lived task: control streams, identity, state on disk, admin, telemetry on this
//! thread, data workers on theirs. Ends when the order to drain was given and the workers have drained.

mod down;
mod start;

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use mesh_core::shedding;
use mesh_proto::mesh::v1::ProbeNote;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::timeout,
};

use self::{
    down::Signals,
    start::{MISSING_CERTIFICATE, MISSING_LISTENERS, Start},
};
use crate::{
    admin::{self, Admin, LogFilter},
    application,
    config::{ControlPeer, Settings},
    control::{
        client::{self, Proof},
        disk::Keeper,
        stream::{Asker, Channels, Streams},
    },
    datapath::lane::{links::Links, oracle::Oracle},
    drain::Order,
    identity::{
        Credentials,
        rotate::{self, Rotation},
    },
    limits::Follower,
    net::{memory, sys, tls::TlsMaterial},
    outside,
    shared::Shared,
    telemetry::{
        access_log,
        control::ControlCounters,
        metrics::render::Sources,
        records,
        spans::Spans,
        worker::{RECORD_QUEUE, Sink, Tracing, WorkerMetrics},
    },
    worker::{self, WorkerHandle},
};

/// Stack of helper threads (files, names, log), bytes: they do little.
const HELPER_STACK: usize = 256 * 1_024;
/// Helper threads for files and names.
const HELPERS_MAX: usize = 4;
/// For what is left to do after the workers have drained: last state, last log lines, last spans. With what workers may
/// take beyond their limit it is less than what is kept of the grace for this.
const LAST_WORDS: Duration = Duration::from_millis(1_400);
/// After becoming ready: kept state is written and the first streams have settled.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Runs the proxy until it has drained.
///
/// # Errors
/// When it cannot start, or a worker is lost.
pub fn run(settings: Settings, log: LogFilter) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(HELPER_STACK)
        .max_blocking_threads(HELPERS_MAX)
        .build()
        .context("cannot start the control thread")?;
    runtime.block_on(serve(settings, log))
}

/// Everything that the tasks share.
struct Parts {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    credentials: Arc<watch::Sender<Arc<Credentials>>>,
    missing: Arc<watch::Sender<BTreeSet<String>>>,
    counters: Arc<ControlCounters>,
    order: Order,
    workers: Vec<Arc<WorkerMetrics>>,
}

async fn serve(settings: Settings, log: LogFilter) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot watch for signals")?;
    memory::set_budget(settings.bounds.memory.unwrap_or_else(|| shedding::budget(memory::limit_of_group())));
    let admin_listener = TcpListener::bind(settings.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {} (admin)", settings.admin_listen))?;
    let (order, draining) = Order::new();
    let Start { parts, kept, asks, revision, outside: toward_outside, thirst } =
        start::prepare(settings, order, draining)?;
    let (log_lines, writer) = access_log::open(parts.settings.access_log, Arc::clone(&parts.counters));
    let writer = helper("access-log", move || writer.run(std::io::stdout()))?;
    let (sender, recorded) = mpsc::channel(RECORD_QUEUE);
    let (probes, probed) = mpsc::channel(records::PROBE_QUEUE);
    let records = tokio::spawn(records::run(recorded, log_lines, parts.spans()?, probes));
    let (workers, oracle) = parts.start_workers(sender)?;
    let (stop, stopped) = mpsc::channel(1);
    let keeper = parts.keep(stopped);
    let (end_leases, leases_end) = watch::channel(());
    let leases = tokio::spawn(parts.follower().run(Arc::clone(&parts.shared), thirst, leases_end));
    let mut tasks = JoinSet::new();
    tasks.spawn(parts.streams(revision, probed).run(kept, asks));
    tasks.spawn(rotate::run(parts.rotation(), Arc::clone(&parts.credentials)));
    tasks.spawn(publish_tls(parts.credentials.subscribe(), Arc::clone(&parts.shared), Arc::clone(&parts.missing)));
    if let Some((tls, pair)) = toward_outside {
        tasks.spawn(outside::watch(tls, pair, Arc::clone(&parts.shared)));
    }
    tasks.spawn(admin::serve(parts.admin(log, oracle), admin_listener));
    if let Some(probe) = parts.settings.application_probe.clone() {
        let address = parts.settings.application_address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let asking = application::watch(probe, address, Arc::clone(&parts.missing));
        tasks.spawn(asking);
    }
    tasks.spawn(settle(parts.missing.subscribe()));
    tasks.spawn(down::tell_readiness(parts.missing.subscribe(), Arc::clone(&parts.counters)));
    parts.order_from(&mut signals, &workers).await;
    let lost = parts.go_down(&mut signals, workers).await;
    drop(stop);
    drop(end_leases);
    // State and log are finished as far as they can be in a bounded time.
    let last = async {
        let _ = records.await;
        let _ = leases.await;
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
        let _ = spawn_blocking(move || writer.join()).await;
    };
    if timeout(LAST_WORDS, last).await.is_err() {
        tracing::warn!("not everything was written before the end");
    }
    tracing::info!("the end");
    lost
}

/// Starts a helper thread.
fn helper(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(HELPER_STACK)
        .spawn(work)
        .with_context(|| format!("cannot start the thread {name}"))
}

/// Once ready, gives back the memory that only the start needed.
async fn settle(mut missing: watch::Receiver<BTreeSet<String>>) {
    if missing.wait_for(BTreeSet::is_empty).await.is_err() {
        return;
    }
    tokio::time::sleep(SETTLE_TIME).await;
    if let Err(error) = sys::release_code() {
        tracing::debug!(%error, "the code of the start stays in memory");
    }
}

/// Hands every new certificate and trust bundle to the workers.
async fn publish_tls(
    mut credentials: watch::Receiver<Arc<Credentials>>,
    shared: Arc<Shared>,
    missing: Arc<watch::Sender<BTreeSet<String>>>,
) {
    loop {
        let current = Arc::clone(&credentials.borrow_and_update());
        let valid = current.valid(SystemTime::now());
        // A certificate that has ended proves nothing, but whom we trust must change all the same.
        let in_use = || current.held.as_ref().filter(|_| shared.tls.load().is_some());
        if let Some(held) = valid.or_else(in_use) {
            match TlsMaterial::new(&held.own, &current.trust) {
                Ok(material) => {
                    shared.tls.store(Some(Arc::new(material)));
                    missing.send_if_modified(|missing| missing.remove(MISSING_CERTIFICATE));
                }
                Err(error) => tracing::error!(%error, "the certificate in force cannot be used"),
            }
        }
        if credentials.changed().await.is_err() {
            return;
        }
    }
}

impl Parts {
    fn spans(&self) -> anyhow::Result<Option<Spans>> {
        let Some(endpoint) = &self.settings.otlp_endpoint else { return Ok(None) };
        let identity = &self.settings.identity;
        let service = format!("{}.{}", identity.service_account(), identity.namespace());
        let spans = Spans::new(endpoint, service, self.settings.pod.clone(), Arc::clone(&self.counters));
        spans.map(Some).with_context(|| format!("cannot send spans to {endpoint}"))
    }

    fn start_workers(
        &self,
        records: mpsc::Sender<Box<crate::telemetry::worker::Record>>,
    ) -> anyhow::Result<(Vec<WorkerHandle>, Oracle)> {
        let config = Arc::new(start::worker_config(&self.settings));
        let tracing = match self.settings.otlp_endpoint {
            Some(_) => Tracing::On { share: self.settings.trace_share },
            None => Tracing::Off,
        };
        let (links, oracle) = Links::all(self.workers.len());
        let start = |(metrics, links): (&Arc<WorkerMetrics>, Links)| {
            let sink = Sink {
                metrics: Arc::clone(metrics),
                records: records.clone(),
                access_log: self.settings.access_log,
                tracing,
            };
            worker::spawn(Arc::clone(&config), Arc::clone(&self.shared), sink, links).with_context(|| {
                format!("cannot listen on {} and {}", self.settings.outbound_listen, self.settings.inbound_listen)
            })
        };
        let workers: Vec<WorkerHandle> = self.workers.iter().zip(links).map(start).collect::<Result<_, _>>()?;
        self.missing.send_if_modified(|missing| missing.remove(MISSING_LISTENERS));
        if let Some(worker) = workers.first() {
            let inbound = worker.inbound.map(tracing::field::display);
            let outside_tls = worker.outside_tls.map(tracing::field::display);
            tracing::info!(outbound = %worker.outbound, inbound, outside_tls, workers = workers.len(), "listening");
        }
        Ok((workers, oracle))
    }

    fn keep(&self, stopped: mpsc::Receiver<()>) -> Option<JoinHandle<()>> {
        let keeper = Keeper {
            directory: self.settings.state_directory.clone()?,
            shared: Arc::clone(&self.shared),
            credentials: self.credentials.subscribe(),
            counters: Arc::clone(&self.counters),
        };
        Some(tokio::spawn(keeper.run(stopped)))
    }

    fn streams(&self, revision: watch::Sender<u64>, probed: mpsc::Receiver<ProbeNote>) -> Streams {
        let control = &self.settings.control;
        let channel = |peer: &ControlPeer| client::channel(peer, self.credentials.subscribe(), Proof::Required);
        let destination = channel(&control.destination);
        let shared_with =
            |peer: &ControlPeer| if *peer == control.destination { destination.clone() } else { channel(peer) };
        let channels = Channels {
            policy: shared_with(&control.policy),
            mesh: control.mesh.as_ref().map(shared_with),
            destination: destination.clone(),
        };
        Streams {
            channels,
            asker: Asker {
                hello: start::hello(&self.settings),
                control_namespace: self.settings.control_namespace.clone(),
                inbound_ports: self.settings.inbound_ports.iter().copied().collect(),
            },
            shared: Arc::clone(&self.shared),
            revision,
            credentials: Arc::clone(&self.credentials),
            missing: Arc::clone(&self.missing),
            counters: Arc::clone(&self.counters),
            workers: self.workers.clone(),
            probed,
            order: self.order.clone(),
            notice: self.settings.down.notices.controller,
        }
    }

    fn follower(&self) -> Follower {
        Follower {
            limits: Arc::clone(&self.shared.limits),
            secrets: self.settings.secrets_directory.clone(),
            name: self.settings.pod.clone(),
        }
    }

    fn rotation(&self) -> Rotation {
        Rotation {
            peer: self.settings.control.identity.clone(),
            control_namespace: self.settings.control_namespace.clone(),
            token_file: self.settings.token_file.clone(),
            trust_bundle_file: self.settings.trust_bundle_file.clone(),
            counters: Arc::clone(&self.counters),
        }
    }

    fn admin(&self, log: LogFilter, oracle: Oracle) -> Admin {
        let sources = Sources {
            workers: self.workers.clone(),
            control: Arc::clone(&self.counters),
            shared: Arc::clone(&self.shared),
            credentials: self.credentials.subscribe(),
            missing: self.missing.subscribe(),
            started: SystemTime::now(),
        };
        Admin { settings: Arc::clone(&self.settings), sources, order: self.order.clone(), log, oracle }
    }
}
