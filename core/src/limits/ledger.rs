//! Who may still ask, and who may not: all limits of an exchange at once, or none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    ask::Ask,
    decisions::{Decision, Decisions, Register},
    key::Key,
    rate::Counts,
    reservation::{Hold, Reservation},
    store::{Place, Reach, Store},
    table::{Account, Limited, Table},
    tally::{AMOUNT_MAX, Shape, Tally},
};
use crate::model::model_route::{Counted, Limit, LimitMode, LimitStore, ModelRoute, ModelTarget, OnStoreDown};

/// Until when a refused caller is asked to wait rather than told that it is of no use.
pub const WAIT_MAX: Duration = Duration::from_secs(120);
/// Stores that a process leases from at most: a policy names one, seldom a few.
pub const STORES_MAX: usize = 16;
/// A lease that is on its way is there after so long.
const LEASE_WAIT: Duration = Duration::from_secs(1);

/// The limits that an exchange meets.
#[derive(Clone, Copy, Debug)]
pub struct Quota<'a> {
    /// `<name>.<namespace>` of the route.
    pub route: &'a str,
    /// Target whose limits they are; `None` = of callers.
    pub target: Option<&'a str>,
    /// Each counts on its own.
    pub limits: &'a [Limit],
    /// Where.
    pub store: &'a LimitStore,
    /// What follows when the store is down.
    pub on_store_down: OnStoreDown,
}

impl<'a> Quota<'a> {
    /// Of the callers of a route.
    pub fn of_callers(route: &'a ModelRoute) -> Quota<'a> {
        let tokens = &route.tokens;
        let (limits, store, on_store_down) = (&tokens.limits, &tokens.store, tokens.on_store_down);
        Quota { route: &route.name, target: None, limits, store, on_store_down }
    }

    /// Of a target, counted where its route counts.
    pub fn of_target(route: &'a ModelRoute, target: &'a ModelTarget) -> Quota<'a> {
        Quota { target: Some(&target.name), limits: &target.limits, ..Quota::of_callers(route) }
    }
}

/// Why a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is used up.
    Used,
    /// The request alone is more than the whole limit.
    TooLarge,
    /// The store has not said yet whether there is more; it was asked.
    Unleased,
    /// The store is down, and the limit closed for that case.
    StoreDown,
}

impl Why {
    /// As metrics and explanations name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Used => "used",
            Why::TooLarge => "too_large",
            Why::Unleased => "unleased",
            Why::StoreDown => "store_down",
        }
    }
}

/// How a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: Limit,
    /// What is left of it, of the whole fleet as far as this proxy knows.
    pub remaining: u64,
    /// Until its window ends; zero for concurrent streams.
    pub reset: Duration,
}

impl Standing {
    pub(super) fn of(tally: &Tally, limit: &Limit, now: Duration) -> Standing {
        let time = tally.time(now);
        let window = tally.shape.window_at(time);
        let remaining = tally.remaining(window, limit.amount.min(AMOUNT_MAX));
        Standing { limit: limit.clone(), remaining, reset: tally.shape.reset(time) }
    }
}

/// A limit refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Exhausted {
    /// Why.
    pub why: Why,
    /// How it stands.
    pub standing: Standing,
    /// What was asked of it.
    pub asked: u64,
    /// How all limits of the exchange stand, for the fields of the answer.
    pub all: Vec<Standing>,
}

impl Exhausted {
    /// When asking again may help; `None` where it does not within [`WAIT_MAX`].
    pub fn retry_after(&self) -> Option<Duration> {
        let wait = match self.why {
            Why::TooLarge => return None,
            Why::Unleased | Why::StoreDown => LEASE_WAIT,
            Why::Used if self.standing.limit.of == Counted::Concurrent => LEASE_WAIT,
            Why::Used => self.standing.reset,
        };
        (wait <= WAIT_MAX).then_some(wait)
    }

    /// For people; names the limit and nothing of the caller.
    fn sentence(&self) -> String {
        let limit = &self.standing.limit;
        let (amount, of) = (limit.amount, unit(limit.of));
        let per = match limit.of {
            Counted::Concurrent => String::new(),
            Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Money => {
                format!(" in {} s", limit.window.as_secs())
            }
        };
        let (asked, remaining) = (self.asked, self.standing.remaining);
        match self.why {
            Why::Used => format!("limit of {amount} {of}{per} is used up: {remaining} left, {asked} asked"),
            Why::TooLarge => format!("{asked} {of} are more than the limit of {amount}{per}"),
            Why::Unleased => format!("share of the limit of {amount} {of}{per} is used up; more was asked for"),
            Why::StoreDown => format!("limit of {amount} {of}{per} cannot be counted: its store does not answer"),
        }
    }
}

fn unit(of: Counted) -> &'static str {
    match of {
        Counted::Input => "input tokens",
        Counted::Output => "output tokens",
        Counted::Total => "tokens",
        Counted::Requests => "requests",
        Counted::Concurrent => "concurrent requests",
        Counted::Money => "millionths of money",
    }
}

/// What a ledger did, over all keys.
#[derive(Debug, Default)]
pub struct Counters {
    /// Tokens reserved.
    pub reserved: AtomicU64,
    /// Tokens that reservations were settled with.
    pub settled: AtomicU64,
}

/// Counts of this process. All workers share one.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) table: Table,
    stores: ArcSwap<Vec<Arc<Store>>>,
    counters: Arc<Counters>,
    /// Requests that services take.
    pub(super) rates: Counts,
    decisions: Register,
    thirst: AtomicBool,
}

impl Ledger {
    /// What it did.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What each limit decided.
    pub fn decisions(&self) -> Arc<Vec<Arc<Decisions>>> {
        self.decisions.all()
    }

    /// Keys that were forgotten because there are too many.
    pub fn forgotten(&self) -> u64 {
        self.table.forgotten()
    }

    /// Changes when a key joins.
    pub(super) fn joined(&self) -> u64 {
        self.table.joined().wrapping_add(self.rates.joined())
    }

    /// Every number that may be leased, for those who look after leases.
    pub(super) fn each_leased(&self, mut visit: impl FnMut(&Arc<Tally>)) {
        self.table.all().for_each(|account| account.tallies.iter().for_each(&mut visit));
        self.rates.each_leased(visit);
    }

    /// Stores that limits were counted in or will be, for who talks to them.
    pub fn stores(&self) -> Arc<Vec<Arc<Store>>> {
        self.stores.load_full()
    }

    /// Whether a lease was found low since this was last asked: whoever reserves wakes who talks to the stores then.
    pub fn take_thirst(&self) -> bool {
        self.thirst.load(SeqCst) && self.thirst.swap(false, SeqCst)
    }

    /// Takes what is asked from every limit of the quota, or from none. Of several that refuse, the first one is told.
    ///
    /// # Errors
    /// When a limit that is enforced has too little left.
    pub fn reserve(&self, quota: &Quota<'_>, key: &Key, ask: &Ask, now: Duration) -> Result<Reservation, Exhausted> {
        if quota.limits.is_empty() {
            return Ok(Reservation::default());
        }
        let account = self.account(quota, key, now);
        let mut reservation = Reservation::default();
        for (limit, tally) in quota.limits.iter().zip(&account.tallies) {
            let amount = limit.amount.min(AMOUNT_MAX);
            let wanted = ask.of(limit.of);
            let window = tally.shape.window_at(tally.time(now));
            let taken = tally.take(window, wanted, amount);
            self.watch(tally, window, wanted, amount);
            match (taken, limit.mode) {
                (Ok(()), LimitMode::Enforce | LimitMode::Shadow) => {
                    let (tally, limit) = (Arc::clone(tally), limit.clone());
                    reservation.holds.push(Hold { tally, limit, window, taken: wanted });
                }
                // As if it had been refused, so that what is counted is what would be.
                (Err(_), LimitMode::Shadow) => reservation.shadowed.push(limit.clone()),
                (Err(_), LimitMode::Enforce) => {
                    reservation.cancel();
                    let refusal = refusal(quota, &account, (limit, tally), wanted, now);
                    tally.decisions.add(Decision::Refused(refusal.why));
                    return Err(refusal);
                }
            }
        }
        self.counters.reserved.fetch_add(ask.input.saturating_add(ask.output), SeqCst);
        for (limit, tally) in quota.limits.iter().zip(&account.tallies) {
            let is_shadowed = reservation.shadowed.contains(limit);
            tally.decisions.add(if is_shadowed { Decision::Shadowed } else { Decision::Allowed });
        }
        account.open.fetch_add(1, SeqCst);
        reservation.counters = Some(Arc::clone(&self.counters));
        reservation.account = Some(account);
        Ok(reservation)
    }

    fn account(&self, quota: &Quota<'_>, key: &Key, now: Duration) -> Arc<Account> {
        let shapes = shapes(quota.limits);
        let store = self.store_of(quota);
        let decisions = |shape: &Shape| self.decisions.of(quota, shape);
        let limited = Limited { shapes: &shapes, store: store.as_ref(), decisions: &decisions };
        self.table.account(key, &limited, u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn store_of(&self, quota: &Quota<'_>) -> Option<Arc<Store>> {
        match quota.store {
            LimitStore::Local => None,
            LimitStore::Redis { .. } => {
                let is = |place: &Place| {
                    place.sharing.is_empty() && place.store == *quota.store && place.on_down == quota.on_store_down
                };
                Some(self.find_store(is, || Place::of_models(quota.store, quota.on_store_down)))
            }
        }
    }

    /// The store, added when it is new. One that nobody talks to grants nothing, nor does one beyond [`STORES_MAX`].
    pub fn store(&self, place: &Place) -> Arc<Store> {
        self.find_store(|known| known == place, || place.clone())
    }

    /// As [`Ledger::store`], of the place that `is` knows again.
    pub(super) fn find_store(&self, is: impl Fn(&Place) -> bool, place: impl Fn() -> Place) -> Arc<Store> {
        let find = |stores: &Vec<Arc<Store>>| stores.iter().find(|store| is(&store.place)).map(Arc::clone);
        if let Some(store) = find(&self.stores.load()) {
            return store;
        }
        self.stores.rcu(|stores| match find(stores) {
            Some(_) => Arc::clone(stores),
            None if stores.len() >= STORES_MAX => Arc::clone(stores),
            None => Arc::new(stores.iter().cloned().chain([Store::new(place())]).collect()),
        });
        find(&self.stores.load()).unwrap_or_else(|| Store::new(place()))
    }

    /// Lets go of the stores that `keeps` does not want. What is under way there ends as it began; a store that is named
    /// again is a new one.
    pub fn retain_stores(&self, keeps: impl Fn(&Arc<Store>) -> bool) {
        if self.stores.load().iter().all(&keeps) {
            return;
        }
        self.stores.rcu(|stores| Arc::new(stores.iter().filter(|store| keeps(store)).cloned().collect::<Vec<_>>()));
    }

    /// Remembers the demand of a leased limit, and says once when the lease is low.
    pub(super) fn watch(&self, tally: &Tally, window: u64, wanted: u64, amount: u64) {
        if tally.store.is_none() {
            return;
        }
        tally.amount.store(amount, SeqCst);
        tally.asked.fetch_add(wanted, SeqCst);
        tally.peak.fetch_max(wanted, SeqCst);
        let over = match tally.granted(window) {
            Some(granted) => granted.saturating_sub(tally.spent(window)) <= tally.low.load(SeqCst),
            None => true,
        };
        if over && !tally.told.swap(true, SeqCst) {
            self.thirst.store(true, SeqCst);
        }
    }
}

/// What the tallies of these limits are.
pub(super) fn shapes(limits: &[Limit]) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(limits.len());
    for limit in limits {
        let window = match limit.of {
            Counted::Concurrent => 0,
            Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Money => {
                u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX).max(1)
            }
        };
        let mut shape = Shape { of: limit.of, window, mode: limit.mode, nth: 0 };
        while shapes.contains(&shape) {
            shape.nth += 1;
        }
        shapes.push(shape);
    }
    shapes
}

fn refusal(
    quota: &Quota<'_>,
    account: &Account,
    (limit, tally): (&Limit, &Arc<Tally>),
    asked: u64,
    now: Duration,
) -> Exhausted {
    let standing = Standing::of(tally, limit, now);
    let why = why(tally, &standing, asked);
    let all = quota.limits.iter().zip(&account.tallies).map(|(limit, tally)| Standing::of(tally, limit, now)).collect();
    Exhausted { why, standing, asked, all }
}

/// Why a limit that has no room for what is asked has none.
pub(super) fn why(tally: &Tally, standing: &Standing, asked: u64) -> Why {
    match &tally.store {
        _ if asked > standing.limit.amount => Why::TooLarge,
        Some(store) if store.reach() == Reach::Down && store.place.on_down == OnStoreDown::Closed => Why::StoreDown,
        Some(_) if standing.remaining >= asked => Why::Unleased,
        Some(_) | None => Why::Used,
    }
}

impl Tally {
    /// Time by which its windows are counted, milliseconds since 1970.
    pub(super) fn time(&self, now: Duration) -> u64 {
        match &self.store {
            Some(store) => store.time(now),
            None => u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
