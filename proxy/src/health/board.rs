//! Who probes what: the workers of this process among themselves, and with the proxies of other callers by the word of the
//! controller. Each worker shows what it calls and what its probes found; each reads what the others show. Written when
//! something changes, never by an exchange.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use mesh_core::{
    health::{
        ProbeResult, Traffic,
        sharing::{Prober, probers},
    },
    model::{policy::HealthCheck, service::ServiceKey},
};
use mesh_proto::convert::shared_health::{Called, Calls, Shares};
use tokio::{sync::watch, time::Instant};

/// So long after the controller was lost its last word stands: it may only have started again.
const LOST_GRACE: Duration = Duration::from_secs(2);

/// What one worker shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Services with a health check that it calls.
    pub used: BTreeMap<ServiceKey, Traffic>,
    /// What its probes found, of the instances that it probes.
    pub found: BTreeMap<ServiceKey, BTreeMap<SocketAddr, ProbeResult>>,
}

/// What the controller says.
#[derive(Debug)]
struct Told {
    contact: Contact,
    shares: BTreeMap<ServiceKey, Shares>,
}

#[derive(Clone, Copy, Debug)]
enum Contact {
    /// It answers, or soon will.
    Made,
    Lost(Instant),
    /// There is none that shares probing.
    None,
}

/// Shared by all workers and the control thread.
#[derive(Debug)]
pub struct Board {
    workers: ArcSwap<Vec<Arc<ArcSwap<Seen>>>>,
    told: ArcSwap<Told>,
    changes: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        let told = Told { contact: Contact::Made, shares: BTreeMap::new() };
        Board { workers: ArcSwap::default(), told: ArcSwap::from_pointee(told), changes: watch::Sender::new(0) }
    }
}

/// A worker's place at the board.
#[derive(Debug)]
pub struct Seat {
    number: usize,
    seen: Arc<ArcSwap<Seen>>,
}

/// Whether the controller's word on a service may still be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The service has just come into use.
    Left,
    /// No longer: nobody may go unprobed because a controller does not answer.
    Over,
}

/// Who probes an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// The worker that asks.
    Own,
    /// Others, who found this; `None` = they do not know yet.
    Others(Option<ProbeResult>),
}

impl Board {
    /// A place for one more worker.
    pub fn join(&self) -> Seat {
        let seen = Arc::new(ArcSwap::from_pointee(Seen::default()));
        self.workers.rcu(|workers| workers.iter().cloned().chain([Arc::clone(&seen)]).collect::<Vec<_>>());
        let workers = self.workers.load();
        let number = workers.iter().position(|one| Arc::ptr_eq(one, &seen)).unwrap_or_default();
        Seat { number, seen }
    }

    /// Shows what the worker of this seat calls and found.
    pub fn show(&self, seat: &Seat, seen: Seen) {
        if **seat.seen.load() != seen {
            seat.seen.store(Arc::new(seen));
            self.changed();
        }
    }

    /// Changes whenever something on the board does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What stands on it now.
    pub fn read(&self) -> Reading {
        let seen = self.workers.load().iter().map(|worker| worker.load_full()).collect();
        Reading { seen, told: self.told.load_full(), now: Instant::now() }
    }

    /// Takes in what the controller says of shared probing.
    pub fn hear(&self, shares: BTreeMap<ServiceKey, Shares>) {
        self.told.store(Arc::new(Told { contact: Contact::Made, shares }));
        self.changed();
    }

    /// The controller cannot be heard any more.
    pub fn lose(&self) {
        let told = self.told.load();
        let since = match told.contact {
            Contact::Made => Instant::now(),
            Contact::Lost(since) => since,
            Contact::None => return,
        };
        self.told.store(Arc::new(Told { contact: Contact::Lost(since), shares: told.shares.clone() }));
        self.changed();
    }

    /// There is no controller that shares probing.
    pub fn go_alone(&self) {
        self.told.store(Arc::new(Told { contact: Contact::None, shares: BTreeMap::new() }));
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// The board at one moment.
#[derive(Debug)]
pub struct Reading {
    seen: Vec<Arc<Seen>>,
    told: Arc<Told>,
    now: Instant,
}

impl Reading {
    /// Services that any worker calls.
    pub fn used(&self) -> BTreeMap<ServiceKey, Traffic> {
        let mut used = BTreeMap::new();
        for (key, traffic) in self.seen.iter().flat_map(|seen| &seen.used) {
            let busiest = used.entry(key.clone()).or_insert(*traffic);
            *busiest = (*busiest).max(*traffic);
        }
        used
    }

    /// What this process calls and found, for the controller: of services that `is_shared` names.
    pub fn calls(&self, is_shared: impl Fn(&ServiceKey) -> bool) -> Calls {
        let called = |(key, traffic): (ServiceKey, Traffic)| {
            let found = self.seen.iter().filter_map(|seen| seen.found.get(&key)).flatten();
            let seen = found.map(|(address, result)| (*address, *result)).collect();
            (key, Called { traffic, seen })
        };
        self.used().into_iter().filter(|(key, _)| is_shared(key)).map(called).collect()
    }

    /// Who probes an instance.
    pub fn duty(
        &self,
        seat: &Seat,
        (key, address): (&ServiceKey, SocketAddr),
        check: &HealthCheck,
        patience: Patience,
    ) -> Duty {
        if check.shared_by > 0 && self.is_in_contact() {
            match self.told.shares.get(key) {
                Some(shares) if shares.probe.contains(&address) => {}
                Some(shares) if shares.failing.contains(&address) => return Duty::Others(Some(ProbeResult::Failed)),
                Some(shares) if shares.unknown.contains(&address) => return Duty::Others(None),
                Some(_) => return Duty::Others(Some(ProbeResult::Succeeded)),
                None if patience == Patience::Left => return Duty::Others(None),
                None => {}
            }
        }
        let workers = (0..self.seen.len()).map(|number| Prober { seed: number as u64, number });
        match probers(address, workers, 1).first() {
            Some(number) if *number != seat.number => Duty::Others(self.found(*number, key, address)),
            Some(_) | None => Duty::Own,
        }
    }

    /// Where an instance is probed, for people: `here`, `elsewhere` by the word of the controller, or `nowhere`.
    pub fn place(&self, key: &ServiceKey, address: SocketAddr) -> &'static str {
        let is_here = (0..self.seen.len()).any(|number| self.found(number, key, address).is_some());
        match self.told.shares.get(key) {
            _ if is_here => "here",
            Some(shares) if self.is_in_contact() && !shares.probe.contains(&address) => "elsewhere",
            Some(_) | None => "nowhere",
        }
    }

    fn found(&self, worker: usize, key: &ServiceKey, address: SocketAddr) -> Option<ProbeResult> {
        self.seen.get(worker)?.found.get(key)?.get(&address).copied()
    }

    fn is_in_contact(&self) -> bool {
        match self.told.contact {
            Contact::Made => true,
            Contact::Lost(since) => self.now < since + LOST_GRACE,
            Contact::None => false,
        }
    }
}

#[cfg(test)]
mod tests;
