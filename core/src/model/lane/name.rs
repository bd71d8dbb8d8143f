//! Names of lanes and lane groups.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest lane or group name, characters.
pub const NAME_MAX: usize = 63;
/// Whether a name may have this byte; a table, because every label of every request is looked at.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < allowed.len() {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        byte += 1;
    }
    allowed
};

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
        if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|byte| ALLOWED[usize::from(byte)]) {
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
