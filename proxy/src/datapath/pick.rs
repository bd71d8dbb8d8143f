//! Step 5: which instance takes the exchange.

use std::{borrow::Cow, net::SocketAddr, rc::Rc, sync::Arc};

use mesh_core::{
    health::{Exchange, Panic, Usability, widen},
    lane::{Carried, Choice, Level, Reason, Turn, Usable, choose, choose_again, choose_near},
    model::{endpoint::Endpoint, service::Service},
    outcome::Outcome,
    zone,
};

use super::{
    enforce::{Plan, Refused, To},
    reach::Upstream,
};
use crate::{
    worker::Worker,
    zones::{self, Ask, Attempt},
};

/// The instance that takes an exchange.
pub struct Picked {
    /// Connections to it.
    pub upstream: Rc<Upstream>,
    /// The instance as the controller describes it; `None` for the application itself and for addresses outside.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Level that serves, and why; `None` where there was no choice.
    pub level: Option<(Level, Reason)>,
    /// Why the instances of its zone serve, where zones matter.
    pub zone: Option<zone::Reason>,
    /// Whether the exchange tries an instance that was ejected.
    pub exchange: Exchange,
    /// Whether all instances of the level were picked from, usable or not.
    pub panic: Panic,
}

impl Picked {
    /// Where there was no choice.
    fn only(upstream: Rc<Upstream>) -> Self {
        Picked { upstream, endpoint: None, level: None, zone: None, exchange: Exchange::Ordinary, panic: Panic::Calm }
    }

    /// What is unusual about the pick, in a word for the access log.
    pub fn note(&self) -> Option<&'static str> {
        match self.exchange {
            Exchange::Trial => Some("trial"),
            Exchange::Ordinary => self.panic.label(),
        }
    }
}

/// Attempts of the same exchange that came before.
#[derive(Clone, Copy, Default)]
pub struct Before<'a> {
    /// Instances that were tried.
    pub tried: &'a [SocketAddr],
    /// Level at which they failed, and why it was chosen.
    pub level: Option<&'a (Level, Reason)>,
    /// Which turn this is; the first attempt's does not matter.
    pub turn: Option<Turn>,
}

/// Picks: a further attempt on the level of the first, away from the instances that were tried.
///
/// # Errors
/// No instance, or the lane says `reject`.
pub fn pick(worker: &Worker, plan: &Plan, carried: Option<&Carried>, before: Before<'_>) -> Result<Picked, Refused> {
    match &plan.to {
        To::Service(service) => among(worker, plan, service, carried, before),
        To::Endpoint(endpoint) => Ok(Picked {
            upstream: worker.upstreams.endpoint(worker, endpoint),
            endpoint: Some(Arc::clone(endpoint)),
            level: None,
            zone: None,
            exchange: Exchange::Ordinary,
            panic: Panic::Calm,
        }),
        To::Provider(addresses, way) => {
            let fresh = addresses.iter().find(|address| !before.tried.contains(address));
            let Some(address) = fresh.or(addresses.first()) else {
                return Err(Refused::new(Outcome::ConnectFailed, format!("{} has no address", way.authority)));
            };
            let upstream = worker.upstreams.provider(worker, *address, way);
            Ok(Picked::only(upstream))
        }
        To::Application(address) | To::Outside(address) => {
            let upstream = worker.upstreams.plain(worker, *address);
            Ok(Picked::only(upstream))
        }
    }
}

/// The caller's zone, where the service asks for that: lane groups may put it before the lane.
fn near(plan: &Plan) -> Option<&str> {
    let zone = plan.snapshot.workload.zone.as_deref();
    zone.filter(|zone| plan.traffic.zones.prefer_same && !plan.snapshot.drained_zones.contains(*zone))
}

fn among(
    worker: &Worker,
    plan: &Plan,
    service: &Arc<Service>,
    carried: Option<&Carried>,
    before: Before<'_>,
) -> Result<Picked, Refused> {
    let (key, endpoints) = (service.key(), service.endpoints());
    if !service.exists() {
        return Err(Refused::new(Outcome::NoRoute, format!("there is no service {key}")));
    }
    if plan.traffic.health_check.is_some() {
        worker.health.note_use(key, worker.now());
    }
    let is_whole = worker.health.is_whole(key);
    let usability = |position: usize| worker.health.usability(key, endpoints[position].address, worker.now());
    let allows = |position| usability(position).allows();
    let usable = if is_whole { Usable::All } else { Usable::Where(&allows) };
    let groups = &plan.snapshot.lanes;
    let tried = |position: usize| before.tried.contains(&endpoints[position].address);
    let (level, reason, candidates) = level(plan, service, carried, (before, &tried), usable)?;
    let (candidates, panic) = if is_whole {
        (candidates, Panic::Calm)
    } else {
        widen((&level, candidates), (service, groups), &usability, &tried, plan.traffic.panic_threshold)
    };
    if panic == Panic::FailOpen {
        worker.sink.metrics.health(&worker.series.service(key)).panics.add(1);
    }
    // One whose time out is over gets this exchange, whatever its load: nobody would know otherwise that it is back.
    // Not in a zone that is left.
    let is_left = |position: usize| endpoints[position].is_in(&plan.snapshot.drained_zones);
    let half_open = |position: &usize| !is_whole && usability(*position) == Usability::HalfOpen && !is_left(*position);
    let (position, zone, exchange) = match candidates.iter().copied().find(half_open) {
        Some(position) => (Some(position), None, Exchange::Trial),
        None => {
            let attempt = if before.tried.is_empty() { Attempt::First } else { Attempt::Further };
            let ask = Ask { service, level: &level, candidates: &candidates, attempt, panic };
            let (position, zone) = zones::place(worker, plan, &ask);
            (position, zone, Exchange::Ordinary)
        }
    };
    let Some(position) = position else {
        return Err(Refused::new(Outcome::NoEndpoints, format!("{key} has no instance for {level}")));
    };
    if exchange == Exchange::Trial {
        worker.health.begin_trial(key, endpoints[position].address, worker.now());
    }
    Ok(Picked {
        upstream: worker.upstreams.endpoint(worker, &endpoints[position]),
        endpoint: Some(Arc::clone(&endpoints[position])),
        level: Some((level, reason)),
        zone,
        exchange,
        panic,
    })
}

/// The level that serves, why, and its instances that can.
fn level<'a>(
    plan: &Plan,
    service: &'a Service,
    carried: Option<&Carried>,
    (before, tried): (Before<'_>, &dyn Fn(usize) -> bool),
    usable: Usable<'_>,
) -> Result<(Level, Reason, Cow<'a, [usize]>), Refused> {
    let (key, endpoints, groups) = (service.key(), service.endpoints(), &plan.snapshot.lanes);
    let choice = match (before.level, before.turn) {
        (Some((level, reason)), Some(turn)) => choose_again((level, *reason), turn, groups, service, usable, &tried),
        (Some(_) | None, _) => match near(plan) {
            None => choose(carried, groups, service, usable),
            Some(own) => {
                let is_near = |position: usize| endpoints[position].zone.as_deref() == Some(own);
                choose_near(carried, groups, service, usable, &is_near)
            }
        },
    };
    match choice {
        Choice::Use { level, reason, candidates } => Ok((level, reason, candidates)),
        Choice::RejectMissing(lane) => {
            Err(Refused::new(Outcome::LaneMissing, format!("lane {lane} has no member of {key}")))
        }
        Choice::RejectUnhealthy(lane) => {
            let detail = format!("lane {lane} has too few usable members of {key}");
            Err(Refused::new(Outcome::LaneUnhealthy, detail))
        }
    }
}
