//! How an exchange ended: one label for metrics, access log, `x-mesh-error` and traces.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! outcomes {
    ($($(#[doc = $doc:expr])+ $name:ident = $label:literal, $status:literal, $grpc:literal, $level:ident;)+) => {
        /// How an exchange ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Outcome {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Outcome {
            /// Every outcome, in order of declaration.
            pub const ALL: &'static [Outcome] = &[$(Outcome::$name),+];

            /// The label: snake case, bounded, never changes.
            pub fn label(self) -> &'static str {
                match self { $(Outcome::$name => $label),+ }
            }

            /// HTTP status of the answer that the mesh makes itself; 0 where the peer's answer stands.
            pub fn status(self) -> u16 {
                match self { $(Outcome::$name => $status),+ }
            }

            /// gRPC status of that answer (google.rpc.Code).
            pub fn grpc_status(self) -> u8 {
                match self { $(Outcome::$name => $grpc),+ }
            }

            /// Level at which the access log writes it.
            pub fn level(self) -> Level {
                match self { $(Outcome::$name => Level::$level),+ }
            }
        }
    };
}

/// Level of a line in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Ordinary.
    Debug,
    /// A refusal or a peer's failure, as designed.
    Info,
    /// Something a person may want to look at.
    Warn,
}

outcomes! {
    /// The answer was passed on whole, whatever its status.
    Success = "success", 0, 0, Debug;
    /// A raw connection ended in order.
    Closed = "closed", 0, 0, Debug;
    /// Policy denies the caller.
    Denied = "denied", 403, 7, Info;
    /// No policy is known for the port or target.
    UnknownPolicy = "unknown_policy", 403, 7, Warn;
    /// The TLS handshake of a peer was refused.
    TlsRefused = "tls_refused", 0, 16, Warn;
    /// The peer sent something malformed or ambiguous.
    BadRequest = "bad_request", 400, 13, Info;
    /// Headers beyond the limit.
    HeadersTooLarge = "headers_too_large", 431, 8, Info;
    /// No such service or route.
    NoRoute = "no_route", 404, 12, Info;
    /// The service has no instance.
    NoEndpoints = "no_endpoints", 503, 14, Warn;
    /// The lane has no member and says `reject`.
    LaneMissing = "lane_missing", 503, 14, Warn;
    /// The lane has too few usable members and says `reject`.
    LaneUnhealthy = "lane_unhealthy", 503, 14, Warn;
    /// No connection could be made.
    ConnectFailed = "connect_failed", 503, 14, Warn;
    /// The upstream failed before its response headers.
    UpstreamReset = "upstream_reset", 502, 14, Warn;
    /// The upstream's response was malformed.
    UpstreamProtocol = "upstream_protocol", 502, 13, Warn;
    /// The response ended before it was whole.
    UpstreamIncomplete = "upstream_incomplete", 502, 14, Warn;
    /// A time limit of the request passed.
    Timeout = "timeout", 504, 4, Warn;
    /// The client did not send its request in time.
    ClientTimeout = "client_timeout", 408, 4, Info;
    /// The client went away before the answer was whole.
    ClientGone = "client_gone", 499, 1, Info;
    /// A limit of this proxy was reached.
    Overloaded = "overloaded", 503, 8, Warn;
    /// A limit of the service says that there were requests enough.
    RateLimited = "rate_limited", 429, 8, Info;
    /// The controller has not answered yet.
    NotReady = "not_ready", 503, 14, Warn;
    /// A request came back to this proxy.
    Loop = "loop", 508, 13, Warn;
    /// A route's filter made the answer, or a caller forced it for a drill.
    Filtered = "filtered", 0, 0, Debug;
    /// A defect of ours.
    Internal = "internal", 500, 13, Warn;
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
