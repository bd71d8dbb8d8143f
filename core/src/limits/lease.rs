//! How proxies share one limit through a store without ever waiting for it.
//!
//! A limit of a key is a cell; each of its windows has an amount. Of that the store gives every proxy a lease, which it
//! spends without asking. What holds the sum within the amount, whatever is lost or late:
//!
//! 1. A proxy says how much it keeps; what it says counts, and the store adds to it. So a lost answer costs nothing, and
//!    an emptied store knows everything again once all have spoken. Calls are numbered; one that comes late is ignored.
//! 2. Until a proxy was heard in a window, it may use its share of any cell (see [`shares`](super::shares)). Until every
//!    known proxy was heard, nobody gets more than that. Afterwards a proxy without lease may use a smaller share, which
//!    the store keeps free for it. So a window that begins while the store is down is shared fairly.
//! 3. When somebody needs more than is free, the cell becomes tight for that window: with the next heartbeats every
//!    proxy hears so, gives back what it does not need at once, and takes nothing of that cell without a lease. What was
//!    kept free becomes free to others when the proxy for which it was has said that it heard so.
//! 4. Who joins has no free share before all others know that they are one more, and have said again what they keep;
//!    cells of which nothing can be kept free for one more become tight. When the store was lost, those who knew
//!    it say how many they were; nobody gets anything new of windows that were under way then, until so many have said
//!    what they keep (or 10 s have passed).
//! 5. Who begins to use limits has the share of one that is idle, until all others know that there is one more sharer, as
//!    in 4. Who has not used any for [`SHARER_LASTS`] shrinks its share first, and says so then.
//! 6. When there are fewer proxies or sharers, the shares of the others grow only after all have said again what they
//!    keep: it was leased while smaller shares were kept free, and cells with no room for greater ones become tight.
//!
//! [`Holder`] is a proxy's side. [`Pool`] is the store's: the script that runs in Redis, said in Rust; tests hold the two
//! to one another.

mod holder;
pub mod pool;

#[cfg(test)]
mod tests;

use super::shares::Shares;

pub use self::{
    holder::{Holder, Occasion},
    pool::Pool,
};

/// A new store gives nothing for so long: those who knew one before come first.
pub const RETURN: u64 = 500_000;
/// For a new store: how long those who knew the one before are waited for at most.
pub const REMEMBERED: u64 = 10_000_000;
/// A store that nobody called for so long may have been out of reach of all.
pub const SILENCE: u64 = 5_000_000;
/// After such a silence nobody is taken for gone before all had time to come back.
pub const PAUSE: u64 = 10_000_000;
/// A proxy that was not heard for so long is taken for gone.
pub const GONE: u64 = 15_000_000;
/// Who had no request of any limit of a store for so long is no sharer of it any more, milliseconds.
pub const SHARER_LASTS: u64 = 60_000;
/// Cells in one call at most: it keeps the store busy for less than a millisecond.
pub const CELLS_MAX: usize = 64;
/// Tight cells that one heartbeat is told of at most; the rest follows with the next.
pub const NEWS_MAX: usize = 1_024;

/// A cell in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellWindow {
    /// Limit and key.
    pub cell: u128,
    /// Length of its windows, milliseconds; 0 = it has none (concurrent streams).
    pub length: u64,
    /// Number of the window: milliseconds since 1970 / length.
    pub window: u64,
}

impl CellWindow {
    /// When the window begins, microseconds since 1970.
    pub fn start(&self) -> u64 {
        self.window.saturating_mul(self.length).saturating_mul(1_000)
    }

    /// Whether it and the one after it have ended at `time`, microseconds.
    pub(super) fn is_long_over(&self, time: u64) -> bool {
        self.length != 0 && (self.window + 2).saturating_mul(self.length).saturating_mul(1_000) < time
    }
}

/// What a proxy says of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellAsk {
    /// Which.
    pub at: CellWindow,
    /// Amount of the limit.
    pub amount: u64,
    /// What the proxy keeps.
    pub keep: u64,
    /// What it has used of that.
    pub spent: u64,
    /// What it needs soon beyond what it keeps.
    pub more: u64,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellAnswer {
    /// What it holds now: never less than it keeps.
    pub held: u64,
    /// What nobody holds.
    pub left: u64,
}

/// What a call is for besides cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing: more cells follow, or it is no time for it.
    None,
    /// The proxy lives, has worked in the answer that left the store then (microseconds; 0 = none), and said of every
    /// cell that it used what it keeps.
    Heard(u64),
    /// The proxy ends.
    Leave,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the proxy; new for every process.
    pub proxy: String,
    /// Number of the call, growing.
    pub number: u64,
    /// Name of the store's process: another one may have lost what it knew.
    pub run: String,
    /// By which it shares.
    pub shares: Shares,
    /// Besides cells.
    pub beat: Beat,
    /// At most [`CELLS_MAX`].
    pub cells: Vec<CellAsk>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it left, microseconds; no two answers have the same.
    pub time: u64,
    /// When shares changed last, or the store may have lost what it knew; who sees it change says everything again.
    pub anew: u64,
    /// In the order of the asks.
    pub cells: Vec<CellAnswer>,
    /// For a heartbeat.
    pub news: Option<News>,
}

/// What a heartbeat is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Among whom amounts are shared. No proxies = not to be shared in yet.
    pub shares: Shares,
    /// The proxy is told everything up to here; less than `Answer::time` when there was too much to tell.
    pub until: u64,
    /// What became tight since it last heard.
    pub tight: Vec<CellWindow>,
    /// What is tight no longer.
    pub loose: Vec<CellWindow>,
}
