//! Errors as providers document them, and arbitrary ones.

use proptest::prelude::*;

use super::*;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: Duration = Duration::from_secs(784_111_777);

fn answered(dialect: Dialect, status: u16, fields: &[(&str, &str)], body: &str) -> Failure {
    of_response(dialect, status, &fields, body.as_bytes(), NOW)
}

#[test]
fn code_status_and_words_name_the_reason() {
    use Dialect::{Anthropic, Gemini, Openai};
    let cases: &[(Dialect, u16, &str, Reason)] = &[
        (Openai, 429, r#"{"error":{"message":"Slow","type":"requests","code":"rate_limit_exceeded"}}"#, Reason::Rate),
        (Openai, 429, r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#, Reason::Quota),
        (Openai, 429, "busy", Reason::Rate),
        (Openai, 429, r#"{"error":{"type":"engine_overloaded_error"}}"#, Reason::Overloaded),
        (Openai, 400, r#"{"error":{"code":"context_length_exceeded"}}"#, Reason::Context),
        (
            Openai,
            400,
            r#"{"error":{"message":"This model's maximum context length is 4096","code":400}}"#,
            Reason::Context,
        ),
        (Openai, 400, r#"{"object":"error","message":"longer than the maximum model length of 9"}"#, Reason::Context),
        (
            Openai,
            400,
            r#"{"error":{"code":"x","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            Reason::ContentFilter,
        ),
        (Openai, 400, r#"{"error":{"code":"content_filter"}}"#, Reason::ContentFilter),
        (Openai, 400, r#"{"error":{"code":"data_inspection_failed"}}"#, Reason::ContentFilter),
        (Openai, 400, r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error"}}"#, Reason::NotFound),
        (Openai, 400, r#"{"error":{"message":"messages: expected an array","code":null}}"#, Reason::BadRequest),
        (Openai, 400, r#"{"code":"Arrearage","message":"Access denied"}"#, Reason::Quota),
        (Openai, 401, r#"{"error":{"code":"invalid_api_key"}}"#, Reason::Auth),
        (Openai, 402, r#"{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}"#, Reason::Quota),
        (Openai, 403, "", Reason::Auth),
        (Openai, 404, r#"{"error":{"code":"model_not_found"}}"#, Reason::NotFound),
        (Openai, 404, r#"{"detail":"Not Found"}"#, Reason::NotFound),
        (Openai, 408, "", Reason::Server),
        (Openai, 413, "", Reason::Context),
        (Openai, 413, r#"{"error":{"code":"rate_limit_exceeded"}}"#, Reason::Rate),
        (Openai, 422, r#"{"detail":[{"msg":"field required","type":"missing"}]}"#, Reason::BadRequest),
        (Openai, 500, r#"{"error":{"type":"invalid_request_error"}}"#, Reason::Server),
        (Openai, 502, "<html>Bad Gateway</html>", Reason::Server),
        (Openai, 503, "", Reason::Overloaded),
        (Openai, 504, "", Reason::Server),
        (Openai, 302, "", Reason::Decode),
        (
            Anthropic,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 2 > 1"}}"#,
            Reason::Context,
        ),
        (
            Anthropic,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            Reason::Quota,
        ),
        (
            Anthropic,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: required"}}"#,
            Reason::BadRequest,
        ),
        (Anthropic, 402, r#"{"type":"error","error":{"type":"billing_error"}}"#, Reason::Quota),
        (Anthropic, 413, r#"{"type":"error","error":{"type":"request_too_large"}}"#, Reason::Context),
        (Anthropic, 429, r#"{"type":"error","error":{"type":"rate_limit_error"}}"#, Reason::Rate),
        (Anthropic, 500, r#"{"type":"error","error":{"type":"api_error"}}"#, Reason::Server),
        (Anthropic, 529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, Reason::Overloaded),
        (
            Gemini,
            400,
            r#"{"error":{"code":400,"message":"The input token count (9) exceeds the maximum","status":"INVALID_ARGUMENT"}}"#,
            Reason::Context,
        ),
        (
            Gemini,
            400,
            r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
            Reason::Auth,
        ),
        (
            Gemini,
            400,
            r#"{"error":{"code":400,"status":"FAILED_PRECONDITION","message":"Please enable billing"}}"#,
            Reason::Quota,
        ),
        (
            Gemini,
            400,
            r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"Unknown name"}}"#,
            Reason::BadRequest,
        ),
        (Gemini, 403, r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#, Reason::Auth),
        (
            Gemini,
            429,
            r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"current quota, plan and billing"}}]"#,
            Reason::Rate,
        ),
        (
            Gemini,
            429,
            r#"{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"RequestsPerDayPerModel"}]}]}}"#,
            Reason::Quota,
        ),
        (Gemini, 503, r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#, Reason::Overloaded),
    ];
    for (dialect, status, body, reason) in cases {
        assert_eq!(answered(*dialect, *status, &[], body).reason, *reason, "{status} {body}");
    }
}

#[test]
fn every_form_of_a_wait_is_read() {
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<u64>);
    let cases: &[Case<'_>] = &[
        (&[], None),
        (&[("retry-after", "7")], Some(7_000)),
        (&[("retry-after", "0")], Some(0)),
        (&[("retry-after", "1.5")], Some(1_500)),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "99999999999999999999")], Some(86_400_000)),
        (&[("retry-after-ms", "250"), ("retry-after", "7")], Some(250)),
        (&[("Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(30_000)),
        (&[("retry-after", "Sunday, 06-Nov-94 08:50:07 GMT")], Some(30_000)),
        (&[("retry-after", "Sun Nov  6 08:50:07 1994")], Some(30_000)),
        (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0)),
        // By the target's own clock.
        (&[("retry-after", "Mon, 07 Nov 1994 00:00:05 GMT"), ("date", "Mon, 07 Nov 1994 00:00:00 GMT")], Some(5_000)),
        (&[("x-ratelimit-reset-requests", "1s")], Some(1_000)),
        (&[("x-ratelimit-reset-tokens", "6m0s")], Some(360_000)),
        (&[("x-ratelimit-reset-tokens", "20ms")], Some(20)),
        (&[("x-ratelimit-reset-tokens", "1h2m3.5s")], Some(3_723_500)),
        (&[("x-ratelimit-reset-requests", "12")], Some(12_000)),
        (&[("x-ratelimit-reset-requests", "s1")], None),
        (
            &[
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "8.64s"),
                ("x-ratelimit-remaining-tokens", "149984"),
                ("x-ratelimit-reset-tokens", "1m0s"),
            ],
            Some(8_640),
        ),
        (
            &[
                ("x-ratelimit-remaining-requests", "9"),
                ("x-ratelimit-reset-requests", "1h0s"),
                ("x-ratelimit-remaining-tokens", "12"),
                ("x-ratelimit-reset-tokens", "30s"),
            ],
            Some(30_000),
        ),
        (&[("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:47Z")], Some(10_000)),
        (
            &[
                ("anthropic-ratelimit-requests-remaining", "40"),
                ("anthropic-ratelimit-requests-reset", "1994-11-06T09:49:37Z"),
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
                ("anthropic-ratelimit-input-tokens-reset", "1994-11-06T08:49:40Z"),
            ],
            Some(3_000),
        ),
    ];
    for (fields, milliseconds) in cases {
        let found = answered(Dialect::Openai, 429, fields, "").retry_after;
        assert_eq!(found, milliseconds.map(Duration::from_millis), "{fields:?}");
    }
}

#[test]
fn waits_in_bodies_are_read() {
    let cases = [
        (r#"{"error":{"details":[{"@type":"x"},{"retryDelay":"37s"}]}}"#, Some(37_000)),
        (r#"{"error":{"details":[{"retryDelay":"10.5s"}],"message":"retry in 3s."}}"#, Some(10_500)),
        (r#"{"error":{"message":"Rate limit reached. Please try again in 1m2s. Visit"}}"#, Some(62_000)),
        (r#"{"error":{"message":"Please retry in 250ms."}}"#, Some(250)),
        (r#"{"error":{"message":"Please try again in a while"}}"#, None),
        (r#"{"error":{"details":[{"retryDelay":7}]}}"#, None),
    ];
    for (body, milliseconds) in cases {
        let wait = milliseconds.map(Duration::from_millis);
        assert_eq!(answered(Dialect::Gemini, 429, &[], body).retry_after, wait, "{body}");
        assert_eq!(of_error_object(Dialect::Gemini, body.as_bytes(), 429).retry_after, wait, "{body}");
    }
}

#[test]
fn windows_of_a_failure_that_is_no_refused_rate_are_no_wait() {
    let fields = [("x-ratelimit-reset-requests", "6m0s"), ("x-ratelimit-remaining-requests", "0")];
    assert_eq!(answered(Dialect::Openai, 500, &fields, "").retry_after, None);
    assert_eq!(answered(Dialect::Openai, 500, &[("retry-after", "3")], "").retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn error_objects_in_good_answers_carry_their_own_status() {
    let cases = [
        (Dialect::Openai, r#"{"error":{"code":"rate_limit_exceeded"}}"#, Reason::Rate, 429),
        (Dialect::Openai, r#"{"error":{"code":503,"message":"no capacity"}}"#, Reason::Overloaded, 503),
        (Dialect::Openai, r#"{"error":{"code":"503"}}"#, Reason::Overloaded, 503),
        (
            Dialect::Openai,
            r#"{"error":{"type":"server_error","message":"The engine is currently overloaded, please try again later."}}"#,
            Reason::Overloaded,
            503,
        ),
        (Dialect::Openai, r#"{"error":{"type":"server_error"}}"#, Reason::Server, 500),
        (Dialect::Openai, r#"{"type":"error","code":"server_is_overloaded","message":"m"}"#, Reason::Overloaded, 503),
        (
            Dialect::Openai,
            r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}"#,
            Reason::Rate,
            429,
        ),
        (Dialect::Openai, r#"{"error":"the model fell over"}"#, Reason::Server, 502),
        (Dialect::Openai, r#"{"error":{}}"#, Reason::Server, 502),
        (Dialect::Openai, "<html>", Reason::Server, 502),
        (Dialect::Anthropic, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, Reason::Overloaded, 529),
        (Dialect::Anthropic, r#"{"type":"api_error","message":"m"}"#, Reason::Server, 500),
        (Dialect::Gemini, r#"{"error":{"code":400,"status":"INVALID_ARGUMENT"}}"#, Reason::BadRequest, 400),
    ];
    for (dialect, body, reason, status) in cases {
        let failure = of_error_object(dialect, body.as_bytes(), 200);
        assert_eq!((failure.reason, failure.status), (reason, status), "{body}");
    }
}

#[test]
fn message_and_code_are_the_providers() {
    let failure = answered(Dialect::Openai, 429, &[], r#"{"error":{"message":" M ","type":"t","code":"c"}}"#);
    assert_eq!((failure.message.as_str(), failure.code.as_deref(), failure.status), ("M", Some("c"), 429));
    let failure = answered(Dialect::Openai, 500, &[], r#"{"error":{"message":"","type":"t","code":500}}"#);
    assert_eq!((failure.message.as_str(), failure.code.as_deref()), ("the model failed", Some("t")));
    let failure = answered(Dialect::Openai, 400, &[], &format!(r#"{{"error":{{"message":"{}"}}}}"#, "模".repeat(999)));
    assert_eq!(failure.message, "模".repeat(170));
}

#[test]
fn what_is_said_about_a_key_is_not_repeated() {
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-12*89","code":"invalid_api_key"}}"#;
    let failure = answered(Dialect::Openai, 401, &[], body);
    assert!(!failure.message.contains("sk-"), "{failure:?}");
    assert_eq!(failure.code.as_deref(), Some("invalid_api_key"));
}

#[test]
fn a_body_larger_than_any_error_is_judged_by_its_status() {
    let body = format!(r#"{{"error":{{"code":"insufficient_quota","x":"{}"}}}}"#, " ".repeat(MOST_ERROR_BYTES));
    assert_eq!(answered(Dialect::Openai, 429, &[], &body).reason, Reason::Rate);
}

#[test]
fn answers_that_a_sidecar_gives_are_none_of_the_model() {
    let problem = r#"{"title":"Service Unavailable","status":503,"detail":"127.0.0.1:8000 refused"}"#;
    let cases = [
        ("connect_failed", 503, Reason::Connect),
        ("no_endpoints", 503, Reason::Connect),
        ("upstream_reset", 502, Reason::Reset),
        ("upstream_protocol", 502, Reason::Decode),
        ("timeout", 504, Reason::TimeoutHeaders),
        ("overloaded", 503, Reason::Overloaded),
        ("denied", 403, Reason::Auth),
        ("no_route", 404, Reason::NotFound),
        ("bad_request", 400, Reason::BadRequest),
        ("internal", 500, Reason::Server),
    ];
    for (label, status, reason) in cases {
        let failure = answered(Dialect::Openai, status, &[("x-mesh-error", label)], problem);
        assert_eq!((failure.reason, failure.status), (reason, status), "{label}");
        assert_eq!(failure.message, "127.0.0.1:8000 refused", "{label}");
    }
    let unknown = answered(Dialect::Openai, 503, &[("x-mesh-error", "model_rate")], problem);
    assert_eq!(unknown.reason, Reason::Overloaded, "no label of a sidecar");
    let denied = answered(Dialect::Openai, 403, &[("x-mesh-error", "denied")], "");
    assert_eq!(denied.message, "the mesh does not allow this call");
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Openai), Just(Dialect::Anthropic), Just(Dialect::Gemini)]
}

proptest! {
    #[test]
    fn anything_becomes_a_failure_with_bounds(
        dialect in dialects(),
        status in any::<u16>(),
        name in prop::sample::select(vec!["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens"]),
        value in prop_oneof![".*", "[0-9.]{1,30}(s|m|ms|h|d)?", "[A-Z][a-z]{2},? [0-9A-Za-z: -]{0,30}"],
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            r#"\{"(error|detail|response)":[\[{]?"(message|code|type|details)":.{0,20}[\]}]{0,2}\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let fields: &[(&str, &str)] = &[(name, &value)];
        for failure in [
            of_response(dialect, status, &fields, &body, NOW),
            of_error_object(dialect, &body, status),
        ] {
            prop_assert!((400..=599).contains(&failure.status));
            prop_assert!(!failure.message.is_empty() && failure.message.len() <= 512);
            prop_assert!(failure.retry_after.is_none_or(|wait| wait <= Duration::from_secs(86_400)));
        }
    }
}
