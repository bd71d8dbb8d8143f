//! What a target's error means: status, fields and body of a failed answer, or an error object inside a good one, become
//! a [`Failure`].
//!
//! Codes come before statuses: providers answer 429 for an empty account, 400 for a prompt that is too long and 200 for
//! anything. The words of a message count last, and only where code and status leave the reason open.

mod again;
mod reason;
mod said;
mod sidecar;

use std::time::Duration;

use serde_json::Value;

pub(crate) use self::again::wait;
use self::said::Said;
use crate::{
    fields::Fields,
    model::model_route::{Dialect, Failure, Reason},
    names,
};

/// Bytes of an error body that are looked at; providers' errors are far smaller, and a longer one is judged by its
/// status alone.
pub const MOST_ERROR_BYTES: usize = 64 * 1024;

/// Bytes of a [`Failure::message`] and of a [`Failure::code`].
const MOST_MESSAGE_BYTES: usize = 512;
const MOST_CODE_BYTES: usize = 64;

/// What a failed answer says. `now` is the time since the Unix epoch, against which dates are read where the answer has
/// no `date` of its own. A sidecar that answers in the place of its model says so by `x-mesh-error`, which nobody outside
/// of the mesh may say: the caller has taken it away from others.
pub fn of_response(dialect: Dialect, status: u16, fields: &dyn Fields, body: &[u8], now: Duration) -> Failure {
    let value = parsed(body);
    if let Some(reason) = fields.first(names::ERROR_HEADER).and_then(sidecar::reason) {
        return sidecar::failure(reason, status, &value);
    }
    let said = Said::read(&value);
    let failed = (400..=599).contains(&status);
    let reason = reason::of(failed.then_some(status), &said).unwrap_or(Reason::Decode);
    let retry_after = again::from_fields(fields, reason, now).or_else(|| again::from_object(&said));
    let status = if failed { status } else { said.status().unwrap_or(502) };
    failure(dialect, reason, status, &said, retry_after)
}

/// What an error object says that stands where an answer or an event was expected: `{"error": {…}}`, Anthropic's error
/// event, `response.failed`, or the inner object alone. `default_status` is what the client is told where neither the
/// object nor its type says a status; below 400 it counts as 502.
pub fn of_error_object(dialect: Dialect, bytes: &[u8], default_status: u16) -> Failure {
    of_error_value(dialect, &parsed(bytes), default_status)
}

/// As [`of_error_object`], of JSON that is parsed already.
pub fn of_error_value(dialect: Dialect, value: &Value, default_status: u16) -> Failure {
    let said = Said::read(value);
    let default_status = if (400..=599).contains(&default_status) { default_status } else { 502 };
    let status = said.status();
    let known = reason::of(status, &said);
    let reason = known.or_else(|| reason::of_status(default_status)).unwrap_or(Reason::Server);
    let status = status.or_else(|| known.and_then(|reason| usual_status(dialect, reason))).unwrap_or(default_status);
    failure(dialect, reason, status, &said, again::from_object(&said))
}

/// A failure of which no target said anything: no connection, a time limit, an answer that is none.
pub fn without_answer(reason: Reason) -> Failure {
    let status = match reason {
        Reason::TimeoutHeaders | Reason::TimeoutFirstToken | Reason::Stall => 504,
        Reason::Rate | Reason::Quota => 429,
        Reason::Overloaded => 503,
        Reason::Auth
        | Reason::NotFound
        | Reason::Context
        | Reason::ContentFilter
        | Reason::BadRequest
        | Reason::Connect
        | Reason::Reset
        | Reason::Server
        | Reason::Empty
        | Reason::Decode => 502,
    };
    Failure { reason, status, message: sentence(reason).to_owned(), code: None, retry_after: None }
}

/// What people are told of a reason where the target said nothing.
pub fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::Connect => "the model could not be reached",
        Reason::Reset => "the connection to the model broke before its answer was complete",
        Reason::TimeoutHeaders => "the model did not answer in time",
        Reason::TimeoutFirstToken => "the model did not begin its answer in time",
        Reason::Stall => "the model stopped in the middle of its answer",
        Reason::Rate => "the model was asked too often",
        Reason::Quota => "nothing is left to spend at the model's provider",
        Reason::Overloaded => "the model is overloaded",
        Reason::Server => "the model failed",
        Reason::Auth => "the model's provider does not accept the credential that the mesh holds for it",
        Reason::NotFound => "the provider does not know the model",
        Reason::Context => "the prompt is longer than the model can read",
        Reason::ContentFilter => "the model's provider refused the content",
        Reason::BadRequest => "the model's provider refused the request",
        Reason::Empty => "the model answered without content",
        Reason::Decode => "the model answered in an unexpected form",
    }
}

fn parsed(bytes: &[u8]) -> Value {
    if bytes.len() > MOST_ERROR_BYTES {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

fn failure(dialect: Dialect, reason: Reason, status: u16, said: &Said<'_>, retry_after: Option<Duration>) -> Failure {
    // Providers repeat a part of the key in what they say about it, and the application holds no key.
    let message = said.message.filter(|_| reason != Reason::Auth).unwrap_or(sentence(reason));
    Failure {
        reason,
        status,
        message: clipped(message, MOST_MESSAGE_BYTES),
        code: said.own_code(dialect).map(|code| clipped(code, MOST_CODE_BYTES)),
        retry_after,
    }
}

/// The longest beginning of `text` of at most `most` bytes that ends between characters.
fn clipped(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

/// Status that providers of a dialect give with a reason.
pub(super) fn usual_status(dialect: Dialect, reason: Reason) -> Option<u16> {
    match reason {
        Reason::Rate | Reason::Quota => Some(429),
        Reason::Overloaded => Some(match dialect {
            Dialect::Anthropic => 529,
            Dialect::Openai | Dialect::Gemini => 503,
        }),
        Reason::Server => Some(500),
        Reason::Auth => Some(401),
        Reason::NotFound => Some(404),
        Reason::Context | Reason::ContentFilter | Reason::BadRequest => Some(400),
        Reason::Connect
        | Reason::Reset
        | Reason::TimeoutHeaders
        | Reason::TimeoutFirstToken
        | Reason::Stall
        | Reason::Empty
        | Reason::Decode => None,
    }
}

#[cfg(test)]
mod tests;
