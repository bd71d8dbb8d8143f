//! What is wrong with a registry or in it is said by name, and everything else goes on.

use std::time::Duration;

use mesh_tests::{
    addresses::Block,
    mesh::Mesh,
    registry::{Registry, Server, open_api::Registration, sdk::Sdk},
    wait::{PATIENCE, until},
};

use crate::world::{Member, answers, mesh, own, rows, settings};

on_both_servers! {
    wrong_password_is_said_and_another_server_goes_on,
    unreachable_server_is_said_and_another_goes_on,
    malformed_metadata_is_said_and_the_instance_takes_calls,
}

/// How long until a state of a source is shown.
const SAID: Duration = Duration::from_secs(30);

/// Waits until the console's page holds all these words.
async fn said(mesh: &Mesh, page: &str, words: &[&str]) {
    let path = format!("/api/v1/{page}");
    until(&format!("{path} says {words:?}"), SAID, || async {
        let (_, text) = mesh.controller_page(&path).await.ok()?;
        words.iter().all(|word| text.contains(word)).then_some(())
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
    said(&mesh, "source", &["nacos/closed", "login"]).await;
}

async fn unreachable_server_is_said_and_another_goes_on(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let _member = Member::start(registry, &block, 1, &service).await;
    let nowhere = block.address(200);
    let second = format!("- name: nowhere\n  addresses: [\"{nowhere}:8848\"]\n");
    let mesh = mesh(&settings(registry, &second), &["a"]).await;
    answers(&mesh, "a", &service).await;
    said(&mesh, "source", &["nacos/nowhere", &nowhere.to_string()]).await;
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
        let address = format!("{}:8080", block.address(last));
        said(&mesh, "notes", &[&service, &address, key]).await;
    }
    drop(good);
}
