//! The keys of model limits that a process counts for. Beyond [`KEYS_MAX`] the least recently used one without open
//! reservations is forgotten.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use ahash::RandomState;

use super::{
    decisions::Decisions,
    key::Key,
    store::Store,
    tally::{Shape, Tally},
    ways::{HELD_MAX, Held, Ways},
};

/// Keys that are counted at most; beyond them the least recently used ones are forgotten, and counted anew.
pub(super) const KEYS_MAX: usize = HELD_MAX;

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

impl Held for Account {
    fn worth(&self) -> (u64, u64) {
        (self.open.load(SeqCst).min(1), self.used.load(SeqCst))
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Table {
    ways: Ways<Account>,
    hasher: RandomState,
}

impl Table {
    /// Every key, for those who look after leases.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<Account>> {
        self.ways.all()
    }

    /// Changes when a key joins.
    pub(super) fn joined(&self) -> u64 {
        self.ways.joined.load(SeqCst)
    }

    /// Keys that were forgotten for others before their windows ended, or may have been.
    pub(super) fn forgotten(&self) -> u64 {
        self.ways.forgotten.load(SeqCst)
    }

    /// As [`Table::account`], of a call that is only thought of: the table stays as it is.
    pub(super) fn look(&self, key: &Key, limited: &Limited<'_>) -> Arc<Account> {
        let known = self.ways.find(self.hasher.hash_one(key), |account| account.key == *key);
        Account::new(key, limited, known.as_deref())
    }

    /// The account of a key with tallies for these limits, made if need be. Counts of limits that stay are kept.
    pub(super) fn account(&self, key: &Key, limited: &Limited<'_>, now: u64) -> Arc<Account> {
        let make = |before: Option<&Account>| {
            let made = Account::new(key, limited, before);
            made.used.store(now, SeqCst);
            made
        };
        let is_key = |account: &Account| account.key == *key;
        let account = self.ways.entry(self.hasher.hash_one(key), is_key, |account| account.fits(limited), make);
        account.used.store(now, SeqCst);
        account
    }
}
