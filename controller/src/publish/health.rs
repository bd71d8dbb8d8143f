//! `mesh.v1.MeshHealth`: shared probing. Proxies say what they call and what their probes show; each hears what it is to
//! probe and which instances are unhealthy by the word of those who probe them.

mod table;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::stream;
use mesh_core::{model::service::ServiceKey, resources::World};
use mesh_proto::{
    convert::shared_health::{Calls, Shares, calls_from_wire, shares_to_wire},
    mesh::v1::{CallerHealth, SharedHealth, mesh_health_server::MeshHealth},
};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Request, Response, Status, Streaming};

pub use self::table::{Seat, Sharing};
use super::{Published, Watch, follow::Answers, peer::Peer};
use crate::{
    index::{Key, path},
    telemetry::{Metrics, OpenStream, Service},
};

/// How long a new stream may take to say who it is.
const CALLER_DEADLINE: Duration = Duration::from_secs(10);
/// Shortest time between two answers to one proxy: changes that come together are one.
const PACE: Duration = Duration::from_millis(100);

/// The service.
pub struct Health {
    /// What is published.
    pub published: Arc<Published>,
    /// State of shared probing.
    pub sharing: Arc<Sharing>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl MeshHealth for Health {
    type ShareStream = Answers<SharedHealth>;

    async fn share(&self, request: Request<Streaming<CallerHealth>>) -> Result<Response<Self::ShareStream>, Status> {
        let peer = Peer::proven(&request)?;
        let mut reports = request.into_inner();
        let first = timeout(CALLER_DEADLINE, reports.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no report within 10 s"))??;
        let Some(CallerHealth { caller: Some(caller), .. }) = &first else {
            return Err(Status::invalid_argument("the first report of a stream must say whose it is"));
        };
        peer.is_account(&caller.namespace, &caller.service_account)?;
        let seat = self.sharing.enter(World::workload_key(&caller.namespace, &caller.pod));
        let mut stream = Sharer {
            watch: self.published.watch([Key::Mesh]),
            watched: Vec::new(),
            seat,
            reports,
            published: Arc::clone(&self.published),
            sent: None,
            due: Instant::now(),
            open: self.metrics.stream(Service::Health),
        };
        stream.take(&first.unwrap_or_default())?;
        Ok(Response::new(Box::pin(stream::unfold(Some(stream), next))))
    }
}

/// The stream of one proxy.
struct Sharer {
    reports: Streaming<CallerHealth>,
    published: Arc<Published>,
    seat: Seat,
    watch: Watch,
    /// Services that are watched.
    watched: Vec<ServiceKey>,
    sent: Option<BTreeMap<ServiceKey, Shares>>,
    /// When the next answer may be given.
    due: Instant,
    open: OpenStream,
}

async fn next(stream: Option<Sharer>) -> Option<(Result<SharedHealth, Status>, Option<Sharer>)> {
    let mut stream = stream?;
    match stream.answer().await {
        Ok(Some(answer)) => Some((Ok(answer), Some(stream))),
        Ok(None) => None,
        Err(status) => Some((Err(status), None)),
    }
}

impl Sharer {
    /// The next answer; `None` when the proxy ended the stream.
    async fn answer(&mut self) -> Result<Option<SharedHealth>, Status> {
        loop {
            if !self.settle().await? {
                return Ok(None);
            }
            let shares = self.seat.shares();
            if self.sent.as_ref() != Some(&shares) {
                let message = shares_to_wire(&shares);
                self.sent = Some(shares);
                self.due = Instant::now() + PACE;
                self.open.sent();
                return Ok(Some(message));
            }
            if !self.wait().await? {
                return Ok(None);
            }
        }
    }

    /// Waits until the next answer may be given; false when the proxy ended the stream.
    async fn settle(&mut self) -> Result<bool, Status> {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(self.due) => return Ok(true),
                message = self.reports.message() => match message {
                    Ok(Some(report)) => self.take(&report)?,
                    Ok(None) | Err(_) => return Ok(false),
                },
            }
        }
    }

    /// Waits until there may be something to say; false when the proxy ended the stream.
    async fn wait(&mut self) -> Result<bool, Status> {
        tokio::select! {
            () = self.seat.news() => {}
            changed = self.watch.changed() => {
                changed?;
                self.seat.refresh(&self.published.view());
            }
            message = self.reports.message() => match message {
                Ok(Some(report)) => self.take(&report)?,
                Ok(None) | Err(_) => return Ok(false),
            },
        }
        Ok(true)
    }

    fn take(&mut self, report: &CallerHealth) -> Result<(), Status> {
        let calls = calls_from_wire(report).map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
        self.watch_services(&calls);
        self.seat.report(calls, &self.published.view());
        Ok(())
    }

    /// Watches what is called: instances come and go, and policies change.
    fn watch_services(&mut self, calls: &Calls) {
        if calls.keys().eq(&self.watched) {
            return;
        }
        self.watched = calls.keys().cloned().collect();
        let labels = self.watched.iter().filter_map(|key| Some(Key::Service(path(key)?.0.to_owned())));
        self.watch = self.published.watch(labels.chain([Key::Mesh]));
    }
}
