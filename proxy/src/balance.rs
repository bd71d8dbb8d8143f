//! What one worker keeps of services between picks: whose turn it is, rings and tables, and which instances are new. Core
//! decides (`balance`, `warm_up`); this keeps the state, by service, and gives it the load that the worker sees.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use mesh_core::{
    balance::{Balancer, Key, Offer, hash, key},
    model::{
        policy::{HashOn, LoadBalancing, WarmUp},
        route::{Filter, HeaderChange},
        service::{Service, ServiceKey},
    },
    pick::Weights,
    warm_up::{Level, Newcomers, Parts, Reason, Seen, applies},
};

use crate::{
    datapath::{
        enforce::{Plan, To},
        forwarded, lane,
        message::RequestHead,
    },
    telemetry::health::Warming,
    worker::Worker,
};

/// How often what warms up is shown.
const SHOW: Duration = Duration::from_secs(1);
/// How often services that are not in use any more are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// What a worker keeps of the services that it calls.
#[derive(Debug, Default)]
pub struct Balances {
    services: RefCell<AHashMap<ServiceKey, Kept>>,
    swept: Cell<Duration>,
    shown: Cell<Duration>,
}

#[derive(Debug)]
struct Kept {
    /// The instances that everything here is about.
    service: Arc<Service>,
    warm_up: Option<WarmUp>,
    newcomers: Newcomers,
    /// Positions of new instances, with their starts.
    warming: Vec<(usize, u64)>,
    parts: Parts,
    balancer: Balancer,
}

impl Kept {
    fn new(worker: &Worker, service: &Arc<Service>, warm_up: Option<WarmUp>) -> Self {
        let newcomers = Newcomers::default();
        let mut kept = Kept {
            service: Arc::clone(service),
            warm_up,
            newcomers,
            warming: Vec::new(),
            parts: Parts::default(),
            balancer: Balancer::default(),
        };
        kept.find_new(millis(worker));
        kept
    }

    /// The service has other instances now, or another policy.
    fn renew(&mut self, worker: &Worker, service: &Arc<Service>, warm_up: Option<WarmUp>) {
        let now = millis(worker);
        if let Some(policy) = &warm_up {
            self.newcomers = self.newcomers.renewed(Seen::After(&self.service), service, policy, now);
        }
        self.balancer.renew(self.service.endpoints(), service.endpoints());
        (self.service, self.warm_up) = (Arc::clone(service), warm_up);
        self.find_new(now);
    }

    fn find_new(&mut self, now: u64) {
        let Some(policy) = &self.warm_up else {
            self.warming.clear();
            return;
        };
        let warming = self.newcomers.warming(&self.service, policy, now);
        for (position, start) in warming.iter().filter(|new| !self.warming.contains(new)) {
            let endpoint = self.service.endpoints()[*position].address;
            let since = Duration::from_millis(now.saturating_sub(*start));
            tracing::debug!(service = %self.service.key(), %endpoint, ?since, "warms up");
        }
        self.warming = warming;
    }

    fn pick(&mut self, worker: &Worker, how: &LoadBalancing, candidates: &[usize], key: Option<u64>) -> Option<usize> {
        let Kept { service, warm_up, warming, parts, balancer, .. } = self;
        let endpoints = service.endpoints();
        // Not asked for where there is one candidate: neither is the time.
        let cost = |position: usize| worker.upstreams.cost(&endpoints[position], worker.now());
        let in_flight = |position: usize| worker.upstreams.in_flight(&endpoints[position]);
        let weight = |position: usize| endpoints[position].weight;
        let random = [worker.random(), worker.random()];
        let mut pick = |weights: Weights<'_>| {
            let offer = Offer { candidates, weights, cost: &cost, in_flight: &in_flight, key, random };
            balancer.pick(how, endpoints, &offer).map(|(position, _)| position)
        };
        if let Some(policy) = *warm_up
            && !warming.is_empty()
        {
            let now = millis(worker);
            let length = u64::try_from(policy.duration.as_millis()).unwrap_or(u64::MAX);
            warming.retain(|(position, start)| {
                let is_new = now.saturating_sub(*start) < length;
                if !is_new {
                    let endpoint = endpoints[*position].address;
                    tracing::debug!(service = %service.key(), %endpoint, "has warmed up");
                }
                is_new
            });
            let level = Level { candidates, weight: &weight, in_flight: &in_flight, random: random[0] };
            if parts.work_out(&policy, warming, now, &level) == Reason::Warming {
                let capped = |position: usize| parts.weight(position, weight(position));
                let free = |position: usize| parts.weight_without_cap(position, weight(position));
                let is_new = |position: usize| parts.is_new(position);
                return pick(Weights::Warming { weight: &capped, is_new: &is_new })
                    .or_else(|| pick(Weights::Warming { weight: &free, is_new: &is_new }));
            }
        }
        pick(if service.equal_weights() { Weights::Equal } else { Weights::Each(&weight) })
    }
}

/// Picks among the usable instances of a level and zone (positions), by the algorithm of the policy, weight and load.
pub fn pick(worker: &Worker, service: &Arc<Service>, plan: &Plan, candidates: &[usize]) -> Option<usize> {
    if let [only] = candidates {
        return (service.endpoints()[*only].weight > 0).then_some(*only);
    }
    let (how, warm_up) = (&plan.traffic.load_balancing, plan.traffic.warm_up);
    let mut services = worker.balances.services.borrow_mut();
    let Some(kept) = services.get_mut(service.key()) else {
        let mut kept = Kept::new(worker, service, warm_up);
        let found = kept.pick(worker, how, candidates, plan.key);
        services.insert(service.key().clone(), kept);
        return found;
    };
    if !Arc::ptr_eq(&kept.service, service) || kept.warm_up != warm_up {
        let current = worker.shared.load();
        if !current.services.get(service.key()).is_some_and(|current| Arc::ptr_eq(current, service)) {
            // An exchange that began before the instances changed: what is kept is about those of now.
            return Kept::new(worker, service, warm_up).pick(worker, how, candidates, plan.key);
        }
        kept.renew(worker, service, warm_up);
    }
    kept.pick(worker, how, candidates, plan.key)
}

impl Balances {
    /// An instance has passed its health check again.
    pub fn recovered(&self, worker: &Worker, service: &ServiceKey, address: SocketAddr) {
        let mut services = self.services.borrow_mut();
        let Some(kept) = services.get_mut(service) else { return };
        if kept.warm_up.is_some_and(|policy| policy.after_recovery) {
            let now = millis(worker);
            kept.newcomers.recovered(address, now);
            kept.find_new(now);
        }
    }

    /// Shows what warms up.
    fn show(&self, worker: &Worker) {
        let (now, mut shown) = (millis(worker), Vec::new());
        for (service, kept) in self.services.borrow().iter() {
            let Some(policy) = kept.warm_up else { continue };
            let length = u64::try_from(policy.duration.as_millis()).unwrap_or(u64::MAX);
            let open = kept.service.open();
            let is_new = |(position, start): &&(usize, u64)| {
                now.saturating_sub(*start) < length && open.binary_search(position).is_ok()
            };
            let new: Vec<&(usize, u64)> = kept.warming.iter().filter(is_new).collect();
            // Where too many are new, all of them have their whole weight.
            if !applies(new.len(), open.len()) {
                continue;
            }
            shown.extend(new.into_iter().map(|(position, start)| Warming {
                service: service.clone(),
                address: kept.service.endpoints()[*position].address,
                start: *start,
            }));
        }
        shown.sort_unstable();
        worker.sink.metrics.all_health().show_warming(shown);
    }

    /// Shows what warms up, and forgets services that are gone. Cheap, called often.
    pub fn tick(&self, worker: &Worker) {
        let now = worker.now();
        if now.saturating_sub(self.shown.get()) >= SHOW {
            self.shown.set(now);
            self.show(worker);
        }
        if now.saturating_sub(self.swept.get()) < SWEEP {
            return;
        }
        self.swept.set(now);
        let snapshot = worker.shared.load();
        self.services.borrow_mut().retain(|key, _| snapshot.services.contains_key(key));
    }
}

/// Finds the key by which an instance is chosen, where the service's are chosen by one. A request that is to have a cookie
/// for it, and has none, is answered with one.
pub fn find_key(worker: &Worker, plan: &mut Plan, head: Option<&RequestHead>, peer: IpAddr) {
    if plan.traffic.load_balancing.hash_on().is_empty() {
        return;
    }
    let traffic = Arc::clone(&plan.traffic);
    let on = traffic.load_balancing.hash_on();
    let found = match head {
        Some(head) => {
            let source = forwarded::source(head.fields(), peer, worker.config.forwarded_hops);
            key(on, head.fields(), head.query(), Some(source))
        }
        None => key(on, lane::no_fields(), None, Some(peer)),
    };
    match found {
        Key::Found(key) => plan.key = Some(key),
        Key::ToSet(HashOn::Cookie { name, ttl: Some(ttl) }) if head.is_some() && matches!(plan.to, To::Service(_)) => {
            let value = format!("{:016x}{:016x}", worker.random(), worker.random());
            plan.key = Some(hash(value.as_bytes()));
            plan.filters.push(Filter::ResponseHeaders(set_cookie(name, &value, *ttl)));
        }
        Key::ToSet(HashOn::Cookie { .. } | HashOn::Header(_) | HashOn::Query(_) | HashOn::SourceIp) | Key::None => {}
    }
}

fn set_cookie(name: &str, value: &str, ttl: Duration) -> HeaderChange {
    let age = if ttl.is_zero() { String::new() } else { format!("; Max-Age={}", ttl.as_secs().max(1)) };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{age}");
    HeaderChange { remove: Vec::new(), set: Vec::new(), add: vec![("set-cookie".to_owned(), cookie)] }
}

fn millis(worker: &Worker) -> u64 {
    u64::try_from(worker.unix_now().as_millis()).unwrap_or(u64::MAX)
}
