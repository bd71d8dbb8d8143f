//! What was counted of requests, by key.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use ahash::RandomState;

use super::{
    HEALTH_CHECKS_PER_SECOND, Pace,
    bucket::Bucket,
    key::{self, Asked},
    refused::Refused,
    rules::{Keys, Rule},
};
use crate::{
    limits::{
        decisions::{Decision, Decisions, Register},
        ledger::{Ledger, Why},
        store::{Reach, Store},
        tally::{AMOUNT_MAX, Shape, Tally},
        ways::{Held, Ways},
    },
    model::{model_route::LimitMode, policy::OnRateStoreDown},
};

/// A lease that is on its way is there after so long.
const LEASE_WAIT: Duration = Duration::from_secs(1);

/// In a millisecond.
const NANOS: u64 = 1_000_000;

/// Counts of this process.
#[derive(Debug, Default)]
pub struct Counts {
    proven: Ways<Entry>,
    claimed: Ways<Entry>,
    hasher: RandomState,
    register: Register,
    health: Bucket,
}

/// Counts of one limit for one key.
#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    bucket: Arc<Bucket>,
    /// Of a limit for all sidecars.
    tally: Option<Arc<Tally>>,
    decisions: Arc<Decisions>,
    mode: LimitMode,
    /// Until when it makes a difference what was used of a lease, nanoseconds since 1970.
    until: AtomicU64,
    /// What was.
    spent: AtomicU64,
}

/// What came of an attempt to take a request from a limit.
pub(super) enum Taken {
    /// It was.
    Whole,
    /// The limit is used up.
    Nothing(Box<Refused>),
}

impl Held for Entry {
    /// What makes no difference any more goes first, then what makes one for the shortest time, and of one window what was
    /// used least: counts that are used up outlast those of a flood of new keys.
    fn worth(&self) -> (u64, u64) {
        (self.until.load(SeqCst).max(self.bucket.full_at()), self.spent.load(SeqCst))
    }
}

impl Counts {
    pub(super) fn decisions(&self) -> Arc<Vec<Arc<Decisions>>> {
        self.register.all()
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.proven.forgotten.load(SeqCst) + self.claimed.forgotten.load(SeqCst)
    }

    /// Changes when a key joins.
    pub(in crate::limits) fn joined(&self) -> u64 {
        self.proven.joined.load(SeqCst).wrapping_add(self.claimed.joined.load(SeqCst))
    }

    /// Every number that may be leased.
    pub(in crate::limits) fn each_leased(&self, mut visit: impl FnMut(&Arc<Tally>)) {
        let leased = self.proven.all().chain(self.claimed.all());
        leased.for_each(|entry| entry.tally.iter().for_each(&mut visit));
    }

    /// Every key.
    #[cfg(test)]
    pub(super) fn each_key(&self, mut visit: impl FnMut(&[u8])) {
        self.proven.all().chain(self.claimed.all()).for_each(|entry| visit(&entry.key));
    }

    /// Whether one more health check goes before all limits.
    pub(super) fn takes_health_check(&self, now: Duration) -> bool {
        let second = Duration::from_secs(1);
        self.health.take(&Pace::new(HEALTH_CHECKS_PER_SECOND, second, HEALTH_CHECKS_PER_SECOND), now).is_ok()
    }

    /// Gives back what was taken from a limit at `now`.
    pub(super) fn give_back(&self, rule: &Rule, asked: &Asked<'_>, found: usize, now: Duration) {
        let (ways, hash) = (self.ways(rule), self.hash(rule, asked, found));
        ways.with(hash, |entry| entry.is(hash, rule, asked, found), |entry| entry.give_back(rule, now));
    }

    fn ways(&self, rule: &Rule) -> &Ways<Entry> {
        match rule.keys() {
            Keys::Proven => &self.proven,
            Keys::Claimed => &self.claimed,
        }
    }

    fn hash(&self, rule: &Rule, asked: &Asked<'_>, found: usize) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        key::write(rule, asked, found, |piece| hasher.write(piece));
        hasher.finish()
    }
}

impl Ledger {
    /// Takes a request from one limit; `found` is which of its conditions it meets.
    pub(super) fn take_request(&self, rule: &Rule, asked: &Asked<'_>, found: usize, now: Duration) -> Taken {
        let counts = &self.rates;
        let (ways, hash) = (counts.ways(rule), counts.hash(rule, asked, found));
        let store = self.store_of_rule(rule);
        let is = |entry: &Entry| entry.is(hash, rule, asked, found);
        let fits = |entry: &Entry| entry.fits(rule, store.as_ref());
        let take = |entry: &Entry| fits(entry).then(|| self.take_from(entry, rule, now));
        if let Some(taken) = ways.with(hash, is, take).flatten() {
            return taken;
        }
        let make = |before: Option<&Entry>| Entry::new(counts, (hash, found), rule, asked, store.clone(), before);
        self.take_from(&ways.entry(hash, is, fits, make), rule, now)
    }

    fn store_of_rule(&self, rule: &Rule) -> Option<Arc<Store>> {
        rule.is_leased().then(|| self.find_store(|known| rule.is_at(known), || rule.place()))
    }

    fn take_from(&self, entry: &Entry, rule: &Rule, now: Duration) -> Taken {
        if rule.is_paced()
            && let Err(wait) = entry.bucket.take(rule.pace(), now)
        {
            let remaining = entry.bucket.left(rule.pace(), now);
            let reset = entry.bucket.reset(rule.pace(), now);
            return entry.refuse(rule, Why::Used, remaining, (reset, wait));
        }
        let Some(tally) = &entry.tally else { return entry.allow() };
        let (time, amount) = (tally.time(now), rule.limit.requests.min(AMOUNT_MAX));
        let window = tally.shape.window_at(time);
        let reset = tally.shape.reset(time);
        let taken = tally.take(window, 1, amount);
        self.watch(tally, window, 1, amount);
        entry.until.store((window + 1).saturating_mul(tally.shape.window).saturating_mul(NANOS), SeqCst);
        entry.spent.store(tally.spent(window), SeqCst);
        let Some(why) = taken.err().and_then(|_| why(tally, rule, (window, amount))) else { return entry.allow() };
        if rule.is_paced() {
            entry.bucket.give_back(rule.pace());
        }
        let wait = match why {
            Why::Unleased | Why::StoreDown => LEASE_WAIT,
            Why::Used | Why::TooLarge => reset,
        };
        entry.refuse(rule, why, tally.remaining(window, amount), (reset, wait))
    }
}

/// Why a leased limit that gives nothing refuses; `None` where it does not.
fn why(tally: &Tally, rule: &Rule, (window, amount): (u64, u64)) -> Option<Why> {
    let store = tally.store.as_ref()?;
    match (store.reach(), rule.limit.on_store_down) {
        (Reach::Down, OnRateStoreDown::Open) => None,
        (Reach::Down, OnRateStoreDown::Closed) => Some(Why::StoreDown),
        // Nobody can be asked for more.
        (Reach::Down, OnRateStoreDown::Local) => Some(Why::Used),
        (Reach::Starting | Reach::Up, _) if tally.remaining(window, amount) > 0 => Some(Why::Unleased),
        (Reach::Starting | Reach::Up, _) => Some(Why::Used),
    }
}

impl Entry {
    fn new(
        counts: &Counts,
        (hash, found): (u64, usize),
        rule: &Rule,
        asked: &Asked<'_>,
        store: Option<Arc<Store>>,
        before: Option<&Entry>,
    ) -> Arc<Entry> {
        let mut key = Vec::with_capacity(64);
        key::write(rule, asked, found, |piece| key.extend_from_slice(piece));
        let shape = rule.shape();
        let decisions = counts.register.named(&rule.service, "", rule.shown());
        let tally = store.map(|store| {
            let known = before.and_then(|before| before.tally.as_ref()).filter(|known| is_of(known, &shape, &store));
            let cell = key::cell(&key, &shape.name());
            let new = || Arc::new(Tally::new(shape.clone(), cell, Some(store.clone()), Arc::clone(&decisions)));
            known.map_or_else(new, Arc::clone)
        });
        Arc::new(Entry {
            hash,
            key: key.into(),
            // What was taken lately stays taken when the limit changes.
            bucket: before.map_or_else(Arc::default, |before| Arc::clone(&before.bucket)),
            tally,
            decisions,
            mode: rule.limit.mode,
            until: AtomicU64::default(),
            spent: AtomicU64::default(),
        })
    }

    fn is(&self, hash: u64, rule: &Rule, asked: &Asked<'_>, found: usize) -> bool {
        self.hash == hash && key::is(&self.key, rule, asked, found)
    }

    fn fits(&self, rule: &Rule, store: Option<&Arc<Store>>) -> bool {
        let is_same_store = match (&self.tally, store) {
            (None, None) => true,
            (Some(tally), Some(store)) => is_of(tally, &rule.shape(), store),
            (None, Some(_)) | (Some(_), None) => false,
        };
        self.mode == rule.limit.mode && is_same_store
    }

    fn give_back(&self, rule: &Rule, now: Duration) {
        if rule.is_paced() {
            self.bucket.give_back(rule.pace());
        }
        if let Some(tally) = &self.tally {
            tally.give_back(tally.shape.window_at(tally.time(now)), 1);
        }
    }

    fn allow(&self) -> Taken {
        self.decisions.add(Decision::Allowed);
        Taken::Whole
    }

    fn refuse(&self, rule: &Rule, why: Why, remaining: u64, (reset, wait): (Duration, Duration)) -> Taken {
        self.decisions.add(match self.mode {
            LimitMode::Enforce => Decision::Refused(why),
            LimitMode::Shadow => Decision::Shadowed,
        });
        Taken::Nothing(Box::new(Refused {
            service: Arc::clone(&rule.service),
            limit: rule.limit.name.clone(),
            why,
            requests: rule.limit.requests,
            per: rule.limit.per,
            remaining,
            reset,
            retry_after: wait,
        }))
    }
}

fn is_of(tally: &Tally, shape: &Shape, store: &Arc<Store>) -> bool {
    tally.shape == *shape && tally.store.as_ref().is_some_and(|held| Arc::ptr_eq(held, store))
}
