//! What is wrong with a registry or in it is said by name, and everything else goes on.

use std::time::Duration;

use mesh_tests::{
    addresses::Block,
    mesh::Mesh,
    registry::{Registry, Server, open_api::Registration, sdk::Sdk},
    wait::{PATIENCE, until},
};
use serde_json::Value;

use crate::world::{Member, answers, application, ctl, mesh, own, rows, settings};

on_both_servers! {
    unknown_namespace_is_said_with_those_that_exist_until_it_is_made,
    wrong_password_is_said_and_another_server_goes_on,
    unreachable_server_is_said_and_another_goes_on,
    malformed_metadata_is_said_and_the_instance_takes_calls,
}

/// How long until a state of a source is shown.
const SAID: Duration = Duration::from_secs(30);

/// What `mesh-ctl check` found, and its exit code.
async fn checked(mesh: &Mesh) -> (Option<i32>, Vec<Value>) {
    let check = ctl(mesh, &["check", "--output", "json"]).await;
    let whole: Value = serde_json::from_str(&check.output).unwrap_or_else(|error| panic!("{error}: {}", check.output));
    (check.status.code(), whole["checks"].as_array().cloned().unwrap_or_default())
}

/// Waits until `mesh-ctl check` has a finding of this grade about `subject` that holds all these words, and advice.
/// An error makes the exit code 1.
async fn said(mesh: &Mesh, result: &str, subject: &str, words: &[&str]) {
    until(&format!("{result} about {subject} with {words:?}"), SAID, || async {
        let (code, findings) = checked(mesh).await;
        let is_meant = |finding: &&Value| {
            let what = finding["what"].as_str().unwrap_or_default();
            finding["result"] == result && finding["subject"] == subject && words.iter().all(|word| what.contains(word))
        };
        let finding = findings.iter().find(is_meant)?;
        assert!(finding["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{finding}");
        let errors = findings.iter().filter(|finding| finding["result"] == "error").count();
        assert_eq!(code, Some(i32::from(errors > 0)), "{findings:?}");
        Some(())
    })
    .await;
}

/// What `mesh-ctl get` shows of this kind.
async fn shown(mesh: &Mesh, kind: &str) -> String {
    let get = ctl(mesh, &["get", kind]).await;
    assert!(get.status.success(), "{}", get.output);
    get.output
}

async fn unknown_namespace_is_said_with_those_that_exist_until_it_is_made(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let (namespace, late) = (own("prod"), own("late"));
    let _member = Member::start(registry, &block, 1, &service).await;
    let namespaces = format!("  namespaces: [{{id: public}}, {{id: {namespace}, meshNamespace: prod}}]\n");
    let mesh = mesh(&settings(registry, &namespaces), &["a"]).await;
    answers(&mesh, "a", &service).await;
    let subject = format!("nacos/main/{namespace}");
    let unknown = format!("unknown namespace {namespace:?}");
    said(&mesh, "error", &subject, &[&unknown, "public"]).await;
    for kind in ["sources", "notes"] {
        let shown = shown(&mesh, kind).await;
        assert!(shown.contains(&subject) && shown.contains(&unknown) && shown.contains("public"), "{shown}");
    }
    answers(&mesh, "a", &service).await;

    registry.open_api().await.make_namespace(&namespace).await.expect("made");
    until("nothing wrong any more", SAID, || async {
        let (code, findings) = checked(&mesh).await;
        let finding = findings.iter().find(|finding| finding["subject"] == subject.as_str())?;
        (code == Some(0) && finding["result"] == "ok").then_some(())
    })
    .await;
    assert!(!shown(&mesh, "notes").await.contains(&unknown));
    let instance = Registration::new(&late, (block.address(2), 8_080)).namespace(&namespace);
    let _application = application(instance.address, "late").await;
    let mut sdk = Sdk::at(registry.address(), &namespace, None);
    sdk.register(&instance).await;
    until("a service of the namespace answers", PATIENCE, || async {
        let answer = mesh.get("a", &format!("{late}.prod"), "/", &[]).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

async fn wrong_password_is_said_and_another_server_goes_on(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let closed = Registry::start_with_login(server, "correct horse").await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "battery staple").expect("writable");
    let _member = Member::start(registry, &block, 1, &service).await;
    let second = format!(
        "- name: closed\n  addresses: [\"{}\"]\n  username: nacos\n  passwordFile: {}\n",
        closed.address(),
        file.path().display()
    );
    let mesh = mesh(&settings(registry, &second), &["a"]).await;
    answers(&mesh, "a", &service).await;
    said(&mesh, "error", "nacos/closed/public", &["login", "user \"nacos\" was refused"]).await;
    answers(&mesh, "a", &service).await;
}

async fn unreachable_server_is_said_and_another_goes_on(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let _member = Member::start(registry, &block, 1, &service).await;
    let nowhere = block.address(200);
    let second = format!("- name: nowhere\n  addresses: [\"{nowhere}:8848\"]\n");
    let mesh = mesh(&settings(registry, &second), &["a"]).await;
    answers(&mesh, "a", &service).await;
    said(&mesh, "error", "nacos/nowhere/public", &["cannot be reached", &nowhere.to_string()]).await;
    answers(&mesh, "a", &service).await;
}

async fn malformed_metadata_is_said_and_the_instance_takes_calls(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let good = Member::start(registry, &block, 1, &service).await;
    // Nacos refuses more than 1,024 bytes of metadata by itself.
    let long = "x".repeat(900);
    let wrong: [(&str, &str); 10] = [
        ("gRPC_port", "nine"),
        ("timestamp", "yesterday"),
        ("lane", "gray lane!"),
        ("lanemesh.io/lane", "a/b"),
        ("zone", "z\u{1b}[31m1"),
        ("protocol", "carrier-pigeon"),
        ("secure", "maybe"),
        ("lanemesh.io/identity", "nobody"),
        ("lanemesh.io/pod", "a\nb"),
        ("startTime", &long),
    ];
    let mut clients = Vec::new();
    for (last, (key, value)) in (10u8..).zip(wrong) {
        let mut sdk = Sdk::start(registry);
        sdk.register(&Registration::new(&service, (block.address(last), 8_080)).metadata(key, value)).await;
        clients.push(sdk);
    }
    let mesh = mesh(&settings(registry, ""), &["a"]).await;
    answers(&mesh, "a", &service).await;
    until("all instances shown", PATIENCE, || async { (rows(&mesh, &service).await.len() == 11).then_some(()) }).await;
    for (last, (key, _)) in (10u8..).zip(wrong) {
        let subject = format!("{service}@@DEFAULT_GROUP@public {}:8080", block.address(last));
        said(&mesh, "warning", &subject, &[key]).await;
    }
    answers(&mesh, "a", &service).await;
    drop(good);
}
