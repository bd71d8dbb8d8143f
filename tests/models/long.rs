//! Requests that are too long to be held: one target gets them while they come, and whoever asks is told so.

use mesh_tests::{
    models::sdk::{Api, Sdk},
    wait::{PATIENCE, until},
};
use serde_json::json;

use crate::world::{Served, Streaming, Virtual, World};

/// Words of a prompt that is longer than what is held here: 64 KiB.
const WORDS: usize = 200_000;

/// One model of two targets, of which the route holds 64 KiB of a request.
async fn world(provider: &str) -> World {
    let targets = vec![Served::outside("a", provider), Served::outside("b", provider)];
    let world = World::start(vec![Virtual::new("m", targets)]).await;
    let mut route = world.route();
    route["spec"]["bodyLimit"] = json!("64Ki");
    world.mesh.write_source("models.yaml", &route.to_string());
    let prompt = "word ".repeat(WORDS);
    let api = if provider == "openai" { Api::Chat } else { Api::Messages };
    until("less of a request is held", PATIENCE, || async {
        let told = Sdk::newest().ask(world.ask(api, "m").prompt(&prompt)).await;
        (told.header("x-mesh-model-unheld") == "length").then_some(())
    })
    .await;
    world
}

#[tokio::test]
async fn longer_request_is_served_and_not_sent_to_another_target() {
    let prompt = "word ".repeat(WORDS);
    for (provider, api) in [("openai", Api::Chat), ("openai", Api::Responses), ("anthropic", Api::Messages)] {
        let world = world(provider).await;
        let ask = |streaming: Streaming| streaming.of(world.ask(api, "m").prompt(&prompt)).max_retries(0);
        for streaming in Streaming::BOTH {
            let told = Sdk::newest().ask(ask(streaming)).await;
            told.assert_whole(20);
            assert_eq!(told.header("x-mesh-model-unheld"), "length");
            assert!(world.last_seen("a").await.body_length > 1_000_000);
        }
        world.stand_in.behave("a", json!({"status": 500})).await;
        let told = Sdk::newest().ask(ask(Streaming::Yes)).await;
        assert_eq!((told.status, told.header("x-mesh-model-attempts")), (Some(500), "1"), "{told:?}");
        assert!(world.stand_in.seen_by("b").await.is_empty());
    }
}
