//! Active health checks: instances of the services in use whose policy asks for it are probed over the mesh transport, so
//! that a dead sidecar counts too. One task per worker; probes at the same time are bounded.

mod ask;

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use ahash::AHashMap;
use futures_util::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use mesh_core::{
    health::{Acquaintance, ProbeResult, Probed, Traffic},
    model::{endpoint::Endpoint, policy::TrafficPolicy, service::ServiceKey},
};
use tokio::time::{sleep, timeout};

use crate::worker::{Stage, Worker};

/// Probes at the same time; more wait for their turn.
const AT_ONCE_MAX: usize = 64;
/// How often it is looked whether instances have come or gone, or a service is called again.
const LOOK: Duration = Duration::from_secs(1);

type Place = (ServiceKey, SocketAddr);

/// A probe that has ended.
struct Done {
    place: Place,
    traffic: Arc<TrafficPolicy>,
    result: ProbeResult,
    begun: Duration,
}

/// What is kept of an instance that is probed.
#[derive(Clone, Copy)]
struct Progress {
    acquaintance: Acquaintance,
    turn: Turn,
}

#[derive(Clone, Copy)]
enum Turn {
    /// The first, as soon as it can be.
    Now,
    /// One is under way.
    UnderWay,
    /// An interval after the last one, lengthened by this chance.
    After { begun: Duration, chance: f64 },
}

/// What is probed by one worker.
struct Prober {
    worker: Rc<Worker>,
    places: AHashMap<Place, Progress>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Done>>,
}

/// Probes until the proxy has drained.
pub async fn run(worker: Rc<Worker>) {
    let seat = worker.drain.seat();
    let mut prober = Prober { worker: Rc::clone(&worker), places: AHashMap::new(), under_way: FuturesUnordered::new() };
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
        let used = worker.health.probed(now);
        if used.is_empty() {
            self.places.clear();
            return None;
        }
        let snapshot = worker.shared.load();
        let mut places = AHashMap::with_capacity(self.places.len());
        let mut next = now + LOOK;
        for (key, idle) in used {
            let traffic = snapshot.traffic.get(key.label());
            let Some((service, traffic)) = snapshot.services.get(&key).zip(traffic) else { continue };
            let Some(check) = &traffic.health_check else { continue };
            let calls = Traffic::after(idle, check);
            let takes_traffic = |endpoint: &&Arc<Endpoint>| endpoint.is_open();
            for endpoint in service.endpoints().iter().filter(takes_traffic) {
                let place = (key.clone(), endpoint.address);
                let new = Progress { acquaintance: Acquaintance::New, turn: Turn::Now };
                let mut progress = self.places.get(&place).copied().unwrap_or(new);
                let due = match progress.turn {
                    Turn::Now => Some(now),
                    Turn::UnderWay => None,
                    Turn::After { begun, chance } => {
                        Some(begun + worker.health.next_probe((&key, endpoint.address), check, calls, chance))
                    }
                };
                if due.is_some_and(|due| due <= now) && self.under_way.len() < AT_ONCE_MAX {
                    progress.turn = Turn::UnderWay;
                    let probe = probe(Rc::clone(&worker), place.clone(), Arc::clone(endpoint), Arc::clone(traffic));
                    self.under_way.push(Box::pin(probe));
                } else if let Some(due) = due {
                    next = next.min(due.max(now));
                }
                places.insert(place, progress);
            }
        }
        self.places = places;
        // Where too many are under way, the end of one is waited for.
        Some(next.saturating_sub(now).max(if self.under_way.len() < AT_ONCE_MAX { Duration::ZERO } else { LOOK }))
    }

    fn take(&mut self, done: &Done) {
        let (key, address) = &done.place;
        let chance = self.worker.random() as f64 / u64::MAX as f64;
        // One that has left in the meantime is not remembered.
        let Some(progress) = self.places.get_mut(&done.place) else { return };
        progress.turn = Turn::After { begun: done.begun, chance };
        let Some(check) = &done.traffic.health_check else { return };
        let probed = Probed { result: done.result, begun: done.begun, acquaintance: progress.acquaintance };
        if done.result == ProbeResult::Succeeded {
            progress.acquaintance = Acquaintance::Known;
        }
        self.worker.health.take_probe(&self.worker, (key, *address), probed, check);
    }
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
