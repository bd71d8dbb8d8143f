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

/// Decides.
pub fn decide(attempt: &Attempt) -> Decision {
    let _ = attempt;
    Decision::GiveUp(Reason::AttemptsUsed)
}
