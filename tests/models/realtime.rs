//! The realtime API: a WebSocket through the sidecar, with the mesh's key, to whoever takes it.

use std::time::Duration;

use mesh_tests::{
    client::{self, Version},
    models::web_socket::{Refused, WebSocket},
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

use crate::world::{CALLER, HOST, Served, Virtual, World};

/// What the application shows of its own.
const SHOWN: &str = "sk-of-the-application";
/// Longest from the application's going away until its target knows, milliseconds.
const NOTICED: f64 = 200.0;

fn two(model: &str) -> Virtual {
    let target = |letter: &str| Served::outside(&format!("{model}-{letter}"), "openai");
    Virtual::new(model, vec![target("a"), target("b")])
}

async fn open(world: &World, model: &str) -> Result<WebSocket, Refused> {
    let shown = format!("Bearer {SHOWN}");
    let fields = [
        ("authorization", shown.as_str()),
        ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-of-the-application"),
        ("openai-beta", "realtime=v1"),
    ];
    WebSocket::open(world.outbound(), HOST, &format!("/v1/realtime?model={model}"), &fields).await
}

/// The first message of a session.
async fn greeted(socket: &mut WebSocket) -> Value {
    serde_json::from_str(&socket.hear().await.expect("a session begins")).expect("JSON")
}

#[tokio::test]
async fn messages_pass_both_ways_with_the_mesh_s_key_and_without_the_application_s() {
    let renamed = Served::outside("m-a", "openai").with("model", json!("gpt-realtime"));
    let world = World::start(vec![Virtual::new("m", vec![renamed, Served::outside("m-b", "openai")])]).await;
    let mut socket = open(&world, "m").await.expect("a WebSocket");
    assert!(socket.head.contains("x-mesh-model-target: m-a"), "{}", socket.head);
    assert!(socket.head.contains("sec-websocket-protocol: realtime\r\n"), "{}", socket.head);
    assert_eq!(greeted(&mut socket).await["session"]["model"], "gpt-realtime");
    let long = "x".repeat(300_000);
    for text in ["one", "", "{\"type\": \"response.create\"}", &long] {
        socket.say(text).await;
        assert_eq!(socket.hear().await.as_deref(), Some(text));
    }
    let seen = world.last_seen("m-a").await;
    assert_eq!(seen.path, "/v1/realtime");
    assert_eq!(seen.header("authorization"), "Bearer key-of-m-a");
    assert_eq!((seen.header("openai-beta"), seen.header("sec-websocket-protocol")), ("realtime=v1", "realtime"));
    assert!(!format!("{seen:?}").contains(SHOWN), "{seen:?}");
    socket.close().await;
    assert_eq!(socket.hear().await, None, "closed in order");
    assert_eq!(world.bills_of("m-a").await[0].outcome, "finished");
}

#[tokio::test]
async fn another_target_is_asked_before_the_upgrade_is_answered() {
    let faults = [
        ("refused", Value::Null, "connect"),
        ("rate", json!({"error": "rate"}), "rate"),
        ("auth", json!({"error": "auth"}), "auth"),
        ("server", json!({"status": 500}), "server"),
        ("overloaded", json!({"status": 503}), "overloaded"),
        ("not-found", json!({"error": "not_found"}), "not_found"),
        ("silent", json!({"hang": "headers"}), "timeout_headers"),
    ];
    let timers = json!({"connect": "1s", "headers": "1s", "firstToken": "2s", "idle": "30s", "total": "60s"});
    let models = faults.iter().map(|(name, ..)| two(name).with("timers", timers.clone()));
    let world = World::start(models.collect()).await;
    for (model, fault, reason) in &faults {
        for letter in ["a", "b"] {
            let target = format!("{model}-{letter}");
            match fault {
                Value::Null => world.stand_in.refuse_connections(&target).await,
                fault => world.stand_in.behave(&target, fault.clone()).await,
            }
            let answered = open(&world, model).await;
            if letter == "a" {
                let mut socket = answered.unwrap_or_else(|refused| panic!("{model}: {refused:?}"));
                assert!(socket.head.contains(&format!("x-mesh-model-target: {model}-b")), "{}", socket.head);
                assert!(socket.head.contains("x-mesh-model-attempts: 2"), "{}", socket.head);
                greeted(&mut socket).await;
                socket.say("over the second").await;
                assert_eq!(socket.hear().await.as_deref(), Some("over the second"), "{model}");
            } else {
                let refused = answered.expect_err("nobody is left");
                assert!(refused.text.contains("x-mesh-error: model_"), "{model}: {refused:?}");
                assert!(refused.text.contains("\"error\""), "{model}: in the API's words: {refused:?}");
                assert!(refused.status >= 400, "{model}: {refused:?}");
            }
        }
        let metrics = world.mesh.pod(CALLER).metrics().await;
        let (from, to) = (format!("{model}-a"), format!("{model}-b"));
        let labels = [("from", from.as_str()), ("to", &to), ("reason", reason), ("committed", "false")];
        assert!(metrics.sum("mesh_model_fallback_total", &labels) >= 1.0, "{model}: {reason} is counted");
        let served = [("target", to.as_str()), ("reason", "success"), ("gen_ai_operation_name", "realtime")];
        assert_eq!(metrics.sum("mesh_model_attempts_total", &served), 1.0, "{model}");
    }
}

#[tokio::test]
async fn a_session_in_which_nothing_is_said_ends_with_the_idle_timer_and_one_in_which_something_is_does_not() {
    let timers = json!({"connect": "1s", "firstToken": "2s", "idle": "2s", "total": "60s"});
    let world = World::start(vec![two("m").with("timers", timers)]).await;
    let mut socket = open(&world, "m").await.expect("a WebSocket");
    greeted(&mut socket).await;
    let begun = world.stand_in.now_ms().await;
    for number in 0..4 {
        mesh_tests::wait::pace(Duration::from_millis(1_000)).await;
        let text = format!("still here {number}");
        socket.say(&text).await;
        assert_eq!(socket.hear().await, Some(text), "a session of 4 s with an idle timer of 2 s");
    }
    assert_eq!(socket.hear_within(Duration::from_secs(6)).await, None, "nothing was said for 2 s");
    let bills = world.bills_of("m-a").await;
    let gone = bills[0].gone_ms.expect("the target knows");
    assert!((5_500.0..9_000.0).contains(&(gone - begun)), "gone after {} ms", gone - begun);
}

#[tokio::test]
async fn a_target_knows_within_200_ms_that_the_application_has_gone_and_the_application_that_the_target_has() {
    let local = Virtual::new("local", vec![Served::in_mesh("local-a", "vllm"), Served::outside("local-b", "openai")]);
    let world = World::start(vec![two("m"), local]).await;
    for model in ["m", "local"] {
        let target = format!("{model}-a");
        let mut socket = open(&world, model).await.unwrap_or_else(|refused| panic!("{model}: {refused:?}"));
        assert!(socket.head.contains(&format!("x-mesh-model-target: {target}")), "{}", socket.head);
        greeted(&mut socket).await;
        let left = world.stand_in.now_ms().await;
        drop(socket);
        let bills = world.bills_of(&target).await;
        let late = bills[0].gone_ms.expect("the target knows") - left;
        assert!(late < NOTICED, "{model}: noticed after {late} ms");
        world.stand_in.next(&target, &[json!({"cut": 1})]).await;
        let mut socket = open(&world, model).await.expect("a WebSocket");
        greeted(&mut socket).await;
        socket.say("the last").await;
        assert_eq!(socket.hear().await.as_deref(), Some("the last"), "{model}");
        assert_eq!(socket.hear_within(Duration::from_secs(2)).await, None, "{model}: the target has gone");
    }
}

#[tokio::test]
async fn what_is_no_web_socket_is_refused_in_the_words_of_the_api() {
    let claude =
        Virtual::new("claude", ["a", "b"].map(|letter| Served::outside(&format!("c-{letter}"), "anthropic")).to_vec());
    let world = World::start(vec![two("m"), claude]).await;
    let plain =
        client::get(world.outbound(), Version::Http1, HOST, "/v1/realtime?model=m", &[]).await.expect("an answer");
    assert_eq!((plain.status, plain.header("x-mesh-error")), (426, "model_bad_request"), "{}", plain.text());
    let unknown = open(&world, "other").await.expect_err("no such model");
    assert!(unknown.status == 404 && unknown.text.contains("no model other"), "{unknown:?}");
    let unable = open(&world, "claude").await.expect_err("no target of this API");
    assert!(unable.status == 503 && unable.text.contains("\"error\""), "{unable:?}");
    assert!(world.stand_in.seen().await.is_empty(), "nobody is asked");
}

#[tokio::test]
async fn sessions_are_not_left_open_when_many_applications_went_away() {
    let world = World::start(vec![two("m")]).await;
    let mut sockets = Vec::new();
    for _ in 0..30 {
        sockets.push(open(&world, "m").await.expect("a WebSocket"));
    }
    drop(sockets);
    until("every session has ended", PATIENCE, || async {
        let bills = world.stand_in.bills().await;
        (bills.len() == 30 && bills.iter().all(|bill| bill.outcome == "gone")).then_some(())
    })
    .await;
}
