//! Upper bounds toward one endpoint.

use serde::{Deserialize, Serialize};

/// Upper bounds toward one endpoint, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Open connections; default 1,024.
    pub connections: u32,
    /// Exchanges that wait for a connection; default 1,024.
    pub pending: u32,
    /// Exchanges at the same time; default 4,096.
    pub requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 1_024, pending: 1_024, requests: 4_096 }
    }
}
