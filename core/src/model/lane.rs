//! Lane groups and lanes as the data path uses them.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names;

/// Longest lane or group name, characters.
pub const NAME_MAX: usize = 63;
/// Deepest chain of parents that is accepted.
pub const CHAIN_MAX: usize = 8;

/// A text that is no lane or group name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no lane name: 1 to {NAME_MAX} characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidName {
    text: String,
}

/// Name of a lane or of a lane group: `[A-Za-z0-9._-]{1,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaneName(Arc<str>);

impl LaneName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LaneName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(LaneName(text.into()))
        } else {
            Err(InvalidName { text: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for LaneName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<LaneName> for String {
    fn from(name: LaneName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A lane of a group; written `<group>/<lane>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaneRef {
    /// Group the lane belongs to.
    pub group: LaneName,
    /// Name within the group.
    pub lane: LaneName,
}

impl fmt::Display for LaneRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.lane)
    }
}

impl FromStr for LaneRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (group, lane) =
            text.split_once('/').ok_or_else(|| InvalidName { text: text.chars().take(130).collect() })?;
        Ok(LaneRef { group: group.parse()?, lane: lane.parse()? })
    }
}

impl TryFrom<String> for LaneRef {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<LaneRef> for String {
    fn from(lane: LaneRef) -> String {
        lane.to_string()
    }
}

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
    /// Lanes by name.
    pub lanes: Vec<Lane>,
}

impl LaneGroup {
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
        let mut name = lane.name.as_str();
        while let Some((shorter, _)) = name.rsplit_once('.') {
            if let Some(found) = self.lanes.iter().find(|lane| lane.name.as_str() == shorter) {
                return Some(found);
            }
            name = shorter;
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

/// A lane. Entry rules and percentages join this type with the issue that completes lanes.
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
