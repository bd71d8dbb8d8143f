//! The console API: what it shows, what it writes, whom it refuses.

use serde_json::json;

use crate::harness::{Controller, LANES, SERVICES};

const FILES: &[(&str, &str)] = &[("services.yaml", SERVICES), ("lanes.yaml", LANES)];

async fn ready(files: &[(&str, &str)]) -> Controller {
    let controller = Controller::with(files, &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    controller
}

#[tokio::test]
async fn collections_show_what_is_in_force() {
    let controller = ready(FILES).await;
    let (_, endpoints) = controller.get("/api/v1/endpoints").await;
    let canary = &endpoints["items"][2];
    assert_eq!(canary["pod"], "b-canary");
    assert_eq!(canary["lanes"], json!(["shop/canary"]));
    assert_eq!(endpoints["items"][1]["weight"], 0.5);
    let (_, lanes) = controller.get("/api/v1/lanes").await;
    assert_eq!(lanes["items"][0]["name"], "shop");
    assert_eq!(lanes["items"][0]["lanes"][0]["endpoints"], 1);
    assert_eq!(lanes["items"][0]["lanes"][0]["onMissing"], "fallback");
    let (_, resources) = controller.get("/api/v1/resources").await;
    let kinds: Vec<_> = resources["items"].as_array().unwrap().iter().map(|item| item["kind"].clone()).collect();
    assert_eq!(kinds, ["LaneGroup", "Lane", "Services"]);
    assert_eq!(controller.get("/api/v1/nothing").await.0, 404);
    controller.stop().await;
}

#[tokio::test]
async fn resources_are_validated_against_everything_else_and_applied_as_files() {
    let controller = ready(&[("services.yaml", SERVICES)]).await;
    let (status, answer) = controller.post("/api/v1/validate", LANES).await;
    assert_eq!((status, &answer["problems"]), (200, &json!([])));
    let (_, lanes) = controller.get("/api/v1/lanes").await;
    assert_eq!(lanes["items"], json!([]), "nothing was written");

    let lane_alone = LANES.split("---\n").nth(1).unwrap();
    let (status, answer) = controller.post("/api/v1/apply", lane_alone).await;
    assert_eq!(status, 422, "its group is missing: {answer}");
    assert!(answer["problems"].to_string().contains("shop"), "{answer}");

    let (status, answer) = controller.post("/api/v1/apply", LANES).await;
    assert_eq!(status, 200, "{answer}");
    controller.until("/api/v1/lanes", |lanes| lanes["items"][0]["lanes"][0]["name"] == "canary").await;
    for file in ["lanegroup-demo-shop.yaml", "lane-demo-canary.yaml"] {
        assert!(controller.files().join(file).is_file(), "{file}");
    }
    let changed = lane_alone.replace("  group: shop\n", "  group: shop\n  onMissing: reject\n");
    assert_eq!(controller.post("/api/v1/apply", &changed).await.0, 200);
    controller.until("/api/v1/lanes", |lanes| lanes["items"][0]["lanes"][0]["onMissing"] == "reject").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_resource_is_replaced_where_it_stands_and_its_neighbours_stay() {
    let controller = ready(FILES).await;
    let lane = LANES.split("---\n").nth(1).unwrap().replace("  group: shop\n", "  group: shop\n  onMissing: reject\n");
    assert_eq!(controller.post("/api/v1/apply", &lane).await.0, 200);
    controller.until("/api/v1/lanes", |lanes| lanes["items"][0]["lanes"][0]["onMissing"] == "reject").await;
    assert!(!controller.files().join("lane-demo-canary.yaml").exists());
    let text = std::fs::read_to_string(controller.files().join("lanes.yaml")).unwrap();
    assert!(text.contains("kind: LaneGroup") && text.contains("onMissing: reject"), "{text}");
    controller.stop().await;
}

#[tokio::test]
async fn services_that_were_applied_are_replaced_by_the_next_apply() {
    let controller = ready(FILES).await;
    let services =
        |weight: &str| SERVICES.replace("name: b", "name: x").replace("name: c", "name: y").replace("0.5", weight);
    for weight in ["0.25", "0.75"] {
        let (status, answer) = controller.post("/api/v1/apply", &services(weight)).await;
        assert_eq!(status, 200, "{answer}");
        let expected: f64 = weight.parse().unwrap();
        controller.until("/api/v1/endpoints", |all| all["items"][4]["weight"] == expected).await;
    }
    let (status, answer) = controller.post("/api/v1/apply", SERVICES).await;
    assert_eq!(status, 422, "b and c stand in a file of their own: {answer}");
    controller.stop().await;
}

#[tokio::test]
async fn what_an_entry_decides_is_explained_with_its_reason() {
    let rule = "  match: {any: [{on: header, name: x-beta, operator: equal, value: '1'}]}\n";
    let lanes = format!("{LANES}{rule}").replace("  services: ['*']", "  services: ['*']\n  entries: [c]");
    let controller = ready(&[("services.yaml", SERVICES), ("lanes.yaml", &lanes)]).await;
    let ask = async |question: serde_json::Value| controller.post("/api/v1/explain", &question.to_string()).await.1;
    let url = "http://c.demo/";
    let stained = ask(json!({"url": url, "headers": {"x-beta": "1"}, "from": "outside"})).await;
    assert_eq!((&stained["entry"]["decision"], &stained["label"]["value"]), (&json!("stained"), &json!("canary")));
    assert!(stained["entry"]["reason"].as_str().unwrap().starts_with("rule of canary"), "{stained}");
    let served =
        stained["services"].as_array().unwrap().iter().find(|hop| hop["service"].as_str().unwrap().starts_with("b."));
    assert_eq!(served.unwrap()["servedBy"], "shop/canary");
    let spoofed = ask(json!({"url": url, "headers": {"x-mesh-lane": "canary"}, "from": "outside"})).await;
    assert_eq!((&spoofed["entry"]["decision"], &spoofed["label"]), (&json!("baseline"), &json!(null)), "{spoofed}");
    let inside = ask(json!({"url": "http://b.demo:8080/", "headers": {"x-beta": "1"}})).await;
    assert_eq!(inside["entry"]["decision"], "none", "{inside}");
    controller.stop().await;
}

#[tokio::test]
async fn a_request_is_explained_hop_by_hop() {
    let controller = ready(FILES).await;
    let question = json!({ "method": "GET", "url": "http://b.demo:8080/", "headers": { "X-Mesh-Lane": "canary" } });
    let (status, answer) = controller.post("/api/v1/explain", &question.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["label"]["value"].as_str().map(|value| value.ends_with("canary")), Some(true), "{answer}");
    assert_eq!(answer["services"][0]["servedBy"], "shop/canary");
    assert_eq!(answer["services"][0]["instances"], json!(["127.1.0.4:8080"]));
    let (status, answer) = controller.post("/api/v1/explain", "{\"url\": \"http://nobody/\"}").await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("nobody"), "{answer}");
    controller.stop().await;
}

#[tokio::test]
async fn a_token_of_the_console_counts_for_certify() {
    let controller = ready(FILES).await;
    let ask = json!({ "namespace": "demo", "serviceAccount": "b", "ttl": "1m" });
    let (status, answer) = controller.post("/api/v1/tokens", &ask.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let proven = controller.tokens().verify(answer["token"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(proven.identity, crate::harness::account("demo", "b"));
    for wrong in ["{}", "{\"serviceAccount\": \"B b\"}", "{\"serviceAccount\": \"b\", \"ttl\": \"1\"}"] {
        assert_eq!(controller.post("/api/v1/tokens", wrong).await.0, 400, "{wrong}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn web_pages_and_foreign_names_are_refused() {
    let controller = ready(FILES).await;
    let with = |name: &str, value: &str| http::Request::get("/api/v1/services").header(name, value);
    assert_eq!(controller.console(with("origin", "http://evil.example"), "").await.0, 403);
    assert_eq!(controller.console(with("host", "evil.example:8084"), "").await.0, 403);
    assert_eq!(controller.console(with("host", "localhost:8084"), "").await.0, 200);
    assert_eq!(controller.console(with("host", "[::1]"), "").await.0, 200);
    assert_eq!(controller.console(http::Request::delete("/api/v1/services"), "").await.0, 405);
    let open = http::Request::get("/metrics").header("host", "evil.example");
    assert_eq!(controller.console(open, "").await.0, 200, "scrapes come from elsewhere");
    controller.stop().await;
}
