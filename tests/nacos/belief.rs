//! What of a registry's word is believed, seen at a proxy: late pushes are not, a removal is after the guard's time, and
//! health is not where the registry rewrote it. While an old instance answers there is never an empty list.

use std::time::Duration;

use mesh_tests::{
    addresses::Block,
    length,
    load::Load,
    mesh::Mesh,
    metrics::Metrics,
    registry::{Registry, Server, open_api::Registration, replay::Replay},
    wait::{PATIENCE, pace, stays_true, until},
};
use tokio::time::Instant;

use crate::world::{Member, answers, application, known, mesh, own, rows, settings};

on_both_servers! {
    push_that_comes_late_is_dropped,
    removal_is_believed_after_the_whole_guard_although_instances_answer_full_length,
    instances_that_are_all_unhealthy_take_calls_while_they_answer,
}

/// How long Nacos takes to call an instance without heartbeats unhealthy, and either server to forget it, at most.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Between two looks at a proxy.
const LOOK: Duration = Duration::from_millis(100);

async fn lists(mesh: &Mesh, result: &str) -> f64 {
    let (_, text) = mesh.controller_page("/metrics").await.expect("the controller answers");
    let labels = [("source", "nacos/main/public"), ("result", result)];
    Metrics::parse(&text).sum("mesh_controller_source_lists_total", &labels)
}

async fn count(mesh: &Mesh, service: &str, count: usize) {
    until(&format!("{count} instances of {service} at the proxy"), PATIENCE, || async {
        (known(mesh, "a", service).await.len() == count).then_some(())
    })
    .await;
}

async fn push_that_comes_late_is_dropped(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let replay = Replay::start(registry, block.address(100)).await;
    let _first = Member::start(registry, &block, 1, &service).await;
    let mesh = mesh(&format!("servers:\n- name: main\n  addresses: [\"{}\"]\n", replay.address()), &["a"]).await;
    answers(&mesh, "a", &service).await;
    let _second = Member::start(registry, &block, 2, &service).await;
    count(&mesh, &service, 2).await;
    let mut third = Member::start(registry, &block, 3, &service).await;
    count(&mesh, &service, 3).await;
    let [second, last] = [2, 3].map(|last| format!("\"{}\"", block.address(last)));
    let is_late = |push: &str| push.contains(&service) && push.contains(&second) && !push.contains(&last);
    assert!(replay.again(is_late).await, "the server pushed the second instance before the third was there");
    until("the late push dropped", PATIENCE, || async { (lists(&mesh, "old").await == 1.0).then_some(()) }).await;
    assert_eq!(known(&mesh, "a", &service).await.len(), 3, "the third is still there");
    third.deregister().await;
    count(&mesh, &service, 2).await;
}

/// The guard at its default length in a soak run, a short one otherwise.
async fn removal_is_believed_after_the_whole_guard_although_instances_answer_full_length(server: Server) {
    let (registry, block) = (Registry::start(server).await, Block::reserve());
    let (guard, lasts) = length::of(("  emptyPushGuard: 8s\n", Duration::from_secs(8)), ("", Duration::from_secs(300)));
    let mut members =
        [Member::start(&registry, &block, 1, "orders").await, Member::start(&registry, &block, 2, "orders").await];
    let mesh = mesh(&settings(&registry, guard), &["a"]).await;
    answers(&mesh, "a", "orders").await;
    count(&mesh, "orders", 2).await;
    let load = Load::start(mesh.pod("a").outbound(), "orders.nacos");
    let asked = Instant::now();
    for member in &mut members {
        member.deregister().await;
    }
    until("the empty list held", PATIENCE, || async { (lists(&mesh, "held").await >= 1.0).then_some(()) }).await;
    let emptied = Instant::now();
    // The list became empty between the first order and now.
    while asked.elapsed() + Duration::from_secs(1) < lasts {
        assert!(!known(&mesh, "a", "orders").await.is_empty(), "believed after {:?}", emptied.elapsed());
        pace(LOOK).await;
    }
    let sent = load.end_without_failure("while the empty list was held").await;
    let rest = (emptied + lasts + Duration::from_secs(5)).saturating_duration_since(Instant::now());
    until("the removal believed", rest, || async { known(&mesh, "a", "orders").await.is_empty().then_some(()) }).await;
    println!("{server:?}: {sent} requests, believed {:?} after the list became empty", emptied.elapsed());
}

async fn instances_that_are_all_unhealthy_take_calls_while_they_answer(server: Server) {
    let (registry, block) = (Registry::start(server).await, Block::reserve());
    let api = registry.open_api().await;
    let mut applications = Vec::new();
    for last in 1..=2 {
        // Nobody sends heartbeats for them.
        let instance = Registration::new("orders", (block.address(last), 8_080));
        applications.push(application(instance.address, "here").await);
        api.register(&instance).await.expect("registered");
    }
    api.protect("orders", 0.8).await.expect("the threshold set");
    let mesh = mesh(&settings(&registry, ""), &["a"]).await;
    answers(&mesh, "a", "orders").await;
    let load = Load::start(mesh.pod("a").outbound(), "orders.nacos");
    if server == Server::Nacos31 {
        until("health that is not believed", FORGOTTEN, || async {
            let rows = rows(&mesh, "orders").await;
            let is_doubted = |row: &serde_json::Value| {
                let why = row["why"].as_str().unwrap_or_default();
                row["believed"] == "unknown" && why.contains("protection threshold")
            };
            assert!(!known(&mesh, "a", "orders").await.is_empty());
            (rows.len() == 2 && rows.iter().all(is_doubted)).then_some(())
        })
        .await;
        assert_eq!(known(&mesh, "a", "orders").await.len(), 2);
    }
    until("both forgotten by the registry", FORGOTTEN, || async {
        assert!(!known(&mesh, "a", "orders").await.is_empty(), "never an empty list");
        api.instances("orders").await.is_empty().then_some(())
    })
    .await;
    until("the empty list held", PATIENCE, || async { (lists(&mesh, "held").await >= 1.0).then_some(()) }).await;
    stays_true("calls go on", Duration::from_secs(5), || !load.has_failed()).await;
    assert!(!known(&mesh, "a", "orders").await.is_empty(), "never an empty list");
    load.end_without_failure("while all were unhealthy or forgotten").await;
    applications.clear();
    until("the removal believed", PATIENCE, || async { known(&mesh, "a", "orders").await.is_empty().then_some(()) })
        .await;
}
