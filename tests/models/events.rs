//! Events cut anywhere by the network, and usage in every form, are counted as if they had come whole; bytes that a target
//! of the application's own dialect sent arrive untouched.

use mesh_tests::models::{
    events::{self, Answer, Ended},
    sdk::{Api, Sdk},
    stand_in::StandIn,
};
use serde_json::{Value, json};

use crate::world::{HOST, Served, Streaming, Virtual, World, gemini_path};

fn models() -> Vec<Virtual> {
    let two = |provider: &str| {
        let target = |letter: &str| Served::outside(&format!("{provider}-{letter}"), provider);
        Virtual::new(provider, vec![target("a"), target("b")])
    };
    ["openai", "anthropic", "gemini", "dashscope", "vllm"].map(two).to_vec()
}

/// A stream of each API and provider.
const STREAMS: [(&str, &str); 7] = [
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/responses"),
    ("openai", "/v1/completions"),
    ("anthropic", "/v1/messages"),
    ("gemini", ""),
    ("dashscope", "/v1/chat/completions"),
    ("vllm", "/v1/chat/completions"),
];

fn body(provider: &str, path: &str, further: &Value) -> Value {
    let mut body = match path {
        "/v1/responses" => json!({"input": "one two three"}),
        "/v1/completions" => json!({"prompt": "one two three", "max_tokens": 100}),
        "" => json!({"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]}),
        _ => json!({"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 100}),
    };
    if !path.is_empty() {
        body["model"] = json!(provider);
        body["stream"] = json!(true);
    }
    if path.ends_with("completions") {
        for (name, value) in further.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
    }
    body
}

async fn streamed(world: &World, provider: &str, path: &str, further: &Value) -> Answer {
    let gemini = gemini_path(provider, Streaming::Yes);
    let at = if path.is_empty() { &gemini } else { path };
    events::post(world.outbound(), HOST, at, &[], &body(provider, path, further)).await
}

/// Behaviours whose bytes differ and whose counts do not.
fn shapes() -> Vec<Value> {
    vec![
        json!({}),
        json!({"reasoning": 4}),
        json!({"usage": "every"}),
        json!({"usage": "last"}),
        json!({"usage": "separate"}),
        json!({"usage_pad": 2_000}),
        json!({"input": 3_000_000_000_u64}),
        json!({"comments": true}),
        json!({"line_end": "\r\n"}),
        json!({"text": "say \"usage\": {\"prompt_tokens\": 99999} and \\ and \u{1F600} and \u{00e9}"}),
    ]
}

#[tokio::test]
async fn a_stream_of_single_bytes_is_the_same_stream() {
    let world = World::start(models()).await;
    let counted = json!({"stream_options": {"include_usage": true}});
    for shape in shapes() {
        for (provider, path) in STREAMS {
            let mut texts = Vec::new();
            for split in [json!(null), json!(1), json!(3), json!(1_000)] {
                let mut behaviour = shape.clone();
                behaviour["split"] = split.clone();
                behaviour["tokens"] = json!(6);
                world.stand_in.behave("*", behaviour).await;
                let answer = streamed(&world, provider, path, &counted).await;
                let title = format!("{shape} {provider}{path} in pieces of {split}");
                assert_eq!((answer.status, answer.ended), (200, Ended::Properly), "{title}: {}", answer.text());
                texts.push(answer.generated());
            }
            assert!(
                texts.iter().all(|text| *text == texts[0] && !text.is_empty()),
                "{shape} {provider}{path}: {texts:?}"
            );
        }
    }
    assert!(world.stand_in.settled().await.iter().all(|bill| bill.outcome == "finished"));
    world.assert_accounted().await;
}

#[tokio::test]
async fn events_of_the_applications_own_dialect_arrive_untouched() {
    let world = World::start(models()).await;
    for (provider, path) in STREAMS {
        let target = world.stand_in.target(&format!("{provider}-a")).clone();
        let through = streamed(&world, provider, path, &json!({"stream_options": {"include_usage": true}})).await;
        let seen = world.last_seen(&target.name).await;
        let headers: Vec<(&str, &str)> = seen
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| ["authorization", "x-api-key", "anthropic-version", "x-goog-api-key"].contains(name))
            .collect();
        let at = if path.is_empty() { format!("{}?alt=sse", seen.path) } else { seen.path.clone() };
        let direct = events::post(target.address, "direct", &at, &headers, &seen.json()).await;
        assert_eq!(without_numbers(&through.text()), without_numbers(&direct.text()), "{provider}{path}");
    }
}

/// The text without what differs from answer to answer: ids and the time.
fn without_numbers(text: &str) -> String {
    let mut kept = String::new();
    for word in text.split('"') {
        let is_id = ["chatcmpl-", "cmpl-", "resp_", "msg_", "r0000"].iter().any(|prefix| word.starts_with(prefix));
        let is_time = word.starts_with(':') && word.len() > 10 && word[1..].starts_with(|c: char| c.is_ascii_digit());
        kept.push_str(if is_id || is_time { "#" } else { word });
        kept.push('"');
    }
    kept
}

#[tokio::test]
async fn pauses_within_an_event_do_not_break_it() {
    let world = World::start(models()).await;
    world.stand_in.behave("*", json!({"split_at": [1, 10, 100, 201, 350, 351, 352, 700], "delay_ms": 30})).await;
    for api in [Api::Chat, Api::Responses, Api::Completions] {
        Sdk::newest().ask(world.ask(api, "openai").stream()).await.assert_whole(20);
    }
    Sdk::newest().ask(world.ask(Api::Messages, "anthropic").stream()).await.assert_whole(20);
}

#[tokio::test]
async fn events_arrive_when_they_are_sent() {
    let world = World::start(models()).await;
    world.stand_in.behave("*", json!({"tokens": 30, "delay_ms": 100})).await;
    for (api, model) in [(Api::Chat, "openai"), (Api::Messages, "anthropic")] {
        let told = Sdk::newest().ask(world.ask(api, model).stream()).await;
        told.assert_whole(30);
        assert!(told.first_token_ms.is_some_and(|first| first < 1_000.0), "the first is held: {told:?}");
        assert!(told.elapsed_ms > 2_800.0, "{told:?}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole_when_its_final_event_came() {
    let world = World::start(models()).await;
    world.stand_in.behave("*", json!({"framing": "close"})).await;
    for (api, model) in [(Api::Chat, "openai"), (Api::Responses, "openai"), (Api::Messages, "anthropic")] {
        for streaming in Streaming::BOTH {
            Sdk::newest().ask(streaming.of(world.ask(api, model))).await.assert_whole(20);
        }
    }
}

#[tokio::test]
async fn many_streams_at_once_keep_their_texts_apart() {
    let world = World::start(models()).await;
    world.stand_in.behave("*", json!({"tokens": 60, "delay_ms": 20, "split": 40})).await;
    let asks = (0..40).map(|number| {
        let (api, model) = if number % 2 == 0 { (Api::Chat, "openai") } else { (Api::Messages, "anthropic") };
        world.ask(api, model).stream().asynchronous()
    });
    for told in Sdk::newest().many(asks, 40).await {
        told.assert_whole(60);
    }
    let (input, output) = StandIn::sum(&world.stand_in.settled().await);
    assert_eq!((input, output), (120, 2_400));
    world.assert_accounted().await;
}
