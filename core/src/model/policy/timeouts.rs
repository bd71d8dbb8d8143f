//! Time limits of exchanges with a service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time limits of an exchange. Routes may have limits of their own, which then count instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// TCP connect and TLS handshake; default 1 s each.
    pub connect: Duration,
    /// Whole exchange of a request/response; `None` = unlimited (the default, since streams are ordinary).
    pub request: Option<Duration>,
    /// One attempt, from its beginning until the response's headers; `None` = unlimited (the default).
    pub per_try: Option<Duration>,
    /// Until the response's headers; `None` = unlimited.
    pub response_headers: Option<Duration>,
    /// No byte in either direction; default 1 h.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(1),
            request: None,
            per_try: None,
            response_headers: None,
            idle: Duration::from_secs(3_600),
        }
    }
}
