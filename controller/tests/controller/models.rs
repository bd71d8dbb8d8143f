//! Model routes: from the file to proxies and to the console; a broken one changes nothing.

use mesh_core::model::model_route::Word;
use mesh_proto::mesh::v1::proxy_report::Report;
use serde_json::json;

use self::broken::{BROKEN, MODELS};
use crate::{
    harness::{Controller, SERVICES},
    mesh::{Proxy, hello},
};

#[path = "../../../core/tests/models/broken.rs"]
mod broken;

const FILES: &[(&str, &str)] = &[("services.yaml", SERVICES), ("models.yaml", MODELS)];

#[tokio::test]
async fn model_routes_reach_proxies_and_a_change_reaches_them_again() {
    let controller = Controller::with(FILES, &[]).await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    let first = proxy.snapshot().await;
    assert_eq!(first.models[0].name, "chat.ai");
    let order: Vec<&str> = first.models[0].models[0].targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(order, ["small", "small-next", "gpt", "claude"]);
    controller.write("models.yaml", &MODELS.replacen("onExhausted: 503", "onExhausted: lastError", 1));
    let second = proxy.snapshot().await;
    assert_eq!(second.models[0].models[0].on_exhausted.word(), "lastError");
    assert_ne!(first.revision, second.revision);
    controller.stop().await;
}

#[tokio::test]
async fn console_shows_model_routes_as_configured() {
    let controller = Controller::with(FILES, &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    let (_, models) = controller.get("/api/v1/models").await;
    let route = &models["items"][0];
    assert_eq!((&route["namespace"], &route["name"]), (&json!("ai"), &json!("chat")));
    let model = &route["models"][0];
    assert_eq!(model["timers"]["connect"], 0.5);
    assert_eq!((&model["onExhausted"], &model["hedge"]), (&json!("503"), &json!("after p95")));
    let targets = &model["targets"];
    assert_eq!(targets[0]["endpoint"], json!({ "service": "small.ai:8000", "prefix": "/v1" }));
    assert_eq!(targets[2]["endpoint"]["url"], "https://api.openai.com:8443/eu");
    assert_eq!(targets[3]["credential"], json!({ "secret": { "name": "providers", "key": "anthropic" } }));
    assert_eq!(targets[3]["limits"][1], json!({ "of": "money", "amount": 12.5, "window": 86400.0, "mode": "enforce" }));
    assert_eq!(route["tokens"]["key"], json!(["namespace", "header:x-tenant"]));
    controller.stop().await;
}

#[tokio::test]
async fn broken_model_routes_are_named_and_the_last_good_one_stays_in_force() {
    let controller = Controller::with(FILES, &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    let good = proxy.snapshot().await;
    let (_, shown) = controller.get("/api/v1/models").await;
    for (before, bad, path, message) in BROKEN {
        controller.write("models.yaml", &MODELS.replacen(before, bad, 1));
        let named = |source: &serde_json::Value| {
            let problems = source["items"][0]["problems"].as_array().cloned().unwrap_or_default();
            problems.iter().any(|problem| {
                let is_field = problem["path"] == format!("ModelRoute ai/chat: {path}");
                is_field && problem["message"].as_str().is_some_and(|text| text.contains(message))
            })
        };
        controller.until("/api/v1/source", named).await;
        assert_eq!(controller.get("/api/v1/models").await.1, shown, "{bad}");
        assert_eq!(controller.get("/ready").await.0, 200, "{bad}");
    }
    controller.write("models.yaml", &MODELS.replacen("onExhausted: 503", "onExhausted: lastError", 1));
    let next = proxy.snapshot().await;
    assert_ne!(next.revision, good.revision, "the proxy was told nothing in between");
    assert_eq!(next.models[0].models[0].on_exhausted.word(), "lastError");
    controller.stop().await;
}
