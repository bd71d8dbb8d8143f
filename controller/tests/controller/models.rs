//! Model routes: from the file to proxies and to the console; a broken one changes nothing.

use mesh_core::model::model_route::Word;
use mesh_proto::mesh::v1::{ModelUsage, TargetUsage, proxy_report::Report};
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

#[tokio::test]
async fn usage_that_proxies_report_is_added_up_by_identity() {
    let controller = Controller::with(FILES, &[]).await;
    let path = "/api/v1/models/usage";
    let empty = controller.until(path, |usage| usage["items"] == json!([])).await;
    assert!(empty["since"].as_u64().is_some_and(|since| since > 0), "{empty}");
    let target = |served, input, money| TargetUsage {
        route: "chat.ai".to_owned(),
        model: "chat-large".to_owned(),
        target: "gpt".to_owned(),
        target_model: "gpt-4o".to_owned(),
        lane: "demo/canary".to_owned(),
        served,
        failed: 1,
        input,
        output: 7,
        cached: 5,
        estimated: 3,
        money,
    };
    let report = |target| Report::Models(ModelUsage { targets: vec![target] });
    let (of_a, of_b) = (controller.proxy("a").await, controller.proxy("b").await);
    let first = Proxy::connect(&of_a, Report::Hello(hello("a", "a-1"))).await.unwrap();
    let second = Proxy::connect(&of_a, Report::Hello(hello("a", "a-2"))).await.unwrap();
    let other = Proxy::connect(&of_b, Report::Hello(hello("b", "b-1"))).await.unwrap();
    first.say(report(target(1, 100, 250_000))).await;
    second.say(report(target(2, 200, 250_000))).await;
    other.say(report(target(4, 1_000, 0))).await;
    let all_there = |usage: &serde_json::Value| usage["items"][0]["served"] == 3 && usage["items"][1]["served"] == 4;
    let usage = controller.until(path, all_there).await;
    let expected = json!({
        "identity": "spiffe://cluster.local/ns/demo/sa/a", "route": "chat.ai", "model": "chat-large", "target": "gpt",
        "targetModel": "gpt-4o", "lane": "demo/canary", "served": 3, "failed": 2, "input": 300, "output": 14,
        "cached": 10, "estimated": 6, "money": 0.5,
    });
    assert_eq!(usage["items"][0], expected);
    assert_eq!(usage["items"][1]["identity"], "spiffe://cluster.local/ns/demo/sa/b");
    let within = async |query: &str| controller.get(&format!("{path}?{query}")).await;
    let (status, hour) = within("since=3600").await;
    assert_eq!((status, &hour["items"]), (200, &usage["items"]));
    for refused in ["since=", "since=0", "since=1h", "until=3"] {
        assert_eq!(within(refused).await.0, 400, "{refused}");
    }
    // What was used stays when the proxy goes.
    drop((first, second, other));
    controller.until("/api/v1/proxies", |table| table["items"] == json!([])).await;
    assert_eq!(controller.get(path).await.1["items"][0], expected);
    controller.stop().await;
}

#[tokio::test]
async fn console_explains_by_the_route_alone_whom_a_request_would_ask() {
    let controller = Controller::with(FILES, &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    let order = async |query: &str| -> Vec<(serde_json::Value, serde_json::Value)> {
        let (status, told) = controller.get(&format!("/api/v1/models/explain?{query}")).await;
        assert_eq!(status, 200, "{told}");
        let rows = told["targets"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["state"].is_null()), "{told}");
        rows.iter().map(|row| (row["target"].clone(), row["order"].clone())).collect()
    };
    let expected = [("small", Some(1)), ("gpt", Some(2)), ("claude", Some(3)), ("small-next", None)];
    let expected = expected.map(|(target, order)| (json!(target), json!(order)));
    assert_eq!(order("model=chat-large&host=models.internal").await, expected);
    assert_eq!(order("model=chat-large&lane=demo/canary").await[0], (json!("small-next"), json!(1)));
    assert_eq!(order("model=chat-large&vision=true").await[0], (json!("gpt"), json!(1)));
    let refused = [("model=chat-large&host=elsewhere", 404), ("model=x&host=nowhere", 404), ("host=llm.ai", 400)];
    for (query, status) in refused {
        assert_eq!(controller.get(&format!("/api/v1/models/explain?{query}")).await.0, status, "{query}");
    }
    controller.stop().await;
}
