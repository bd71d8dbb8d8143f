//! No failure before the first token reaches the application while a target lives, and none that does is dressed up.

use std::time::Duration;

use mesh_tests::{
    length,
    models::{
        events::{self, Ended},
        sdk::{Api, Sdk},
        stand_in::StandIn,
    },
};
use serde_json::{Value, json};

use crate::world::{HOST, Served, Streaming, Virtual, World, gemini_path};

/// Two targets, `big` first, then `small`.
fn two(model: &str, provider: &str) -> Virtual {
    let name = |letter: &str| format!("{model}-{letter}");
    Virtual::new(model, vec![Served::outside(&name("a"), provider), Served::outside(&name("b"), provider)])
}

/// What can go wrong with a request before its first token, as a prompt says it to the target that gets it first.
const FAULTS: [&str; 14] = [
    "{}",
    r#"{"status": 429}"#,
    r#"{"status": 429, "headers": {"retry-after": "1"}}"#,
    r#"{"status": 500}"#,
    r#"{"status": 503}"#,
    r#"{"status": 529}"#,
    r#"{"cut": -1}"#,
    r#"{"cut": 0, "how": "reset"}"#,
    r#"{"cut": 0, "how": "end"}"#,
    r#"{"instead": "error", "error": "overloaded"}"#,
    r#"{"instead": "empty"}"#,
    r#"{"instead": "pings"}"#,
    r#"{"instead": "html"}"#,
    r#"{"instead": "null_choices"}"#,
];

/// Calls of every API, half of them streams, each of a model of its own kind, first targets failing as their prompts say.
async fn mixed(requests: usize) {
    let models = 12;
    let provider = |model: usize| if model % 3 == 2 { "anthropic" } else { "openai" };
    let virtuals = (0..models).map(|model| two(&format!("m{model}"), provider(model)));
    let world = World::start(virtuals.collect()).await;
    let asks = (0..requests).map(|number| {
        let model = number % models;
        let api = match model % 3 {
            0 => Api::Chat,
            1 => Api::Responses,
            _ => Api::Messages,
        };
        let fault = FAULTS[(number / models) % FAULTS.len()];
        let prompt = format!("one two three <<m{model}-a {fault}>>");
        let ask = world.ask(api, &format!("m{model}")).prompt(&prompt).asynchronous();
        if number % 2 == 0 { ask.stream() } else { ask }
    });
    let answers = Sdk::newest().many(asks, 32).await;
    let failed: Vec<_> =
        answers.iter().filter(|told| told.error.is_some() || told.words != 20 || !told.gapless).collect();
    assert!(failed.is_empty(), "{} of {requests} failed, the first: {:?}", failed.len(), failed[0]);
    let finished = world.stand_in.settled().await.into_iter().filter(|bill| bill.outcome == "finished").count();
    assert_eq!(finished, requests, "each request is answered once and billed once");
    world.assert_accounted().await;
}

#[tokio::test]
async fn no_request_of_a_mix_fails_while_a_target_lives() {
    mixed(500).await;
}

#[tokio::test]
async fn no_request_of_five_thousand_fails_while_a_target_lives_full_length() {
    mixed(length::of(1_000, 5_000)).await;
}

#[tokio::test]
async fn a_target_that_refuses_connections_and_one_that_swallows_them_are_passed_over() {
    let world = World::start(vec![two("refused", "openai"), two("swallowed", "openai")]).await;
    world.stand_in.refuse_connections("refused-a").await;
    world.stand_in.swallow_connections("swallowed-a").await;
    for (model, least, most) in [("refused", 0.0, 1_500.0), ("swallowed", 900.0, 4_000.0)] {
        let told = Sdk::newest().ask(world.ask(Api::Chat, model).stream()).await;
        told.assert_whole(20);
        assert_eq!(told.header("x-mesh-model-target"), format!("{model}-b"));
        assert!((least..most).contains(&told.elapsed_ms), "{model}: {} ms", told.elapsed_ms);
    }
}

#[tokio::test]
async fn a_target_that_was_dead_is_not_asked_again_at_once_and_serves_when_it_is_back() {
    let world = World::start(vec![two("m", "openai")]).await;
    world.stand_in.behave("m-a", json!({"status": 429, "headers": {"retry-after": "2"}})).await;
    let first = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
    assert_eq!(first.header("x-mesh-model-attempts"), "2");
    let second = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
    second.assert_whole(20);
    assert_eq!(second.header("x-mesh-model-attempts"), "1", "the first target cools");
    assert_eq!(world.stand_in.seen_by("m-a").await.len(), 1);
    world.stand_in.behave("m-a", json!({})).await;
    mesh_tests::wait::until("the first target serves again", Duration::from_secs(15), || async {
        let told = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
        told.assert_whole(20);
        (told.header("x-mesh-model-target") == "m-a").then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_form_of_retry_after_is_obeyed() {
    let forms = [
        ("seconds", "retry-after", "20"),
        ("date", "retry-after", "{date+20}"),
        ("milliseconds", "retry-after-ms", "20000"),
        ("requests", "x-ratelimit-reset-requests", "20s"),
        ("tokens", "x-ratelimit-reset-tokens", "0m20s"),
        ("anthropic", "anthropic-ratelimit-requests-reset", "{rfc3339+20}"),
    ];
    let world = World::start(forms.iter().map(|(name, ..)| two(name, "openai")).collect()).await;
    for (model, header, value) in forms {
        let target = format!("{model}-a");
        world.stand_in.next(&target, &[json!({"status": 429, "headers": {header: value}})]).await;
        Sdk::newest().ask(world.ask(Api::Chat, model)).await.assert_whole(20);
    }
    // Cooling without a word is five seconds: what is not asked after seven was told to wait.
    mesh_tests::wait::pace(Duration::from_secs(7)).await;
    for (model, ..) in forms {
        Sdk::newest().ask(world.ask(Api::Chat, model)).await.assert_whole(20);
        assert_eq!(world.stand_in.seen_by(&format!("{model}-a")).await.len(), 1, "{model}: asked before its time");
    }
}

#[tokio::test]
async fn when_nobody_is_left_sdks_are_told_whether_repeating_helps() {
    // What both targets say; whether an SDK may repeat.
    let cases = [("rate", true), ("overloaded", true), ("auth", false), ("quota", false), ("not_found", false)];
    let world = World::start(cases.iter().map(|(name, _)| two(&name.replace('_', "-"), "openai")).collect()).await;
    for (error, may_repeat) in cases {
        let model = error.replace('_', "-");
        for letter in ["a", "b"] {
            let behaviour = json!({"error": error, "headers": {"retry-after": "600"}});
            world.stand_in.behave(&format!("{model}-{letter}"), behaviour).await;
        }
        let told = Sdk::newest().ask(world.ask(Api::Chat, &model).stream()).await;
        assert!(told.error.is_some(), "{told:?}");
        if may_repeat {
            let seconds: f64 = told.header("retry-after").parse().unwrap_or_default();
            assert!((0.001..=120.0).contains(&seconds), "{error}: retry-after {:?}", told.header("retry-after"));
            assert_ne!(told.header("x-should-retry"), "false", "{error}");
        } else {
            assert_eq!(told.header("x-should-retry"), "false", "{error}");
        }
    }
}

#[tokio::test]
async fn repeating_by_the_sdk_does_not_multiply_attempts_where_it_cannot_help() {
    let world = World::start(vec![two("m", "openai")]).await;
    world.stand_in.behave("*", json!({"error": "quota"})).await;
    let told = Sdk::newest().ask(world.ask(Api::Chat, "m").max_retries(2)).await;
    assert_eq!(told.raised().status, Some(429), "{told:?}");
    assert_eq!(world.stand_in.seen().await.len(), 2, "one request of each target");
}

#[tokio::test]
async fn bad_requests_and_what_no_other_target_can_take_are_not_repeated() {
    let cases = ["bad_request", "context", "content_filter"];
    let world = World::start(cases.iter().map(|name| two(&name.replace('_', "-"), "openai")).collect()).await;
    for error in cases {
        let model = error.replace('_', "-");
        world.stand_in.behave(&format!("{model}-a"), json!({"error": error})).await;
        let told = Sdk::newest().ask(world.ask(Api::Chat, &model)).await;
        assert_eq!((told.raised().status, told.raised().class.as_str()), (Some(400), "BadRequestError"), "{told:?}");
        assert_eq!(told.header("x-mesh-model-attempts"), "1", "{error}");
        assert!(world.stand_in.seen_by(&format!("{model}-b")).await.is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_long_prompt_goes_whole_to_the_second_target() {
    let world = World::start(vec![two("m", "openai")]).await;
    world.stand_in.behave("m-a", json!({"status": 503})).await;
    let prompt = vec!["token"; 100_000].join(" ");
    for streaming in Streaming::BOTH {
        let told = Sdk::newest().ask(streaming.of(world.ask(Api::Chat, "m").prompt(&prompt))).await;
        told.assert_whole(20);
    }
    let (input, output) = StandIn::sum(&world.bills_of("m-b").await);
    assert_eq!((input, output), (200_000, 40));
    let [first, second, ..] = &world.stand_in.seen().await[..] else { panic!("two targets were asked") };
    assert_eq!((first.body_length, &first.body_sha256), (second.body_length, &second.body_sha256));
}

#[tokio::test]
async fn an_answer_slower_than_the_timer_of_the_first_token_is_left_for_another() {
    let world = World::start(vec![two("m", "openai")]).await;
    let behaviour = json!({"first_delay_ms": 20_000, "ping_ms": 100});
    world.stand_in.behave("m-a", behaviour).await;
    let told = Sdk::newest().ask(world.ask(Api::Chat, "m").stream()).await;
    told.assert_whole(20);
    assert!((1_900.0..6_000.0).contains(&told.elapsed_ms), "{} ms", told.elapsed_ms);
    let bills = world.bills_of("m-a").await;
    assert!(bills[0].cancelled && bills[0].output == 0, "the first one is cancelled: {bills:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_a_stream_may_take_longer_than_the_first_token_of_one() {
    let world = World::start(vec![two("m", "openai")]).await;
    world.stand_in.behave("m-a", json!({"first_delay_ms": 5_000})).await;
    let told = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
    told.assert_whole(20);
    assert_eq!(told.header("x-mesh-model-target"), "m-a");
}

#[tokio::test]
async fn a_written_timer_of_headers_counts_for_answers_that_are_no_streams_too() {
    let timers = json!({"connect": "1s", "headers": "2s", "firstToken": "2s", "total": "60s"});
    let world = World::start(vec![two("m", "openai").with("timers", timers)]).await;
    world.stand_in.behave("m-a", json!({"hang": "headers"})).await;
    let told = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
    told.assert_whole(20);
    assert_eq!(told.header("x-mesh-model-target"), "m-b");
}

#[tokio::test]
async fn the_head_of_a_last_target_is_held_until_its_first_event_too() {
    let world = World::start(vec![two("m", "openai"), two("n", "anthropic")]).await;
    world.stand_in.behave("*", json!({"instead": "error", "error": "rate"})).await;
    let chat = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "one"}]});
    let answer = world.post("/v1/chat/completions", &chat).await;
    assert_eq!((answer.status, answer.ended), (429, Ended::Properly), "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
    world.stand_in.behave("*", json!({"instead": "error", "error": "overloaded"})).await;
    let message =
        json!({"model": "n", "stream": true, "max_tokens": 9, "messages": [{"role": "user", "content": "one"}]});
    let answer = world.post("/v1/messages", &message).await;
    assert_eq!(answer.status, 529, "{}", answer.text());
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn exhausted_routes_say_503_where_they_are_told_to() {
    let world = World::start(vec![two("m", "openai").with("onExhausted", json!(503))]).await;
    world.stand_in.behave("*", json!({"status": 500})).await;
    let told = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
    assert_eq!(told.raised().status, Some(503), "{told:?}");
}

#[tokio::test]
async fn a_stale_connection_of_a_target_is_no_failure() {
    let world = World::start(vec![two("m", "openai")]).await;
    world.stand_in.behave("m-a", json!({"close": "untold"})).await;
    for _ in 0..20 {
        let told = Sdk::newest().ask(world.ask(Api::Chat, "m")).await;
        told.assert_whole(20);
    }
}

#[tokio::test]
async fn targets_in_the_mesh_and_outside_stand_in_one_list() {
    let targets = vec![Served::in_mesh("local", "vllm"), Served::outside("far", "openai")];
    let world = World::start(vec![Virtual::new("m", targets)]).await;
    for api in [Api::Chat, Api::Completions] {
        for streaming in Streaming::BOTH {
            let told = Sdk::newest().ask(streaming.of(world.ask(api, "m"))).await;
            told.assert_whole(20);
            assert_eq!(told.header("x-mesh-model-target"), "local", "{api:?} {streaming:?}");
        }
    }
    for fault in [json!({"status": 503}), json!({"cut": 0}), json!({"hang": "role", "ping_ms": 100})] {
        world.stand_in.next("local", std::slice::from_ref(&fault)).await;
        let told = Sdk::newest().ask(world.ask(Api::Chat, "m").stream()).await;
        told.assert_whole(20);
    }
    world.stand_in.refuse_connections("local").await;
    for _ in 0..5 {
        Sdk::newest().ask(world.ask(Api::Chat, "m").stream()).await.assert_whole(20);
    }
}

#[tokio::test]
async fn gemini_streams_fall_back_as_others_do() {
    let world = World::start(vec![two("m", "gemini")]).await;
    world.stand_in.behave("m-a", json!({"instead": "error", "error": "overloaded"})).await;
    let body: Value = json!({"contents": [{"parts": [{"text": "one two three"}]}]});
    let path = gemini_path("m", Streaming::Yes);
    let answer = events::post(world.outbound(), HOST, &path, &[], &body).await;
    assert_eq!((answer.status, answer.ended), (200, Ended::Properly), "{}", answer.text());
    assert_eq!(answer.generated().split(' ').count(), 20);
    assert_eq!(answer.header("x-mesh-model-target"), "m-b");
}

#[tokio::test]
async fn small_models_hand_over_what_they_cut_off_or_refuse() {
    let escalate = json!({"onLength": true, "refusals": ["I cannot"], "json": ["words"],
        "schema": {"type": "object", "properties": {"words": {"type": "string", "minLength": 1}}}});
    let json_wanted = json!({"response_format": {"type": "json_object"}});
    let cases = [
        ("length", json!({"finish": "length"}), json!({})),
        ("refusal", json!({"text": "I cannot help with this."}), json!({})),
        ("shape", json!({"text": "no JSON at all"}), json_wanted.clone()),
        ("schema", json!({"text": "{\"words\": 1}"}), json_wanted),
    ];
    let models = cases.iter().map(|(model, ..)| two(model, "openai").with("escalate", escalate.clone()));
    let world = World::start(models.collect()).await;
    for (model, behaviour, more) in cases {
        world.stand_in.behave(&format!("{model}-a"), behaviour).await;
        let told = Sdk::newest().ask(world.ask(Api::Chat, model).more(more)).await;
        let served = (told.error.is_none(), told.header("x-mesh-model-target"), told.header("x-mesh-model-attempts"));
        assert_eq!(served, (true, format!("{model}-b").as_str(), "2"), "{model}: {told:?}");
    }
}
