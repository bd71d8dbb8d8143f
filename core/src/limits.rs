//! What callers may use: of language models (reserved before a target is asked, settled with what it says was used), and of
//! services ([`rate`]: requests in a time).
//!
//! One [`Ledger`] per process counts for all workers: its numbers are atomics, nobody waits for anybody. Windows are
//! aligned to the clock (a minute begins at second 0, a day at midnight UTC), so every proxy means the same one and
//! what is told of its end is exact. Numbers of a `redis` store are leased: [`lease`] decides how much each proxy may
//! use without asking; the ledger spends that and never waits.

pub mod ask;
pub mod decisions;
pub mod fields;
pub mod key;
pub mod lease;
pub mod ledger;
pub mod look;
pub mod rate;
pub mod reservation;
pub mod shares;
pub mod store;
mod table;
mod tally;
mod ways;

#[cfg(test)]
mod tests;

/// Keys that are counted at most; beyond them the least recently used ones are forgotten, and counted anew.
pub const KEYS_MAX: usize = table::KEYS_MAX;

pub use self::{
    ask::{Ask, Rates},
    decisions::{Decision, Decisions},
    fields::fields,
    key::{Caller, Key},
    ledger::{Exhausted, Ledger, Quota, Standing, Why},
    look::Look,
    reservation::Reservation,
    store::{Place, Store},
};
