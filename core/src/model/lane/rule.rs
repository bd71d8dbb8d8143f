//! What decides at an entry which requests a lane gets: conditions on the request, and a share of users.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::route::Pattern;

/// Requests that are stained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Match {
    /// Those for which one condition holds.
    Any(Vec<Condition>),
    /// Those for which every condition holds.
    All(Vec<Condition>),
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// Name of the header, cookie, query parameter or claim; empty for subjects that have none.
    pub name: String,
    /// What must hold.
    pub operator: Operator,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// A query parameter.
    Query,
    /// The path.
    Path,
    /// The method.
    Method,
    /// Address of the caller; values are addresses or networks.
    SourceIp,
    /// Identity of the caller.
    Identity,
    /// A claim of a token.
    Claim,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operator {
    /// The value is this.
    Equal(String),
    /// The value is not this.
    NotEqual(String),
    /// The value is one of these.
    In(Vec<String>),
    /// The value is none of these.
    NotIn(Vec<String>),
    /// The value begins with this.
    Prefix(String),
    /// The whole value matches this.
    Regex(Pattern),
    /// There is a value.
    Present,
    /// The hash of the value falls into this share, hundredths of a percent.
    Percentage(u32),
}

/// Share of the users that no rule of any lane has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Hundredths of a percent, 0 to 10,000, while there is no ramp.
    pub value: u32,
    /// Where the user's key is looked for, in order; the trace id where none of them is present.
    pub keys: Vec<KeySource>,
    /// Movement over time; stands in for `value`.
    pub ramp: Option<Ramp>,
}

/// Where the key of a user stands; written `header:x`, `cookie:x`, `claim:x`, `query:x`, `sourceIP`, `traceId`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// A header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A claim of the bearer token.
    Claim(String),
    /// A query parameter.
    Query(String),
    /// Address of the caller.
    SourceIp,
    /// The trace id, as [`crate::lane`] reads it.
    TraceId,
}

/// Movement of a share over time, by formula: no controller needs to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// Share until the start, hundredths of a percent.
    pub from: u32,
    /// Share at the end and after it, hundredths of a percent.
    pub to: u32,
    /// Unix milliseconds at which it begins.
    pub start: u64,
    /// How long it takes; at least 1 ms.
    pub over: Duration,
    /// Shape.
    pub curve: Curve,
}

/// Shape of a ramp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Curve {
    /// Even.
    #[default]
    Linear,
    /// Slow at first.
    Exponential,
}
