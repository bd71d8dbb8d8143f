//! Whether a failed attempt may be repeated.

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// A reused connection closed before a byte of the answer came.
    ReusedClosed,
    /// HTTP/2 REFUSED_STREAM, or GOAWAY with a lower last stream id: provably not processed.
    NotProcessed,
    /// The connection broke after the request was (partly) sent on a fresh connection, before response headers.
    Reset,
    /// The peer has gone silent: what was sent is not even acknowledged any more.
    Lost,
    /// A response status.
    Status(u16),
    /// The per-try limit passed.
    TryTimeout,
}

/// What is known of the exchange when an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Attempts made, this one included.
    pub made: u32,
    /// Most attempts allowed (policy).
    pub allowed: u32,
    /// How it failed.
    pub failure: Failure,
    /// The method is idempotent (RFC 9110 9.2.2).
    pub idempotent: Idempotence,
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

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again (another endpoint where there is one).
    Repeat(Reason),
    /// Answer with the failure.
    GiveUp(Reason),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing reached the application.
    NotSent,
    /// The method may be repeated.
    Idempotent,
    /// The method may not be repeated and the request may have been processed.
    MayHaveBeenProcessed,
    /// The body cannot be sent again.
    BodyConsumed,
    /// The attempts are used up.
    AttemptsUsed,
}

/// Decides. What provably reached nobody is repeated whatever the method; what may have been processed only where the
/// method is idempotent; nothing whose body is gone. Statuses and per-try limits arrive here only where a route allows
/// their repeat.
pub fn decide(attempt: &Attempt) -> Decision {
    if attempt.made >= attempt.allowed {
        return Decision::GiveUp(Reason::AttemptsUsed);
    }
    if attempt.body == Body::Consumed {
        return Decision::GiveUp(Reason::BodyConsumed);
    }
    match (attempt.failure, attempt.idempotent) {
        (Failure::Connect | Failure::NotProcessed, _) => Decision::Repeat(Reason::NotSent),
        (_, Idempotence::Idempotent) => Decision::Repeat(Reason::Idempotent),
        (
            Failure::ReusedClosed | Failure::Reset | Failure::Lost | Failure::Status(_) | Failure::TryTimeout,
            Idempotence::NotIdempotent,
        ) => Decision::GiveUp(Reason::MayHaveBeenProcessed),
    }
}

/// As [`decide`], of one attempt at a target of a model route: another target is asked anyway if it fails, so only what a
/// stale connection or a missing instance explains is repeated here. The request is there whole.
pub fn decide_unsent(attempt: &Attempt) -> Decision {
    if attempt.made >= attempt.allowed {
        return Decision::GiveUp(Reason::AttemptsUsed);
    }
    match attempt.failure {
        Failure::Connect | Failure::NotProcessed | Failure::ReusedClosed => Decision::Repeat(Reason::NotSent),
        Failure::Reset | Failure::Lost | Failure::Status(_) | Failure::TryTimeout => {
            Decision::GiveUp(Reason::MayHaveBeenProcessed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_had_an_effect_twice_is_repeated() {
        use Body::{Consumed, Replayable};
        use Decision::{GiveUp, Repeat};
        use Idempotence::{Idempotent, NotIdempotent};
        let cases = [
            (Failure::Connect, NotIdempotent, Replayable, 1, Repeat(Reason::NotSent)),
            (Failure::NotProcessed, NotIdempotent, Replayable, 1, Repeat(Reason::NotSent)),
            (Failure::NotProcessed, NotIdempotent, Consumed, 1, GiveUp(Reason::BodyConsumed)),
            (Failure::ReusedClosed, NotIdempotent, Replayable, 1, GiveUp(Reason::MayHaveBeenProcessed)),
            (Failure::ReusedClosed, Idempotent, Replayable, 2, Repeat(Reason::Idempotent)),
            (Failure::Reset, Idempotent, Replayable, 1, Repeat(Reason::Idempotent)),
            (Failure::Reset, NotIdempotent, Replayable, 1, GiveUp(Reason::MayHaveBeenProcessed)),
            (Failure::Lost, Idempotent, Replayable, 1, Repeat(Reason::Idempotent)),
            (Failure::Lost, NotIdempotent, Replayable, 1, GiveUp(Reason::MayHaveBeenProcessed)),
            (Failure::Status(503), Idempotent, Replayable, 1, Repeat(Reason::Idempotent)),
            (Failure::TryTimeout, NotIdempotent, Replayable, 1, GiveUp(Reason::MayHaveBeenProcessed)),
            (Failure::Connect, Idempotent, Replayable, 3, GiveUp(Reason::AttemptsUsed)),
        ];
        for (failure, idempotent, body, made, expected) in cases {
            let attempt = Attempt { made, allowed: 3, failure, idempotent, body };
            assert_eq!(decide(&attempt), expected, "{attempt:?}");
        }
    }
}
