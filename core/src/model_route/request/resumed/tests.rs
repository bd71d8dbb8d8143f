//! Requests behind what was written.

use serde_json::{Value, json};

use super::*;
use crate::model_route::request::{Generate, read};

fn of(api: Api, body: &Value) -> Result<Resumable, NotResumed> {
    let text = body.to_string();
    let asked = read(&Generate { api, in_path: None }, text.as_bytes()).unwrap();
    Resumable::of(&asked, text.as_bytes())
}

fn plain() -> Value {
    json!({"model": "m", "stream": true, "max_tokens": 100, "messages": [{"role": "user", "content": "one [}] \"two\""}]})
}

fn with(name: &str, value: Value) -> Value {
    let mut body = plain();
    body[name] = value;
    body
}

#[test]
fn text_is_the_last_message_and_what_was_written_is_taken_off_the_limit() {
    for api in [Api::ChatCompletions, Api::Messages] {
        let body = " {\"max_tokens\" : 100, \"messages\":[ {\"role\":\"user\",\"content\":\"a]\"} ] ,\"model\":\"m\",\"stream\":true, \"x\":1.0}";
        let asked = read(&Generate { api, in_path: None }, body.as_bytes()).unwrap();
        let resumable = Resumable::of(&asked, body.as_bytes()).unwrap();
        let resumed = String::from_utf8(resumable.body(body.as_bytes(), "say \"hi\"\n", 30)).unwrap();
        let expected = body
            .replace("100", "70")
            .replace("} ] ,", "} ,{\"role\":\"assistant\",\"content\":\"say \\\"hi\\\"\\n\"}] ,");
        assert_eq!(resumed, expected);
        let again = read(&Generate { api, in_path: None }, resumed.as_bytes()).unwrap();
        assert_eq!((again.max_output, again.model.as_str()), (Some(70), "m"));
        let used_up: Value = serde_json::from_slice(&resumable.body(body.as_bytes(), "x", 1_000)).unwrap();
        assert_eq!(used_up["max_tokens"], 1);
    }
}

#[test]
fn both_limits_of_a_chat_are_shortened_and_none_is_added() {
    let both = with("max_completion_tokens", json!(50)).to_string();
    let asked = read(&Generate { api: Api::ChatCompletions, in_path: None }, both.as_bytes()).unwrap();
    let resumed = Resumable::of(&asked, both.as_bytes()).unwrap().body(both.as_bytes(), "x", 20);
    let resumed: Value = serde_json::from_slice(&resumed).unwrap();
    assert_eq!((&resumed["max_tokens"], &resumed["max_completion_tokens"]), (&json!(80), &json!(30)));
    let none = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "a"}]}).to_string();
    let asked = read(&Generate { api: Api::ChatCompletions, in_path: None }, none.as_bytes()).unwrap();
    let resumed = Resumable::of(&asked, none.as_bytes()).unwrap().body(none.as_bytes(), "x", 20);
    assert!(!String::from_utf8(resumed).unwrap().contains("max_"));
}

#[test]
fn requests_for_more_than_text_are_not_gone_on_with() {
    let chat = Api::ChatCompletions;
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    let cases = [
        (chat, plain(), Ok(())),
        (Api::Messages, plain(), Ok(())),
        (chat, with("stream", json!(false)), Err(NotResumed::Api)),
        (chat, with("tools", tool), Err(NotResumed::Tools)),
        (chat, with("response_format", json!({"type": "json_object"})), Err(NotResumed::Json)),
        (chat, with("response_format", json!({"type": "text"})), Ok(())),
        (chat, with("n", json!(2)), Err(NotResumed::Choices)),
        (chat, with("logprobs", json!(true)), Err(NotResumed::Kind)),
        (chat, with("logprobs", json!(false)), Ok(())),
        (chat, with("reasoning_effort", json!("high")), Err(NotResumed::Kind)),
        (chat, with("reasoning_effort", json!("none")), Ok(())),
        (chat, with("modalities", json!(["text", "audio"])), Err(NotResumed::Kind)),
        (chat, with("modalities", json!(["text"])), Ok(())),
        (Api::Messages, with("thinking", json!({"type": "enabled", "budget_tokens": 9})), Err(NotResumed::Kind)),
        (Api::Messages, with("thinking", json!({"type": "disabled"})), Ok(())),
        (chat, with("messages", json!([{"role": "assistant", "content": "On"}])), Err(NotResumed::Begun)),
        (chat, with("messages", json!([])), Err(NotResumed::Request)),
        (chat, with("messages", json!("a")), Err(NotResumed::Request)),
    ];
    for (api, body, expected) in cases {
        assert_eq!(of(api, &body).map(|_| ()), expected, "{body}");
    }
    for api in [Api::Responses, Api::Completions] {
        assert_eq!(of(api, &plain()).map(|_| ()), Err(NotResumed::Api));
    }
}
