//! Failures that an application forces: the SDKs see what they would see if targets did fail, and no target is asked.

use mesh_tests::{
    models::sdk::{Api, Sdk},
    wait::{PATIENCE, until},
};
use serde_json::json;

use crate::world::{Served, Streaming, Virtual, World};

const FAULT: &str = "x-mesh-model-fault";

/// Models of both dialects, each with targets `<model>-a` and `<model>-b`; the caller may force failures.
async fn world() -> World {
    let two = |model: &str, provider: &str| {
        let targets = ["a", "b"].map(|letter| Served::outside(&format!("{model}-{letter}"), provider));
        Virtual::new(model, targets.to_vec())
    };
    let world = World::start(vec![two("gpt", "openai"), two("claude", "anthropic")]).await;
    let forced = || Sdk::newest().ask(world.ask(Api::Chat, "gpt").header(FAULT, "rate@gpt-a").max_retries(0));
    assert_eq!(forced().await.status, Some(403), "nobody may unless the route says so");
    let mut route = world.route();
    route["spec"]["drill"] = json!({"allow": ["demo/*"]});
    world.mesh.write_source("models.yaml", &route.to_string());
    until("the caller may force failures", PATIENCE, || async { (forced().await.status == Some(200)).then_some(()) })
        .await;
    world
}

#[tokio::test]
async fn forced_failure_is_made_good_by_the_next_target_and_forced_ones_of_all_are_raised() {
    let world = world().await;
    let asked = async |model: &str| world.stand_in.seen_by(&format!("{model}-a")).await.len();
    for (api, model) in [(Api::Chat, "gpt"), (Api::Responses, "gpt"), (Api::Messages, "claude")] {
        let before = asked(model).await;
        for streaming in Streaming::BOTH {
            let ask = || streaming.of(world.ask(api, model)).max_retries(0);
            let told = Sdk::newest().ask(ask().header(FAULT, "connect")).await;
            told.assert_whole(20);
            assert_eq!(told.header("x-mesh-model-target"), format!("{model}-b"));
            assert_eq!(told.header("x-mesh-model-drill"), format!("{model}-a=connect"));
            let told = Sdk::newest().ask(ask().header(FAULT, "rate@*")).await;
            assert_eq!(told.status, Some(429), "{api:?} {streaming:?}: {told:?}");
            let told = Sdk::newest().ask(ask().header(FAULT, "rates")).await;
            assert_eq!(told.status, Some(400), "{api:?} {streaming:?}: {told:?}");
        }
        assert_eq!(asked(model).await, before, "a forced failure asks nobody");
        let seen = world.last_seen(&format!("{model}-b")).await;
        assert!(seen.headers.iter().all(|(name, _)| name != FAULT), "{:?}", seen.headers);
        let told = Sdk::newest().ask(world.ask(api, model)).await;
        assert_eq!(told.header("x-mesh-model-target"), format!("{model}-a"), "no target rests after a drill");
    }
}
