//! The sidecar holds the keys: targets see them, nobody else does, and what the application shows stays with the sidecar.

use mesh_tests::{
    models::sdk::{Api, Sdk},
    pod::PodSpec,
    wait::{PATIENCE, until},
};
use serde_json::json;

use crate::world::{CALLER, Served, Streaming, Virtual, World};

const PROVIDERS: [&str; 5] = ["openai", "anthropic", "gemini", "dashscope", "vllm"];

fn models() -> Vec<Virtual> {
    let two = |provider: &str| {
        let target = |letter: &str| Served::outside(&format!("{provider}-{letter}"), provider);
        Virtual::new(provider, vec![target("a"), target("b")])
    };
    PROVIDERS.map(two).to_vec()
}

/// What the application shows of its own.
const SHOWN: &str = "sk-of-the-application";

#[tokio::test]
async fn targets_see_their_own_key_where_their_provider_wants_it_and_nothing_of_the_application() {
    let world = World::start(models()).await;
    for provider in PROVIDERS {
        let api = if provider == "anthropic" { Api::Messages } else { Api::Chat };
        let ask = world.ask(api, provider).key(SHOWN).header("x-goog-api-key", SHOWN).header("api-key", SHOWN);
        Sdk::newest().ask(ask).await.assert_whole(20);
        let seen = world.last_seen(&format!("{provider}-a")).await;
        let (name, expected) = match provider {
            "anthropic" => ("x-api-key", format!("key-of-{provider}-a")),
            "gemini" => ("x-goog-api-key", format!("key-of-{provider}-a")),
            _ => ("authorization", format!("Bearer key-of-{provider}-a")),
        };
        assert_eq!(seen.header(name), expected, "{provider}");
        let leaked: Vec<_> = seen.headers.iter().filter(|(_, value)| value.contains(SHOWN)).collect();
        assert!(leaked.is_empty(), "{provider}: {leaked:?}");
        assert!(!seen.body.as_deref().unwrap_or_default().contains(SHOWN));
        assert_eq!(seen.header("accept-encoding"), "", "{provider}: answers must be readable");
        assert!(seen.headers.iter().all(|(name, _)| !name.starts_with("l5d-") && name != "x-forwarded-client-cert"));
    }
}

#[tokio::test]
async fn a_key_in_the_query_of_the_application_does_not_travel() {
    let world = World::start(models()).await;
    let body = json!({"contents": [{"parts": [{"text": "one"}]}]});
    let answer = world.post(&format!("/v1beta/models/gemini:generateContent?key={SHOWN}"), &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.last_seen("gemini-a").await;
    assert_eq!(seen.header("x-goog-api-key"), "key-of-gemini-a");
    assert!(!format!("{seen:?}").contains(SHOWN), "{seen:?}");
}

#[tokio::test]
async fn a_key_that_is_replaced_is_used_without_a_restart() {
    let world = World::start(models()).await;
    std::fs::write(world.key_file("openai-a"), "an-old-key\n").expect("the folder is writable");
    std::fs::write(world.key_file("openai-b"), "another-old-key\n").expect("the folder is writable");
    until("the targets refuse old keys", PATIENCE, || async {
        let told = Sdk::newest().ask(world.ask(Api::Chat, "openai")).await;
        (told.error?.status == Some(401)).then_some(())
    })
    .await;
    for target in ["openai-a", "openai-b"] {
        std::fs::write(world.key_file(target), format!("key-of-{target}\n")).expect("the folder is writable");
    }
    until("the new key is shown", PATIENCE, || async {
        Sdk::newest().ask(world.ask(Api::Chat, "openai")).await.error.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_missing_key_passes_its_target_over() {
    let world = World::start(models()).await;
    std::fs::remove_file(world.key_file("openai-a")).expect("it was there");
    until("the second target serves", PATIENCE, || async {
        let told = Sdk::newest().ask(world.ask(Api::Chat, "openai")).await;
        told.assert_whole(20);
        (told.header("x-mesh-model-target") == "openai-b").then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_are_in_no_log_no_page_and_no_answer() {
    let debug = |pod: PodSpec| pod.setting("LANEMESH_LOG", "debug");
    let world = World::start_with(models(), debug).await;
    world.stand_in.next("openai-a", &[json!({"error": "auth"}), json!({"error": "rate"}), json!({"cut": 5})]).await;
    for provider in PROVIDERS {
        let api = if provider == "anthropic" { Api::Messages } else { Api::Chat };
        for streaming in Streaming::BOTH {
            let told = Sdk::newest().ask(streaming.of(world.ask(api, provider).key(SHOWN))).await;
            assert!(!format!("{told:?}").contains("key-of-"), "{told:?}");
        }
    }
    let pod = world.mesh.pod(CALLER);
    let mut texts = vec![("log of the sidecar", pod.log()), ("log of the controller", world.mesh.controller.log())];
    for page in ["/metrics", "/config", "/endpoints", "/models"] {
        texts.push((page, pod.fetch(page).await.map(|(_, text)| text).unwrap_or_default()));
    }
    for (what, text) in texts {
        assert!(!text.contains("key-of-") && !text.contains(SHOWN), "a key is in {what}");
        assert!(!text.contains("word1 word2"), "an answer is in {what}");
    }
}

#[tokio::test]
async fn the_mesh_adds_little_to_what_an_application_sent() {
    let world = World::start(models()).await;
    let more = json!({"temperature": 0.5, "seed": 7, "user": "somebody", "metadata": {"a": "b"}, "store": false});
    Sdk::newest().ask(world.ask(Api::Chat, "openai").more(more)).await.assert_whole(20);
    let seen = world.last_seen("openai-a").await.json();
    let expected = json!({
        "messages": [{"role": "user", "content": "one two three"}], "model": "openai", "temperature": 0.5, "seed": 7,
        "user": "somebody", "metadata": {"a": "b"}, "store": false,
    });
    assert_eq!(seen, expected);
}
