//! Who calls which service, which callers probe which of its instances, and what they say of them: the state of shared
//! probing. Each replica sees the proxies that are connected to it, and has their instances probed by some of those.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_core::{
    health::{
        ProbeResult, Traffic,
        sharing::{Prober, probers, verdict},
    },
    model::service::ServiceKey,
};
use mesh_proto::convert::shared_health::{Called, Calls, Shares};
use tokio::sync::Notify;

use crate::index::{View, services::in_traffic};

/// The table.
#[derive(Debug, Default)]
pub struct Sharing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    callers: BTreeMap<u64, Caller>,
    services: BTreeMap<ServiceKey, Shared>,
}

#[derive(Debug)]
struct Caller {
    name: String,
    /// Told when there is something to say to it.
    news: Arc<Notify>,
    calls: BTreeSet<ServiceKey>,
}

/// A service with callers.
#[derive(Debug, Default)]
struct Shared {
    callers: BTreeMap<u64, Called>,
    instances: BTreeSet<SocketAddr>,
    /// How many callers probe each instance.
    count: usize,
    probers: BTreeMap<SocketAddr, Vec<u64>>,
    /// What those who probe say together, as far as any of them has known yet.
    verdicts: BTreeMap<SocketAddr, ProbeResult>,
}

/// What shared probing needs to know of a service: its instances, and how many callers probe each; `None` where its policy
/// has no shared probing.
fn described(view: &View, key: &ServiceKey) -> Option<(BTreeSet<SocketAddr>, usize)> {
    let check = view.world().traffic.get(key.label())?.health_check.as_ref()?;
    let port = view.port(key)?;
    let instances = in_traffic(port).map(|endpoint| endpoint.address).collect();
    (check.shared_by > 0).then_some((instances, check.shared_by as usize))
}

impl Sharing {
    /// Enters a caller; it leaves the table when the seat is dropped. `name` is the same for the same workload.
    pub fn enter(self: &Arc<Self>, name: String) -> Seat {
        let news = Arc::new(Notify::new());
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.callers.insert(number, Caller { name, news: Arc::clone(&news), calls: BTreeSet::new() });
        Seat { table: Arc::clone(self), number, news }
    }

    /// Names of the callers that probe each instance of a service, in order.
    pub fn probers(&self, key: &ServiceKey) -> BTreeMap<SocketAddr, Vec<String>> {
        let state = self.state();
        let Some(shared) = state.services.get(key) else { return BTreeMap::new() };
        let name = |number: &u64| state.callers.get(number).map(|caller| caller.name.clone());
        let named = |(address, numbers): (&SocketAddr, &Vec<u64>)| {
            let mut names: Vec<String> = numbers.iter().filter_map(name).collect();
            names.sort();
            (*address, names)
        };
        shared.probers.iter().map(named).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in what a caller says, all of it.
    fn report(&mut self, number: u64, calls: Calls, view: &View) {
        let Some(caller) = self.callers.get_mut(&number) else { return };
        let before = std::mem::replace(&mut caller.calls, calls.keys().cloned().collect());
        for key in before.into_iter().filter(|key| !calls.contains_key(key)) {
            self.leave(number, &key);
        }
        for (key, called) in calls {
            let shared = self.services.entry(key.clone()).or_default();
            let seen = called.seen.clone();
            let old = shared.callers.insert(number, called);
            let changes = match &old {
                Some(old) if old.traffic == shared.callers[&number].traffic => {
                    let differs = |address: &&SocketAddr| old.seen.get(*address) != seen.get(*address);
                    let touched: BTreeSet<SocketAddr> =
                        old.seen.keys().chain(seen.keys()).filter(differs).copied().collect();
                    shared.judge(touched)
                }
                Some(_) | None => {
                    (shared.instances, shared.count) = described(view, &key).unwrap_or_default();
                    shared.assign(&self.callers)
                }
            };
            self.tell(&key, changes);
        }
    }

    /// Takes over instances and policies of the services that a caller calls.
    fn refresh(&mut self, number: u64, view: &View) {
        let calls = self.callers.get(&number).map(|caller| caller.calls.clone()).unwrap_or_default();
        for key in calls {
            let Some(shared) = self.services.get_mut(&key) else { continue };
            let (instances, count) = described(view, &key).unwrap_or_default();
            if (&shared.instances, shared.count) != (&instances, count) {
                (shared.instances, shared.count) = (instances, count);
                let changes = shared.assign(&self.callers);
                self.tell(&key, changes);
            }
        }
    }

    /// A caller does not call a service any more.
    fn leave(&mut self, number: u64, key: &ServiceKey) {
        let Some(shared) = self.services.get_mut(key) else { return };
        shared.callers.remove(&number);
        if shared.callers.is_empty() {
            self.services.remove(key);
            return;
        }
        let changes = shared.assign(&self.callers);
        self.tell(key, changes);
    }

    fn tell(&self, key: &ServiceKey, changes: bool) {
        let Some(shared) = self.services.get(key).filter(|_| changes) else { return };
        for caller in shared.callers.keys().filter_map(|number| self.callers.get(number)) {
            caller.news.notify_one();
        }
    }

    fn shares(&self, number: u64) -> BTreeMap<ServiceKey, Shares> {
        let Some(caller) = self.callers.get(&number) else { return BTreeMap::new() };
        let of = |key: &ServiceKey| {
            let shared = self.services.get(key).filter(|shared| shared.count > 0)?;
            let probes = |(address, numbers): (&SocketAddr, &Vec<u64>)| numbers.contains(&number).then_some(*address);
            let probe = shared.probers.iter().filter_map(probes).collect();
            let is = |said: Option<ProbeResult>| {
                let instances = shared.instances.iter().copied();
                instances.filter(|address| shared.verdicts.get(address).copied() == said).collect()
            };
            Some((key.clone(), Shares { probe, failing: is(Some(ProbeResult::Failed)), unknown: is(None) }))
        };
        caller.calls.iter().filter_map(of).collect()
    }
}

impl Shared {
    /// Works out anew who probes what. Says whether anything changed.
    fn assign(&mut self, names: &BTreeMap<u64, Caller>) -> bool {
        let busiest = self.callers.values().map(|called| called.traffic).max().unwrap_or(Traffic::None);
        // Who calls needs to know soon; those who do not call probe seldom.
        let candidates = self.callers.iter().filter(|(_, called)| called.traffic == busiest);
        let candidates: Vec<Prober<u64>> =
            candidates.filter_map(|(number, _)| Some(Prober::named(&names.get(number)?.name, *number))).collect();
        let assigned = |address: &SocketAddr| (*address, probers(*address, candidates.iter().copied(), self.count));
        let assigned: BTreeMap<_, _> = self.instances.iter().map(assigned).collect();
        let moved = assigned != self.probers;
        self.probers = assigned;
        let instances = self.instances.clone();
        self.verdicts.retain(|address, _| instances.contains(address));
        self.judge(instances) | moved
    }

    /// Works out anew what those who probe these instances say. Says whether anything changed.
    fn judge(&mut self, instances: BTreeSet<SocketAddr>) -> bool {
        let mut changes = false;
        for address in instances.into_iter().filter(|address| self.instances.contains(address)) {
            let before = self.verdicts.get(&address).copied();
            let numbers = self.probers.get(&address).into_iter().flatten();
            let said = numbers.filter_map(|number| self.callers.get(number)?.seen.get(&address).copied());
            if let Some(now) = verdict(before, said).filter(|now| Some(*now) != before) {
                self.verdicts.insert(address, now);
                changes = true;
            }
        }
        changes
    }
}

/// A caller's place in the table.
#[derive(Debug)]
pub struct Seat {
    table: Arc<Sharing>,
    number: u64,
    news: Arc<Notify>,
}

impl Seat {
    /// Takes in what the caller says, all of it.
    pub fn report(&self, calls: Calls, view: &View) {
        self.table.state().report(self.number, calls, view);
    }

    /// Takes over instances and policies of the services that it calls.
    pub fn refresh(&self, view: &View) {
        self.table.state().refresh(self.number, view);
    }

    /// Returns when what is to be said to it may have changed.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What it is to probe, and what others found out.
    pub fn shares(&self) -> BTreeMap<ServiceKey, Shares> {
        self.table.state().shares(self.number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.table.state();
        let calls = state.callers.remove(&self.number).map(|caller| caller.calls).unwrap_or_default();
        for key in calls {
            state.leave(self.number, &key);
        }
    }
}

#[cfg(test)]
mod tests;
