//! How callers find out from their own calls that an instance does not serve.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When an instance is taken out because calls to it fail (ejected). All counts are of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Ejection of instances that succeed less often than the others; `None` (the default) = none are for that.
    pub success_rate: Option<SuccessRate>,
    /// An answer 429 or 503 with `retry-after` keeps further calls away from the instance for so long, up to the longest
    /// time out. Default true.
    pub honour_retry_after: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        OutlierDetection {
            consecutive_gateway_failures: 5,
            consecutive_local_origin_failures: 5,
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 50,
            success_rate: None,
            honour_retry_after: true,
        }
    }
}

/// An instance is ejected when its share of successful calls is below the mean of all less `standard_deviation_factor`
/// standard deviations (Envoy, `success_rate_*` of its outlier detection; same defaults). Counted over [`SuccessRate::WINDOW`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuccessRate {
    /// So many instances must have had calls enough. Default 5.
    pub minimum_hosts: u32,
    /// So many calls in a window are enough. Default 100.
    pub request_volume: u32,
    /// Thousandths. Default 1,900, which is 1.9.
    pub standard_deviation_factor: u32,
}

impl SuccessRate {
    /// How far back calls count.
    pub const WINDOW: Duration = Duration::from_secs(10);
    /// Parts of the window, which are forgotten one by one.
    pub const BUCKETS: usize = 10;
}

impl Default for SuccessRate {
    fn default() -> Self {
        SuccessRate { minimum_hosts: 5, request_volume: 100, standard_deviation_factor: 1_900 }
    }
}
