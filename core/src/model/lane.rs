//! Lane groups and lanes as the data path uses them.

mod name;
mod propagation;
mod rule;

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    name::{InvalidName, LaneName, LaneRef, NAME_MAX},
    propagation::{LINGER_MAX, Propagation, Stale},
    rule::{Condition, Curve, KeySource, Match, Operator, Ramp, Share, Subject},
};
use crate::{identity::Identity, names};

/// Deepest chain of parents that is accepted.
pub const CHAIN_MAX: usize = 8;

/// A lane group with its lanes: the unit that changes atomically.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneGroup {
    /// Name of the group.
    pub name: LaneName,
    /// Changes with every change of the group or one of its lanes.
    pub revision: u64,
    /// Services (`<name>.<namespace>`) where a lane is decided for requests that carry none.
    pub entries: BTreeSet<String>,
    /// Services that take part.
    pub members: Members,
    /// How the label travels.
    pub carrier: Carrier,
    /// Which instances are baseline.
    pub baseline: Baseline,
    /// Mixed into the hash by which users fall into shares: groups with the same salt take the same users.
    pub salt: String,
    /// Who may set a label; `None` = every mesh identity.
    pub trusted: Option<BTreeSet<Identity>>,
    /// Where else than in header and baggage the label is looked for.
    pub propagation: Propagation,
    /// Where a service asks for the own zone: a level that has nobody usable there is passed over for one that has. Default
    /// false: lanes come before zones.
    #[serde(default)]
    pub zone_first: bool,
    /// A request may be this old; a draining lane's label is honoured for so long. Default [`MAX_REQUEST_AGE`].
    pub max_request_age: Duration,
    /// Lanes by name.
    pub lanes: Vec<Lane>,
}

/// Greatest age of a request unless the group says otherwise.
pub const MAX_REQUEST_AGE: Duration = Duration::from_secs(300);

impl LaneGroup {
    /// A group of all services, without lanes, with every default; its name is its salt.
    pub fn new(name: LaneName) -> Self {
        LaneGroup {
            revision: 0,
            entries: BTreeSet::new(),
            members: Members::All,
            carrier: Carrier::default(),
            baseline: Baseline::default(),
            salt: name.to_string(),
            trusted: None,
            propagation: Propagation::default(),
            zone_first: false,
            max_request_age: MAX_REQUEST_AGE,
            lanes: Vec::new(),
            name,
        }
    }

    /// Whether a workload of this identity may set a label of the group.
    pub fn may_label(&self, identity: &Identity) -> bool {
        self.trusted.as_ref().is_none_or(|trusted| trusted.contains(identity))
    }

    /// The lane called `name`.
    pub fn lane(&self, name: &LaneName) -> Option<&Lane> {
        self.lanes.iter().find(|lane| &lane.name == name)
    }

    /// Next level of one of the group's lanes: its parent, or the lane that its hierarchical name implies (`dev` of
    /// `dev.alice`); `None` = baseline.
    pub fn parent_of(&self, lane: &Lane) -> Option<&Lane> {
        if let Some(parent) = &lane.parent {
            return self.lane(parent);
        }
        let mut name = lane.name.as_str().as_bytes();
        while let Some(dot) = name.iter().rposition(|byte| *byte == b'.') {
            name = &name[..dot];
            if let Some(found) = self.lanes.iter().find(|lane| lane.name.as_str().as_bytes() == name) {
                return Some(found);
            }
        }
        None
    }
}

/// Services that belong to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Members {
    /// Every service (`*`).
    All,
    /// These, each `<name>.<namespace>`.
    Named(BTreeSet<String>),
}

impl Members {
    /// Whether the service with this label (`<name>.<namespace>`) takes part.
    pub fn contains(&self, label: &str) -> bool {
        match self {
            Members::All => true,
            Members::Named(names) => names.contains(label),
        }
    }
}

/// How a group's label travels from hop to hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// Header that carries `<lane>` or `<group>/<lane>`; lower case.
    pub header: String,
    /// Member of `baggage`; also the name of a plain header that is always read.
    pub baggage_key: String,
    /// Further headers that are read, lower case.
    pub aliases: Vec<String>,
}

impl Default for Carrier {
    fn default() -> Self {
        Carrier {
            header: names::LANE_HEADER.to_owned(),
            baggage_key: names::LANE_BAGGAGE_KEY.to_owned(),
            aliases: Vec::new(),
        }
    }
}

/// Which instances serve plain traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Baseline {
    /// Those that carry none of the lane keys.
    Untagged,
    /// Those that are in no lane which is draft, active or draining.
    #[default]
    NotInActiveLane,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Name within the group.
    pub name: LaneName,
    /// Next level as written; see [`LaneGroup::parent_of`] for what `None` means.
    pub parent: Option<LaneName>,
    /// Stage of the lane's life.
    pub state: LaneState,
    /// What happens where a level has no registered member.
    pub on_missing: OnMissing,
    /// What happens where a level has too few usable members.
    pub on_unhealthy: OnUnhealthy,
    /// Fewer usable members than this make a level unhealthy; default 1.
    pub min_healthy: u32,
    /// Order among lanes at an entry: greater first, then by name.
    pub priority: u32,
    /// Requests that are stained at an entry, if a rule is written.
    pub rule: Option<Match>,
    /// Share of the users that no rule takes.
    pub share: Option<Share>,
    /// Unix milliseconds at which the lane was made; order of shares, so that a new lane moves nobody. 0 = not known.
    pub created: u64,
    /// Unix milliseconds since when it is in its state, where that is known: a draining lane ends by it.
    pub state_since: Option<u64>,
    /// Unix milliseconds at which the lane ends by itself (its ttl).
    pub ends: Option<u64>,
}

impl Lane {
    /// An active lane with every default, to which nothing is stained.
    pub fn new(name: LaneName) -> Self {
        Lane {
            name,
            parent: None,
            state: LaneState::default(),
            on_missing: OnMissing::default(),
            on_unhealthy: OnUnhealthy::default(),
            min_healthy: 1,
            priority: 0,
            rule: None,
            share: None,
            created: 0,
            state_since: None,
            ends: None,
        }
    }

    /// Stage at `now` (Unix milliseconds), `max_request_age` being its group's: a lane whose time is over is closed, and
    /// so is one that has been draining for longer than any request lasts.
    pub fn state_at(&self, now: u64, max_request_age: Duration) -> LaneState {
        let age = u64::try_from(max_request_age.as_millis()).unwrap_or(u64::MAX);
        let drained = |since: u64| now >= since.saturating_add(age);
        match self.state {
            LaneState::Promoted => LaneState::Promoted,
            LaneState::Draft | LaneState::Active | LaneState::Draining if self.ends.is_some_and(|end| now >= end) => {
                LaneState::Closed
            }
            LaneState::Draining if self.state_since.is_some_and(drained) => LaneState::Closed,
            state @ (LaneState::Draft | LaneState::Active | LaneState::Draining | LaneState::Closed) => state,
        }
    }
}

/// Stage of a lane's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LaneState {
    /// Label honoured, nothing stained.
    Draft,
    /// In use.
    #[default]
    Active,
    /// Nothing new is stained; the label is honoured.
    Draining,
    /// Label ignored.
    Closed,
    /// Its instances are baseline.
    Promoted,
}

impl LaneState {
    /// Every stage, in order of declaration.
    pub const ALL: [LaneState; 5] =
        [LaneState::Draft, LaneState::Active, LaneState::Draining, LaneState::Closed, LaneState::Promoted];

    /// The word for it, as in resources.
    pub fn label(self) -> &'static str {
        match self {
            LaneState::Draft => "draft",
            LaneState::Active => "active",
            LaneState::Draining => "draining",
            LaneState::Closed => "closed",
            LaneState::Promoted => "promoted",
        }
    }
}

/// What happens where a level has no registered member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnMissing {
    /// Next level.
    #[default]
    Fallback,
    /// 503, outcome `lane_missing`.
    Reject,
}

/// What happens where a level has too few usable members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnUnhealthy {
    /// Next level.
    #[default]
    Fallback,
    /// Use the members although they are not usable.
    Stay,
    /// 503, outcome `lane_unhealthy`.
    Reject,
}
