//! The file source: what is wrong changes nothing.

use serde_json::json;

use crate::harness::{Controller, LANES, SERVICES, settings};

#[tokio::test]
async fn a_bad_file_is_named_and_the_last_good_state_stays() {
    let controller = Controller::start().await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    controller
        .write("other.yaml", "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n- name: x\n  prots: []\n");
    let source = controller.until("/api/v1/source", |source| source["items"][0]["problems"] != json!([])).await;
    let problems = source["items"][0]["problems"].as_array().unwrap();
    let unknown = problems.iter().find(|problem| problem["path"].as_str().unwrap().contains("prots"));
    let unknown = unknown.unwrap_or_else(|| panic!("{problems:?}"));
    assert!(unknown["file"].as_str().unwrap().ends_with("other.yaml"), "{unknown}");
    assert_eq!(unknown["line"], 5, "{unknown}");
    assert!(unknown["message"].as_str().unwrap().contains("ports"), "what is allowed: {unknown}");
    assert_eq!(problems.len(), 2, "the missing field is reported together with it: {problems:?}");
    let (_, services) = controller.get("/api/v1/services").await;
    assert_eq!(services["items"].as_array().unwrap().len(), 2);
    assert_eq!(controller.get("/ready").await.0, 200);
    controller.until_metric("_source_loads_total", "{source=\"file\",result=\"refused\"}", 1).await;

    std::fs::remove_file(controller.files().join("other.yaml")).unwrap();
    controller.until("/api/v1/source", |source| source["items"][0]["problems"] == json!([])).await;
    controller.stop().await;
}

#[tokio::test]
async fn all_files_are_one_state_that_changes_at_once_or_not_at_all() {
    let controller = Controller::with(&[("services.yaml", SERVICES), ("lanes.yaml", LANES)], &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    controller.write("more.yaml", &SERVICES.replace("name: b", "name: d"));
    let source = controller.until("/api/v1/source", |source| source["items"][0]["problems"] != json!([])).await;
    let problems = source["items"][0]["problems"].to_string();
    assert!(problems.contains("c.demo"), "the service that is there twice is named: {problems}");
    let (_, services) = controller.get("/api/v1/services").await;
    assert_eq!(services["items"].as_array().unwrap().len(), 2, "d is not there either");
    controller.stop().await;
}

#[tokio::test]
async fn a_controller_with_nothing_good_is_not_ready_and_tells_proxies_nothing() {
    let controller = Controller::with(&[("services.yaml", "kind: Nonsense\n")], &[]).await;
    controller.until("/api/v1/source", |source| source["items"][0]["problems"] != json!([])).await;
    assert_eq!(controller.get("/ready").await.0, 503);
    assert_eq!(controller.get("/live").await.0, 200);
    controller.write("services.yaml", SERVICES);
    controller.until("/ready", |answer| answer == "ready\n").await;
    controller.proxy("a").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_single_file_is_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.yaml");
    std::fs::write(&file, SERVICES).unwrap();
    let controller = Controller::on(&file, &folder.path().join("state"), &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    std::fs::write(&file, SERVICES.replace("name: b", "name: x")).unwrap();
    controller.until("/api/v1/services", |services| services["items"][1]["name"] == "x").await;
    let (status, answer) = controller.post("/api/v1/apply", LANES).await;
    assert_eq!(status, 409, "a single file is its owner's: {answer}");
    controller.stop().await;
}

#[tokio::test]
async fn missing_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path(), folder.path(), &[]);
    settings.state_directory = None;
    let error = mesh_controller::runtime::start(settings).await.err().unwrap();
    assert!(error.to_string().contains("--state-directory"), "{error:#}");
}
