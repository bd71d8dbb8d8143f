//! Whether a failed attempt is repeated, and when: by the policy of the service and the route's own retries, within a
//! budget ([`Budget`]).

mod budget;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::budget::Budget;
use crate::model::{
    policy::{Backoff, Retries, RetryOn},
    route::RouteRetry,
};

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// A reused connection closed before a byte of the answer came.
    ReusedClosed,
    /// A reused connection of a sidecar ended in order before a byte of the answer came. Sidecars end sessions in order only
    /// between exchanges, so this one was not taken.
    ReusedEnded,
    /// HTTP/2 REFUSED_STREAM, or GOAWAY with a lower last stream id: provably not processed.
    NotProcessed,
    /// The connection broke after the request was (partly) sent on a fresh connection, before response headers.
    Reset,
    /// The peer has gone silent: what was sent is not even acknowledged any more.
    Lost,
    /// A response status.
    Status(u16),
    /// A code of gRPC in the head of a response that has no messages.
    Grpc(u8),
    /// The sidecar of the endpoint says that its application's connection broke before response headers.
    ApplicationReset,
    /// The per-try limit passed.
    TryTimeout,
}

impl Failure {
    /// What repeating it costs. A reused connection carried a whole exchange before and is gone now, so that there are never
    /// more such failures than exchanges that succeeded, and none of them says that the peer has too much to do.
    pub fn cost(self) -> Cost {
        match self {
            Failure::ReusedClosed | Failure::ReusedEnded => Cost::Nothing,
            Failure::Connect
            | Failure::NotProcessed
            | Failure::Reset
            | Failure::Lost
            | Failure::Status(_)
            | Failure::Grpc(_)
            | Failure::ApplicationReset
            | Failure::TryTimeout => Cost::Repeat,
        }
    }
}

/// What a repeat takes from the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Nothing, and it is made without a pause.
    Nothing,
    /// One repeat.
    Repeat,
}

/// What is known of the exchange when an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Attempts made, this one included.
    pub made: u32,
    /// How it failed.
    pub failure: Failure,
    /// Method of the request.
    pub method: &'a str,
    /// Whether the request's body can be sent again.
    pub body: Body,
}

/// Whether repeating a request has the effect of sending it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotence {
    /// GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    Idempotent,
    /// Everything else.
    NotIdempotent,
}

/// Idempotence of a method (RFC 9110 9.2.2).
pub fn idempotence(method: &str) -> Idempotence {
    match method {
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Idempotence::Idempotent,
        _ => Idempotence::NotIdempotent,
    }
}

/// Whether the body can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, or nothing of it consumed, or all consumed bytes are kept.
    Replayable,
    /// Consumed bytes are gone.
    Consumed,
}

/// How much of what a policy names is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    All,
    /// What reached nobody. The sidecar of an application repeats no more: its callers' sidecars do, and have other
    /// instances, and both together would multiply the load on an application that fails.
    Unsent,
}

/// What may be repeated of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The service's policy.
    pub policy: &'a Retries,
    /// Retries of the route, which count instead.
    pub route: Option<&'a RouteRetry>,
    /// How much of it.
    pub extent: Extent,
}

/// Longest request body that is kept for a repeat, whatever anybody asks for: one for each exchange under way, bytes.
const BODY_MAX: usize = 1024 * 1024;

impl Rules<'_> {
    /// Most attempts, the first included.
    pub fn attempts(&self) -> u32 {
        self.route.map_or(self.policy.attempts, |route| route.retries.saturating_add(1))
    }

    /// Longest request body that is kept for a repeat, bytes.
    pub fn body_limit(&self) -> usize {
        let asked = self.route.map_or(self.policy.body_limit as usize, |route| route.body_limit);
        asked.min(BODY_MAX)
    }

    /// Whether a failure is one of those that are repeated.
    pub fn names(&self, failure: Failure) -> bool {
        let on = |word: RetryOn| self.policy.on.contains(&word);
        let all = self.extent == Extent::All;
        match failure {
            Failure::Connect => on(RetryOn::ConnectFailure),
            Failure::ReusedClosed | Failure::ReusedEnded | Failure::NotProcessed => on(RetryOn::RefusedStream),
            Failure::Reset | Failure::Lost | Failure::ApplicationReset => all && on(RetryOn::Reset),
            Failure::TryTimeout => {
                all && (on(RetryOn::Reset) || self.route.is_some_and(|route| route.try_timeout.is_some()))
            }
            Failure::Status(status) => all && (self.policy_names(status) || self.route_names(status)),
            Failure::Grpc(code) => {
                let is_code = |on: &RetryOn| matches!(on, RetryOn::Grpc(named) if named.number() == code);
                all && (self.policy.on.iter().any(is_code) || self.route_names(u16::from(code)))
            }
        }
    }

    fn policy_names(&self, status: u16) -> bool {
        self.policy.on.iter().any(|on| match on {
            RetryOn::ServerError => (500..=599).contains(&status),
            RetryOn::GatewayError => (502..=504).contains(&status),
            RetryOn::Retriable4xx => status == 409,
            RetryOn::Status(named) => *named == status,
            RetryOn::ConnectFailure | RetryOn::RefusedStream | RetryOn::Reset | RetryOn::Grpc(_) => false,
        })
    }

    /// Routes say codes of gRPC as statuses below 100, which no response has.
    fn route_names(&self, status: u16) -> bool {
        let is_in = |(low, high): &(u16, u16)| (*low..=*high).contains(&status);
        self.route.is_some_and(|route| route.statuses.iter().any(is_in))
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again (another endpoint where there is one).
    Repeat(Reason),
    /// Answer with the failure.
    GiveUp(Refusal),
}

/// Why an attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing reached the application.
    NotSent,
    /// The method may be repeated.
    Idempotent,
    /// The policy allows it for this method, or for this code of gRPC.
    Allowed,
}

/// Why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The attempts are used up.
    AttemptsUsed,
    /// Neither policy nor route names the failure.
    NotNamed,
    /// The method may not be repeated and the request may have been processed.
    MayHaveBeenProcessed,
    /// The body cannot be sent again: it is longer than what is kept.
    BodyTooLong,
    /// The budget is used up.
    BudgetUsed,
}

impl Refusal {
    /// Every reason, in order of declaration.
    pub const ALL: [Refusal; 5] = [
        Refusal::AttemptsUsed,
        Refusal::NotNamed,
        Refusal::MayHaveBeenProcessed,
        Refusal::BodyTooLong,
        Refusal::BudgetUsed,
    ];

    /// Label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::AttemptsUsed => "attempts",
            Refusal::NotNamed => "not_named",
            Refusal::MayHaveBeenProcessed => "method",
            Refusal::BodyTooLong => "body",
            Refusal::BudgetUsed => "budget",
        }
    }
}

/// Decides, but for the budget. What provably reached nobody is repeated whatever the method; what may have been processed
/// only where the method is idempotent or the policy allows it; nothing whose body is gone. Who names a code of gRPC allows
/// POST with it: calls of gRPC have no other method.
pub fn decide(attempt: &Attempt<'_>, rules: &Rules<'_>) -> Decision {
    if !rules.names(attempt.failure) {
        return Decision::GiveUp(Refusal::NotNamed);
    }
    let reason = match attempt.failure {
        Failure::Connect | Failure::NotProcessed | Failure::ReusedEnded => Reason::NotSent,
        Failure::Grpc(_) => Reason::Allowed,
        Failure::ReusedClosed
        | Failure::Reset
        | Failure::Lost
        | Failure::Status(_)
        | Failure::ApplicationReset
        | Failure::TryTimeout => match idempotence(attempt.method) {
            Idempotence::Idempotent => Reason::Idempotent,
            Idempotence::NotIdempotent if rules.policy.methods.iter().any(|method| method == attempt.method) => {
                Reason::Allowed
            }
            Idempotence::NotIdempotent => return Decision::GiveUp(Refusal::MayHaveBeenProcessed),
        },
    };
    if attempt.body == Body::Consumed {
        return Decision::GiveUp(Refusal::BodyTooLong);
    }
    if attempt.made >= rules.attempts() {
        return Decision::GiveUp(Refusal::AttemptsUsed);
    }
    Decision::Repeat(reason)
}

/// As [`decide`], of one attempt at a target of a model route: another target is asked anyway if it fails, so only what a
/// stale connection or a missing instance explains is repeated here. The request is there whole.
pub fn decide_unsent(made: u32, allowed: u32, failure: Failure) -> Decision {
    match failure {
        Failure::Connect | Failure::NotProcessed | Failure::ReusedClosed | Failure::ReusedEnded => {
            if made < allowed {
                Decision::Repeat(Reason::NotSent)
            } else {
                Decision::GiveUp(Refusal::AttemptsUsed)
            }
        }
        Failure::Reset
        | Failure::Lost
        | Failure::Status(_)
        | Failure::Grpc(_)
        | Failure::ApplicationReset
        | Failure::TryTimeout => Decision::GiveUp(Refusal::MayHaveBeenProcessed),
    }
}

/// How long to wait before repeat number `repeat` (from 1): anything up to the policy's pause, by `chance`, so that callers
/// who failed together do not come back together.
pub fn pause(backoff: &Backoff, repeat: u32, chance: u64) -> Duration {
    let doublings = repeat.saturating_sub(1).min(31);
    let longest = backoff.base.saturating_mul(1 << doublings).min(backoff.max);
    longest.mul_f64(chance as f64 / u64::MAX as f64)
}
