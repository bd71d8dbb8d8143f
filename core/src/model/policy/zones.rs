//! Which zones' instances are used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::route::RouteMatch;

/// Which zones' instances are used. What `matches` names comes first, then `distribute`, then the own zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zones {
    /// Those of the caller's own zone, as long as enough of them are usable; default false.
    pub prefer_same: bool,
    /// Enough, percent: the own zone takes everything while it has at least this of its share, which is the capacity that
    /// can be used divided by the number of zones; below, what it lacks spills over in proportion. Default 70: nobody gets
    /// more than 1 / 0.7 of a fair share.
    pub threshold: u32,
    /// Where it spills to; without an entry for a zone, to all others.
    pub failover: Vec<ZoneFailover>,
    /// Fixed shares, by the caller's zone. Never together with `prefer_same`.
    pub distribute: Vec<ZoneShares>,
    /// Zones of certain requests; the first entry that matches counts.
    pub matches: Vec<ZoneMatch>,
}

impl Default for Zones {
    fn default() -> Self {
        Zones { prefer_same: false, threshold: 70, failover: Vec::new(), distribute: Vec::new(), matches: Vec::new() }
    }
}

impl Zones {
    /// Whether anything is asked for: without it, zones do not matter unless one is drained.
    pub fn is_asked(&self) -> bool {
        self.prefer_same || !self.distribute.is_empty() || !self.matches.is_empty()
    }
}

/// Callers in one zone spill to another. Several of one zone are a list in order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFailover {
    /// Zone of the caller.
    pub from: String,
    /// Zone that helps out.
    pub to: String,
}

/// Shares of the zones for callers in one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneShares {
    /// Zone of the caller.
    pub from: String,
    /// Percent by zone, 100 together.
    pub to: BTreeMap<String, u32>,
}

/// The zone of certain requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneMatch {
    /// Which requests; at least one of its conditions is there.
    pub request: RouteMatch,
    /// Zone whose instances take them, as long as one is usable.
    pub zone: String,
}
