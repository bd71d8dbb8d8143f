//! Ten thousand services in the registry of which five are called: the others cost nothing.

use std::time::Duration;

use mesh_tests::{
    addresses::Block,
    registry::{Registry, Server, sdk::Sdk},
    wait::until,
};
use tokio::time::Instant;

use crate::world::{Member, answers, mesh, settings};

on_both_servers! {
    services_that_nobody_calls_cost_nothing,
}

/// How long until ten thousand services were looked at once.
const LOOKED: Duration = Duration::from_secs(120);

async fn services_that_nobody_calls_cost_nothing(server: Server) {
    let (registry, block) = (Registry::start(server).await, Block::reserve());
    let mut many = Sdk::start(&registry);
    many.fill("many-", 10_000, 10).await;
    let mut members = Vec::new();
    for last in 1..=5 {
        members.push(Member::start(&registry, &block, last, &format!("used-{last}")).await);
    }
    let mut mesh = mesh(&settings(&registry, ""), &["a"]).await;
    mesh.controller.start_again();
    let started = Instant::now();
    mesh.controller_ready().await;
    answers(&mesh, "a", "used-1").await;
    let first = started.elapsed();
    for last in 1..=5 {
        answers(&mesh, "a", &format!("used-{last}")).await;
    }
    // Measured when the controller has seen every service and address, not while it still looks.
    let name = "nacos/main/public";
    until("the whole registry looked through", LOOKED, || async {
        let page = mesh.console("/api/v1/source").await.ok()?;
        let facts = &page["items"].as_array()?.iter().find(|item| item["name"] == name)?["facts"];
        let number = |fact: &str| facts[fact].as_str().and_then(|text| text.parse::<usize>().ok());
        let all = number("services") >= Some(10_005) && number("addresses") >= Some(100_005);
        (all && facts["lookedThrough"] == "true").then_some(())
    })
    .await;
    let controller = mesh.controller.resident();
    let proxy = mesh.pod_mut("a").proxy().resident();
    println!("{server:?}: first list {first:?}, controller {controller} KiB, proxy {proxy} KiB");
    assert!(first < Duration::from_secs(2), "{first:?}");
    assert!(controller <= 60 * 1_024, "{controller} KiB");
    assert!(proxy <= 20 * 1_024, "{proxy} KiB");
}
