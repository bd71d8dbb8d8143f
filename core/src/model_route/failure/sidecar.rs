//! Answers that the sidecar of a model in the mesh gives in the place of the model: they say nothing about it but that it
//! could not be asked.

use serde_json::Value;

use super::{MOST_MESSAGE_BYTES, clipped, without_answer};
use crate::{
    model::model_route::{Failure, Reason},
    outcome::Outcome,
};

/// What a label of an outcome (`x-mesh-error`) means for whoever wanted an answer of the model; `None` where nobody of the
/// mesh writes such a label.
pub(super) fn reason(label: &[u8]) -> Option<Reason> {
    let outcome = Outcome::ALL.iter().find(|outcome| outcome.label().as_bytes() == label)?;
    Some(match outcome {
        Outcome::ConnectFailed
        | Outcome::NoEndpoints
        | Outcome::NotReady
        | Outcome::LaneMissing
        | Outcome::LaneUnhealthy
        | Outcome::TlsRefused => Reason::Connect,
        Outcome::UpstreamReset | Outcome::UpstreamIncomplete | Outcome::Closed => Reason::Reset,
        Outcome::UpstreamProtocol => Reason::Decode,
        Outcome::Timeout | Outcome::ClientTimeout => Reason::TimeoutHeaders,
        Outcome::Overloaded => Reason::Overloaded,
        Outcome::RateLimited => Reason::Rate,
        Outcome::Denied | Outcome::UnknownPolicy => Reason::Auth,
        Outcome::NoRoute => Reason::NotFound,
        Outcome::BadRequest | Outcome::HeadersTooLarge => Reason::BadRequest,
        Outcome::Success | Outcome::ClientGone | Outcome::Loop | Outcome::Filtered | Outcome::Internal => {
            Reason::Server
        }
    })
}

/// The failure, in the words of the sidecar (the `detail` of a problem, RFC 9457) where they say nothing of a key.
pub(super) fn failure(reason: Reason, status: u16, problem: &Value) -> Failure {
    let usual = match reason {
        Reason::Auth => Failure { message: "the mesh does not allow this call".to_owned(), ..without_answer(reason) },
        Reason::Connect
        | Reason::Reset
        | Reason::TimeoutHeaders
        | Reason::TimeoutFirstToken
        | Reason::Stall
        | Reason::Rate
        | Reason::Quota
        | Reason::Overloaded
        | Reason::Server
        | Reason::NotFound
        | Reason::Context
        | Reason::ContentFilter
        | Reason::BadRequest
        | Reason::Empty
        | Reason::Decode => without_answer(reason),
    };
    let said = problem.get("detail").and_then(Value::as_str).filter(|detail| !detail.trim().is_empty());
    let message = said.map_or(usual.message, |detail| clipped(detail.trim(), MOST_MESSAGE_BYTES));
    let status = if (400..=599).contains(&status) { status } else { usual.status };
    Failure { status, message, ..usual }
}
