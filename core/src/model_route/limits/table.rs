//! The keys that a process counts for: a bounded table which all workers read and write without a lock. A key has its
//! place among the few ways of one set; when all are taken, the least recently used one without open reservations is
//! forgotten.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::{
    decisions::Decisions,
    key::Key,
    store::Store,
    tally::{Shape, Tally},
};

/// Keys that are counted at most; beyond them the least recently used ones are forgotten, and counted anew.
pub(super) const KEYS_MAX: usize = SETS * WAYS;
const SETS: usize = 2_048;
const WAYS: usize = 8;
/// Attempts to put a key in while others change its set; then the key is counted for this exchange alone.
const ATTEMPTS: usize = 16;

/// Counts of a key.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) key: Key,
    /// In the order of the limits that were last asked for.
    pub(super) tallies: Vec<Arc<Tally>>,
    /// Reservations that are neither settled nor cancelled.
    pub(super) open: Arc<AtomicU64>,
    /// When it was last asked for, milliseconds since 1970.
    used: AtomicU64,
}

/// The limits that a key meets.
pub(super) struct Limited<'a> {
    pub(super) shapes: &'a [Shape],
    pub(super) store: Option<&'a Arc<Store>>,
    /// What is counted of each.
    pub(super) decisions: &'a dyn Fn(&Shape) -> Arc<Decisions>,
}

impl Account {
    fn new(key: &Key, limited: &Limited<'_>, before: Option<&Account>) -> Arc<Account> {
        let Limited { shapes, store, decisions } = *limited;
        let same_store = |tally: &Tally| match (&tally.store, store) {
            (None, None) => true,
            (Some(held), Some(store)) => Arc::ptr_eq(held, store),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let tally = |shape: &Shape| {
            let known = before.into_iter().flat_map(|account| &account.tallies);
            match known.into_iter().find(|tally| tally.shape == *shape && same_store(tally)) {
                Some(tally) => Arc::clone(tally),
                None => {
                    let cell = key.cell(&shape.name());
                    Arc::new(Tally::new(shape.clone(), cell, store.cloned(), decisions(shape)))
                }
            }
        };
        Arc::new(Account {
            key: key.clone(),
            tallies: shapes.iter().map(tally).collect(),
            // What is under way goes on when limits change.
            open: before.map_or_else(Arc::default, |account| Arc::clone(&account.open)),
            used: AtomicU64::default(),
        })
    }

    fn fits(&self, limited: &Limited<'_>) -> bool {
        let Limited { shapes, store, decisions: _ } = *limited;
        let of_store = |tally: &Arc<Tally>| match (&tally.store, store) {
            (None, None) => true,
            (Some(held), Some(store)) => Arc::ptr_eq(held, store),
            (None, Some(_)) | (Some(_), None) => false,
        };
        self.tallies.len() == shapes.len()
            && self.tallies.iter().zip(shapes).all(|(tally, shape)| tally.shape == *shape && of_store(tally))
    }
}

type Way = ArcSwapOption<Account>;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Made when the first key is counted: most proxies never call a model.
    ways: OnceLock<Box<[Way]>>,
    hasher: RandomState,
    /// Keys that were forgotten for others before their windows ended, or may have been.
    pub(super) forgotten: AtomicU64,
    /// Changes when a key joins.
    pub(super) joined: AtomicU64,
}

impl Table {
    fn set(&self, key: &Key) -> &[Way] {
        let ways = self.ways.get_or_init(|| (0..KEYS_MAX).map(|_| Way::default()).collect());
        let set = (self.hasher.hash_one(key) as usize) % SETS;
        &ways[set * WAYS..][..WAYS]
    }

    /// Every key, for those who look after leases.
    pub(super) fn all(&self) -> Vec<Arc<Account>> {
        self.ways.get().into_iter().flatten().filter_map(ArcSwapOption::load_full).collect()
    }

    /// As [`Table::account`], of a call that is only thought of: the table stays as it is.
    pub(super) fn look(&self, key: &Key, limited: &Limited<'_>) -> Arc<Account> {
        let ways = self.ways.get().map(|_| self.set(key));
        let is_key = |account: &Arc<Account>| account.key == *key;
        let known = ways.into_iter().flatten().filter_map(ArcSwapOption::load_full).find(is_key);
        Account::new(key, limited, known.as_deref())
    }

    /// The account of a key with tallies for these limits, made if need be. Counts of limits that stay are kept.
    pub(super) fn account(&self, key: &Key, limited: &Limited<'_>, now: u64) -> Arc<Account> {
        let set = self.set(key);
        for _ in 0..ATTEMPTS {
            let found = set.iter().position(|way| way.load().as_ref().is_some_and(|account| account.key == *key));
            let (way, before) = match found {
                Some(at) => (&set[at], set[at].load_full()),
                None => victim(set),
            };
            match &before {
                // Another key took the place meanwhile.
                Some(account) if found.is_some() && account.key != *key => continue,
                Some(account) if found.is_some() && account.fits(limited) => {
                    account.used.store(now, SeqCst);
                    return Arc::clone(account);
                }
                Some(_) | None => {}
            }
            let same_key = before.as_deref().filter(|account| account.key == *key);
            let made = Account::new(key, limited, same_key);
            made.used.store(now, SeqCst);
            let seen = way.compare_and_swap(&before, Some(Arc::clone(&made)));
            let put = seen.as_ref().map(Arc::as_ptr) == before.as_ref().map(Arc::as_ptr);
            if put && self.is_first(set, &made) {
                self.joined.fetch_add(1, SeqCst);
                self.forgotten.fetch_add(u64::from(before.is_some_and(|before| before.key != *key)), SeqCst);
                return made;
            }
        }
        Account::new(key, limited, None)
    }

    /// Whether no other way before it holds the same key; else it is taken out again.
    fn is_first(&self, set: &[Way], made: &Arc<Account>) -> bool {
        let first = set.iter().find_map(|way| way.load_full().filter(|account| account.key == made.key));
        if first.is_some_and(|first| Arc::ptr_eq(&first, made)) {
            return true;
        }
        for way in set {
            way.compare_and_swap(&Some(Arc::clone(made)), None);
        }
        false
    }
}

/// The way to be given to a new key, and what stands there.
fn victim(set: &[Way]) -> (&Way, Option<Arc<Account>>) {
    let rank = |(_, account): &(&Way, Option<Arc<Account>>)| match account {
        None => (0, 0, 0),
        Some(account) => (1, account.open.load(SeqCst).min(1), account.used.load(SeqCst)),
    };
    let ranked = set.iter().map(|way| (way, way.load_full())).min_by_key(rank);
    ranked.expect("a set has ways")
}
