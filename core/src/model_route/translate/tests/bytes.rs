//! Whatever a peer sends.

use proptest::prelude::*;

use super::*;

/// Names and texts that readers look at, so that arbitrary trees come past their first checks.
const WORDS: [&str; 58] = [
    "model",
    "messages",
    "role",
    "user",
    "assistant",
    "system",
    "tool",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "data:image/png;base64,eA==",
    "https://a/b.png",
    "image",
    "source",
    "base64",
    "media_type",
    "data",
    "tool_calls",
    "id",
    "function",
    "name",
    "arguments",
    "{}",
    "{\"a\":1}",
    "tool_use",
    "tool_result",
    "tool_use_id",
    "tool_call_id",
    "input",
    "input_schema",
    "parameters",
    "tools",
    "tool_choice",
    "stop",
    "choices",
    "index",
    "delta",
    "message",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "input_tokens",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block",
    "message_delta",
    "message_stop",
    "text_delta",
    "input_json_delta",
    "partial_json",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "finishReason",
];

fn tree() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(&WORDS[..]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..8).prop_map(|members| {
                members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }),
        ]
    })
}

/// Gives these bytes to everything that translates.
fn all_take(bytes: &[u8]) {
    let mut event = b"data: ".to_vec();
    event.extend_from_slice(bytes);
    event.extend_from_slice(b"\n\n");
    for from in Api::ALL {
        for to in Api::ALL {
            for body in [request(from, to, bytes, "m"), answer(from, to, bytes, "m")].into_iter().flatten() {
                serde_json::from_slice::<serde::de::IgnoredAny>(&body).expect("translations are JSON");
            }
            let mut stream = Stream::new(from, to, "m", UsageChunk::Wanted);
            let mut out = Vec::new();
            for event in [bytes, &event, &event] {
                let _ = stream.event(event, &mut out);
            }
            stream.finish(&mut out);
            streams::parsed(&out);
        }
    }
}

/// Every document of the other tests, as a body or the data of an event.
fn documents() -> Vec<String> {
    let mut documents = vec![requests::chat_request(), requests::messages_conversation()];
    documents.extend([answers::message(), answers::completion(), answers::generated()]);
    documents.extend(streams::anthropic().into_iter().chain(streams::openai()).chain(streams::gemini()));
    documents.iter().map(Value::to_string).collect()
}

/// A document in which some places hold something else.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let other = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        Just(Vec::new()),
        proptest::sample::select(
            &[
                "null",
                "[]",
                "{}",
                "\"\"",
                "-1",
                "1e999",
                "\\ud800",
                "\n\n",
                "true",
                "18446744073709551616",
                "[[",
                "{\"a\":",
            ][..]
        )
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let damage = (any::<proptest::sample::Index>(), 0_usize..12, other);
    (proptest::sample::select(documents()), proptest::collection::vec(damage, 0..4)).prop_map(|(document, damages)| {
        let mut bytes = document.into_bytes();
        for (at, length, other) in damages {
            let at = at.index(bytes.len() + 1);
            let to = (at + length).min(bytes.len());
            bytes.splice(at..to, other);
        }
        bytes
    })
}

proptest! {
    #[test]
    fn damaged_documents_never_panic(bytes in damaged()) {
        all_take(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        all_take(&bytes);
    }

    #[test]
    fn arbitrary_trees_of_known_words_never_panic(value in tree()) {
        all_take(value.to_string().as_bytes());
    }
}

#[test]
fn deep_nesting_is_no_recursion() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    all_take(deep.as_bytes());
    let schema = format!(
        r#"{{"messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"a":{deep}}}}}}}]}}"#
    );
    let out = request(Api::ChatCompletions, Api::Messages, schema.as_bytes(), "m").expect("is carried over");
    assert!(out.len() > deep.len());
}

#[test]
fn a_stream_keeps_its_state_small() {
    assert!(size_of::<Stream>() <= 512, "{}", size_of::<Stream>());
    let long = "x".repeat(300);
    let event = format!("data: {{\"id\":\"{long}\",\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}]}}\n\n");
    let mut stream = Stream::new(Api::ChatCompletions, Api::Messages, "m", UsageChunk::Unwanted);
    assert_eq!(stream.event(event.as_bytes(), &mut Vec::new()), Err(Untranslatable::malformed("id")));
}
