//! How callers find out that an instance does not serve: by what their own calls show, and by probing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When an instance is taken out because calls to it fail (ejected). All counts are of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// So many answers 502, 503, 504 or gRPC UNAVAILABLE in a row eject; 0 = they never do. Default 5.
    pub consecutive_gateway_failures: u32,
    /// So many calls in a row that got no answer (not connected, reset, timed out) eject; 0 = they never do. Default 5.
    pub consecutive_local_origin_failures: u32,
    /// An instance stays out for so long, times how often it was ejected lately. Default 30 s.
    pub base_ejection_time: Duration,
    /// Longest time out. Default 300 s.
    pub max_ejection_time: Duration,
    /// Greatest share of a level that may be out at the same time, percent; one may always be, where another stays. Does
    /// not bind a lane that can be left. Default 50.
    pub max_ejection_percent: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        OutlierDetection {
            consecutive_gateway_failures: 5,
            consecutive_local_origin_failures: 5,
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 50,
        }
    }
}

/// How instances of a service are probed by those who call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Time between two probes of an instance. Default 10 s.
    pub interval: Duration,
    /// A probe that takes longer has failed. Default 1 s.
    pub timeout: Duration,
    /// So many failed probes in a row make an instance unhealthy. Default 3.
    pub unhealthy_threshold: u32,
    /// So many successful ones in a row make it healthy again. Default 2.
    pub healthy_threshold: u32,
}

impl HealthCheck {
    /// A check with every default.
    pub fn new(probe: Probe) -> Self {
        HealthCheck {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        }
    }
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// GET; an answer with one of these statuses is a success.
    Http {
        /// Path with query.
        path: String,
        /// `Host`; the service's short name unless written.
        host: Option<String>,
        /// Inclusive ranges; default 200 to 299.
        statuses: Vec<(u16, u16)>,
    },
    /// A connection can be made, through the sidecar where there is one. A sidecar that has to find out what is spoken
    /// takes connections although its application does not: there this shows that the sidecar lives, no more.
    Tcp,
    /// gRPC health checking, version 1: SERVING is a success.
    Grpc {
        /// Name of the gRPC service; empty = the server as a whole.
        service: String,
    },
}
