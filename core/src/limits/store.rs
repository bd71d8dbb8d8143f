//! What a process knows of a store that it leases from: written by who talks to the store, read by workers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use ahash::AHashSet;
use arc_swap::ArcSwap;

use super::{
    lease::CellWindow,
    shares::{Part, Shares},
};
use crate::model::model_route::{LimitStore, OnStoreDown};

/// Proxies that are presumed while none was ever counted, because the store was down from the start. As many proxies
/// starting during one outage keep to the limit together.
pub const PROXIES_PRESUMED: u64 = 10;

/// In a millisecond.
const MICROS: u64 = 1_000;

/// Whether a store can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not heard yet, and not given up.
    Starting,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Reach {
    const ALL: [Reach; 3] = [Reach::Starting, Reach::Up, Reach::Down];
}

/// Which store is meant, and among whom amounts are shared there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Those who count for the same share with one another: the sidecars of this service. Empty = whoever calls models.
    pub sharing: Arc<str>,
    /// Where it is.
    pub store: LimitStore,
    /// What follows when it is down.
    pub on_down: OnStoreDown,
}

impl Place {
    /// Of limits of models.
    pub fn of_models(store: &LimitStore, on_down: OnStoreDown) -> Place {
        Place { sharing: "".into(), store: store.clone(), on_down }
    }
}

/// A store, as its users in this process see it.
#[derive(Debug)]
pub struct Store {
    /// Which.
    pub place: Place,
    reach: AtomicU8,
    /// [`Shares`] in one number, so that no worker sees half of a change; see [`packed`].
    shares: AtomicU64,
    /// Its clock less ours, milliseconds.
    offset: AtomicI64,
    /// Its clock when the last heartbeat's answer that was worked in left it, microseconds.
    heard: AtomicU64,
    /// Cells and windows of which every lease is asked for.
    tight: ArcSwap<AHashSet<CellWindow>>,
}

impl Store {
    /// A store that was not heard yet.
    pub fn new(place: Place) -> Arc<Store> {
        Arc::new(Store {
            place,
            reach: AtomicU8::new(Reach::Starting as u8),
            shares: AtomicU64::default(),
            offset: AtomicI64::default(),
            heard: AtomicU64::default(),
            tight: ArcSwap::default(),
        })
    }

    /// Whether it can be reached.
    pub fn reach(&self) -> Reach {
        let reach = usize::from(self.reach.load(SeqCst));
        Reach::ALL.get(reach).copied().unwrap_or(Reach::Starting)
    }

    /// Says whether it can be reached. Returns what was said before.
    pub fn set_reach(&self, reach: Reach) -> Reach {
        let before = self.reach();
        self.reach.store(reach as u8, SeqCst);
        before
    }

    /// Proxies that know it, as it last said.
    pub fn known(&self) -> u64 {
        self.shares().proxies
    }

    /// Among whom amounts are shared, as it last said.
    pub fn shares(&self) -> Shares {
        unpacked(self.shares.load(SeqCst))
    }

    pub(super) fn set_part(&self, part: Part) {
        self.shares.store(packed(Shares { part, ..self.shares() }), SeqCst);
    }

    /// Its time now, milliseconds since 1970.
    pub fn time(&self, now: Duration) -> u64 {
        let ours = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        ours.saturating_add_signed(self.offset.load(SeqCst))
    }

    /// Its time in the last heartbeat's answer that was worked in, microseconds; 0 = none yet.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(SeqCst)
    }

    /// Works in what a heartbeat was answered.
    pub(super) fn hear(&self, time: u64, shares: Shares, tight: Arc<AHashSet<CellWindow>>) {
        // A share grows last: what it is refused must be known before.
        let part = if shares.part == self.shares().part { shares.part } else { Part::Asking };
        self.shares.store(packed(Shares { part, ..shares }), SeqCst);
        self.tight.store(tight);
        self.heard.store(time, SeqCst);
        self.shares.store(packed(shares), SeqCst);
    }

    /// Sets the clock by an answer that left at `time` (microseconds) and arrived at `now`: never ahead of the store's, so
    /// that a moment which we call past is past for it, too.
    pub(super) fn set_clock(&self, time: u64, now: Duration) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let ours = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.offset.store(signed(time / MICROS).saturating_sub(ours), SeqCst);
    }

    pub(super) fn tight(&self) -> Arc<AHashSet<CellWindow>> {
        self.tight.load_full()
    }

    pub(super) fn is_tight(&self, at: &CellWindow) -> bool {
        let tight = self.tight.load();
        !tight.is_empty() && tight.contains(at)
    }

    /// What may be used of a lease.
    pub(super) fn leased(&self, granted: u64) -> u64 {
        match (self.reach(), self.place.on_down) {
            (Reach::Down, OnStoreDown::Closed) => 0,
            (Reach::Starting | Reach::Up, OnStoreDown::Closed) | (_, OnStoreDown::Open) => granted,
        }
    }

    /// What may be used of `amount` in a window of which nothing was leased. The store keeps at least this free for each
    /// proxy that it knows: its share of a window until it was heard in that one, what it may begin a key with
    /// afterwards, and nothing once it was told that every lease of the cell is wanted.
    pub(super) fn free_share(&self, at: &CellWindow, amount: u64) -> u64 {
        let (reach, shares, heard) = (self.reach(), self.shares(), self.heard());
        match (reach, self.place.on_down) {
            (Reach::Down, OnStoreDown::Closed) => 0,
            (Reach::Down, OnStoreDown::Open) if heard == 0 => amount / PROXIES_PRESUMED,
            (Reach::Starting | Reach::Up, OnStoreDown::Closed) | (_, OnStoreDown::Open) => {
                if heard < at.start() {
                    shares.of_window(amount)
                } else if self.is_tight(at) {
                    0
                } else {
                    shares.of_key(amount)
                }
            }
        }
    }
}

/// Bits of each count; the part has what is left.
const COUNT_BITS: u32 = 30;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

fn packed(shares: Shares) -> u64 {
    let Shares { proxies, sharers, part } = shares;
    (part as u64) << (2 * COUNT_BITS) | sharers.min(COUNT_MAX) << COUNT_BITS | proxies.min(COUNT_MAX)
}

fn unpacked(packed: u64) -> Shares {
    let part = usize::try_from(packed >> (2 * COUNT_BITS)).unwrap_or_default();
    Shares {
        proxies: packed & COUNT_MAX,
        sharers: packed >> COUNT_BITS & COUNT_MAX,
        part: Part::ALL.get(part).copied().unwrap_or_default(),
    }
}
