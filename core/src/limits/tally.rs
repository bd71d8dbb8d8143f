//! One limit of one key: what was used in the window now, and in a leased one how much may be. Written by every worker
//! at once, and without a lock: each number carries the window that it belongs to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{decisions::Decisions, lease::CellWindow, store::Store};
use crate::model::model_route::{Counted, LimitMode};

/// Greatest amount that is told apart; more counts as this.
pub(super) const AMOUNT_MAX: u64 = (1 << AMOUNT_BITS) - 1;
const AMOUNT_BITS: u32 = 48;
/// Windows that a number can be told to belong to before their names come again: 18 hours of seconds in each slot.
const TAGS: u64 = (1 << (64 - AMOUNT_BITS)) - 1;
/// Tags by which a worker may be late: 64 windows. What is further ahead is old, of before the tags came again.
const LATE_MAX: u64 = 32;

/// Which limit of a key a tally is. Its amount may change without its counts being lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) of: Counted,
    /// Milliseconds; 0 for what has no window.
    pub(super) window: u64,
    pub(super) mode: LimitMode,
    /// Among equal ones.
    pub(super) nth: usize,
}

impl Shape {
    /// Number of the window at `now`, milliseconds.
    pub(super) fn window_at(&self, now: u64) -> u64 {
        now.checked_div(self.window).unwrap_or(0)
    }

    /// From `now` to the end of its window; nothing for what has none.
    pub(super) fn reset(&self, now: u64) -> Duration {
        if self.window == 0 { Duration::ZERO } else { Duration::from_millis(self.window - now % self.window) }
    }

    /// Name for the store.
    pub(super) fn name(&self) -> String {
        let Shape { of, window, mode, nth } = self;
        format!("{of:?}/{window}/{mode:?}/{nth}")
    }
}

/// A number that belongs to a window; of two windows in a row each has its own (see [`Tally::slot`]).
#[derive(Debug, Default)]
struct Tagged(AtomicU64);

/// How a number stands to a window.
enum Seen {
    /// It belongs to it.
    Now(u64),
    /// It belongs to one before, or to none.
    Before,
    /// It belongs to one after: whoever asks is late.
    After,
}

impl Tagged {
    fn tag(window: u64) -> u64 {
        (window / 2) % TAGS + 1
    }

    fn pack(window: u64, amount: u64) -> u64 {
        Self::tag(window) << AMOUNT_BITS | amount.min(AMOUNT_MAX)
    }

    fn read(packed: u64, window: u64) -> Seen {
        let (held, wanted) = (packed >> AMOUNT_BITS, Self::tag(window));
        if held == wanted {
            return Seen::Now(packed & AMOUNT_MAX);
        }
        let ahead = (held + TAGS - wanted) % TAGS;
        if held != 0 && ahead <= LATE_MAX { Seen::After } else { Seen::Before }
    }

    fn get(&self, window: u64) -> Option<u64> {
        match Self::read(self.0.load(SeqCst), window) {
            Seen::Now(amount) => Some(amount),
            Seen::Before | Seen::After => None,
        }
    }

    fn set(&self, window: u64, amount: u64) {
        self.0.store(Self::pack(window, amount), SeqCst);
    }

    /// Changes what stands there for the window (0 when nothing does), unless `change` refuses or a later window began.
    fn change(&self, window: u64, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut packed = self.0.load(SeqCst);
        loop {
            let before = match Self::read(packed, window) {
                Seen::Now(amount) => amount,
                Seen::Before => 0,
                Seen::After => return None,
            };
            let after = change(before)?;
            match self.0.compare_exchange_weak(packed, Self::pack(window, after), SeqCst, SeqCst) {
                Ok(_) => return Some(after),
                Err(other) => packed = other,
            }
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    spent: Tagged,
    /// How much of the window's amount this process may use, where that is leased.
    granted: Tagged,
    /// What nobody had leased when the store was last heard.
    left: Tagged,
}

/// Counts of one limit of one key in this process.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) shape: Shape,
    /// Name in the store.
    pub(super) cell: u128,
    /// `None` = counted in this process alone.
    pub(super) store: Option<Arc<Store>>,
    /// Of this limit, for all keys.
    pub(super) decisions: Arc<Decisions>,
    slots: [Slot; 2],
    /// Amount of the limit when it was last reserved from.
    pub(super) amount: AtomicU64,
    /// More should be leased when less than this is left of the lease.
    pub(super) low: AtomicU64,
    /// Asked for since the lease was last looked at, what was refused included.
    pub(super) asked: AtomicU64,
    /// Greatest single ask since then.
    pub(super) peak: AtomicU64,
    /// Whether somebody was told already that more should be leased, or that there is no more.
    pub(super) told: AtomicBool,
}

/// Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short;

impl Tally {
    pub(super) fn new(shape: Shape, cell: u128, store: Option<Arc<Store>>, decisions: Arc<Decisions>) -> Tally {
        Tally {
            shape,
            cell,
            store,
            decisions,
            slots: Default::default(),
            amount: AtomicU64::default(),
            low: AtomicU64::default(),
            asked: AtomicU64::default(),
            peak: AtomicU64::default(),
            told: AtomicBool::default(),
        }
    }

    pub(super) fn at(&self, window: u64) -> CellWindow {
        CellWindow { cell: self.cell, length: self.shape.window, window }
    }

    fn slot(&self, window: u64) -> &Slot {
        &self.slots[(window % 2) as usize]
    }

    /// Used in a window.
    pub(super) fn spent(&self, window: u64) -> u64 {
        self.slot(window).spent.get(window).unwrap_or(0)
    }

    /// Leased for a window; `None` = never asked for.
    pub(super) fn granted(&self, window: u64) -> Option<u64> {
        self.slot(window).granted.get(window)
    }

    /// What nobody had leased of a window when the store was last heard.
    pub(super) fn left(&self, window: u64) -> Option<u64> {
        self.slot(window).left.get(window)
    }

    /// What the store said.
    pub(super) fn grant(&self, window: u64, granted: u64, left: u64) {
        self.slot(window).left.set(window, left);
        self.slot(window).granted.set(window, granted);
    }

    /// Lowers or sets the lease, and tells how much of the window this process holds on to from here on. A worker that
    /// spends at the same moment looks at the lease again afterwards: either it sees the lower one, or we its spending.
    pub(super) fn hold(&self, window: u64, granted: u64) -> u64 {
        self.slot(window).granted.set(window, granted);
        self.spent(window).max(granted.min(AMOUNT_MAX))
    }

    /// What is left of `amount` in a window, of the whole fleet as far as this process knows.
    pub(super) fn remaining(&self, window: u64, amount: u64) -> u64 {
        let spent = self.spent(window);
        match (&self.store, self.granted(window), self.left(window)) {
            (Some(_), Some(granted), Some(left)) => left.saturating_add(granted).min(amount).saturating_sub(spent),
            (Some(store), ..) if store.is_tight(&self.at(window)) => 0,
            (Some(_) | None, ..) => amount.saturating_sub(spent),
        }
    }

    /// How much of `amount` may be used in a window.
    pub(super) fn bound(&self, window: u64, amount: u64) -> u64 {
        match &self.store {
            None => amount,
            Some(store) => match self.granted(window) {
                Some(granted) => store.leased(granted),
                None => store.free_share(&self.at(window), amount),
            },
        }
    }

    /// Takes `ask` within the bound.
    pub(super) fn take(&self, window: u64, ask: u64, amount: u64) -> Result<(), Short> {
        let bound = self.bound(window, amount);
        let add = |spent: u64| spent.checked_add(ask).filter(|after| *after <= bound);
        let spent = self.slot(window).spent.change(window, add).ok_or(Short)?;
        if self.store.is_some() && spent > self.bound(window, amount) {
            self.give_back(window, ask);
            return Err(Short);
        }
        Ok(())
    }

    /// Adds what was used beyond what was taken.
    pub(super) fn add(&self, window: u64, more: u64) {
        self.slot(window).spent.change(window, |spent| Some(spent.saturating_add(more)));
    }

    /// Takes back what was taken, while its window lasts.
    pub(super) fn give_back(&self, window: u64, less: u64) {
        if self.slot(window).spent.get(window).is_some() {
            self.slot(window).spent.change(window, |spent| Some(spent.saturating_sub(less)));
        }
    }
}
