//! What is translated, what is dropped and what is refused, with shapes as the providers document them.

mod answers;
mod bytes;
mod requests;
mod resumed;
mod round;
mod streams;

use serde_json::{Value, json};

use super::*;

/// A request of OpenAI's, translated for this API.
fn chat_to(to: Api, body: &Value) -> Result<Value, Untranslatable> {
    translated(request(Api::ChatCompletions, to, body.to_string().as_bytes(), "target-model"))
}

/// A request of Anthropic's, translated for this API.
fn messages_to(to: Api, body: &Value) -> Result<Value, Untranslatable> {
    translated(request(Api::Messages, to, body.to_string().as_bytes(), "target-model"))
}

fn translated(body: Result<Vec<u8>, Untranslatable>) -> Result<Value, Untranslatable> {
    body.map(|body| serde_json::from_slice(&body).expect("translations are JSON"))
}

/// These members of `value` alone.
fn only(value: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), value[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// `base` with these members instead of, or besides, its own.
fn with(base: &Value, members: Value) -> Value {
    let mut value = base.clone();
    for (name, member) in members.as_object().expect("members").clone() {
        value[name] = member;
    }
    value
}

#[test]
fn apis_are_translated_toward_dialects_that_have_a_counterpart() {
    for (from, to, api) in [
        (Api::ChatCompletions, Dialect::Openai, Some(Api::ChatCompletions)),
        (Api::ChatCompletions, Dialect::Anthropic, Some(Api::Messages)),
        (Api::ChatCompletions, Dialect::Gemini, Some(Api::GenerateContent)),
        (Api::Messages, Dialect::Openai, Some(Api::ChatCompletions)),
        (Api::Messages, Dialect::Gemini, Some(Api::GenerateContent)),
        (Api::Responses, Dialect::Openai, Some(Api::Responses)),
        (Api::Responses, Dialect::Anthropic, None),
        (Api::Embeddings, Dialect::Gemini, None),
        (Api::Completions, Dialect::Anthropic, None),
        (Api::GenerateContent, Dialect::Openai, None),
        (Api::GenerateContent, Dialect::Gemini, Some(Api::GenerateContent)),
    ] {
        assert_eq!(toward(from, to), api, "{from:?} toward {to:?}");
    }
}

#[test]
fn pairs_without_translation_are_refused_whatever_the_body_is() {
    for from in Api::ALL {
        for to in Api::ALL {
            if from != to && toward(from, to.dialect()) == Some(to) {
                continue;
            }
            let refused = Untranslatable::unsupported("body");
            assert_eq!(request(from, to, b"{}", "m"), Err(refused.clone()), "{from:?} to {to:?}");
            assert_eq!(answer(to, from, b"{}", "m"), Err(refused.clone()), "{to:?} to {from:?}");
            let mut stream = Stream::new(to, from, "m", UsageChunk::Unwanted);
            let mut out = Vec::new();
            assert_eq!(stream.event(b"data: {}\n\n", &mut out), Err(refused), "{to:?} to {from:?}");
            stream.finish(&mut out);
            assert!(out.is_empty());
        }
    }
}
