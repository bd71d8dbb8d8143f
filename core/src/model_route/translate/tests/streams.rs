//! Streams.

use super::*;
use crate::{model::model_route::Usage, model_route::stream::Reader};

/// What a client gets of these events: event names (empty where there is none) and data.
fn streamed(from: Api, to: Api, usage: UsageChunk, events: &[Value]) -> Result<Vec<(String, Value)>, Untranslatable> {
    raw(from, to, usage, events).map(|out| parsed(&out))
}

fn raw(from: Api, to: Api, usage: UsageChunk, events: &[Value]) -> Result<Vec<u8>, Untranslatable> {
    let asked = Asked { model: "virtual", id: "given", created: 1_700_000_000 };
    let mut stream = Stream::new(from, to, asked, usage);
    let mut out = Vec::new();
    for event in events {
        let name = event["type"].as_str().filter(|_| from == Api::Messages);
        let name = name.map(|name| format!("event: {name}\r\n")).unwrap_or_default();
        stream.event(format!("{name}data: {event}\r\n\r\n").as_bytes(), &mut out)?;
    }
    stream.finish(&mut out);
    Ok(out)
}

pub(super) fn parsed(out: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(out).expect("text");
    assert!(text.is_empty() || text.ends_with("\n\n"), "whole events only");
    let mut events = Vec::new();
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        let line = |prefix: &str| event.lines().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
        let data = match line("data: ") {
            None => Value::Null,
            Some(data) if data == "[DONE]" => json!("[DONE]"),
            Some(data) => serde_json::from_str(&data).expect("JSON"),
        };
        events.push((line("event: ").unwrap_or_default(), data));
    }
    events
}

pub(super) fn anthropic() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "msg_01", "type": "message", "role": "assistant",
            "model": "claude-x", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3,
                      "output_tokens": 1}}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let me"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " look."}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"city\":"}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": " \"Rome\"}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "content_block_start", "index": 3,
            "content_block": {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}}}),
        json!({"type": "content_block_stop", "index": 3}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ]
}

fn chunk(delta: Value, finish_reason: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_009, "model": "gpt-x",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
}

fn part(call: Value) -> Value {
    chunk(json!({"tool_calls": [call]}), Value::Null)
}

pub(super) fn openai() -> Vec<Value> {
    vec![
        // Azure's first chunk.
        json!({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []}),
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"reasoning_content": "Hm"}), Value::Null),
        chunk(json!({"content": "Let me"}), Value::Null),
        chunk(json!({"content": " look."}), Value::Null),
        part(json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}})),
        part(json!({"index": 0, "function": {"arguments": "{\"city\":"}})),
        part(json!({"index": 0, "id": "", "function": {"name": null, "arguments": " \"Rome\"}"}})),
        part(json!({"index": 1, "id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}})),
        chunk(json!({}), json!("tool_calls")),
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_009, "model": "gpt-x",
            "choices": [], "usage": {"prompt_tokens": 18, "completion_tokens": 20, "total_tokens": 38,
                                     "prompt_tokens_details": {"cached_tokens": 5}}}),
    ]
}

pub(super) fn gemini() -> Vec<Value> {
    let candidate = |parts: Value| {
        json!({"candidates": [{"content": {"role": "model", "parts": parts}}],
        "usageMetadata": {"promptTokenCount": 18}, "modelVersion": "gemini-x", "responseId": "r1"})
    };
    let mut last = candidate(json!([
        {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "time", "args": {}}},
    ]));
    last["candidates"][0]["finishReason"] = json!("STOP");
    last["usageMetadata"] = json!({"promptTokenCount": 18, "cachedContentTokenCount": 5, "candidatesTokenCount": 16,
        "thoughtsTokenCount": 4});
    vec![
        candidate(json!([{"text": "Hm", "thought": true}])),
        candidate(json!([{"text": "Let me"}])),
        candidate(json!([{"text": " look."}])),
        last,
    ]
}

/// Delta and reason of every chunk.
fn deltas(events: &[(String, Value)]) -> Vec<(Value, Value)> {
    let chunks = events.iter().filter(|(_, data)| data["choices"][0].is_object());
    chunks.map(|(_, data)| (data["choices"][0]["delta"].clone(), data["choices"][0]["finish_reason"].clone())).collect()
}

#[test]
fn a_stream_of_anthropic_becomes_one_of_openai() {
    let events = streamed(Api::Messages, Api::ChatCompletions, UsageChunk::Wanted, &anthropic()).expect("translates");
    let call = |call: Value| (json!({"tool_calls": [call]}), Value::Null);
    let expected = vec![
        (json!({"role": "assistant", "content": ""}), Value::Null),
        (json!({"reasoning_content": "Hm"}), Value::Null),
        (json!({"content": "Let me"}), Value::Null),
        (json!({"content": " look."}), Value::Null),
        call(
            json!({"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}}),
        ),
        call(json!({"index": 0, "function": {"arguments": "{\"city\":"}})),
        call(json!({"index": 0, "function": {"arguments": " \"Rome\"}"}})),
        call(json!({"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": ""}})),
        call(json!({"index": 1, "function": {"arguments": "{}"}})),
        (json!({}), json!("tool_calls")),
    ];
    assert_eq!(deltas(&events), expected);
    for (name, data) in events.iter().filter(|(_, data)| data.is_object()) {
        assert_eq!(name, "");
        assert_eq!(
            only(data, &["id", "object", "created", "model"]),
            json!({"id": "msg_01", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "virtual"})
        );
        assert!(data.get("usage").is_some());
    }
    let [.., (_, usage), (_, done)] = events.as_slice() else { panic!("too few events") };
    assert_eq!(done, &json!("[DONE]"));
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(
        usage["usage"],
        json!({"prompt_tokens": 18, "completion_tokens": 20, "total_tokens": 38,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3}})
    );
}

#[test]
fn a_stream_of_openai_becomes_one_of_anthropic() {
    let events = streamed(Api::ChatCompletions, Api::Messages, UsageChunk::Unwanted, &openai()).expect("translates");
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let expected = vec![
        json!({"type": "message_start", "message": {"id": "chatcmpl-1", "type": "message", "role": "assistant",
            "model": "virtual", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                      "output_tokens": 0}}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        delta(0, json!({"type": "text_delta", "text": "Let me"})),
        delta(0, json!({"type": "text_delta", "text": " look."})),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}}),
        delta(1, json!({"type": "input_json_delta", "partial_json": "{\"city\":"})),
        delta(1, json!({"type": "input_json_delta", "partial_json": " \"Rome\"}"})),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2,
            "content_block": {"type": "tool_use", "id": "call_2", "name": "time", "input": {}}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"input_tokens": 13, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5,
                      "output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|data| (data["type"].as_str().unwrap_or_default().to_owned(), data)).collect();
    assert_eq!(events, expected);
}

#[test]
fn a_stream_of_gemini_becomes_one_of_openai() {
    let events =
        streamed(Api::GenerateContent, Api::ChatCompletions, UsageChunk::Unwanted, &gemini()).expect("translates");
    let call = |call: Value| (json!({"tool_calls": [call]}), Value::Null);
    let expected = vec![
        (json!({"role": "assistant", "content": ""}), Value::Null),
        (json!({"reasoning_content": "Hm"}), Value::Null),
        (json!({"content": "Let me"}), Value::Null),
        (json!({"content": " look."}), Value::Null),
        call(
            json!({"index": 0, "id": "call_r1_0", "type": "function", "function": {"name": "weather", "arguments": ""},
            "extra_content": {"google": {"thought_signature": "c2ln"}}}),
        ),
        call(json!({"index": 0, "function": {"arguments": "{\"city\":\"Rome\"}"}})),
        call(json!({"index": 1, "id": "call_r1_1", "type": "function", "function": {"name": "time", "arguments": ""}})),
        call(json!({"index": 1, "function": {"arguments": "{}"}})),
        (json!({}), json!("tool_calls")),
    ];
    assert_eq!(deltas(&events), expected);
    assert_eq!(events.last().map(|(_, data)| data), Some(&json!("[DONE]")));
    assert!(events.iter().all(|(_, data)| data.get("usage").is_none()));
}

#[test]
fn a_stream_of_gemini_becomes_one_of_anthropic() {
    let events = streamed(Api::GenerateContent, Api::Messages, UsageChunk::Unwanted, &gemini()).expect("translates");
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    let mut expected = vec!["message_start", "ping", block[0], block[1]];
    expected.extend([block[1], block[2]].into_iter().chain(block).chain(block));
    expected.extend(["message_delta", "message_stop"]);
    assert_eq!(names, expected);
    let usage = json!({"input_tokens": 13, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5,
        "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 4}});
    assert_eq!(events[events.len() - 2].1["usage"], usage);
}

#[test]
fn a_stream_without_its_final_event_is_not_ended() {
    for (from, to, events) in [
        (Api::Messages, Api::ChatCompletions, anthropic()),
        (Api::ChatCompletions, Api::Messages, openai()),
        (Api::GenerateContent, Api::ChatCompletions, gemini()),
    ] {
        let last = match from {
            // Usage comes behind the chunk that ends the answer.
            Api::ChatCompletions => events.len() - 2,
            Api::Messages | Api::GenerateContent | Api::Responses | Api::Completions | Api::Embeddings => {
                events.len() - 1
            }
        };
        let out = streamed(from, to, UsageChunk::Wanted, &events[..last]).expect("translates");
        let ends = |(name, data): &(String, Value)| {
            name == "message_stop" || data == "[DONE]" || data["choices"][0]["finish_reason"].is_string()
        };
        assert!(!out.iter().any(ends), "{from:?} to {to:?}");
    }
}

#[test]
fn what_the_client_gets_is_whole_and_counted_to_the_reader_of_its_own_dialect() {
    for (from, to, events) in [
        (Api::Messages, Api::ChatCompletions, anthropic()),
        (Api::ChatCompletions, Api::Messages, openai()),
        (Api::GenerateContent, Api::ChatCompletions, gemini()),
        (Api::GenerateContent, Api::Messages, gemini()),
    ] {
        let out = raw(from, to, UsageChunk::Wanted, &events).expect("translates");
        let mut reader = Reader::new(to, 1);
        reader.feed(&out, &mut |event| assert_eq!(event.says.failed, None));
        assert!(reader.is_finished(), "{from:?} to {to:?}");
        assert_eq!(reader.usage(), Some(Usage { input: 18, output: 20, cached: 5 }), "{from:?} to {to:?}");
    }
}

#[test]
fn the_end_is_written_once() {
    let mut stream = Stream::new(Api::Messages, Api::ChatCompletions, "m", UsageChunk::Unwanted);
    let mut out = Vec::new();
    stream.event(b"data: {\"type\":\"message_stop\"}\n\n", &mut out).expect("translates");
    stream.finish(&mut out);
    let length = out.len();
    stream.finish(&mut out);
    assert_eq!(out.len(), length);
    assert!(out.ends_with(b"data: [DONE]\n\n"));
}

#[test]
fn unknown_events_errors_and_done_are_skipped_and_comments_kept_alive() {
    for (from, to, event, expected) in [
        (Api::Messages, Api::ChatCompletions, "event: new\ndata: {\"type\":\"new\"}\n\n", ""),
        (Api::Messages, Api::ChatCompletions, "data: {\"type\":\"error\",\"error\":{\"type\":\"x\"}}\n\n", ""),
        (Api::Messages, Api::ChatCompletions, "event: ping\rdata: {\"type\":\"ping\"}\r\r", ": ping\n\n"),
        (Api::Messages, Api::ChatCompletions, ": keep-alive\n\n", ": ping\n\n"),
        (Api::Messages, Api::ChatCompletions, "\r\n", ""),
        (Api::Messages, Api::ChatCompletions, "retry: 5\nid: 7\n\n", ""),
        (Api::Messages, Api::ChatCompletions, "\u{feff}data: {\"type\":\"ping\"}\n\n", ": ping\n\n"),
        (Api::ChatCompletions, Api::Messages, "data: [DONE]\n\n", ""),
        (Api::ChatCompletions, Api::Messages, "data: {\"error\":{\"message\":\"x\"}}\n\n", ""),
        (Api::ChatCompletions, Api::Messages, "data: {\"choices\":[]}\n\n", ""),
        (Api::ChatCompletions, Api::Messages, ": x\n\n", "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
        (Api::GenerateContent, Api::ChatCompletions, "data:{\"error\":{\"code\":503}}\n\n", ""),
    ] {
        let mut out = Vec::new();
        let mut stream = Stream::new(from, to, "m", UsageChunk::Unwanted);
        assert_eq!(stream.event(event.as_bytes(), &mut out), Ok(()), "{event}");
        assert_eq!(String::from_utf8_lossy(&out), expected, "{event}");
    }
}

#[test]
fn data_over_several_lines_is_one_event() {
    let event = "data: {\"type\": \"content_block_delta\", \"index\": 0,\ndata: \"delta\": {\"type\": \"text_delta\",\
                 \ndata:  \"text\": \"a\\nb\"}}\n\n";
    let mut stream = Stream::new(Api::Messages, Api::ChatCompletions, "m", UsageChunk::Unwanted);
    let mut out = Vec::new();
    stream.event(event.as_bytes(), &mut out).expect("translates");
    // What has not begun begins by itself.
    let expected =
        [(json!({"role": "assistant", "content": ""}), Value::Null), (json!({"content": "a\nb"}), Value::Null)];
    assert_eq!(deltas(&parsed(&out)), expected);
}

/// Ids and names of calls, with all of their input, as a client puts them together.
fn calls(events: &[(String, Value)]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    for (_, data) in events {
        let block = &data["content_block"];
        if block["type"] == "tool_use" {
            calls.push((text(&block["id"]), text(&block["name"]), String::new()));
        }
        if data["delta"]["type"] == "input_json_delta" {
            calls.last_mut().expect("a call").2.push_str(&text(&data["delta"]["partial_json"]));
        }
    }
    calls
}

#[test]
fn calls_are_told_apart_whatever_a_server_numbers_them_by() {
    let start = |index: Value, id: Value, input: &str| {
        part(json!({"index": index, "id": id, "function": {"name": "f", "arguments": input}}))
    };
    let more = |index: Value, id: Value, input: &str| {
        part(json!({"index": index, "id": id, "function": {"arguments": input}}))
    };
    let (one, two) = (("a", "f", "{\"x\":1}"), ("b", "f", "{}"));
    for (what, events) in [
        (
            "numbered",
            vec![
                start(json!(0), json!("a"), "{\"x\""),
                more(json!(0), Value::Null, ":1}"),
                start(json!(1), json!("b"), "{}"),
            ],
        ),
        ("from one", vec![start(json!(1), json!("a"), "{\"x\":1}"), start(json!(2), json!("b"), "{}")]),
        ("all zero", vec![start(json!(0), json!("a"), "{\"x\":1}"), start(json!(0), json!("b"), "{}")]),
        ("without number", vec![start(Value::Null, json!("a"), "{\"x\":1}"), start(Value::Null, json!("b"), "{}")]),
        (
            "id repeated",
            vec![
                start(json!(0), json!("a"), "{\"x\""),
                more(json!(0), json!("a"), ":1}"),
                start(json!(1), json!("b"), "{}"),
            ],
        ),
    ] {
        let out = streamed(Api::ChatCompletions, Api::Messages, UsageChunk::Unwanted, &events).expect(what);
        let expected = [one, two].map(|(id, name, input)| (id.to_owned(), name.to_owned(), input.to_owned()));
        assert_eq!(calls(&out), expected, "{what}");
    }
}

#[test]
fn calls_that_cannot_be_told_are_errors() {
    let f = |index: u64, id: &str| part(json!({"index": index, "id": id, "function": {"name": "f", "arguments": ""}}));
    let back = vec![f(0, "a"), f(1, "b"), part(json!({"index": 0, "function": {"arguments": "{}"}}))];
    let nameless = vec![part(json!({"index": 0, "id": "a", "function": {"arguments": "{}"}}))];
    let many: Vec<Value> = (0..129).map(|index| f(index, &format!("c{index}"))).collect();
    for (events, member) in [
        (back, "choices[0].delta.tool_calls[0].index"),
        (nameless, "choices[0].delta.tool_calls[0].function.name"),
        (many, "tool_calls"),
    ] {
        let refused = streamed(Api::ChatCompletions, Api::Messages, UsageChunk::Unwanted, &events);
        assert_eq!(refused.expect_err("is refused").member, member);
    }
    let block = |index: u64| {
        json!({"type": "content_block_start", "index": index,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}})
    };
    let late = json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": "{}"}});
    let refused = streamed(Api::Messages, Api::ChatCompletions, UsageChunk::Unwanted, &[block(0), block(1), late]);
    assert_eq!(refused.expect_err("is refused").member, "index");
}

#[test]
fn what_a_provider_does_with_its_own_tools_is_not_told() {
    let events = [
        json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "{\"query\":1}"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "Found"}}),
    ];
    let out = streamed(Api::Messages, Api::ChatCompletions, UsageChunk::Unwanted, &events).expect("translates");
    assert_eq!(deltas(&out).last(), Some(&(json!({"content": "Found"}), Value::Null)));
    assert_eq!(out.len(), 2);
}

#[test]
fn a_refusal_in_words_ends_a_stream_of_anthropic_as_one() {
    let events = [chunk(json!({"refusal": "No."}), Value::Null), chunk(json!({}), json!("stop"))];
    let out = streamed(Api::ChatCompletions, Api::Messages, UsageChunk::Unwanted, &events).expect("translates");
    assert_eq!(out[2].1["delta"], json!({"type": "text_delta", "text": "No."}));
    assert_eq!(out[4].1["delta"]["stop_reason"], json!("refusal"));
}
