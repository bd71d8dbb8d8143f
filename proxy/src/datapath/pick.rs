//! Step 5: which instance takes the exchange.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use mesh_core::{
    lane::{Carried, Choice, Level, Reason, Usable, choose},
    model::{endpoint::Endpoint, service::Service},
    outcome::Outcome,
    pick::{Weights, two_choices},
};

use super::{
    enforce::{Plan, Refused, To},
    reach::Upstream,
};
use crate::worker::Worker;

/// The instance that takes an exchange.
pub struct Picked {
    /// Connections to it.
    pub upstream: Rc<Upstream>,
    /// The instance as the controller describes it; `None` for the application itself and for addresses outside.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Level that serves, and why; `None` where there was no choice.
    pub level: Option<(Level, Reason)>,
}

/// Picks, away from the `tried` instances where there are others of the level.
///
/// # Errors
/// No instance, or the lane says `reject`.
pub fn pick(worker: &Worker, plan: &Plan, carried: Option<&Carried>, tried: &[SocketAddr]) -> Result<Picked, Refused> {
    match &plan.to {
        To::Service(service) => among(worker, plan, service, carried, tried),
        To::Endpoint(endpoint) => Ok(Picked {
            upstream: worker.upstreams.endpoint(worker, endpoint),
            endpoint: Some(Arc::clone(endpoint)),
            level: None,
        }),
        To::Application(address) | To::Outside(address) => {
            Ok(Picked { upstream: worker.upstreams.plain(worker, *address), endpoint: None, level: None })
        }
    }
}

fn among(
    worker: &Worker,
    plan: &Plan,
    service: &Service,
    carried: Option<&Carried>,
    tried: &[SocketAddr],
) -> Result<Picked, Refused> {
    if !service.exists() {
        return Err(Refused::new(Outcome::NoRoute, format!("there is no service {}", service.key())));
    }
    let (level, reason, candidates) = match choose(carried, &plan.snapshot.lanes, service, Usable::All) {
        Choice::Use { level, reason, candidates } => (level, reason, candidates),
        Choice::RejectMissing(lane) => {
            return Err(Refused::new(Outcome::LaneMissing, format!("lane {lane} has no member of {}", service.key())));
        }
        Choice::RejectUnhealthy(lane) => {
            return Err(Refused::new(
                Outcome::LaneUnhealthy,
                format!("lane {lane} has too few usable members of {}", service.key()),
            ));
        }
    };
    let endpoints = service.endpoints();
    let others: Vec<usize> = match tried {
        [] => Vec::new(),
        tried => {
            let untried = |position: &usize| !tried.contains(&endpoints[*position].address);
            candidates.iter().copied().filter(untried).collect()
        }
    };
    let candidates = if others.is_empty() { &candidates[..] } else { &others[..] };
    // Not asked for where there is one candidate: neither is the time.
    let cost = |position: usize| worker.upstreams.cost(&endpoints[position], worker.now());
    let weight = |position: usize| endpoints[position].weight;
    let random = [worker.random(), worker.random()];
    let weights = if service.equal_weights() { Weights::Equal } else { Weights::Each(&weight) };
    match two_choices(candidates, weights, random, &cost) {
        Some(position) => Ok(Picked {
            upstream: worker.upstreams.endpoint(worker, &endpoints[position]),
            endpoint: Some(Arc::clone(&endpoints[position])),
            level: Some((level, reason)),
        }),
        None => Err(Refused::new(Outcome::NoEndpoints, format!("{} has no instance for {level}", service.key()))),
    }
}
