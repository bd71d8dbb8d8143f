//! Streams that break after their first token: the application has an error it cannot miss, and never a text twice.

use mesh_tests::{
    length,
    models::{
        events::{Answer, Ended},
        sdk::{Age, Api, Sdk},
        stand_in::StandIn,
    },
};
use serde_json::{Value, json};

use crate::world::{CALLER, Served, Streaming, Virtual, World, gemini_path};

/// How a stream breaks after `tokens` tokens.
pub(crate) fn breaks(tokens: u64) -> Vec<Value> {
    let cut = |how: &str| json!({"tokens": 100, "cut": tokens, "how": how});
    vec![
        cut("close"),
        cut("reset"),
        cut("end"),
        cut("error"),
        json!({"tokens": 100, "stall": tokens}),
        json!({"tokens": 100, "bad": "half", "bad_after": tokens}),
        json!({"tokens": 100, "bad": "endless", "bad_after": tokens}),
    ]
}

/// What the same breaks are called.
const REASONS: [&str; 7] = ["reset", "reset", "reset", "server", "stall", "reset", "decode"];

/// A model of this provider with a target that would do well.
fn model(name: &str, provider: &str) -> Virtual {
    let target = |letter: &str| Served::outside(&format!("{name}-{letter}"), provider);
    Virtual::new(name, vec![target("a"), target("b")])
}

/// Each break has a model of its own for each API.
async fn world(apis: &[(Api, &str)], behaviours: &[Value]) -> World {
    let names = (0..apis.len() * behaviours.len()).map(|number| format!("m{number}"));
    let models = names.zip(apis.iter().flat_map(|(_, provider)| behaviours.iter().map(move |_| provider)));
    let world = World::start(models.map(|(name, provider)| model(&name, provider)).collect()).await;
    for (number, behaviour) in apis.iter().flat_map(|_| behaviours).enumerate() {
        world.stand_in.behave(&format!("m{number}-a"), behaviour.clone()).await;
    }
    world
}

const APIS: [(Api, &str); 4] =
    [(Api::Chat, "openai"), (Api::Responses, "openai"), (Api::Completions, "openai"), (Api::Messages, "anthropic")];

async fn raised_after(tokens: u64) {
    let behaviours = breaks(tokens);
    let world = world(&APIS, &behaviours).await;
    for age in [Age::Newest, Age::Earlier] {
        let cases: Vec<_> =
            APIS.iter().flat_map(|(api, _)| behaviours.iter().map(move |broken| (*api, broken))).collect();
        let asks = cases.iter().enumerate().map(|(number, (api, _))| {
            let ask = world.ask(*api, &format!("m{number}")).stream();
            if number % 2 == 0 { ask } else { ask.asynchronous() }
        });
        let answers = Sdk::of(age).many(asks, 16).await;
        let mut wrong = Vec::new();
        for ((number, (api, broken)), told) in cases.iter().enumerate().zip(&answers) {
            let is_first = age == Age::Newest;
            let by_other = told.header("x-mesh-model-target") == format!("m{number}-b");
            // Whoever broke may be cooling when it is asked for the second time: then the other serves all.
            let is_right = if is_first || !by_other {
                told.error.is_some() && told.gapless && told.words == tokens && told.status == Some(200)
            } else {
                told.error.is_none() && told.gapless && told.words == 20
            };
            if !is_right {
                wrong.push(format!("{age:?} {api:?} {broken}: {told:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

#[tokio::test]
async fn sdks_raise_an_error_when_a_stream_breaks_after_one_token() {
    raised_after(1).await;
}

#[tokio::test]
async fn sdks_raise_an_error_when_a_stream_breaks_after_fifty_tokens() {
    raised_after(50).await;
}

/// The last event is an error of this API, whole, and the connection ends without a last chunk.
fn assert_terminal(api: &str, broken: &Value, answer: &Answer) {
    let title = format!("{api} {broken}: {}", answer.text());
    assert_eq!(answer.ended, Ended::Cut, "{title}");
    assert_eq!(answer.unfinished(), "", "{title}");
    let events = answer.events();
    let last = events.last().unwrap_or_else(|| panic!("no event: {title}"));
    let data = last.json();
    let filled = |value: &Value| value["message"].as_str().is_some_and(|text| !text.is_empty());
    let is_right = match api {
        "chat" | "completions" => last.name.is_none() && filled(&data["error"]) && data["error"]["type"].is_string(),
        "responses" => {
            let numbers: Vec<u64> =
                events.iter().filter_map(|event| event.json()["sequence_number"].as_u64()).collect();
            let in_order = numbers.windows(2).all(|two| two[0] < two[1]);
            let named = last.name.as_deref() == Some("error") && data["type"] == "error";
            named && filled(&data) && filled(&data["error"]) && in_order
        }
        "messages" => {
            last.name.as_deref() == Some("error")
                && data["type"] == "error"
                && filled(&data["error"])
                && data["error"]["type"].is_string()
        }
        _ => filled(&data["error"]) && data["error"]["code"].is_number() && data["error"]["status"].is_string(),
    };
    assert!(is_right, "{title}");
}

#[tokio::test]
async fn broken_streams_end_with_one_error_event_and_without_a_last_chunk() {
    let apis = [
        ("chat", "openai", "/v1/chat/completions"),
        ("completions", "openai", "/v1/completions"),
        ("responses", "openai", "/v1/responses"),
        ("messages", "anthropic", "/v1/messages"),
        ("gemini", "gemini", ""),
    ];
    let behaviours = breaks(3);
    let models = apis.iter().flat_map(|(api, provider, _)| {
        (0..behaviours.len()).map(move |number| model(&format!("{api}{number}"), provider))
    });
    let world = World::start(models.collect()).await;
    let shared = &world;
    for (number, broken) in behaviours.iter().enumerate() {
        let calls = apis.iter().map(|(api, _, path)| async move {
            let world = shared;
            let name = format!("{api}{number}");
            world.stand_in.behave(&format!("{name}-a"), broken.clone()).await;
            let body = json!({
                "model": name, "stream": true, "max_tokens": 1000, "prompt": "one two three",
                "messages": [{"role": "user", "content": "one two three"}],
            });
            let answer = match *api {
                "gemini" => world.gemini(&name, Streaming::Yes).await,
                "responses" => {
                    world.post(path, &json!({"model": name, "stream": true, "input": "one two three"})).await
                }
                _ => world.post(path, &body).await,
            };
            assert_eq!(answer.status, 200, "{api} {broken}: {}", answer.text());
            assert_eq!(answer.generated(), "word0 word1 word2", "{api} {broken}");
            assert_terminal(api, broken, &answer);
        });
        futures_util::future::join_all(calls).await;
    }
    assert!(
        world.stand_in.seen().await.iter().all(|request| request.target.ends_with("-a")),
        "no other target is asked"
    );
    let metrics = world.mesh.pod(CALLER).metrics().await;
    for (number, (broken, reason)) in behaviours.iter().zip(REASONS).enumerate() {
        for (api, ..) in &apis {
            let from = format!("{api}{number}-a");
            let labels = [("from", from.as_str()), ("to", ""), ("reason", reason), ("committed", "true")];
            assert_eq!(metrics.sum("mesh_model_fallback_total", &labels), 1.0, "{api} {broken}: {reason}");
            let labels = [("target", from.as_str()), ("reason", reason)];
            assert_eq!(metrics.sum("mesh_model_attempts_total", &labels), 1.0, "{api} {broken}: {reason}");
        }
    }
}

#[tokio::test]
async fn an_event_that_is_no_json_is_passed_on_or_ends_the_stream_with_an_error() {
    let kinds = ["json", "binary"];
    let world = World::start(kinds.iter().map(|kind| model(kind, "openai")).collect()).await;
    for bad in kinds {
        world.stand_in.next(&format!("{bad}-a"), &[json!({"bad": bad, "bad_after": 3})]).await;
        let told = Sdk::newest().ask(world.ask(Api::Chat, bad).stream()).await;
        assert!(told.error.is_some(), "{bad}: never a clean end: {told:?}");
        assert!(told.gapless && told.words == 3, "{bad}: {told:?}");
    }
}

/// Streams that break anywhere, many at the same time: each ends with an error and a text without gap or repetition.
async fn broken_anywhere(streams: u64) {
    let models: u64 = 10;
    let provider = |model: u64| if model.is_multiple_of(2) { "openai" } else { "anthropic" };
    let world = World::start((0..models).map(|number| model(&format!("m{number}"), provider(number))).collect()).await;
    let how = ["close", "reset", "end", "error"];
    let asks = (0..streams).map(|number| {
        let (model, tokens) = (number % models, 1 + number % 37);
        let how = how[(number / models % 4) as usize];
        let api = if model.is_multiple_of(2) { Api::Chat } else { Api::Messages };
        let prompt = format!("one two <<* {{\"tokens\": 50, \"cut\": {tokens}, \"how\": \"{how}\"}}>>");
        world.ask(api, &format!("m{model}")).prompt(&prompt).stream().asynchronous()
    });
    let answers = Sdk::newest().many(asks, 24).await;
    for (number, told) in (0..streams).zip(&answers) {
        assert!(told.error.is_some() && told.finish.is_none(), "stream {number} ended cleanly: {told:?}");
        assert!(told.gapless && told.words == 1 + number % 37, "stream {number}: {told:?}");
    }
    let (_, output) = StandIn::sum(&world.stand_in.settled().await);
    let expected: u64 = (0..streams).map(|number| 1 + number % 37).sum();
    assert_eq!(output, expected, "nothing was asked twice");
    let counted: u64 = world.accounted().await.values().map(|(_, output)| output).sum();
    assert_eq!(counted, output, "tokens of broken streams");
}

#[tokio::test]
async fn no_broken_stream_ends_cleanly() {
    broken_anywhere(200).await;
}

#[tokio::test]
async fn no_broken_stream_of_two_thousand_ends_cleanly_full_length() {
    broken_anywhere(length::of(400, 2_000)).await;
}

#[tokio::test]
async fn gemini_paths_name_the_model_that_is_broken() {
    // The path of a stream names the virtual model, and the target sees its own.
    let target = Served::outside("m-a", "gemini").with("model", json!("gemini-pro"));
    let world = World::start(vec![Virtual::new("m", vec![target, Served::outside("m-b", "gemini")])]).await;
    let answer = world.gemini("m", Streaming::Yes).await;
    assert_eq!(answer.generated().split(' ').count(), 20, "{}", answer.text());
    assert_eq!(
        world.last_seen("m-a").await.path,
        gemini_path("gemini-pro", Streaming::Yes).split('?').next().unwrap_or_default()
    );
}
