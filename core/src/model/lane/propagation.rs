//! How a group's label is found again behind applications that forward it only in part, or not at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest linger that is accepted.
pub const LINGER_MAX: Duration = Duration::from_secs(600);

/// Where else than in header and baggage a label is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// Further headers that carry a trace id, lower case, besides those that are always known.
    pub trace_headers: Vec<String>,
    /// How long after the end of a request its trace id still means its lane; 0 to [`LINGER_MAX`], default 60 s.
    pub linger: Duration,
    /// Whether a member of `tracestate` is read, too.
    pub tracestate: bool,
    /// Whether the entry rules are evaluated again on what applications forward anyway.
    pub rederive: bool,
    /// Whether the one lane that all requests in flight share is taken for that of an unlabelled call.
    pub unanimity: bool,
    /// What a label means whose request ended longer than `linger` ago.
    pub stale: Stale,
}

impl Default for Propagation {
    fn default() -> Self {
        Propagation {
            trace_headers: Vec::new(),
            linger: Duration::from_secs(60),
            tracestate: false,
            rederive: false,
            unanimity: false,
            stale: Stale::default(),
        }
    }
}

/// What becomes of a label whose request ended long ago: a worker that an application started lazily inside a request
/// sends that request's context for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stale {
    /// Labels in header and baggage are honoured, the correlation table is not asked.
    #[default]
    ByCarrier,
    /// Honoured wherever it stands.
    Honour,
    /// Ignored wherever it stands.
    Ignore,
}
