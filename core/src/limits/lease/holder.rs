//! A proxy's side of leases: what it says to the store of the cells that its workers use, and what it makes of answers.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use ahash::RandomState;

use super::{Answer, Beat, CELLS_MAX, CellAnswer, CellAsk, CellWindow, SHARER_LASTS};
use crate::limits::{
    ledger::Ledger,
    shares::{Part, Shares},
    store::{Reach, Store},
    tally::Tally,
};

/// How far ahead a lease reaches, milliseconds: some calls to the store, so that a slow one is not noticed.
const AHEAD: u64 = 300;
/// Shortest time over which demand is measured, milliseconds: less would take a burst for a flood.
const MEASURED: u64 = 50;
/// Least time between looks through the table that workers asked for, milliseconds.
const FIND_PAUSE: u64 = 20;
/// A cell that nobody asked for so long needs no lease, milliseconds.
const IDLE: u64 = 1_000;
/// Cells that are still held of keys that were forgotten, at most. The lease of others ends with its window, unused; should
/// their keys come back before, they are counted anew.
const FORGOTTEN_MAX: usize = 16_384;
/// Leases without window are said again after so long, milliseconds: the store forgets what nobody speaks of.
const RENEWED: u64 = 60_000;

/// Why cells are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It is time: everything that changed.
    Tick,
    /// A worker found a lease low: only such cells.
    Thirst,
}

#[derive(Debug)]
struct Tracked {
    tally: Arc<Tally>,
    /// Window of which was spoken last.
    window: u64,
    /// What was said to be spent in it; `None` = nothing was said yet.
    said: Option<u64>,
    /// When, milliseconds.
    said_at: u64,
    /// When somebody asked for it last.
    asked_at: u64,
    /// When demand was measured last.
    measured_at: u64,
    /// Asked for per millisecond.
    rate: f64,
    peak: u64,
    need: u64,
    /// What the last answer gave less than was asked for.
    short: bool,
}

/// What this process holds of a store. One per store; not shared.
#[derive(Debug)]
pub struct Holder {
    store: Arc<Store>,
    cells: HashMap<u128, Tracked, RandomState>,
    /// `joined` of the ledger when it was last looked through; `None` = never.
    joined: Option<u64>,
    /// When that was, milliseconds.
    found_at: u64,
    /// As in the last answer.
    anew: u64,
    /// When somebody asked for any cell last; 0 = never.
    asked_at: u64,
}

impl Holder {
    /// Of a store from which nothing was leased yet.
    pub fn new(store: Arc<Store>) -> Holder {
        Holder { store, cells: HashMap::default(), joined: None, found_at: 0, anew: 0, asked_at: 0 }
    }

    /// What to say now, in calls of [`CELLS_MAX`] at most. At a tick all of it must have been answered before the
    /// heartbeat goes, which may travel with the last call.
    pub fn asks(&mut self, ledger: &Ledger, occasion: Occasion, now: Duration) -> Vec<Vec<CellAsk>> {
        let time = self.store.time(now);
        // Of new keys a moment later is soon enough: a flood of them must not keep this thread busy with nothing else.
        if occasion == Occasion::Tick || self.joined.is_none() || time >= self.found_at + FIND_PAUSE {
            self.find(ledger, time);
        }
        // While nobody can be told, the share stays.
        let is_up = self.store.reach() == Reach::Up;
        if occasion == Occasion::Tick && is_up && !self.is_sharer(time) {
            // What workers take from here on is within an idle proxy's share, so the store may be told.
            self.store.set_part(Part::Idle);
        }
        let mut asks = Vec::new();
        for tracked in self.cells.values_mut() {
            asks.extend(tracked.ask(&self.store, occasion, time));
            self.asked_at = self.asked_at.max(tracked.asked_at);
        }
        // With a second call the first would say so before all is said that was taken until then.
        if self.store.shares().part == Part::Idle && (self.is_sharer(time) || asks.len() > CELLS_MAX) {
            self.store.set_part(Part::Asking);
        }
        asks.chunks(CELLS_MAX).map(<[CellAsk]>::to_vec).collect()
    }

    /// Whether limits of the store were used lately.
    fn is_sharer(&self, time: u64) -> bool {
        self.asked_at != 0 && time.saturating_sub(self.asked_at) < SHARER_LASTS
    }

    /// The heartbeat, and by which shares this proxy goes.
    pub fn beat(&self) -> (Beat, Shares) {
        (Beat::Heard(self.store.heard()), self.store.shares())
    }

    /// Gives back everything that is not used: the proxy ends, and its workers serve nobody any more.
    pub fn farewell(&mut self, now: Duration) -> Vec<Vec<CellAsk>> {
        let time = self.store.time(now);
        let asks: Vec<_> = self.cells.values_mut().filter_map(|tracked| tracked.give_back(time)).collect();
        asks.chunks(CELLS_MAX).map(<[CellAsk]>::to_vec).collect()
    }

    /// Works in an answer that arrived at `now`.
    pub fn hear(&mut self, asks: &[CellAsk], answer: &Answer, now: Duration) {
        self.store.set_clock(answer.time, now);
        for (ask, said) in asks.iter().zip(&answer.cells) {
            if let Some(tracked) = self.cells.get_mut(&ask.at.cell) {
                tracked.hear(ask, said);
            }
        }
        if answer.anew != self.anew {
            self.anew = answer.anew;
            self.cells.values_mut().for_each(|tracked| tracked.said = None);
        }
        let Some(news) = &answer.news else { return };
        let mut tight = self.store.tight();
        if !news.tight.is_empty() || !news.loose.is_empty() {
            let set = Arc::make_mut(&mut tight);
            set.retain(|at| !at.is_long_over(answer.time));
            set.extend(news.tight.iter().copied());
            set.retain(|at| !news.loose.contains(at));
        }
        self.store.hear(news.until, news.shares, tight);
    }

    /// Looks for cells that workers began to count.
    fn find(&mut self, ledger: &Ledger, time: u64) {
        let joined = ledger.joined();
        if self.joined == Some(joined) {
            return;
        }
        self.joined = Some(joined);
        self.found_at = time;
        let mut before = std::mem::take(&mut self.cells);
        ledger.each_leased(|tally| {
            if !tally.store.as_ref().is_some_and(|store| Arc::ptr_eq(store, &self.store)) {
                return;
            }
            let tracked = match before.remove(&tally.cell) {
                Some(tracked) if Arc::ptr_eq(&tracked.tally, tally) => tracked,
                Some(forgotten) => forgotten.become_of(tally, time),
                None => Tracked::new(tally),
            };
            self.cells.insert(tally.cell, tracked);
        });
        // What was forgotten for other keys is still held until its window ends.
        let lasts = |tracked: &Tracked| {
            let shape = &tracked.tally.shape;
            shape.window != 0 && shape.window_at(time) == tracked.window
        };
        self.cells.extend(before.into_iter().filter(|(_, tracked)| lasts(tracked)).take(FORGOTTEN_MAX));
    }
}

impl Tracked {
    fn new(tally: &Arc<Tally>) -> Tracked {
        Tracked {
            tally: Arc::clone(tally),
            window: 0,
            said: None,
            said_at: 0,
            asked_at: 0,
            measured_at: 0,
            rate: 0.0,
            peak: 0,
            need: 0,
            short: false,
        }
    }

    /// A key that was forgotten came back: its counts go on.
    fn become_of(self, tally: &Arc<Tally>, time: u64) -> Tracked {
        let window = tally.shape.window_at(time);
        tally.add(window, self.tally.spent(window));
        if let (Some(granted), None) = (self.tally.granted(window), tally.granted(window)) {
            tally.grant(window, granted, self.tally.left(window).unwrap_or(0));
        }
        Tracked { tally: Arc::clone(tally), ..self }
    }

    fn at(&self) -> CellWindow {
        self.tally.at(self.window)
    }

    fn measure(&mut self, time: u64) {
        let (asked, peak) = (self.tally.asked.swap(0, SeqCst), self.tally.peak.swap(0, SeqCst));
        let passed = time.saturating_sub(self.measured_at).max(MEASURED) as f64;
        self.measured_at = time;
        let rate = asked as f64 / passed;
        // Up at once, down by halves: a pause of a moment is no end of demand.
        self.rate = rate.max(self.rate / 2.0);
        self.peak = peak.max(self.peak - self.peak / 8);
        if asked > 0 {
            self.asked_at = time;
        }
        self.need = if time.saturating_sub(self.asked_at) > IDLE {
            0
        } else {
            (2 * self.peak).max((self.rate * AHEAD as f64) as u64).min(self.tally.amount.load(SeqCst))
        };
    }

    fn ask(&mut self, store: &Store, occasion: Occasion, time: u64) -> Option<CellAsk> {
        let tally = Arc::clone(&self.tally);
        let told = tally.told.load(SeqCst);
        if occasion == Occasion::Thirst && (!told || self.short) {
            return None;
        }
        let window = tally.shape.window_at(time);
        if self.window != window {
            (self.window, self.said, self.short) = (window, None, false);
        }
        self.measure(time);
        let (granted, spent) = (tally.granted(window), tally.spent(window));
        let amount = tally.amount.load(SeqCst);
        let tight = store.is_tight(&self.at());
        let kept = match granted {
            None if spent == 0 && self.need == 0 => return None,
            None => store.free_share(&self.at(), amount),
            Some(granted) => granted,
        };
        let lowered = if tight { kept.min(spent.saturating_add(self.need)) } else { kept };
        let changed = self.said != Some(spent) || told || lowered != kept || granted.is_none();
        let renewed = tally.shape.window == 0 && time.saturating_sub(self.said_at) > RENEWED;
        if !changed && !renewed {
            return None;
        }
        let keep = tally.hold(window, lowered);
        let spent = tally.spent(window);
        let more = self.need.saturating_sub(keep.saturating_sub(spent));
        self.said_at = time;
        Some(CellAsk { at: self.at(), amount, keep, spent, more })
    }

    fn give_back(&mut self, time: u64) -> Option<CellAsk> {
        let window = self.tally.shape.window_at(time);
        let spent = match self.tally.shape.window {
            0 => 0,
            _ => self.tally.spent(window),
        };
        self.tally.granted(window)?;
        self.window = window;
        let held = self.tally.hold(window, spent);
        // Workers may have spent meanwhile. Seats are given back all the same: nobody is served any more.
        let keep = if self.tally.shape.window == 0 { 0 } else { held };
        let amount = self.tally.amount.load(SeqCst);
        Some(CellAsk { at: self.at(), amount, keep, spent: keep, more: 0 })
    }

    fn hear(&mut self, ask: &CellAsk, answer: &CellAnswer) {
        if self.window != ask.at.window {
            return;
        }
        let tally = &self.tally;
        self.said = Some(ask.spent);
        self.short = answer.held - ask.keep.min(answer.held) < ask.more;
        tally.grant(ask.at.window, answer.held, answer.left);
        let unspent = answer.held.saturating_sub(ask.spent);
        tally.low.store(self.need.max(unspent / 2), SeqCst);
        // Who is short is looked at with every tick; workers need not say so again.
        tally.told.store(self.short, SeqCst);
    }
}
