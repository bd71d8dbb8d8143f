//! Callers of which only the part that shares probing is played: they speak `mesh.v1.MeshHealth` with the controller and
//! probe what they are told to, with plain requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use mesh_core::{
    health::{ProbeResult, Traffic},
    model::service::ServiceKey,
};
use mesh_proto::{
    convert::shared_health::{Called, Calls, Shares, calls_to_wire, shares_from_wire},
    mesh::v1::{Caller, CallerHealth, mesh_health_client::MeshHealthClient},
};
use mesh_tests::{
    client::{self, Version},
    pod::NAMESPACE,
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::{callers::HOST, health::HEALTH};

/// A probe that takes longer has failed.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Reports that wait to be sent.
const REPORTS: usize = 16;

/// A stand-in; ends when dropped.
pub(crate) struct StandIn {
    known: watch::Receiver<Option<BTreeSet<SocketAddr>>>,
    running: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl StandIn {
    /// A caller of this name; the controller listens without TLS at `controller`.
    pub(crate) fn start(name: String, controller: SocketAddr, interval: Duration) -> StandIn {
        let (known, watched) = watch::channel(None);
        let running = tokio::spawn(async move {
            let part =
                Part { interval, known, shares: Shares::default(), due: BTreeMap::new(), found: BTreeMap::new() };
            part.play(name, controller).await.expect("the controller shares probing");
        });
        StandIn { known: watched, running }
    }

    /// Whether the controller has answered it.
    pub(crate) fn is_answered(&self) -> bool {
        self.known.borrow().is_some()
    }

    /// Instances that it knows to be unhealthy.
    pub(crate) fn failing(&self) -> BTreeSet<SocketAddr> {
        self.known.borrow().clone().unwrap_or_default()
    }
}

fn service() -> ServiceKey {
    ServiceKey(format!("{HOST}.{NAMESPACE}.svc.cluster.local:80").into())
}

/// State of one.
struct Part {
    interval: Duration,
    known: watch::Sender<Option<BTreeSet<SocketAddr>>>,
    shares: Shares,
    due: BTreeMap<SocketAddr, Instant>,
    found: BTreeMap<SocketAddr, ProbeResult>,
}

impl Part {
    async fn play(mut self, name: String, controller: SocketAddr) -> anyhow::Result<()> {
        let channel = Endpoint::from_shared(format!("http://{controller}"))?.connect().await?;
        let (reports, queue) = mpsc::channel(REPORTS);
        let caller = Caller { namespace: NAMESPACE.to_owned(), pod: name, service_account: "a".to_owned() };
        reports.send(calls_to_wire(&self.calls(), Some(caller))).await?;
        let mut stream = MeshHealthClient::new(channel).share(ReceiverStream::new(queue)).await?.into_inner();
        let mut probes = JoinSet::new();
        loop {
            let next = self.due.values().min().copied().unwrap_or_else(|| Instant::now() + self.interval);
            tokio::select! {
                message = stream.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    self.hear(shares_from_wire(&message)?.remove(&service()).unwrap_or_default());
                }
                () = sleep_until(next) => self.begin(&mut probes),
                Some(done) = probes.join_next() => self.take(done?, &reports).await?,
            }
            let failing = self.failing();
            self.known.send_if_modified(|known| known.replace(failing.clone()) != Some(failing));
        }
    }

    fn calls(&self) -> Calls {
        Calls::from([(service(), Called { traffic: Traffic::Flowing, seen: self.found.clone() })])
    }

    fn hear(&mut self, shares: Shares) {
        self.due.retain(|address, _| shares.probe.contains(address));
        self.found.retain(|address, _| shares.probe.contains(address));
        for address in &shares.probe {
            self.due.entry(*address).or_insert_with(Instant::now);
        }
        self.shares = shares;
    }

    fn begin(&mut self, probes: &mut JoinSet<(SocketAddr, ProbeResult)>) {
        let now = Instant::now();
        for (address, due) in self.due.iter_mut().filter(|(_, due)| **due <= now) {
            // As long as a sidecar's, by chance.
            *due = now + self.interval.mul_f64(1.0 + 0.1 * rand::random::<f64>());
            probes.spawn(probe(*address));
        }
    }

    async fn take(
        &mut self,
        (address, result): (SocketAddr, ProbeResult),
        reports: &mpsc::Sender<CallerHealth>,
    ) -> anyhow::Result<()> {
        if self.due.contains_key(&address) && self.found.insert(address, result) != Some(result) {
            reports.send(calls_to_wire(&self.calls(), None)).await?;
        }
        Ok(())
    }

    fn failing(&self) -> BTreeSet<SocketAddr> {
        let own = self.found.iter().filter(|(_, result)| **result == ProbeResult::Failed).map(|(address, _)| *address);
        let told = self.shares.failing.iter().filter(|address| !self.shares.probe.contains(address)).copied();
        own.chain(told).collect()
    }
}

async fn probe(address: SocketAddr) -> (SocketAddr, ProbeResult) {
    let answer = timeout(TIMEOUT, client::get(address, Version::Http1, HOST, HEALTH, &[])).await;
    let is_well = answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200));
    (address, if is_well { ProbeResult::Succeeded } else { ProbeResult::Failed })
}
