//! The way down of the process: who orders it, and what the control thread does while workers go theirs: it looks whether
//! the application still needs them, and says when nothing comes in any more.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use mesh_core::drain::{
    Application,
    application::{self, Ended, Mode, Port, Seen},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};

use super::Parts;
use crate::{
    application::Probe,
    drain::{ApplicationPort, Cause},
    telemetry::{
        control::ControlCounters,
        worker::{Count, Direction, WorkerMetrics},
    },
    worker::{Stage, WorkerHandle},
};

/// How often the workers are looked at while the proxy serves.
const WORKER_CHECK: Duration = Duration::from_secs(1);
/// How often the application is looked at on the way down.
const LOOK: Duration = Duration::from_millis(200);
/// More than the workers' own limit, after which they are not waited for; less than what is left of the grace.
const PATIENCE: Duration = Duration::from_millis(500);

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATE,
            _ = self.interrupt.recv() => INTERRUPT,
        }
    }
}

const TERMINATE: &str = "SIGTERM";
const INTERRUPT: &str = "SIGINT";

/// Tells log and metrics whenever the proxy becomes ready, or is not any more.
pub(super) async fn tell_readiness(mut missing: watch::Receiver<BTreeSet<String>>, counters: Arc<ControlCounters>) {
    loop {
        if missing.wait_for(BTreeSet::is_empty).await.is_err() {
            return;
        }
        ControlCounters::add(&counters.became_ready);
        tracing::info!("ready");
        let lacks = missing.wait_for(|missing| !missing.is_empty()).await;
        let Ok(lacks) = lacks else { return };
        tracing::warn!(missing = ?*lacks, "not ready any more");
    }
}

/// What is known of the application beside the proxy.
struct Watched {
    mode: Mode,
    port: ApplicationPort,
    /// When it was seen to hold a connection last, or to have made one, or began to be watched, or was told that nothing
    /// comes in any more.
    held: Instant,
    /// Connections that it has made.
    made: u64,
}

impl Watched {
    fn judge(&mut self, ended: Ended, made: u64, connections: usize) -> Application {
        let now = Instant::now();
        if connections > 0 || std::mem::replace(&mut self.made, made) != made {
            self.held = now;
        }
        let port = match (self.mode, connections) {
            (Mode::Classic, 0) => self.port.look(),
            (Mode::Classic | Mode::Native, _) => Port::Unknown,
        };
        application::judge(self.mode, &Seen { ended, connections, without: now - self.held, port })
    }
}

impl Parts {
    /// Returns when the order to drain was given, by whomever.
    pub(super) async fn order_from(&self, signals: &mut Signals, workers: &[WorkerHandle]) {
        let mut check = tokio::time::interval(WORKER_CHECK);
        loop {
            tokio::select! {
                biased;
                name = signals.next() => {
                    self.order.give(Cause::Signal(name));
                    self.note_signal(name);
                }
                () = self.order.given() => break,
                _ = check.tick() => {
                    if workers.iter().any(WorkerHandle::is_finished) {
                        self.order.give(Cause::WorkerLost);
                    }
                }
            }
        }
        ControlCounters::add(&self.counters.began_draining);
    }

    /// A native sidecar gets its signal after its application has ended.
    fn note_signal(&self, name: &'static str) {
        if self.settings.down.mode == Mode::Native && name == TERMINATE {
            self.order.end_application();
        }
    }

    /// Waits until nothing comes in and the application needs the proxy no more, or the time is over; then for the end of
    /// the workers.
    pub(super) async fn go_down(&self, signals: &mut Signals, workers: Vec<WorkerHandle>) -> anyhow::Result<()> {
        let end = Instant::now() + self.settings.down.limits.end() + PATIENCE;
        let ports = self.shared.load().inbound.keys().copied().collect::<Vec<u16>>();
        let probed = self.settings.application_probe.as_ref().and_then(Probe::port);
        let ports = ports.into_iter().chain(self.settings.inbound_ports.iter().copied()).chain(probed);
        let port = ApplicationPort::find(self.settings.application_address, ports);
        let mut watched = Watched { mode: self.settings.down.mode, port, held: Instant::now(), made: 0 };
        while !workers.iter().all(|worker| *worker.stage.borrow() >= Stage::Done || worker.is_finished()) {
            tokio::select! {
                name = signals.next() => self.another_signal(name),
                () = sleep(LOOK) => {}
                () = sleep_until(end) => return too_late(),
            }
            let is_closed = |worker: &WorkerHandle| *worker.stage.borrow() >= Stage::Outbound || worker.is_finished();
            let ended = self.order.application();
            let [made, connections] = self.outbound_connections();
            let is_drained = workers.iter().all(is_closed);
            if is_drained && self.tell_inbound() {
                // Whoever waits for the answer to `/drain` only ends the application now, which makes its last calls then.
                watched.held = Instant::now();
            }
            let application = watched.judge(ended, made, usize::try_from(connections).unwrap_or(usize::MAX));
            // One that makes no calls may still be called.
            if ended == Ended::Said || (is_drained && application == Application::Gone) {
                workers.iter().for_each(WorkerHandle::application_is_gone);
            }
        }
        self.tell_inbound();
        let joined = spawn_blocking(move || {
            let ends: Vec<_> = workers.into_iter().map(WorkerHandle::join).collect();
            ends.into_iter().collect::<Result<(), _>>()
        });
        tokio::select! {
            ends = joined => ends.context("waiting for the workers failed")?.context("a worker ended badly"),
            () = sleep_until(end) => too_late(),
        }
    }

    /// Says, once, that nothing comes in any more. True that time.
    fn tell_inbound(&self) -> bool {
        let first = self.order.finish_inbound();
        if first {
            ControlCounters::add(&self.counters.drained);
            tracing::info!("drained: nothing comes in any more");
        }
        first
    }

    fn another_signal(&self, name: &'static str) {
        self.note_signal(name);
        if name == INTERRUPT {
            tracing::warn!(signal = name, "second signal: ending at once");
            std::process::exit(1);
        }
        tracing::info!(signal = name, "on the way down already");
    }

    /// Connections of the application: made, and open.
    fn outbound_connections(&self) -> [u64; 2] {
        let sum = |count: fn(&WorkerMetrics) -> &[Count; 2]| {
            self.workers.iter().map(|worker| count(worker)[Direction::Outbound as usize].get()).sum()
        };
        [sum(|worker| &worker.accepted), sum(|worker| &worker.open)]
    }
}

/// A worker that does not end in time is left alone: what it still had is lost, and the process ends in order before it is
/// killed.
fn too_late() -> anyhow::Result<()> {
    tracing::warn!("the workers did not end in time");
    std::process::exit(0);
}
