//! What a client is told of a failure, in the forms that the SDKs of its dialect raise.
//!
//! Some of the forms that providers document pass the SDKs silently (`response.failed` alone, an error without `event:`
//! at Anthropic); those here do not.

use std::time::Duration;

use serde_json::{Value, json};

use super::{failure::sentence, request::Refused};
use crate::model::model_route::{Api, Dialect, Failure, Reason};

/// Longest `retry-after`. SDKs wait for it with the caller's thread, and take none that is much longer.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// `retry-after` for a refused rate of which the target did not say when it ends: as long as its targets are left alone.
const WAIT_FOR_RATE: Duration = Duration::from_secs(5);

/// Media type of [`body`].
pub const CONTENT_TYPE: &str = "application/json";

/// The event that ends a stream which failed after its first token. `sequence_number` counts the events of a Responses
/// stream; the others have none.
pub fn terminal_event(api: Api, failure: &Failure, sequence_number: u64) -> Vec<u8> {
    let (name, data) = match api {
        Api::ChatCompletions | Api::Completions | Api::Embeddings => ("", openai(failure, None)),
        Api::Responses => {
            let mut event = openai(failure, None);
            // SDKs raise on `error`; readers of the documentation look at the top.
            if let (Some(inner), Some(event)) = (event["error"].as_object().cloned(), event.as_object_mut()) {
                event.extend(inner);
                event.insert("type".to_owned(), "error".into());
                event.insert("sequence_number".to_owned(), sequence_number.into());
            }
            ("event: error\n", event)
        }
        Api::Messages => ("event: error\n", anthropic(failure)),
        Api::GenerateContent => ("", gemini(failure)),
    };
    format!("{name}data: {data}\n\n").into_bytes()
}

/// Body, of [`CONTENT_TYPE`], of an answer with the failure's status.
pub fn body(dialect: Dialect, failure: &Failure) -> Vec<u8> {
    error(dialect, failure, None).to_string().into_bytes()
}

/// As [`body`], for a request that was refused here; its status is 400.
pub fn body_of_refused(dialect: Dialect, refused: &Refused) -> Vec<u8> {
    error(dialect, &of_refused(refused), refused.parameter).to_string().into_bytes()
}

/// A request that was refused here, as a failure.
pub fn of_refused(refused: &Refused) -> Failure {
    Failure { reason: Reason::BadRequest, status: 400, message: refused.message.clone(), code: None, retry_after: None }
}

/// Whether the same request may find an answer a little later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeating {
    /// It may.
    MayHelp,
    /// It will not.
    CannotHelp,
}

impl Repeating {
    /// What follows from a reason.
    pub fn after(reason: Reason) -> Repeating {
        match reason {
            Reason::Connect
            | Reason::Reset
            | Reason::TimeoutHeaders
            | Reason::TimeoutFirstToken
            | Reason::Stall
            | Reason::Rate
            | Reason::Overloaded
            | Reason::Server
            | Reason::Empty
            | Reason::Decode => Repeating::MayHelp,
            Reason::Quota
            | Reason::Auth
            | Reason::NotFound
            | Reason::Context
            | Reason::ContentFilter
            | Reason::BadRequest => Repeating::CannotHelp,
        }
    }
}

/// Fields by which SDKs decide whether and when they repeat the request themselves: their repetitions multiply with
/// those that were made here.
pub fn fields(failure: &Failure, repeating: Repeating) -> Vec<(&'static str, String)> {
    let wait = match repeating {
        Repeating::CannotHelp => return vec![("x-should-retry", "false".to_owned())],
        Repeating::MayHelp => failure.retry_after.or((failure.reason == Reason::Rate).then_some(WAIT_FOR_RATE)),
    };
    let seconds = |wait: Duration| wait.min(LONGEST_WAIT).as_millis().div_ceil(1000).max(1);
    wait.map(|wait| ("retry-after", seconds(wait).to_string())).into_iter().collect()
}

fn error(dialect: Dialect, failure: &Failure, parameter: Option<&str>) -> Value {
    match dialect {
        Dialect::Openai => openai(failure, parameter),
        Dialect::Anthropic => anthropic(failure),
        Dialect::Gemini => gemini(failure),
    }
}

fn message(failure: &Failure) -> &str {
    if failure.message.is_empty() { sentence(failure.reason) } else { &failure.message }
}

fn openai(failure: &Failure, parameter: Option<&str>) -> Value {
    let own = failure.code.as_deref();
    // Programs look at these codes; where OpenAI has none of its own for a reason, the provider's word, or ours.
    let (kind, code) = match failure.reason {
        Reason::Rate => ("rate_limit_error", Some("rate_limit_exceeded")),
        Reason::Quota => ("insufficient_quota", Some("insufficient_quota")),
        Reason::Auth => ("authentication_error", Some("invalid_api_key")),
        Reason::NotFound => ("invalid_request_error", Some("model_not_found")),
        Reason::Context => ("invalid_request_error", Some("context_length_exceeded")),
        Reason::ContentFilter => ("invalid_request_error", Some("content_filter")),
        Reason::BadRequest => ("invalid_request_error", own),
        Reason::Overloaded
        | Reason::Server
        | Reason::Connect
        | Reason::Reset
        | Reason::TimeoutHeaders
        | Reason::TimeoutFirstToken
        | Reason::Stall
        | Reason::Empty
        | Reason::Decode => ("server_error", own.or(Some(failure.reason.as_str()))),
    };
    json!({ "error": { "message": message(failure), "type": kind, "code": code, "param": parameter } })
}

fn anthropic(failure: &Failure) -> Value {
    let kind = match failure.reason {
        Reason::Rate => "rate_limit_error",
        Reason::Quota => "billing_error",
        Reason::Overloaded => "overloaded_error",
        Reason::Auth if failure.status == 403 => "permission_error",
        Reason::Auth => "authentication_error",
        Reason::NotFound => "not_found_error",
        Reason::Context | Reason::BadRequest if failure.status == 413 => "request_too_large",
        Reason::BadRequest if failure.status == 403 => "permission_error",
        Reason::Context | Reason::ContentFilter | Reason::BadRequest => "invalid_request_error",
        Reason::TimeoutHeaders | Reason::TimeoutFirstToken | Reason::Stall => "timeout_error",
        Reason::Server | Reason::Connect | Reason::Reset | Reason::Empty | Reason::Decode => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message(failure) } })
}

fn gemini(failure: &Failure) -> Value {
    let status = match failure.reason {
        Reason::Rate | Reason::Quota => "RESOURCE_EXHAUSTED",
        Reason::Auth | Reason::BadRequest if failure.status == 403 => "PERMISSION_DENIED",
        Reason::Auth => "UNAUTHENTICATED",
        Reason::NotFound => "NOT_FOUND",
        Reason::Context | Reason::ContentFilter | Reason::BadRequest => "INVALID_ARGUMENT",
        Reason::TimeoutHeaders | Reason::TimeoutFirstToken | Reason::Stall => "DEADLINE_EXCEEDED",
        Reason::Overloaded | Reason::Connect | Reason::Reset => "UNAVAILABLE",
        Reason::Server | Reason::Empty | Reason::Decode => "INTERNAL",
    };
    json!({ "error": { "code": failure.status, "message": message(failure), "status": status } })
}

#[cfg(test)]
mod tests;
