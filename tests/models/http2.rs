//! Applications that speak HTTP/2: the same fallback, the same errors, and an end that is a reset where something is
//! missing. Targets outside of the mesh, and in it behind two sidecars.

use std::time::Duration;

use mesh_tests::models::{
    events::{Answer, Ended},
    multiplexed::{Answered, Multiplexed},
};
use serde_json::{Value, json};

use crate::world::{HOST, Served, Streaming, Virtual, World, gemini_path};

/// Longest from the application's going away until its target knows, milliseconds.
const NOTICED: f64 = 200.0;
/// APIs, and who serves them outside of the mesh.
const APIS: [(&str, &str); 4] =
    [("chat", "openai"), ("responses", "openai"), ("messages", "anthropic"), ("gemini", "gemini")];

fn path(api: &str, model: &str, streaming: Streaming) -> String {
    match api {
        "chat" => "/v1/chat/completions".to_owned(),
        "responses" => "/v1/responses".to_owned(),
        "messages" => "/v1/messages".to_owned(),
        _ => gemini_path(model, streaming),
    }
}

fn body(api: &str, model: &str, streaming: Streaming) -> Value {
    let stream = streaming == Streaming::Yes;
    let messages = json!([{"role": "user", "content": "one two three"}]);
    match api {
        "chat" => json!({"model": model, "stream": stream, "messages": messages}),
        "responses" => json!({"model": model, "stream": stream, "input": "one two three"}),
        "messages" => json!({"model": model, "stream": stream, "messages": messages, "max_tokens": 5_000}),
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]}),
    }
}

async fn ask(client: &Multiplexed, api: &str, model: &str, streaming: Streaming) -> Answered {
    client.post(HOST, &path(api, model, streaming), &body(api, model, streaming)).await
}

fn text(answer: &Answer, streaming: Streaming) -> String {
    match streaming {
        Streaming::Yes => answer.generated(),
        Streaming::No => answer.body_text(),
    }
}

fn words(count: usize) -> String {
    (0..count).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ")
}

/// Where the first target of a model is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Outside,
    InMesh,
}

/// So many models for each API, each with two targets of its own: a target that failed may rest.
async fn start(first: First, count: usize) -> (World, Vec<&'static str>) {
    let apis: Vec<(&str, &str)> = match first {
        First::Outside => APIS.to_vec(),
        First::InMesh => vec![("chat", "vllm")],
    };
    let model = |api: &str, provider: &str, number: usize| {
        let name = |letter: &str| format!("{api}-{number}-{letter}");
        match first {
            First::Outside => Virtual::new(
                &format!("{api}-{number}"),
                vec![Served::outside(&name("a"), provider), Served::outside(&name("b"), provider)],
            ),
            First::InMesh => Virtual::new(
                &format!("{api}-{number}"),
                vec![Served::in_mesh(&name("a"), provider), Served::outside(&name("b"), "openai")],
            ),
        }
    };
    let models = apis.iter().flat_map(|(api, provider)| (0..count).map(move |number| model(api, provider, number)));
    (World::start(models.collect()).await, apis.iter().map(|(api, _)| *api).collect())
}

/// Faults before the first token, with the status that is left when nobody else is.
fn faults(api: &str) -> Vec<(Value, u16)> {
    let overloaded = if api == "messages" { 529 } else { 503 };
    vec![
        (json!({"error": "server"}), 500),
        (json!({"error": "overloaded"}), overloaded),
        (json!({"cut": -1, "how": "reset"}), 502),
        (json!({"cut": 0, "how": "close"}), 502),
        (json!({"instead": "empty"}), 502),
        (json!({"instead": "html"}), 502),
    ]
}

async fn before_the_first_token(first: First) {
    let count = faults("chat").len();
    let (world, apis) = start(first, count).await;
    let client = Multiplexed::open(world.outbound()).await;
    for api in apis {
        for (number, (fault, status)) in faults(api).into_iter().enumerate() {
            let model = format!("{api}-{number}");
            world.stand_in.behave(&format!("{model}-a"), fault.clone()).await;
            for streaming in Streaming::BOTH {
                let answer = ask(&client, api, &model, streaming).await.answer;
                let title = format!("{api} {streaming:?} {fault}: {}", answer.text());
                assert_eq!((answer.status, answer.ended), (200, Ended::Properly), "{title}");
                assert_eq!(text(&answer, streaming), words(20), "{title}");
            }
            world.stand_in.behave(&format!("{model}-b"), fault.clone()).await;
            for streaming in Streaming::BOTH {
                let answer = ask(&client, api, &model, streaming).await.answer;
                let title = format!("{api} {streaming:?} {fault}: {}", answer.text());
                assert_eq!((answer.status, answer.ended), (status, Ended::Properly), "{title}");
                assert!(answer.json()["error"]["message"].is_string(), "{title}");
                assert_eq!(answer.header("x-mesh-model-attempts"), "2", "{title}");
            }
        }
    }
}

#[tokio::test]
async fn no_failure_before_the_first_token_is_seen_and_the_last_one_keeps_its_status() {
    before_the_first_token(First::Outside).await;
}

#[tokio::test]
async fn no_failure_of_a_target_in_the_mesh_is_seen_before_the_first_token() {
    before_the_first_token(First::InMesh).await;
}

async fn behind_the_first_token(first: First) {
    let broken = [
        json!({"tokens": 100, "cut": 3, "how": "close"}),
        json!({"tokens": 100, "cut": 3, "how": "reset"}),
        json!({"tokens": 100, "cut": 3, "how": "end"}),
        json!({"tokens": 100, "cut": 3, "how": "error"}),
        json!({"tokens": 100, "stall": 3}),
        json!({"tokens": 100, "bad": "half", "bad_after": 3}),
    ];
    let (world, apis) = start(first, broken.len()).await;
    let nothing = json!({});
    let client = Multiplexed::open(world.outbound()).await;
    for api in apis {
        for (number, fault) in broken.iter().enumerate() {
            let model = format!("{api}-{number}");
            world.stand_in.behave(&format!("{model}-a"), fault.clone()).await;
            // Another stream of the connection is not touched by the reset of this one.
            let (answered, other) =
                tokio::join!(ask(&client, api, &model, Streaming::Yes), client.post(HOST, "/v1/none", &nothing));
            let answer = &answered.answer;
            let title = format!("{api} {fault}: {}", answer.text());
            assert_eq!((answer.status, answer.ended), (200, Ended::Reset), "{title}");
            assert!(answered.reset.is_some(), "{title}");
            assert_eq!((answer.generated(), answer.unfinished()), (words(3), String::new()), "{title}");
            let last = answer.events().last().map(|event| event.json()).unwrap_or_default();
            assert!(last["error"]["message"].is_string(), "{title}");
            assert_eq!((other.answer.status, other.answer.ended), (404, Ended::Properly), "{title}");
            let asked = world.stand_in.seen_by(&format!("{model}-b")).await;
            assert!(asked.is_empty(), "{title}: nobody else is asked");
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_behind_its_first_token_ends_with_an_error_and_a_reset() {
    behind_the_first_token(First::Outside).await;
}

#[tokio::test]
async fn a_stream_of_a_target_in_the_mesh_that_breaks_ends_with_an_error_and_a_reset() {
    behind_the_first_token(First::InMesh).await;
}

/// Resets streams after some tokens, and before the first.
async fn cancelled(first: First) {
    let (world, apis) = start(first, 1).await;
    let client = Multiplexed::open(world.outbound()).await;
    for api in apis {
        let (model, target) = (format!("{api}-0"), format!("{api}-0-a"));
        let (path, body) = (path(api, &model, Streaming::Yes), body(api, &model, Streaming::Yes));
        world.stand_in.behave(&target, json!({"tokens": 3_000, "delay_ms": 20})).await;
        for tokens in [1, 5, 20] {
            let mut begun = client.begin(HOST, &path, &[], &body).await;
            begun.until(&format!("word{tokens}")).await;
            let left = world.stand_in.now_ms().await;
            begun.cancel();
            noticed(&world, &target, left).await;
        }
        world.stand_in.behave(&target, json!({"hang": "role", "ping_ms": 50})).await;
        // No head comes before the first token: the client gives up waiting for it.
        let asked = client.begin(HOST, &path, &[], &body);
        let gave_up = tokio::time::timeout(Duration::from_millis(300), asked).await;
        assert!(gave_up.is_err(), "{api}: nothing comes before the first token");
        noticed(&world, &target, world.stand_in.now_ms().await).await;
    }
}

/// The last request of a target was cancelled in time.
async fn noticed(world: &World, target: &str, left: f64) {
    let bills = world.bills_of(target).await;
    let bill = bills.last().expect("it was asked");
    let late = bill.gone_ms.unwrap_or_else(|| panic!("nobody noticed: {bill:?}")) - left;
    assert!(bill.cancelled && late < NOTICED, "noticed after {late} ms: {bill:?}");
}

#[tokio::test]
async fn targets_know_within_200_ms_that_a_stream_was_reset() {
    cancelled(First::Outside).await;
}

#[tokio::test]
async fn a_target_in_the_mesh_knows_through_both_sidecars_that_a_stream_was_reset() {
    cancelled(First::InMesh).await;
}

#[tokio::test]
async fn many_streams_of_one_connection_keep_their_texts_apart_and_break_alone() {
    let (world, _) = start(First::Outside, 2).await;
    let client = Multiplexed::open(world.outbound()).await;
    world.stand_in.behave("chat-0-a", json!({"tokens": 40, "delay_ms": 10})).await;
    world.stand_in.behave("chat-1-a", json!({"tokens": 40, "delay_ms": 10, "cut": 7})).await;
    // The broken ones at once, so that each is asked before any has failed.
    let asks =
        (0..24).map(|number| ask(&client, "chat", if number % 4 == 3 { "chat-1" } else { "chat-0" }, Streaming::Yes));
    let answers = futures_util::future::join_all(asks).await;
    for (number, Answered { answer, .. }) in answers.iter().enumerate() {
        let expected = if number % 4 == 3 { (Ended::Reset, words(7)) } else { (Ended::Properly, words(40)) };
        assert_eq!((answer.ended, answer.generated()), expected, "{number}: {}", answer.text());
    }
}
