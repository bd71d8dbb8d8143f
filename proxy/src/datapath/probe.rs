//! Active health checks: instances of the services in use whose policy asks for it are probed over the mesh transport, so
//! that a dead sidecar counts too. One task per worker; probes at the same time are bounded.

mod ask;

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use ahash::AHashMap;
use futures_util::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use mesh_core::{
    health::ProbeResult,
    model::{
        endpoint::Endpoint,
        policy::{HealthCheck, TrafficPolicy},
        service::ServiceKey,
    },
};
use tokio::time::{sleep, timeout};

use crate::worker::{Stage, Worker};

/// Probes at the same time; more wait for their turn.
const AT_ONCE_MAX: usize = 64;
/// How often it is looked whether instances have come or gone.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest interval, whatever a policy says.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Greatest part by which chance moves a probe.
const JITTER: f64 = 0.1;

type Place = (ServiceKey, SocketAddr);

/// A probe that has ended.
struct Done {
    place: Place,
    traffic: Arc<TrafficPolicy>,
    result: ProbeResult,
    begun: Duration,
}

/// What is probed by one worker.
struct Prober {
    worker: Rc<Worker>,
    /// When each instance's next probe is due.
    due: AHashMap<Place, Duration>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Done>>,
}

/// Probes until the proxy has drained.
pub async fn run(worker: Rc<Worker>) {
    let seat = worker.drain.seat();
    let mut prober = Prober { worker: Rc::clone(&worker), due: AHashMap::new(), under_way: FuturesUnordered::new() };
    loop {
        let next = prober.begin();
        tokio::select! {
            () = seat.reached(Stage::Done) => return,
            Some(done) = prober.under_way.next() => prober.take(&done),
            () = worker.health.came_into_use.notified() => {}
            () = sleep(next.unwrap_or_default()), if next.is_some() => {}
        }
    }
}

impl Prober {
    /// Begins what is due. Says after how long to look again; `None` = when a service comes into use.
    fn begin(&mut self) -> Option<Duration> {
        let (worker, now) = (Rc::clone(&self.worker), self.worker.now());
        let keys = worker.health.probed(now);
        if keys.is_empty() {
            self.due.clear();
            return None;
        }
        let snapshot = worker.shared.load();
        let mut due = AHashMap::with_capacity(self.due.len());
        let mut next = now + LOOK;
        for key in keys {
            let traffic = snapshot.traffic.get(key.label());
            let Some((service, traffic)) = snapshot.services.get(&key).zip(traffic) else { continue };
            let Some(check) = &traffic.health_check else { continue };
            let takes_traffic = |endpoint: &&Arc<Endpoint>| endpoint.is_open();
            for endpoint in service.endpoints().iter().filter(takes_traffic) {
                let place = (key.clone(), endpoint.address);
                // First probe at once.
                let mut at = self.due.get(&place).copied().unwrap_or(now);
                if at <= now && self.under_way.len() < AT_ONCE_MAX {
                    at = now + interval(&worker, check);
                    let probe = probe(Rc::clone(&worker), place.clone(), Arc::clone(endpoint), Arc::clone(traffic));
                    self.under_way.push(Box::pin(probe));
                }
                next = next.min(at.max(now));
                due.insert(place, at);
            }
        }
        self.due = due;
        // Where too many are under way, the end of one is waited for.
        Some(next.saturating_sub(now).max(if self.under_way.len() < AT_ONCE_MAX { Duration::ZERO } else { LOOK }))
    }

    fn take(&mut self, done: &Done) {
        let (key, address) = &done.place;
        let Some(check) = &done.traffic.health_check else { return };
        // One that has left in the meantime is not remembered.
        if self.due.contains_key(&done.place) {
            self.worker.health.take_probe(&self.worker, (key, *address), (done.result, done.begun), check);
        }
    }
}

/// Time to the next probe: the policy's interval, moved by chance, and never less than a probe may take.
fn interval(worker: &Worker, check: &HealthCheck) -> Duration {
    let chance = worker.random() as f64 / u64::MAX as f64;
    check.interval.max(INTERVAL_MIN).mul_f64(1.0 - JITTER + 2.0 * JITTER * chance)
}

async fn probe(worker: Rc<Worker>, place: Place, endpoint: Arc<Endpoint>, traffic: Arc<TrafficPolicy>) -> Done {
    let begun = worker.now();
    let limit = traffic.health_check.as_ref().map_or(LOOK, |check| check.timeout);
    let asked = timeout(limit, ask::ask(&worker, &place.0, &endpoint, &traffic)).await;
    let result = match asked {
        Ok(Ok(())) => ProbeResult::Succeeded,
        Ok(Err(why)) => {
            tracing::debug!(service = %place.0, endpoint = %place.1, why, "a health check failed");
            ProbeResult::Failed
        }
        Err(_) => ProbeResult::Failed,
    };
    Done { place, traffic, result, begun }
}
