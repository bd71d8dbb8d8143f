//! What is repeated, how often and when.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// Repeats of failed attempts. Routes may have retries of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retries {
    /// Most attempts per exchange, the first included; 1 = no retry. Default 3.
    pub attempts: u32,
    /// Failures that are repeated. Default connect-failure, refused-stream and reset.
    pub on: Vec<RetryOn>,
    /// Methods that may be repeated although they are not idempotent (RFC 9110 9.2.2), upper case. Default none. What
    /// provably reached nobody is repeated whatever the method.
    pub methods: Vec<String>,
    /// How many repeats a proxy may make altogether.
    pub budget: RetryBudget,
    /// Pause before a repeat.
    pub backoff: Backoff,
    /// Largest request body that is kept for a repeat, bytes. Default 64 KiB.
    pub body_limit: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 3,
            on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset],
            methods: Vec::new(),
            budget: RetryBudget::default(),
            backoff: Backoff::default(),
            body_limit: 65_536,
        }
    }
}

/// What state on disk holds: retries, or what an earlier version kept of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Attempts(u32),
    Whole(Retries),
}

/// Reads retries as any version keeps them.
pub(super) fn kept<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Retries, D::Error> {
    Ok(match Kept::deserialize(deserializer)? {
        Kept::Attempts(attempts) => Retries { attempts, ..Retries::default() },
        Kept::Whole(retries) => retries,
    })
}

/// How many repeats a proxy may make to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryBudget {
    /// Repeats as a share of requests, percent. Default 20.
    pub percent: u32,
    /// So many repeats in each second are allowed anyway. Default 10.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { percent: 20, min_per_second: 10 }
    }
}

/// Pause before a repeat: random, up to `base` before the first one, twice as much before each further one, never more than
/// `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backoff {
    /// Before the first repeat. Default 25 ms.
    pub base: Duration,
    /// Longest pause. Default 250 ms.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

/// A failure that is repeated. The words are Envoy's (`retry_on`), numbers are statuses, and codes of gRPC are in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryOn {
    /// `connect-failure`: no connection, nothing was sent.
    ConnectFailure,
    /// `refused-stream`: the peer provably did not process it (REFUSED_STREAM, GOAWAY beyond the last id, a reused connection
    /// that closed before a byte was answered).
    RefusedStream,
    /// `reset`: connection or stream broke, or the limit of one try passed, before the response's headers.
    Reset,
    /// `5xx`: status 500 to 599.
    ServerError,
    /// `gateway-error`: status 502, 503 or 504.
    GatewayError,
    /// `retriable-4xx`: status 409.
    Retriable4xx,
    /// This status.
    Status(u16),
    /// This code of gRPC.
    Grpc(GrpcCode),
}

/// Words without a number.
const WORDS: [(&str, RetryOn); 6] = [
    ("connect-failure", RetryOn::ConnectFailure),
    ("refused-stream", RetryOn::RefusedStream),
    ("reset", RetryOn::Reset),
    ("5xx", RetryOn::ServerError),
    ("gateway-error", RetryOn::GatewayError),
    ("retriable-4xx", RetryOn::Retriable4xx),
];

/// A failure that no word, status or code names.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "is no failure that can be repeated (allowed: connect-failure, refused-stream, reset, 5xx, gateway-error, \
     retriable-4xx, a status from 400 to 599, a code of gRPC such as unavailable or deadline-exceeded)"
)]
pub struct UnknownRetryOn;

impl FromStr for RetryOn {
    type Err = UnknownRetryOn;

    fn from_str(text: &str) -> Result<Self, UnknownRetryOn> {
        if let Some((_, found)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*found);
        }
        if let Ok(status) = text.parse::<u16>() {
            return (400..=599).contains(&status).then_some(RetryOn::Status(status)).ok_or(UnknownRetryOn);
        }
        GrpcCode::of_word(text).map(RetryOn::Grpc).ok_or(UnknownRetryOn)
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RetryOn::ConnectFailure => "connect-failure",
            RetryOn::RefusedStream => "refused-stream",
            RetryOn::Reset => "reset",
            RetryOn::ServerError => "5xx",
            RetryOn::GatewayError => "gateway-error",
            RetryOn::Retriable4xx => "retriable-4xx",
            RetryOn::Status(status) => return write!(f, "{status}"),
            RetryOn::Grpc(code) => code.word(),
        })
    }
}

/// A code of gRPC that says that a call failed: 1 to 16 (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// Every code's word, from 1 on.
    pub const WORDS: [&'static str; 16] = [
        "cancelled",
        "unknown",
        "invalid-argument",
        "deadline-exceeded",
        "not-found",
        "already-exists",
        "permission-denied",
        "resource-exhausted",
        "failed-precondition",
        "aborted",
        "out-of-range",
        "unimplemented",
        "internal",
        "unavailable",
        "data-loss",
        "unauthenticated",
    ];

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The word.
    pub fn word(self) -> &'static str {
        Self::WORDS[usize::from(self.0) - 1]
    }

    /// What a word means.
    pub fn of_word(word: &str) -> Option<Self> {
        let at = Self::WORDS.iter().position(|known| *known == word)?;
        u8::try_from(at + 1).ok().map(GrpcCode)
    }
}

/// A number that is no code of a failed call.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} is no code of a failed gRPC call (1 to 16)")]
pub struct NoGrpcCode(u8);

impl TryFrom<u8> for GrpcCode {
    type Error = NoGrpcCode;

    fn try_from(number: u8) -> Result<Self, NoGrpcCode> {
        (1..=16).contains(&number).then_some(GrpcCode(number)).ok_or(NoGrpcCode(number))
    }
}

impl From<GrpcCode> for u8 {
    fn from(code: GrpcCode) -> u8 {
        code.0
    }
}
