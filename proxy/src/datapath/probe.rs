//! Active health checks: instances of the services in use whose policy asks for it are probed over the mesh transport, so
//! that a dead sidecar counts too. One task per worker; probes at the same time are bounded. Which worker of which proxy
//! probes an instance stands on the board; what others find out is taken over from there.

mod ask;

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use ahash::AHashMap;
use futures_util::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use mesh_core::{
    health::{Acquaintance, ProbeResult, Probed, Traffic},
    model::{
        endpoint::Endpoint,
        policy::{HealthCheck, TrafficPolicy},
        service::ServiceKey,
    },
    snapshot::Snapshot,
};
use tokio::time::{sleep, timeout};

use crate::{
    health::board::{Duty, Patience, Reading, Seen},
    worker::{Stage, Worker},
};

/// Probes at the same time; more wait for their turn.
const AT_ONCE_MAX: usize = 64;
/// How often it is looked whether instances have come or gone, or a service is called again.
const LOOK: Duration = Duration::from_secs(1);
/// How long the controller's word on a service that comes into use is waited for.
const WORD_WAIT: Duration = Duration::from_secs(1);

type Place = (ServiceKey, SocketAddr);

/// A probe that has ended.
struct Done {
    place: Place,
    traffic: Arc<TrafficPolicy>,
    result: ProbeResult,
    begun: Duration,
}

/// What is kept of an instance.
#[derive(Clone, Copy)]
struct Progress {
    /// Since when it is known.
    came: Duration,
    acquaintance: Acquaintance,
    turn: Turn,
    /// What stands since we probe it.
    found: Option<ProbeResult>,
}

#[derive(Clone, Copy)]
enum Turn {
    /// The first probe since it is known, or since others probed it.
    At(Duration),
    /// One is under way.
    UnderWay,
    /// An interval after the last one, lengthened by this chance.
    After { begun: Duration, chance: f64 },
    /// Others probe it.
    Others,
}

/// What is probed by one worker.
struct Prober {
    worker: Rc<Worker>,
    places: AHashMap<Place, Progress>,
    /// Since when services are in use.
    came: BTreeMap<ServiceKey, Duration>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Done>>,
}

/// A probe that is due.
struct Due {
    at: Duration,
    place: Place,
    endpoint: Arc<Endpoint>,
    traffic: Arc<TrafficPolicy>,
}

/// A service that is probed.
struct Watched<'a> {
    key: &'a ServiceKey,
    calls: Traffic,
    check: &'a HealthCheck,
    patience: Patience,
}

/// Probes until the proxy has drained.
pub async fn run(worker: Rc<Worker>) {
    let seat = worker.drain.seat();
    let mut board = worker.shared.probing.changes();
    let mut prober = Prober {
        worker: Rc::clone(&worker),
        places: AHashMap::new(),
        came: BTreeMap::new(),
        under_way: FuturesUnordered::new(),
    };
    loop {
        let next = prober.begin();
        tokio::select! {
            () = seat.reached(Stage::Done) => return,
            Some(done) = prober.under_way.next() => prober.take(&done),
            () = worker.health.came_into_use.notified() => {}
            Ok(()) = board.changed() => {}
            () = sleep(next.unwrap_or_default()), if next.is_some() => {}
        }
    }
}

impl Prober {
    /// Begins what is due. Says after how long to look again; `None` = when a service comes into use.
    fn begin(&mut self) -> Option<Duration> {
        let (worker, now) = (Rc::clone(&self.worker), self.worker.now());
        let (board, snapshot) = (worker.shared.probing.read(), worker.shared.load());
        let own = own_calls(&worker, &snapshot, now);
        let mut used = board.used();
        for (key, traffic) in &own {
            let busiest = used.entry(key.clone()).or_insert(*traffic);
            *busiest = (*busiest).max(*traffic);
        }
        self.came.retain(|key, _| used.contains_key(key));
        worker.health.keep_probes_of(used.keys().cloned());
        let mut places = AHashMap::with_capacity(self.places.len());
        let mut found: BTreeMap<ServiceKey, BTreeMap<SocketAddr, ProbeResult>> = BTreeMap::new();
        let (mut next, mut all_due) = (now + LOOK, Vec::new());
        for (key, calls) in &used {
            let came = *self.came.entry(key.clone()).or_insert(now);
            let Some((service, policy)) = snapshot.services.get(key).zip(snapshot.traffic.get(key.label())) else {
                continue;
            };
            let Some(check) = &policy.health_check else { continue };
            let patience = if now < came + WORD_WAIT { Patience::Left } else { Patience::Over };
            let watched = Watched { key, calls: *calls, check, patience };
            let takes_traffic = |endpoint: &&Arc<Endpoint>| endpoint.is_open();
            for endpoint in service.endpoints().iter().filter(takes_traffic) {
                let place = (key.clone(), endpoint.address);
                let progress = self.progress(&board, &watched, &place, now);
                match self.due(&watched, &place, progress.turn) {
                    Some(at) if at <= now => {
                        let (endpoint, traffic) = (Arc::clone(endpoint), Arc::clone(policy));
                        all_due.push(Due { at, place: place.clone(), endpoint, traffic });
                    }
                    Some(at) => next = next.min(at),
                    None => {}
                }
                if let Some(result) = progress.found {
                    found.entry(key.clone()).or_default().insert(endpoint.address, result);
                }
                places.insert(place, progress);
            }
        }
        self.places = places;
        self.start(all_due);
        worker.shared.probing.show(&worker.probing, Seen { used: own, found });
        // Where too many are under way, the end of one is waited for.
        let wait = next.saturating_sub(now).max(if self.under_way.len() < AT_ONCE_MAX { Duration::ZERO } else { LOOK });
        (!used.is_empty()).then_some(wait)
    }

    /// Starts what is due, as far as there is room: what has waited longest first, lest a service with many dead instances
    /// keep others from being probed.
    fn start(&mut self, mut all_due: Vec<Due>) {
        all_due.sort_by_key(|due| due.at);
        let room = AT_ONCE_MAX.saturating_sub(self.under_way.len());
        for Due { place, endpoint, traffic, .. } in all_due.into_iter().take(room) {
            if let Some(progress) = self.places.get_mut(&place) {
                progress.turn = Turn::UnderWay;
            }
            self.under_way.push(Box::pin(probe(Rc::clone(&self.worker), place, endpoint, traffic)));
        }
    }

    /// How far the probing of an instance is, now that the board says this; takes over what others found.
    fn progress(&self, board: &Reading, watched: &Watched<'_>, place: &Place, now: Duration) -> Progress {
        let new = Progress { came: now, acquaintance: Acquaintance::New, turn: Turn::At(now), found: None };
        let known = self.places.get(place).copied().unwrap_or(new);
        let at = (watched.key, place.1);
        match (board.duty(&self.worker.probing, at, watched.check, watched.patience), known.turn) {
            (Duty::Own, Turn::Others) => match known.acquaintance {
                Acquaintance::New => new,
                // Somewhen within the interval, or all who take over from others would probe at once.
                Acquaintance::Known => {
                    let interval = self.worker.health.next_probe(at, watched.check, watched.calls, 0.0);
                    let turn = Turn::At(now + interval.mul_f64(chance(&self.worker)));
                    // What others found stands until then, and is our word too.
                    Progress { turn, found: Some(self.worker.health.verdict(at)), ..known }
                }
            },
            (Duty::Own, Turn::At(_) | Turn::UnderWay | Turn::After { .. }) => known,
            (Duty::Others(None), _) => Progress { turn: Turn::Others, found: None, ..known },
            (Duty::Others(Some(verdict)), _) => {
                self.worker.health.hear(&self.worker, at, verdict, watched.check);
                // What has just come the controller's word may not be about yet: then it says of it what it says of most.
                let is_new = now < known.came + WORD_WAIT;
                let acquaintance = if is_new { known.acquaintance } else { Acquaintance::Known };
                Progress { acquaintance, turn: Turn::Others, found: None, ..known }
            }
        }
    }

    /// When the next probe is due, unless one is under way.
    fn due(&self, watched: &Watched<'_>, place: &Place, turn: Turn) -> Option<Duration> {
        match turn {
            Turn::At(due) => Some(due),
            Turn::UnderWay | Turn::Others => None,
            Turn::After { begun, chance } => {
                let at = (watched.key, place.1);
                Some(begun + self.worker.health.next_probe(at, watched.check, watched.calls, chance))
            }
        }
    }

    fn take(&mut self, done: &Done) {
        let at = (&done.place.0, done.place.1);
        let chance = chance(&self.worker);
        // One that has left in the meantime, or is others' now, is not remembered.
        let Some(progress) = self.places.get_mut(&done.place) else { return };
        if !matches!(progress.turn, Turn::UnderWay) {
            return;
        }
        progress.turn = Turn::After { begun: done.begun, chance };
        let Some(check) = &done.traffic.health_check else { return };
        let probed = Probed { result: done.result, begun: done.begun, acquaintance: progress.acquaintance };
        if done.result == ProbeResult::Succeeded {
            progress.acquaintance = Acquaintance::Known;
        }
        self.worker.health.take_probe(&self.worker, at, probed, check);
        progress.found = Some(self.worker.health.verdict(at));
    }
}

/// Services with a health check that this worker calls.
fn own_calls(worker: &Worker, snapshot: &Snapshot, now: Duration) -> BTreeMap<ServiceKey, Traffic> {
    let called = |(key, idle): (ServiceKey, Duration)| {
        let check = snapshot.traffic.get(key.label())?.health_check.as_ref()?;
        Some((key, Traffic::after(idle, check)))
    };
    worker.health.used(now).into_iter().filter_map(called).collect()
}

/// A uniform draw from 0 to 1.
fn chance(worker: &Worker) -> f64 {
    worker.random() as f64 / u64::MAX as f64
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
