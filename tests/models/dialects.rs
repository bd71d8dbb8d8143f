//! Applications of one dialect served by targets of another: whole and in streams, with tools, with usage, and when the
//! first target speaks another dialect than the one that takes over.

use mesh_tests::models::{
    sdk::{Age, Api, Sdk},
    stand_in::StandIn,
};
use serde_json::{Value, json};

use crate::world::{Served, Streaming, Virtual, World, gemini_path};

fn pair(model: &str, first: &str, second: &str) -> Virtual {
    let target = |letter: &str, provider: &str| {
        Served::outside(&format!("{model}-{letter}"), provider).with("model", json!(format!("{provider}-own")))
    };
    Virtual::new(model, vec![target("a", first), target("b", second)])
}

/// Application's API, provider of the target.
const ACROSS: [(Api, &str); 9] = [
    (Api::Chat, "openai"),
    (Api::Chat, "anthropic"),
    (Api::Chat, "gemini"),
    (Api::Chat, "dashscope"),
    (Api::Chat, "vllm"),
    (Api::Responses, "openai"),
    (Api::Completions, "vllm"),
    (Api::Messages, "anthropic"),
    (Api::Messages, "openai"),
];

async fn world() -> World {
    let providers = ["openai", "anthropic", "gemini", "dashscope", "vllm"];
    World::start(providers.iter().map(|provider| pair(provider, provider, provider)).collect()).await
}

#[tokio::test]
async fn every_application_is_answered_by_every_target_it_can_be_translated_for() {
    let world = world().await;
    for age in [Age::Newest, Age::Earlier] {
        for (api, provider) in ACROSS {
            for streaming in Streaming::BOTH {
                let told = Sdk::of(age).ask(streaming.of(world.ask(api, provider))).await;
                assert!(told.error.is_none(), "{api:?} by {provider} {streaming:?}: {told:?}");
                told.assert_whole(20);
                assert_eq!(told.header("x-mesh-model-target"), format!("{provider}-a"));
                let seen = world.last_seen(&format!("{provider}-a")).await;
                let asked = if provider == "gemini" { json!(seen.path) } else { seen.json()["model"].clone() };
                assert!(asked.as_str().is_some_and(|name| name.contains(&format!("{provider}-own"))), "{asked}");
            }
        }
    }
}

#[tokio::test]
async fn tools_are_called_across_dialects() {
    let world = world().await;
    world.stand_in.behave("*", json!({"calls": 2, "tokens": 5})).await;
    let arguments = json!({"words": "word0 word1 word2 word3 word4"});
    for (api, provider) in ACROSS.into_iter().filter(|(api, _)| *api != Api::Completions) {
        for streaming in Streaming::BOTH {
            let told = Sdk::newest().ask(streaming.of(world.ask(api, provider).tools())).await;
            assert!(told.error.is_none(), "{api:?} by {provider} {streaming:?}: {told:?}");
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
            let calls: Vec<_> = told.calls.iter().map(|call| (call.name.as_deref(), read(&call.arguments))).collect();
            let expected = (Some("lookup"), arguments.clone());
            assert_eq!(calls, [expected.clone(), expected], "{api:?} by {provider} {streaming:?}");
            let finish = match api {
                Api::Messages => "tool_use",
                Api::Responses => "completed",
                Api::Chat | Api::Completions | Api::Embeddings | Api::Models => "tool_calls",
            };
            assert_eq!(told.finish.as_deref(), Some(finish), "{api:?} by {provider} {streaming:?}");
        }
    }
}

#[tokio::test]
async fn answers_of_tools_reach_targets_of_other_dialects() {
    let world = world().await;
    let function = json!({"name": "lookup", "arguments": "{\"words\": \"word0\"}"});
    let chat = json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one two three"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "four five"},
    ]);
    let messages = json!([
        {"role": "user", "content": "one two three"},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"words": "word0"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "four five"}]},
    ]);
    for provider in ["openai", "anthropic", "gemini"] {
        for streaming in Streaming::BOTH {
            let ask = world.ask(Api::Chat, provider).messages(chat.clone()).tools();
            Sdk::newest().ask(streaming.of(ask)).await.assert_whole(20);
        }
    }
    for provider in ["anthropic", "openai"] {
        let ask = world.ask(Api::Messages, provider).messages(messages.clone()).tools();
        Sdk::newest().ask(ask).await.assert_whole(20);
    }
    let seen = world.last_seen("anthropic-a").await.json();
    assert!(seen["messages"].as_array().is_some_and(|messages| messages.len() == 3), "{seen}");
}

#[tokio::test]
async fn usage_is_told_in_the_dialect_of_the_application_and_equals_the_bill() {
    let world = world().await;
    for (api, provider) in ACROSS {
        for streaming in Streaming::BOTH {
            let ask = world.ask(api, provider).prompt("one two three four");
            let counted = matches!(api, Api::Chat | Api::Completions) && streaming == Streaming::Yes;
            let ask = if counted { ask.more(json!({"stream_options": {"include_usage": true}})) } else { ask };
            let told = Sdk::newest().ask(streaming.of(ask)).await;
            assert_eq!(told.usage(), Some((4, 20)), "{api:?} by {provider} {streaming:?}: {told:?}");
        }
    }
    let (input, output) = StandIn::sum(&world.stand_in.settled().await);
    assert_eq!((input, output), (4 * 18, 20 * 18));
    world.assert_accounted().await;
}

#[tokio::test]
async fn usage_that_was_not_asked_for_is_not_shown() {
    let world = world().await;
    for provider in ["openai", "dashscope", "vllm", "anthropic"] {
        let body = json!({"model": provider, "stream": true, "messages": [{"role": "user", "content": "one"}]});
        let answer = world.post("/v1/chat/completions", &body).await;
        let events = answer.events();
        let shown = events.iter().filter(|event| event.json()["usage"].is_object()).count();
        let empty = events.iter().filter(|event| event.json()["choices"] == json!([])).count();
        assert_eq!((shown, empty), (0, 0), "{provider}: {}", answer.text());
    }
    let asked = world.last_seen("openai-a").await.json();
    assert_eq!(asked["stream_options"]["include_usage"], true, "the mesh asks for it all the same");
}

#[tokio::test]
async fn a_target_that_refuses_to_be_asked_for_usage_is_not_asked_again() {
    let world = World::start(vec![pair("m", "openai-compatible", "openai")]).await;
    world.stand_in.behave("m-a", json!({"refuses": "stream_options"})).await;
    for _ in 0..3 {
        let told = Sdk::newest().ask(world.ask(Api::Chat, "m").stream()).await;
        told.assert_whole(20);
    }
    let seen = world.stand_in.seen_by("m-a").await;
    let asked: Vec<bool> = seen.iter().map(|request| request.json()["stream_options"].is_object()).collect();
    assert_eq!(asked.first(), Some(&true), "{asked:?}");
    assert!(asked[1..].iter().all(|asked| !asked), "{asked:?}");
}

#[tokio::test]
async fn fallback_crosses_providers() {
    let models = vec![
        pair("openai-anthropic", "openai", "anthropic"),
        pair("openai-gemini", "openai", "gemini"),
        pair("anthropic-openai", "anthropic", "openai"),
        pair("gemini-openai", "gemini", "openai"),
    ];
    let names = ["openai-anthropic", "openai-gemini", "anthropic-openai", "gemini-openai"];
    let world = World::start(models).await;
    for name in names {
        for (number, streaming) in Streaming::BOTH.into_iter().enumerate() {
            let fault =
                if number == 0 { json!({"instead": "error", "error": "overloaded"}) } else { json!({"cut": 0}) };
            world.stand_in.behave(&format!("{name}-a"), fault).await;
            let told = Sdk::newest().ask(streaming.of(world.ask(Api::Chat, name))).await;
            told.assert_whole(20);
            assert_eq!(told.header("x-mesh-model-target"), format!("{name}-b"));
        }
    }
    for name in ["openai-anthropic", "anthropic-openai"] {
        for streaming in Streaming::BOTH {
            let told = Sdk::newest().ask(streaming.of(world.ask(Api::Messages, name))).await;
            told.assert_whole(20);
        }
    }
}

#[tokio::test]
async fn errors_are_told_in_the_dialect_of_the_application() {
    let world = world().await;
    for (error, openai, anthropic) in [
        ("rate", "RateLimitError", "RateLimitError"),
        ("bad_request", "BadRequestError", "BadRequestError"),
        ("auth", "AuthenticationError", "AuthenticationError"),
    ] {
        world.stand_in.behave("*", json!({"error": error})).await;
        for (api, provider) in [(Api::Chat, "anthropic"), (Api::Messages, "openai")] {
            let told = Sdk::newest().ask(world.ask(api, provider)).await;
            let class = if api == Api::Messages { anthropic } else { openai };
            assert_eq!(told.raised().class, class, "{api:?} by {provider}: {told:?}");
        }
    }
}

#[tokio::test]
async fn streams_that_break_across_dialects_raise_an_error() {
    let across = [(Api::Chat, "anthropic"), (Api::Chat, "gemini"), (Api::Messages, "openai")];
    for how in ["close", "end", "error"] {
        let world = world().await;
        world.stand_in.behave("*", json!({"cut": 5, "how": how})).await;
        for (api, provider) in across {
            let told = Sdk::newest().ask(world.ask(api, provider).stream()).await;
            assert!(told.error.is_some(), "{api:?} by {provider} {how}: {told:?}");
            assert!(told.gapless && told.words == 5, "{api:?} by {provider} {how}: {told:?}");
        }
    }
}

#[tokio::test]
async fn embeddings_are_passed_on_and_fall_back() {
    let world = World::start(vec![pair("m", "openai", "vllm")]).await;
    for behaviour in
        [json!({}), json!({"status": 503}), json!({"instead": "html"}), json!({"instead": "empty_choices"})]
    {
        world.stand_in.next("m-a", &[behaviour]).await;
        let told = Sdk::newest().ask(world.ask(Api::Embeddings, "m")).await;
        assert!(told.error.is_none(), "{told:?}");
        assert_eq!(told.result[0].as_array().map(Vec::len), Some(8), "{told:?}");
    }
}

#[tokio::test]
async fn virtual_models_are_listed() {
    let world = world().await;
    let told = Sdk::newest().ask(world.ask(Api::Models, "-")).await;
    let mut names: Vec<&str> = told.result.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["anthropic", "dashscope", "gemini", "openai", "vllm"]);
    assert!(world.stand_in.seen().await.is_empty(), "no target is asked");
}

#[tokio::test]
async fn an_unknown_model_is_refused_in_the_dialect_of_the_application() {
    let world = world().await;
    let chat = Sdk::newest().ask(world.ask(Api::Chat, "nobody")).await;
    assert_eq!((chat.raised().class.as_str(), &chat.raised().code), ("NotFoundError", &json!("model_not_found")));
    let message = Sdk::newest().ask(world.ask(Api::Messages, "nobody")).await;
    assert_eq!(message.raised().class, "NotFoundError", "{message:?}");
    let gemini = world.gemini("nobody", Streaming::No).await;
    assert_eq!((gemini.status, &gemini.json()["error"]["status"]), (404, &json!("NOT_FOUND")), "{}", gemini.text());
}

#[tokio::test]
async fn reasoning_is_a_first_token() {
    let world = world().await;
    world.stand_in.behave("*", json!({"reasoning": 10, "tokens": 5, "delay_ms": 300})).await;
    for (api, provider) in [(Api::Chat, "dashscope"), (Api::Messages, "anthropic")] {
        let told = Sdk::newest().ask(world.ask(api, provider).stream()).await;
        told.assert_whole(5);
        assert_eq!(told.thoughts, 10, "{told:?}");
        assert!(told.first_token_ms.is_some_and(|first| first < 2_000.0), "thoughts are held: {told:?}");
    }
}

#[tokio::test]
async fn gemini_streams_that_are_no_events_are_refused_in_its_words() {
    let world = world().await;
    let path = gemini_path("gemini", Streaming::Yes).replace("?alt=sse", "");
    let answer = world.post(&path, &json!({"contents": [{"parts": [{"text": "one two three"}]}]})).await;
    assert_eq!((answer.status, &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    assert!(answer.text().contains("alt"), "{}", answer.text());
    assert!(world.stand_in.seen().await.is_empty());
}
