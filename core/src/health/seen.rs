//! What a call shows of the instance that took it.

use std::time::Duration;

use crate::{fields::Fields, model_route::failure::wait, names, outcome::Outcome, retry::Failure};

/// What a call showed of the instance that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It answered, and not with a failure of its own.
    Success,
    /// It answered with another failure of its own than those of gateways: 5xx, or a status of gRPC that means as much. It
    /// is there, so this ends rows of failures; among success rates it is none.
    ServerError,
    /// It answered 502, 503, 504 or gRPC UNAVAILABLE.
    GatewayFailure,
    /// It did not answer: no connection, reset, or too late.
    LocalOriginFailure,
}

/// What an attempt waited for when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// For the head of the answer, with the request sent.
    ForTheAnswer,
    /// For anything else.
    ForSomethingElse,
}

impl Seen {
    /// What a failed attempt shows, if it was the instance's fault.
    pub fn of_failure(outcome: Outcome, failure: Option<Failure>, waited: Waited) -> Option<Self> {
        match failure {
            // A connection that was closed while it was idle, or in order, says nothing; a status was seen already.
            Some(
                Failure::ReusedClosed
                | Failure::ReusedEnded
                | Failure::NotProcessed
                | Failure::Status(_)
                | Failure::Grpc(_)
                | Failure::ApplicationReset,
            ) => return None,
            Some(Failure::Connect | Failure::Reset | Failure::Lost | Failure::TryTimeout) | None => {}
        }
        match outcome {
            Outcome::ConnectFailed
            | Outcome::UpstreamReset
            | Outcome::UpstreamProtocol
            | Outcome::UpstreamIncomplete => Some(Seen::LocalOriginFailure),
            Outcome::Timeout => (waited == Waited::ForTheAnswer).then_some(Seen::LocalOriginFailure),
            Outcome::Success
            | Outcome::Closed
            | Outcome::Denied
            | Outcome::UnknownPolicy
            | Outcome::TlsRefused
            | Outcome::BadRequest
            | Outcome::HeadersTooLarge
            | Outcome::NoRoute
            | Outcome::NoEndpoints
            | Outcome::LaneMissing
            | Outcome::LaneUnhealthy
            | Outcome::ClientTimeout
            | Outcome::ClientGone
            | Outcome::Overloaded
            | Outcome::RateLimited
            | Outcome::NotReady
            | Outcome::Loop
            | Outcome::Filtered
            | Outcome::Internal => None,
        }
    }

    /// What an answer shows; `grpc_status` where the answer has one.
    pub fn of_answer(status: u16, grpc_status: Option<&[u8]>) -> Self {
        match (status, grpc_status) {
            (502..=504, _) | (_, Some(UNAVAILABLE)) => Seen::GatewayFailure,
            (500..=599, _) => Seen::ServerError,
            (_, Some(code)) if SERVER_ERRORS.contains(&code) => Seen::ServerError,
            (_, None | Some(_)) => Seen::Success,
        }
    }
}

/// `UNAVAILABLE` of google.rpc.Code.
const UNAVAILABLE: &[u8] = b"14";
/// Those of google.rpc.Code that become 5xx in HTTP: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, DATA_LOSS.
const SERVER_ERRORS: [&[u8]; 5] = [b"2", b"4", b"12", b"13", b"15"];

/// Longest time for which an instance is left alone because it asked for that, whatever it and its policy say: what it
/// writes there is a guess, and a wrong one must not take it out for long.
pub const REST_MAX: Duration = Duration::from_secs(300);

/// For how long an answer asks that its instance be left alone: 429 or 503 with `retry-after`, at most `longest` and
/// [`REST_MAX`]. `now` is the time since the Unix epoch, for dates. A sidecar whose service has a limit that is used up asks
/// the caller alone to wait: others are served there, and the caller would be refused elsewhere, too.
pub fn wanted_rest(status: u16, fields: &dyn Fields, now: Duration, longest: Duration) -> Option<Duration> {
    let is_limit = fields.first(names::ERROR_HEADER) == Some(Outcome::RateLimited.label().as_bytes());
    if !matches!(status, 429 | 503) || is_limit {
        return None;
    }
    let text = std::str::from_utf8(fields.first("retry-after")?).ok()?;
    let length = wait(text.trim(), now)?.min(longest).min(REST_MAX);
    (!length.is_zero()).then_some(length)
}
