//! From codes, status and words to the reason.

use serde_json::Value;

use super::said::Said;
use crate::model::model_route::Reason;

/// Codes that name a reason whatever the status is, in lower case.
const TELLING: &[(&str, Reason)] = &[
    // Money: OpenAI, Anthropic, Moonshot, DashScope, DeepSeek, Volcengine, OpenRouter.
    ("insufficient_quota", Reason::Quota),
    ("billing_hard_limit_reached", Reason::Quota),
    ("billing_not_active", Reason::Quota),
    ("billing_error", Reason::Quota),
    ("exceeded_current_quota_error", Reason::Quota),
    ("arrearage", Reason::Quota),
    ("insufficient_balance", Reason::Quota),
    ("insufficient_credits", Reason::Quota),
    ("accountoverdueerror", Reason::Quota),
    // Length: OpenAI, Anthropic's 413, llama.cpp.
    ("context_length_exceeded", Reason::Context),
    ("request_too_large", Reason::Context),
    ("exceed_context_size_error", Reason::Context),
    // Content: OpenAI, Azure, DashScope, Volcengine.
    ("content_filter", Reason::ContentFilter),
    ("content_policy_violation", Reason::ContentFilter),
    ("invalid_prompt", Reason::ContentFilter),
    ("responsibleaipolicyviolation", Reason::ContentFilter),
    ("data_inspection_failed", Reason::ContentFilter),
    ("datainspectionfailed", Reason::ContentFilter),
    ("sensitivecontentdetected", Reason::ContentFilter),
    ("inputtextsensitivecontentdetected", Reason::ContentFilter),
    // Load: Anthropic, OpenAI, Moonshot (as 429), Volcengine (as 429).
    ("overloaded_error", Reason::Overloaded),
    ("overloaded", Reason::Overloaded),
    ("server_overloaded", Reason::Overloaded),
    ("server_is_overloaded", Reason::Overloaded),
    ("engine_overloaded", Reason::Overloaded),
    ("engine_overloaded_error", Reason::Overloaded),
    ("serveroverloaded", Reason::Overloaded),
    ("slow_down", Reason::Overloaded),
    // Rate: OpenAI, Anthropic, Moonshot, Gemini, DashScope.
    ("rate_limit_exceeded", Reason::Rate),
    ("rate_limit_error", Reason::Rate),
    ("rate_limit_reached_error", Reason::Rate),
    ("resource_exhausted", Reason::Rate),
    ("limit_requests", Reason::Rate),
    ("throttling", Reason::Rate),
    ("throttling.ratequota", Reason::Rate),
    ("throttling.burstrate", Reason::Rate),
    ("throttling.allocationquota", Reason::Rate),
    // Credential: OpenAI, Anthropic, Gemini (as 400), DashScope.
    ("invalid_api_key", Reason::Auth),
    ("invalidapikey", Reason::Auth),
    ("api_key_invalid", Reason::Auth),
    ("authentication_error", Reason::Auth),
    ("permission_error", Reason::Auth),
    ("permission_denied", Reason::Auth),
    ("unauthenticated", Reason::Auth),
    // Place and billing of the account (Gemini): not the request's fault.
    ("failed_precondition", Reason::Auth),
    // Model: OpenAI, Azure, DashScope.
    ("model_not_found", Reason::NotFound),
    ("deploymentnotfound", Reason::NotFound),
    ("modelnotfound", Reason::NotFound),
];

/// Types so wide that a status says more; they count where there is none.
const WIDE: &[(&str, Reason)] = &[
    ("not_found_error", Reason::NotFound),
    ("not_found", Reason::NotFound),
    ("notfounderror", Reason::NotFound),
    ("unavailable", Reason::Overloaded),
    ("service_unavailable", Reason::Overloaded),
    ("service_unavailable_error", Reason::Overloaded),
    ("api_error", Reason::Server),
    ("server_error", Reason::Server),
    ("internal_error", Reason::Server),
    ("internal_server_error", Reason::Server),
    ("internalservererror", Reason::Server),
    ("internal", Reason::Server),
    ("unknown", Reason::Server),
    ("timeout_error", Reason::Server),
    ("deadline_exceeded", Reason::Server),
    ("invalid_request_error", Reason::BadRequest),
    ("invalid_argument", Reason::BadRequest),
    ("badrequesterror", Reason::BadRequest),
];

/// Words of messages, in lower case, for reasons that have no code of their own somewhere.
const WORDS: &[(&str, Reason)] = &[
    ("prompt is too long", Reason::Context),
    ("input is too long", Reason::Context),
    ("maximum context length", Reason::Context),
    ("maximum model length", Reason::Context),
    ("exceed context limit", Reason::Context),
    ("context window", Reason::Context),
    ("context size", Reason::Context),
    ("input token count", Reason::Context),
    ("range of input length should be", Reason::Context),
    ("credit balance is too low", Reason::Quota),
    ("insufficient balance", Reason::Quota),
    ("insufficient credits", Reason::Quota),
    ("account is in good standing", Reason::Quota),
    ("enable billing", Reason::Quota),
    ("content filtering policy", Reason::ContentFilter),
    ("content management policy", Reason::ContentFilter),
    ("inappropriate content", Reason::ContentFilter),
    ("api key not valid", Reason::Auth),
    ("api key expired", Reason::Auth),
    // OpenAI's `server_error`, which it says without status in streams.
    ("currently overloaded", Reason::Overloaded),
    ("model not exist", Reason::NotFound),
    ("invalid model", Reason::NotFound),
];

/// Bytes of a message in which words are looked for.
const MOST_LOOKED_AT: usize = 1024;

/// Why it failed, if anything says so. `status` is the answer's or the object's own, 400 to 599.
pub(super) fn of(status: Option<u16>, said: &Said<'_>) -> Option<Reason> {
    if is_daily(said) {
        return Some(Reason::Quota);
    }
    if let Some(reason) = said.codes().find_map(|code| named(TELLING, code)) {
        // Providers without a code for an empty account say so in words only.
        let account = matches!(reason, Reason::Rate | Reason::Auth) && in_words(said) == Some(Reason::Quota);
        return Some(if account { Reason::Quota } else { reason });
    }
    let wide = || said.codes().find_map(|code| named(WIDE, code));
    let so_far = status.and_then(of_status).or_else(wide);
    match (so_far, status) {
        (None | Some(Reason::BadRequest), _) => in_words(said).or(so_far),
        (Some(Reason::Server), None) => in_words(said).filter(|words| *words == Reason::Overloaded).or(so_far),
        (so_far, _) => so_far,
    }
}

/// What a status says on its own; nothing below 400.
pub(super) fn of_status(status: u16) -> Option<Reason> {
    match status {
        ..400 => None,
        401 | 403 | 407 => Some(Reason::Auth),
        402 => Some(Reason::Quota),
        // A path or method that the target does not have is as good as a model that it does not have.
        404 | 405 | 410 => Some(Reason::NotFound),
        // Nothing is wrong with the request: the target waited too long for it, or is busy with another.
        408 | 409 | 425 => Some(Reason::Server),
        413 => Some(Reason::Context),
        429 => Some(Reason::Rate),
        400..500 => Some(Reason::BadRequest),
        503 | 529 => Some(Reason::Overloaded),
        500.. => Some(Reason::Server),
    }
}

fn named(table: &[(&str, Reason)], code: &str) -> Option<Reason> {
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(code)).map(|(_, reason)| *reason)
}

fn in_words(said: &Said<'_>) -> Option<Reason> {
    let message = said.message?;
    let message = message[..message.floor_char_boundary(MOST_LOOKED_AT)].to_ascii_lowercase();
    WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, reason)| *reason)
}

/// Whether Gemini's quota of a day is used up, which no wait of minutes mends. It answers as for that of a minute, with
/// the same code and words.
fn is_daily(said: &Said<'_>) -> bool {
    said.details
        .iter()
        .filter_map(|detail| detail.get("violations").and_then(Value::as_array))
        .flatten()
        .filter_map(|violation| violation.get("quotaId").and_then(Value::as_str))
        .any(|id| id.contains("PerDay"))
}
