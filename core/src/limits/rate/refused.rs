//! What a caller is told whose request a limit refuses.

use std::{sync::Arc, time::Duration};

use super::Why;

/// Least time after which a refused caller is asked to come again.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// A limit refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Refused {
    /// `<name>.<namespace>` of the service.
    pub service: Arc<str>,
    /// Name of the limit.
    pub limit: String,
    /// Why.
    pub why: Why,
    /// So many requests …
    pub requests: u64,
    /// … in this time.
    pub per: Duration,
    /// What is left, of all sidecars together as far as this one knows. More than 0 where that is not this one's.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
    /// When asking again may help.
    pub retry_after: Duration,
}

impl Refused {
    /// Fields of the answer: `retry-after` (RFC 9110 10.2.3), and how the limit stands by the names of
    /// draft-ietf-httpapi-ratelimit-headers-03 with the `x-` that clients know.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("retry-after", seconds(self.retry_after.max(WAIT_MIN)).to_string()),
            ("x-ratelimit-limit", self.requests.to_string()),
            ("x-ratelimit-remaining", "0".to_owned()),
            ("x-ratelimit-reset", seconds(self.reset).to_string()),
        ]
    }

    /// For people; names the limit and nothing of the caller.
    fn sentence(&self) -> String {
        let Refused { service, limit, requests, .. } = self;
        let per = self.per.as_secs();
        let whole = format!("limit {limit} of {service}, {requests} requests in {per} s,");
        match self.why {
            Why::Used | Why::TooLarge => format!("{whole} is used up"),
            Why::Unleased => format!("{whole} has nothing left here; more was asked for"),
            Why::StoreDown => format!("{whole} cannot be counted: its store does not answer"),
        }
    }
}

/// Whole seconds, rounded up: what is told is over then.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
