//! There and back again: what a dialect said still means the same.

use proptest::prelude::*;

use super::*;

/// What a conversation means, apart from how messages are cut.
#[derive(Debug, PartialEq, Default)]
struct Meaning {
    system: String,
    said: Vec<(String, String)>,
    rest: Value,
}

fn meaning(request: &Value) -> Meaning {
    let mut meaning = Meaning::default();
    let mut say = |kind: &str, what: String| {
        // Neighbours of one role may be joined.
        match meaning.said.last_mut() {
            Some((last, before)) if last == kind && kind.ends_with("text") => before.push_str(&what),
            _ => meaning.said.push((kind.to_owned(), what)),
        }
    };
    let mut system = Vec::new();
    for message in request["messages"].as_array().expect("messages") {
        let role = message["role"].as_str().expect("role");
        let texts = match &message["content"] {
            Value::String(text) => vec![json!({"type": "text", "text": text})],
            Value::Array(parts) => parts.clone(),
            _ => Vec::new(),
        };
        for part in texts {
            match (role, part["text"].as_str()) {
                ("system" | "developer", Some(text)) => system.push(text.to_owned()),
                ("tool", Some(text)) => say(&format!("tool {}", message["tool_call_id"]), text.to_owned()),
                (_, Some("")) => {}
                (_, Some(text)) => say(&format!("{role} text"), text.to_owned()),
                (_, None) => say(&format!("{role} image"), part["image_url"]["url"].to_string()),
            }
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let input: Value =
                serde_json::from_str(call["function"]["arguments"].as_str().expect("text")).expect("JSON");
            say(&format!("call {}", call["id"]), format!("{} {input}", call["function"]["name"]));
        }
    }
    meaning.system = system.join("\n\n");
    meaning.rest = only(
        request,
        &["tools", "tool_choice", "parallel_tool_calls", "max_tokens", "temperature", "stop", "user", "stream"],
    );
    meaning
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z \"\\\\\n\u{e4}\u{1f600}]{1,12}"
}

fn input() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(
        "[a-z]{1,4}",
        prop_oneof![text().prop_map(Value::from), any::<i64>().prop_map(Value::from)],
        0..3,
    )
    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into())
}

fn user_message() -> impl Strategy<Value = Vec<Value>> {
    let image = prop_oneof![Just("data:image/png;base64,eA=="), Just("https://example.com/a.png")];
    let part = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        image.prop_map(|url| json!({"type": "image_url", "image_url": {"url": url}})),
    ];
    prop_oneof![
        text().prop_map(|text| vec![json!({"role": "user", "content": text})]),
        proptest::collection::vec(part, 1..4).prop_map(|parts| vec![json!({"role": "user", "content": parts})]),
    ]
}

/// An answer of the assistant; with the outcomes of its calls, if it has any.
fn assistant_messages() -> impl Strategy<Value = Vec<Value>> {
    (proptest::option::of(text()), proptest::collection::vec((input(), text()), 0..3), 0_u32..1000).prop_map(
        |(text, called, salt)| {
            let id = |nth: usize| format!("call_{salt}_{nth}");
            let calls: Vec<Value> = called.iter().enumerate().map(|(nth, (input, _))| {
                json!({"id": id(nth), "type": "function", "function": {"name": "f", "arguments": input.to_string()}})
            }).collect();
            let mut message = json!({"role": "assistant", "content": text});
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            let outcome = |(nth, (_, text)): (usize, &(Value, String))| {
                json!({"role": "tool", "tool_call_id": id(nth), "content": text})
            };
            std::iter::once(message).chain(called.iter().enumerate().map(outcome)).collect()
        },
    )
}

fn chat_request() -> impl Strategy<Value = Value> {
    let turns = proptest::collection::vec((user_message(), assistant_messages()), 1..4);
    let choice = prop_oneof![
        Just(json!("auto")),
        Just(json!("none")),
        Just(json!("required")),
        Just(json!({"type": "function", "function": {"name": "f"}})),
    ];
    (proptest::option::of(text()), turns, choice, any::<bool>(), 1_u32..9999, proptest::option::of("[!-~]{1,9}")).prop_map(
        |(system, turns, choice, stream, max_tokens, word)| {
            let mut messages: Vec<Value> = system.map(|text| json!({"role": "system", "content": text})).into_iter().collect();
            messages.extend(turns.into_iter().flat_map(|(user, assistant)| user.into_iter().chain(assistant)));
            let mut request = json!({"model": "m", "messages": messages, "tool_choice": choice, "max_tokens": max_tokens,
                "temperature": 0.25, "tools": [{"type": "function", "function": {"name": "f", "description": "d",
                    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}}]});
            if stream {
                request["stream"] = json!(true);
                request["parallel_tool_calls"] = if choice == "none" { Value::Null } else { json!(false) };
            }
            if let Some(word) = word {
                request["stop"] = json!([word]);
                request["user"] = json!(word);
            }
            request
        },
    )
}

/// A piece of an answer, as deltas of OpenAI's are.
fn delta() -> impl Strategy<Value = Vec<Value>> {
    let call = (input(), 1_usize..9).prop_map(|(input, cut)| {
        let input = input.to_string();
        let cut = (0..=cut.min(input.len())).rev().find(|at| input.is_char_boundary(*at)).unwrap_or(0);
        let (head, tail) = input.split_at(cut);
        vec![json!({"function": {"name": "f", "arguments": ""}}), json!(head), json!(tail)]
    });
    prop_oneof![text().prop_map(|text| vec![json!({"content": text})]), call]
}

/// A stream of OpenAI's, and what it says: its text, and its calls with their input.
fn chat_stream() -> impl Strategy<Value = (Vec<Value>, String, Vec<(String, String)>)> {
    proptest::collection::vec(delta(), 0..6).prop_map(|deltas| {
        let (mut events, mut text, mut calls) = (Vec::new(), String::new(), Vec::<(String, String)>::new());
        for mut delta in deltas {
            if let [said] = delta.as_slice() {
                text.push_str(said["content"].as_str().expect("text"));
                events.push(said.clone());
                continue;
            }
            let (index, id) = (calls.len(), format!("call_{}", calls.len()));
            delta[0]["index"] = json!(index);
            delta[0]["id"] = json!(id);
            events.push(json!({"tool_calls": [delta[0]]}));
            let mut input = String::new();
            for more in &delta[1..] {
                input.push_str(more.as_str().expect("text"));
                events.push(json!({"tool_calls": [{"index": index, "function": {"arguments": more}}]}));
            }
            calls.push((id, input));
        }
        let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
        let chunk = |delta: Value, reason: Value| {
            json!({"id": "chatcmpl-1", "created": 5, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        };
        let mut chunks: Vec<Value> = events.into_iter().map(|delta| chunk(delta, Value::Null)).collect();
        chunks.push(chunk(json!({}), json!(finish)));
        (chunks, text, calls)
    })
}

proptest! {
    #[test]
    fn a_request_of_openai_means_the_same_after_it_was_one_of_anthropic(request in chat_request()) {
        let there = chat_to(Api::Messages, &request).expect("translates");
        let back = messages_to(Api::ChatCompletions, &there).expect("translates back");
        prop_assert_eq!(meaning(&request), meaning(&back), "by way of {}", there);
    }

    #[test]
    fn a_request_of_openai_and_its_way_through_anthropic_are_the_same_to_gemini(request in chat_request()) {
        prop_assume!(request.get("parallel_tool_calls").is_none());
        let direct = chat_to(Api::GenerateContent, &request).expect("translates");
        let there = chat_to(Api::Messages, &request).expect("translates");
        let through = messages_to(Api::GenerateContent, &there).expect("translates on");
        prop_assert_eq!(direct["generationConfig"].clone(), through["generationConfig"].clone());
        prop_assert_eq!(direct["tools"].clone(), through["tools"].clone());
        prop_assert_eq!(direct["toolConfig"].clone(), through["toolConfig"].clone());
    }

    #[test]
    fn a_stream_of_openai_says_the_same_after_it_was_one_of_anthropic((chunks, text, calls) in chat_stream()) {
        let mut there = Stream::new(Api::ChatCompletions, Api::Messages, "m", UsageChunk::Unwanted);
        let mut back = Stream::new(Api::Messages, Api::ChatCompletions, "m", UsageChunk::Unwanted);
        let (mut middle, mut out) = (Vec::new(), Vec::new());
        for chunk in &chunks {
            there.event(format!("data: {chunk}\n\n").as_bytes(), &mut middle).expect("translates");
        }
        there.finish(&mut middle);
        for event in std::str::from_utf8(&middle).expect("text").split_inclusive("\n\n") {
            back.event(event.as_bytes(), &mut out).expect("translates back");
        }
        back.finish(&mut out);

        let (mut said, mut called) = (String::new(), Vec::<(String, String)>::new());
        let events = streams::parsed(&out);
        for (_, data) in &events {
            let delta = &data["choices"][0]["delta"];
            said.push_str(delta["content"].as_str().unwrap_or_default());
            let call = &delta["tool_calls"][0];
            if let Some(id) = call["id"].as_str() {
                called.push((id.to_owned(), String::new()));
            }
            if let (Some(input), Some(last)) = (call["function"]["arguments"].as_str(), called.last_mut()) {
                last.1.push_str(input);
            }
        }
        prop_assert_eq!((said, called), (text, calls));
        let reason = |data: &Value| data["choices"][0]["finish_reason"].clone();
        prop_assert_eq!(reason(&events[events.len() - 2].1), reason(&chunks[chunks.len() - 1]));
        prop_assert_eq!(events.last().map(|(_, data)| data.clone()), Some(json!("[DONE]")));
    }
}
