//! Which zone's instances take an exchange, as one worker prepares it: by service and level, made anew when instances, policy
//! or their health change, and while capacity comes back. Core decides (`zone`); this keeps the plans.
//!
//! Where no zone is asked for and none is drained, a pick costs two comparisons.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use mesh_core::{
    health::Panic,
    lane::Level,
    model::{
        lane::LaneGroup,
        policy::TrafficPolicy,
        service::{Service, ServiceKey},
    },
    zone::{self, Reason, draw, next_draw, wanted},
};

use crate::{
    balance,
    datapath::{enforce::Plan, message::RequestHead},
    worker::Worker,
};

/// How often services that are not in use any more are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// Levels of a service whose plans are kept; all of them are made anew when one more comes.
const LEVELS_MAX: usize = 256;

/// Plans of one worker.
#[derive(Debug, Default)]
pub struct Zoning {
    services: RefCell<AHashMap<ServiceKey, AHashMap<Level, Kept>>>,
    swept: Cell<Duration>,
}

/// A plan, and what it was made of.
#[derive(Debug)]
struct Kept {
    service: Arc<Service>,
    traffic: Arc<TrafficPolicy>,
    lanes: Arc<Vec<LaneGroup>>,
    drained: Arc<BTreeSet<String>>,
    own: Option<String>,
    /// Version of what is known of the instances' health.
    health: u64,
    plan: zone::Plan,
    /// Which zone was drawn last.
    drawn: Cell<u64>,
}

/// Where an exchange is to be placed.
pub struct Ask<'a> {
    /// The service.
    pub service: &'a Arc<Service>,
    /// Level that serves.
    pub level: &'a Level,
    /// Positions that may be used, in ascending order.
    pub candidates: &'a [usize],
    /// Which attempt it is.
    pub attempt: Attempt,
    /// Whether all of the level is used, usable or not.
    pub panic: Panic,
}

/// Which attempt of an exchange is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The first: whoever is usable is a candidate.
    First,
    /// A further one: those that were tried may be missing.
    Further,
}

/// Finds the zone that the policy names for a request.
pub fn find_wanted(plan: &mut Plan, head: &RequestHead) {
    if !plan.traffic.zones.matches.is_empty() {
        plan.zone = wanted(&plan.traffic.zones, &head.parts());
    }
}

/// Picks an instance for an exchange: first the zone, then by the algorithm of the policy. The reason is that of the zone,
/// where zones matter.
pub fn place(worker: &Worker, plan: &Plan, ask: &Ask<'_>) -> (Option<usize>, Option<Reason>) {
    let pick = |positions: &[usize]| balance::pick(worker, ask.service, plan, positions);
    if ask.panic == Panic::FailOpen {
        // All of the level then, wherever it is: no zone is worth keeping to. Those that are drained come last.
        let drained = &plan.snapshot.drained_zones;
        let is_left = |position: &usize| ask.service.endpoints()[*position].is_in(drained);
        let others: Vec<usize> = ask.candidates.iter().copied().filter(|position| !is_left(position)).collect();
        return (pick(if others.is_empty() { ask.candidates } else { &others }), None);
    }
    if !worker.zones.matter(plan, ask) {
        return (pick(ask.candidates), None);
    }
    let named = plan.zone.and_then(|at| plan.traffic.zones.matches.get(at)).map(|entry| entry.zone.as_str());
    let mut services = worker.zones.services.borrow_mut();
    let kept = services.get(ask.service.key()).and_then(|levels| levels.get(ask.level));
    let health = worker.health.version(ask.service.key());
    if let Some(kept) = kept.filter(|kept| kept.fits(worker, plan, ask, health)) {
        let drawn = kept.draw(plan.key);
        return match ask.attempt {
            Attempt::First => told(kept.plan.pick(drawn, named), pick),
            Attempt::Further => {
                let (positions, reason) = kept.plan.pick_among(drawn, named, ask.candidates);
                told((&positions, reason), pick)
            }
        };
    }
    let made = Kept::new(worker, plan, ask, health, kept);
    let found = told(made.plan.pick(made.draw(plan.key), named), pick);
    let snapshot = worker.shared.load();
    let is_current = snapshot.services.get(ask.service.key()).is_some_and(|now| Arc::ptr_eq(now, ask.service));
    // What an exchange sees that began earlier, or that has tried some, is not what there is.
    if ask.attempt == Attempt::First && is_current {
        let levels = services.entry(ask.service.key().clone()).or_default();
        if levels.len() >= LEVELS_MAX && !levels.contains_key(ask.level) {
            levels.clear();
        }
        if made.is_needed() {
            levels.insert(ask.level.clone(), made);
        } else {
            levels.remove(ask.level);
        }
        if levels.is_empty() {
            services.remove(ask.service.key());
        }
    }
    found
}

fn told(
    (positions, reason): (&[usize], Reason),
    pick: impl Fn(&[usize]) -> Option<usize>,
) -> (Option<usize>, Option<Reason>) {
    (pick(positions), (reason != Reason::NotAsked).then_some(reason))
}

impl Kept {
    fn new(worker: &Worker, plan: &Plan, ask: &Ask<'_>, health: u64, before: Option<&Kept>) -> Self {
        let (snapshot, service) = (&plan.snapshot, ask.service);
        let endpoints = service.endpoints();
        let members: Cow<'_, [usize]> = match ask.level {
            Level::Lane(lane) => service.in_lane(lane).into(),
            Level::Baseline => service.baseline(&snapshot.lanes),
        };
        let now = worker.now();
        let level = zone::Level {
            members: &members,
            candidates: ask.candidates,
            weight: &|position| endpoints[position].weight,
            zone: &|position| endpoints[position].zone.as_deref(),
            is_sound: &|position| worker.health.is_sound(service.key(), endpoints[position].address, now),
        };
        let own = snapshot.workload.zone.clone();
        let drained = &snapshot.drained_zones;
        let moment = (before.map(|before| &before.plan), now);
        let made = zone::Plan::new(&plan.traffic.zones, own.as_deref(), drained, &level, moment);
        Kept {
            service: Arc::clone(service),
            traffic: Arc::clone(&plan.traffic),
            lanes: Arc::clone(&snapshot.lanes),
            drained: Arc::clone(drained),
            own,
            health,
            plan: made,
            drawn: Cell::new(before.map_or_else(|| worker.random(), |before| before.drawn.get())),
        }
    }

    fn fits(&self, worker: &Worker, plan: &Plan, ask: &Ask<'_>, health: u64) -> bool {
        let snapshot = &plan.snapshot;
        Arc::ptr_eq(&self.service, ask.service)
            && Arc::ptr_eq(&self.traffic, &plan.traffic)
            && Arc::ptr_eq(&self.lanes, &snapshot.lanes)
            && Arc::ptr_eq(&self.drained, &snapshot.drained_zones)
            && self.own == snapshot.workload.zone
            && self.health == health
            && !(self.plan.is_returning() && self.plan.is_due(worker.now()))
    }

    fn draw(&self, key: Option<u64>) -> u64 {
        if key.is_none() {
            self.drawn.set(next_draw(self.drawn.get()));
        }
        draw(key, self.drawn.get())
    }

    /// Whether zones will matter to the next exchange too.
    fn is_needed(&self) -> bool {
        self.traffic.zones.is_asked() || !self.drained.is_empty() || self.plan.is_returning()
    }
}

impl Zoning {
    /// Whether zones matter to an exchange: its service asks for them, or one is drained, or was until just now.
    fn matter(&self, plan: &Plan, ask: &Ask<'_>) -> bool {
        if plan.traffic.zones.is_asked() || !plan.snapshot.drained_zones.is_empty() {
            return true;
        }
        let services = self.services.borrow();
        !services.is_empty() && services.get(ask.service.key()).is_some_and(|levels| levels.contains_key(ask.level))
    }

    /// Forgets services that are gone. Cheap, called often.
    pub fn tick(&self, worker: &Worker) {
        let now = worker.now();
        if now.saturating_sub(self.swept.get()) < SWEEP {
            return;
        }
        self.swept.set(now);
        let snapshot = worker.shared.load();
        self.services.borrow_mut().retain(|key, _| snapshot.services.contains_key(key));
    }
}
