//! Answers that are given, and what is wrong with the others.

use super::*;
use crate::schema::Schema;

fn look(api: Api, body: &str) -> Result<Whole, Failure> {
    inspect(api, Some(b"application/json"), body.as_bytes(), &Escalate::default(), AskedFor::Text)
}

fn chat(message: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{message},"finish_reason":"{finish}"}}],"usage":{{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}}}"#
    )
}

fn gemini(parts: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"role":"model","parts":{parts}}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11}}}}"#
    )
}

fn message(content: &str) -> String {
    format!(
        r#"{{"type":"message","role":"assistant","content":{content},"stop_reason":"end_turn","usage":{{"input_tokens":9,"output_tokens":2}}}}"#
    )
}

fn response(output: &str) -> String {
    format!(
        r#"{{"object":"response","status":"completed","error":null,"incomplete_details":null,"output":{output},"usage":{{"input_tokens":9,"output_tokens":2,"total_tokens":11}}}}"#
    )
}

const TEXT_OUTPUT: &str = r#"[{"type":"message","content":[{"type":"output_text","text":"hi"}]}]"#;

#[test]
fn answers_of_every_api_are_given_with_what_they_used() {
    let used = Some(Usage { input: 9, output: 2, cached: 0 });
    for (api, body) in [
        (Api::ChatCompletions, chat(r#"{"role":"assistant","content":"hi"}"#, "stop")),
        (Api::ChatCompletions, chat(r#"{"content":null,"tool_calls":[{"id":"t","function":{"name":"f"}}]}"#, "tool_calls")),
        (
            Api::Completions,
            r#"{"choices":[{"text":"hi","index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#
                .to_owned(),
        ),
        (Api::Responses, response(TEXT_OUTPUT)),
        (Api::Messages, message(r#"[{"type":"text","text":"hi"}]"#)),
        (Api::GenerateContent, gemini(r#"[{"text":"hi"}]"#)),
    ] {
        let whole = look(api, &body).expect("an answer");
        assert_eq!(whole.usage, used, "{body}");
        assert!(whole.written_bytes >= 2, "{body}");
    }
    let embeddings =
        r#"{"object":"list","data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":9,"total_tokens":9}}"#;
    let whole = look(Api::Embeddings, embeddings).expect("embeddings");
    assert_eq!(whole.usage, Some(Usage { input: 9, output: 0, cached: 0 }));
    let silent = look(Api::ChatCompletions, r#"{"choices":[{"message":{"content":"a"}}]}"#).expect("an answer");
    assert_eq!(silent.usage, None);
}

#[test]
fn what_is_no_answer_is_a_failure_with_its_reason_and_status() {
    let quota = r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let cases = [
        (Api::ChatCompletions, quota.to_owned(), Reason::Quota, 429),
        (Api::Embeddings, quota.to_owned(), Reason::Quota, 429),
        (
            Api::Messages,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#.to_owned(),
            Reason::Overloaded,
            529,
        ),
        (
            Api::Responses,
            r#"{"status":"failed","error":{"code":"rate_limit_exceeded","message":"m"},"output":[]}"#.to_owned(),
            Reason::Rate,
            429,
        ),
        (
            Api::GenerateContent,
            r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}"#.to_owned(),
            Reason::Overloaded,
            503,
        ),
        (Api::ChatCompletions, r#"{"choices":[]}"#.to_owned(), Reason::Empty, 502),
        (Api::ChatCompletions, r#"{"choices":null}"#.to_owned(), Reason::Empty, 502),
        (Api::ChatCompletions, "{}".to_owned(), Reason::Empty, 502),
        (Api::ChatCompletions, String::new(), Reason::Empty, 502),
        (Api::ChatCompletions, chat(r#"{"content":null}"#, "stop"), Reason::Empty, 502),
        (Api::ChatCompletions, chat(r#"{"content":""}"#, "stop"), Reason::Empty, 502),
        (Api::ChatCompletions, chat(r#"{"content":null}"#, "content_filter"), Reason::ContentFilter, 502),
        (Api::Embeddings, r#"{"data":[]}"#.to_owned(), Reason::Empty, 502),
        (Api::Embeddings, r#"{"data":null}"#.to_owned(), Reason::Empty, 502),
        (Api::Responses, response("[]"), Reason::Empty, 502),
        (
            Api::Responses,
            response(r#"[{"type":"message","content":[{"type":"output_text","text":""}]}]"#),
            Reason::Empty,
            502,
        ),
        (Api::Messages, message("[]"), Reason::Empty, 502),
        (Api::GenerateContent, gemini("[]"), Reason::Empty, 502),
        (Api::GenerateContent, r#"{"candidates":[]}"#.to_owned(), Reason::Empty, 502),
        (Api::GenerateContent, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#.to_owned(), Reason::ContentFilter, 502),
        (Api::ChatCompletions, "<html>busy</html>".to_owned(), Reason::Decode, 502),
        (Api::ChatCompletions, r#"{"choices":[{"message":{"content":"a"#.to_owned(), Reason::Decode, 502),
        (Api::ChatCompletions, "[DONE]".to_owned(), Reason::Decode, 502),
    ];
    for (api, body, reason, status) in cases {
        let failure = look(api, &body).expect_err(&body);
        assert_eq!((failure.reason, failure.status), (reason, status), "{body}");
    }
}

#[test]
fn a_page_for_people_is_no_answer_even_if_it_looked_like_one() {
    let body = chat(r#"{"content":"hi"}"#, "stop");
    for kind in ["text/html", "Text/HTML; charset=utf-8"] {
        let found =
            inspect(Api::ChatCompletions, Some(kind.as_bytes()), body.as_bytes(), &Escalate::default(), AskedFor::Text);
        assert_eq!(found.map_err(|failure| failure.reason), Err(Reason::Decode));
    }
}

#[test]
fn an_answer_spent_on_hidden_thoughts_is_given() {
    assert!(look(Api::ChatCompletions, &chat(r#"{"content":""}"#, "length")).is_ok());
}

#[test]
fn cheap_checks_send_an_answer_on_to_the_next_target() {
    let escalate = Escalate {
        on_length: true,
        refusals: vec!["i'm sorry, but".to_owned(), "i cannot".to_owned()],
        json: Some(vec!["name".to_owned()]),
        schema: None,
    };
    let text = |text: &str| format!(r#"{{"content":{}}}"#, Value::String(text.to_owned()));
    let check = |api: Api, body: &str, asked_for| {
        inspect(api, None, body.as_bytes(), &escalate, asked_for).map(|_| ()).map_err(|failure| failure.reason)
    };
    let of_chat = |message: &str, asked_for| check(Api::ChatCompletions, &chat(message, "stop"), asked_for);
    assert_eq!(check(Api::ChatCompletions, &chat(&text("a"), "length"), AskedFor::Text), Err(Reason::Empty));
    assert_eq!(of_chat(&text("\n I'm sorry, but no."), AskedFor::Text), Err(Reason::Empty));
    assert_eq!(of_chat(r#"{"content":null,"refusal":"I cannot"}"#, AskedFor::Text), Err(Reason::Empty));
    assert_eq!(of_chat(&text("Yes. I cannot"), AskedFor::Text), Ok(()));
    assert_eq!(of_chat(&text("plain"), AskedFor::Json), Err(Reason::Decode));
    assert_eq!(of_chat(&text(r#"{"other":1}"#), AskedFor::Json), Err(Reason::Decode));
    assert_eq!(of_chat(&text(r#"{"name":null}"#), AskedFor::Json), Ok(()));
    assert_eq!(of_chat(r#"{"content":null,"tool_calls":[{"id":"t"}]}"#, AskedFor::Json), Ok(()));
    for (api, body) in [
        (Api::Messages, message(r#"[{"type":"text","text":"I cannot"}]"#)),
        (Api::GenerateContent, gemini(r#"[{"text":"thinking","thought":true},{"text":"I cannot"}]"#)),
        (Api::Responses, response(r#"[{"type":"reasoning"},{"type":"message","content":[{"refusal":"I cannot"}]}]"#)),
    ] {
        assert_eq!(check(api, &body, AskedFor::Text), Err(Reason::Empty), "{body}");
    }
}

#[test]
fn answer_that_does_not_fit_the_schema_is_sent_on_where_json_was_asked_for() {
    let schema = serde_json::json!({
        "type": "object",
        "required": ["city"],
        "properties": {"city": {"type": "string"}, "rooms": {"type": "integer", "minimum": 1}},
    });
    let escalate = Escalate { schema: Schema::new(schema).ok(), ..Escalate::default() };
    let check = |text: &str, asked_for| {
        let body = chat(&format!(r#"{{"content":{}}}"#, Value::String(text.to_owned())), "stop");
        let found = inspect(Api::ChatCompletions, None, body.as_bytes(), &escalate, asked_for);
        found.map(|_| ()).map_err(|failure| (failure.reason, failure.message))
    };
    let refused =
        |why: &str| Err((Reason::Decode, format!("the model's answer is not the JSON that was asked for{why}")));
    assert_eq!(check(r#"{"city":"Rome","rooms":2}"#, AskedFor::Json), Ok(()));
    assert_eq!(check("Rome", AskedFor::Json), refused(""));
    assert_eq!(check(r#"{"rooms":2}"#, AskedFor::Json), refused(": `required`"));
    assert_eq!(check(r#"{"city":"Rome","rooms":0}"#, AskedFor::Json), refused(": `minimum` of rooms"));
    assert_eq!(check("Rome", AskedFor::Text), Ok(()));
}
