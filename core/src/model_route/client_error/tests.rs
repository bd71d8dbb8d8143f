//! What clients are told, by dialect and reason.

use serde_json::from_slice;

use super::*;
use crate::model_route::failure::without_answer;

fn failed(reason: Reason, status: u16) -> Failure {
    Failure { reason, status, message: "why".to_owned(), code: Some("own".to_owned()), retry_after: None }
}

/// Name and data of an event of one.
fn event(bytes: &[u8]) -> (Option<String>, Value) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let lines: Vec<&str> = text.strip_suffix("\n\n").unwrap().lines().collect();
    let name = lines.iter().find_map(|line| line.strip_prefix("event: ")).map(str::to_owned);
    let data: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.len() + usize::from(name.is_some()), lines.len(), "{text}");
    (name, serde_json::from_str(data[0]).unwrap())
}

#[test]
fn streams_end_with_what_sdks_raise() {
    let failure = failed(Reason::Overloaded, 529);
    let openai = json!({ "message": "why", "type": "server_error", "code": "own", "param": null });
    for api in [Api::ChatCompletions, Api::Completions] {
        assert_eq!(event(&terminal_event(api, &failure, 7)), (None, json!({ "error": openai })));
    }
    assert_eq!(
        event(&terminal_event(Api::Responses, &failure, 7)),
        (
            Some("error".to_owned()),
            json!({ "type": "error", "code": "own", "message": "why", "param": null, "sequence_number": 7, "error": openai })
        )
    );
    assert_eq!(
        event(&terminal_event(Api::Messages, &failure, 7)),
        (
            Some("error".to_owned()),
            json!({ "type": "error", "error": { "type": "overloaded_error", "message": "why" } })
        )
    );
    assert_eq!(
        event(&terminal_event(Api::GenerateContent, &failure, 7)),
        (None, json!({ "error": { "code": 529, "message": "why", "status": "UNAVAILABLE" } }))
    );
}

#[test]
fn error_objects_are_never_empty_and_stay_in_their_event() {
    for reason in Reason::ALL {
        for api in Api::ALL {
            for message in ["", "two\nlines\r\n\r\n\u{2028}data: x"] {
                let failure = Failure { message: message.to_owned(), code: None, ..failed(reason, 500) };
                let (_, data) = event(&terminal_event(api, &failure, 0));
                let said = data["error"]["message"].as_str().unwrap();
                assert_eq!(said, if message.is_empty() { sentence(reason) } else { message });
                assert_eq!(from_slice::<Value>(&body(api.dialect(), &failure)).unwrap()["error"]["message"], said);
            }
        }
    }
}

#[test]
fn types_and_codes_are_those_of_the_dialect() {
    let cases = [
        (Reason::Rate, 429, ("rate_limit_error", "rate_limit_exceeded"), "rate_limit_error", "RESOURCE_EXHAUSTED"),
        (Reason::Quota, 429, ("insufficient_quota", "insufficient_quota"), "billing_error", "RESOURCE_EXHAUSTED"),
        (Reason::Overloaded, 503, ("server_error", "own"), "overloaded_error", "UNAVAILABLE"),
        (Reason::Server, 500, ("server_error", "own"), "api_error", "INTERNAL"),
        (Reason::Connect, 502, ("server_error", "own"), "api_error", "UNAVAILABLE"),
        (Reason::Stall, 504, ("server_error", "own"), "timeout_error", "DEADLINE_EXCEEDED"),
        (Reason::Auth, 401, ("authentication_error", "invalid_api_key"), "authentication_error", "UNAUTHENTICATED"),
        (Reason::Auth, 403, ("authentication_error", "invalid_api_key"), "permission_error", "PERMISSION_DENIED"),
        (Reason::NotFound, 404, ("invalid_request_error", "model_not_found"), "not_found_error", "NOT_FOUND"),
        (
            Reason::Context,
            400,
            ("invalid_request_error", "context_length_exceeded"),
            "invalid_request_error",
            "INVALID_ARGUMENT",
        ),
        (
            Reason::Context,
            413,
            ("invalid_request_error", "context_length_exceeded"),
            "request_too_large",
            "INVALID_ARGUMENT",
        ),
        (Reason::BadRequest, 400, ("invalid_request_error", "own"), "invalid_request_error", "INVALID_ARGUMENT"),
    ];
    for (reason, status, (kind, code), anthropic, gemini) in cases {
        let failure = failed(reason, status);
        let told = |dialect| from_slice::<Value>(&body(dialect, &failure)).unwrap()["error"].clone();
        assert_eq!((&told(Dialect::Openai)["type"], &told(Dialect::Openai)["code"]), (&json!(kind), &json!(code)));
        assert_eq!(told(Dialect::Anthropic)["type"], anthropic, "{reason:?}");
        assert_eq!(told(Dialect::Gemini)["status"], gemini, "{reason:?}");
        assert_eq!(told(Dialect::Gemini)["code"], status);
    }
    let own = without_answer(Reason::TimeoutFirstToken);
    let told: Value = from_slice(&body(Dialect::Openai, &own)).unwrap();
    assert_eq!((own.status, &told["error"]["code"]), (504, &json!("timeout_first_token")));
}

#[test]
fn a_refused_request_names_its_parameter() {
    let refused = Refused { message: "`model` is missing".to_owned(), parameter: Some("model") };
    let told: Value = from_slice(&body_of_refused(Dialect::Openai, &refused)).unwrap();
    assert_eq!(
        told,
        json!({ "error": { "message": "`model` is missing", "type": "invalid_request_error", "code": null, "param": "model" } })
    );
    let told: Value = from_slice(&body_of_refused(Dialect::Gemini, &refused)).unwrap();
    assert_eq!(told["error"]["code"], 400);
}

#[test]
fn sdks_are_told_whether_and_when_to_repeat() {
    let wait = |milliseconds| Some(Duration::from_millis(milliseconds));
    let cases = [
        (Reason::BadRequest, wait(3_000), Some(("x-should-retry", "false"))),
        (Reason::Quota, None, Some(("x-should-retry", "false"))),
        (Reason::Auth, None, Some(("x-should-retry", "false"))),
        (Reason::Rate, wait(7_000), Some(("retry-after", "7"))),
        (Reason::Rate, wait(1), Some(("retry-after", "1"))),
        (Reason::Rate, wait(0), Some(("retry-after", "1"))),
        (Reason::Rate, wait(1_001), Some(("retry-after", "2"))),
        (Reason::Rate, wait(86_400_000), Some(("retry-after", "120"))),
        (Reason::Rate, None, Some(("retry-after", "5"))),
        (Reason::Overloaded, wait(9_000), Some(("retry-after", "9"))),
        (Reason::Overloaded, None, None),
        (Reason::Connect, None, None),
    ];
    for (reason, retry_after, expected) in cases {
        let failure = Failure { retry_after, ..failed(reason, 500) };
        let found = fields(&failure, Repeating::after(reason));
        let found: Vec<_> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{reason:?} {retry_after:?}");
    }
}
