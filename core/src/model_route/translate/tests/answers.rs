//! Answers that are not streamed.

use super::*;

fn answered(from: Api, to: Api, body: &Value) -> Result<Value, Untranslatable> {
    let asked = Asked { model: "virtual", id: "given", created: 1_700_000_000 };
    translated(answer(from, to, body.to_string().as_bytes(), asked))
}

pub(super) fn message() -> Value {
    json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
            {"type": "text", "text": "Let me "},
            {"type": "text", "text": "look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
            {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5,
                  "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 4}},
    })
}

pub(super) fn completion() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_009, "model": "gpt-x",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me look.", "refusal": null, "reasoning_content": "Hm",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}},
                {"id": "call:2", "type": "function", "function": {"name": "time", "arguments": ""}},
            ],
        }}],
        "usage": {"prompt_tokens": 18, "completion_tokens": 20, "total_tokens": 38,
                  "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
                  "completion_tokens_details": {"reasoning_tokens": 4}},
    })
}

#[test]
fn an_answer_of_anthropic_becomes_one_of_openai() {
    let expected = json!({
        "id": "msg_01", "object": "chat.completion", "created": 1_700_000_000, "model": "virtual",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me look.", "refusal": null, "reasoning_content": "Hm",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}},
                {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        }}],
        "usage": {"prompt_tokens": 18, "completion_tokens": 20, "total_tokens": 38,
                  "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
                  "completion_tokens_details": {"reasoning_tokens": 4}},
    });
    assert_eq!(answered(Api::Messages, Api::ChatCompletions, &message()), Ok(expected));
}

#[test]
fn an_answer_of_openai_becomes_one_of_anthropic_without_thoughts() {
    let expected = json!({
        "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "virtual",
        "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
            {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 13, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5,
                  "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 4}},
    });
    assert_eq!(answered(Api::ChatCompletions, Api::Messages, &completion()), Ok(expected));
}

pub(super) fn generated() -> Value {
    json!({
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "Hm", "thought": true},
            {"text": "Let me look."},
            {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"id": "own", "name": "time"}},
        ]}}],
        "usageMetadata": {"promptTokenCount": 18, "candidatesTokenCount": 16, "thoughtsTokenCount": 4,
                          "cachedContentTokenCount": 5, "totalTokenCount": 38},
        "modelVersion": "gemini-x", "responseId": "r1",
    })
}

#[test]
fn an_answer_of_gemini_becomes_one_of_openai() {
    let expected = json!({
        "id": "r1", "object": "chat.completion", "created": 1_700_000_000, "model": "virtual",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me look.", "refusal": null, "reasoning_content": "Hm",
            "tool_calls": [
                {"id": "call_r1_0", "type": "function",
                 "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"},
                 "extra_content": {"google": {"thought_signature": "c2ln"}}},
                {"id": "own", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        }}],
        "usage": {"prompt_tokens": 18, "completion_tokens": 20, "total_tokens": 38,
                  "prompt_tokens_details": {"cached_tokens": 5},
                  "completion_tokens_details": {"reasoning_tokens": 4}},
    });
    assert_eq!(answered(Api::GenerateContent, Api::ChatCompletions, &generated()), Ok(expected));
}

#[test]
fn an_answer_of_gemini_becomes_one_of_anthropic() {
    let translated = answered(Api::GenerateContent, Api::Messages, &generated()).expect("translates");
    let content = json!([
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call_r1_0", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "own", "name": "time", "input": {}},
    ]);
    assert_eq!((&translated["content"], &translated["stop_reason"]), (&content, &json!("tool_use")));
}

#[test]
fn reasons_to_end_have_their_counterparts() {
    let of = |api: Api, reason: &str| match api {
        Api::Messages => with(&message(), json!({"content": [], "stop_reason": reason})),
        Api::GenerateContent => json!({"candidates": [{"finishReason": reason}]}),
        Api::ChatCompletions | Api::Responses | Api::Completions | Api::Embeddings => json!({
            "choices": [{"finish_reason": reason, "message": {"content": "x"}}],
        }),
    };
    for (from, reason, finish_reason) in [
        (Api::Messages, "end_turn", "stop"),
        (Api::Messages, "stop_sequence", "stop"),
        (Api::Messages, "pause_turn", "stop"),
        (Api::Messages, "max_tokens", "length"),
        (Api::Messages, "model_context_window_exceeded", "length"),
        (Api::Messages, "tool_use", "tool_calls"),
        (Api::Messages, "refusal", "content_filter"),
        (Api::GenerateContent, "STOP", "stop"),
        (Api::GenerateContent, "OTHER", "stop"),
        (Api::GenerateContent, "MAX_TOKENS", "length"),
        (Api::GenerateContent, "SAFETY", "content_filter"),
        (Api::GenerateContent, "RECITATION", "content_filter"),
        (Api::GenerateContent, "PROHIBITED_CONTENT", "content_filter"),
    ] {
        let translated = answered(from, Api::ChatCompletions, &of(from, reason)).expect("translates");
        assert_eq!(translated["choices"][0]["finish_reason"], json!(finish_reason), "{reason}");
    }
    for (reason, stop_reason) in [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("new", "end_turn"),
    ] {
        let translated = answered(Api::ChatCompletions, Api::Messages, &of(Api::ChatCompletions, reason));
        assert_eq!(translated.expect("translates")["stop_reason"], json!(stop_reason), "{reason}");
    }
}

#[test]
fn a_target_that_says_stop_though_it_calls_tools_means_the_calls() {
    let mut body = completion();
    body["choices"][0]["finish_reason"] = json!("stop");
    let translated = answered(Api::ChatCompletions, Api::Messages, &body).expect("translates");
    assert_eq!(translated["stop_reason"], json!("tool_use"));
}

#[test]
fn a_refusal_in_words_is_text_and_a_reason_to_anthropic() {
    let body = json!({"choices": [{"finish_reason": "stop", "message": {"content": null, "refusal": "No."}}]});
    let translated = answered(Api::ChatCompletions, Api::Messages, &body).expect("translates");
    assert_eq!(translated["content"], json!([{"type": "text", "text": "No."}]));
    assert_eq!(translated["stop_reason"], json!("refusal"));
    assert_eq!(translated["id"], json!("given"));
    assert_eq!(translated["usage"]["output_tokens"], json!(0));
}

#[test]
fn a_blocked_prompt_of_gemini_is_a_content_filter() {
    let body = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
    let translated = answered(Api::GenerateContent, Api::ChatCompletions, &body).expect("translates");
    assert_eq!(translated["choices"][0]["finish_reason"], json!("content_filter"));
    assert_eq!(translated["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(translated["usage"]["prompt_tokens"], json!(3));
}

#[test]
fn input_of_a_call_that_is_no_object_fails_unless_it_was_cut_off() {
    let mut body = completion();
    body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = json!("{\"city\":");
    let refused = answered(Api::ChatCompletions, Api::Messages, &body).expect_err("is refused");
    assert_eq!(refused, Untranslatable::malformed("choices[0].message.tool_calls"));
    body["choices"][0]["finish_reason"] = json!("length");
    let translated = answered(Api::ChatCompletions, Api::Messages, &body).expect("translates");
    assert_eq!(translated["content"][1]["input"], json!({}));
}

#[test]
fn what_is_no_answer_is_refused_by_name() {
    let image =
        json!({"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}}]});
    let audio = json!({"choices": [{"message": {"content": "x", "audio": {"id": "a"}}}]});
    for (from, to, body, member) in [
        (Api::Messages, Api::ChatCompletions, json!({"type": "error"}), "content"),
        (Api::Messages, Api::ChatCompletions, json!({"content": [{}]}), "content[0].type"),
        (Api::GenerateContent, Api::ChatCompletions, json!({}), "candidates"),
        (Api::GenerateContent, Api::ChatCompletions, image, "candidates[0].content.parts[0].inlineData"),
        (Api::ChatCompletions, Api::Messages, json!({"choices": []}), "choices"),
        (Api::ChatCompletions, Api::Messages, json!({"choices": null}), "choices"),
        (Api::ChatCompletions, Api::Messages, json!({"choices": [{}]}), "choices[0].message"),
        (Api::ChatCompletions, Api::Messages, audio, "choices[0].message.audio"),
    ] {
        assert_eq!(answered(from, to, &body).expect_err("is refused").member, member, "{body}");
    }
}
