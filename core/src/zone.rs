//! Which zone's instances take an exchange, among the usable ones of its level. Pure: the time is passed in, what was counted
//! before too, and every choice says why.
//!
//! `shares` says which part of a caller's exchanges goes to which zone; `plan` prepares these parts and the instances of each
//! zone for one level of a service, so that a pick only draws. Which level serves was decided before: lanes come first.

mod plan;
mod shares;

use std::time::Duration;

pub use self::{
    plan::{Counted, Level, Plan},
    shares::{Capacity, Share, shares},
};
use crate::{
    model::policy::Zones,
    pick::mix,
    route::{RequestParts, matches},
};

/// Capacity that comes back counts after this time in full, and in proportion before: who calls a zone again comes bit by bit.
pub const RETURN: Duration = Duration::from_secs(10);
/// How often parts are worked out anew while capacity comes back.
pub const STEP: Duration = Duration::from_millis(250);

/// Why these instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The service does not ask for a zone, or not for callers here.
    NotAsked,
    /// The caller's zone is not known.
    OwnUnknown,
    /// Those in the caller's zone.
    Own,
    /// The caller's zone has too little, and the policy names this one for it.
    Failover,
    /// The caller's zone has too little, and this one has some to spare.
    Spill,
    /// The policy gives this zone a part.
    Share,
    /// The policy names the zone for such requests.
    Matched,
    /// Zones are drained: the others.
    Drained,
    /// No zone has an instance that can be relied on and is not drained: whatever there is.
    NobodyElse,
}

impl Reason {
    /// Every reason, in order of declaration.
    pub const ALL: [Reason; 9] = [
        Reason::NotAsked,
        Reason::OwnUnknown,
        Reason::Own,
        Reason::Failover,
        Reason::Spill,
        Reason::Share,
        Reason::Matched,
        Reason::Drained,
        Reason::NobodyElse,
    ];

    /// Label for metrics, logs and `explain`.
    pub fn label(self) -> &'static str {
        match self {
            Reason::NotAsked => "not_asked",
            Reason::OwnUnknown => "own_unknown",
            Reason::Own => "own",
            Reason::Failover => "failover",
            Reason::Spill => "spill",
            Reason::Share => "share",
            Reason::Matched => "matched",
            Reason::Drained => "drained",
            Reason::NobodyElse => "nobody_else",
        }
    }
}

/// The draw after `before`: steps of the golden ratio, by which any number of draws in a row is spread evenly, so that zones
/// get their parts more exactly than by chance. Callers begin anywhere.
pub fn next_draw(before: u64) -> u64 {
    before.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

/// Which zone is drawn: the same one for the same key, where requests have keys, else the next.
pub fn draw(key: Option<u64>, next: u64) -> u64 {
    /// Keys choose instances too: without it, a zone would get neighbouring keys alone.
    const SALT: u64 = 0x7a6f_6e65_7a6f_6e65;
    key.map_or(next, |key| mix(key ^ SALT))
}

/// Place in [`Zones::matches`] of the first entry whose conditions a request meets.
pub fn wanted(zones: &Zones, parts: &RequestParts<'_>) -> Option<usize> {
    zones.matches.iter().position(|entry| matches(&entry.request, parts))
}

#[cfg(test)]
mod tests;
