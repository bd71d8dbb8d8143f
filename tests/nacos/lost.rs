//! A registry that is lost, empty or restless: calls go on, and what is really gone is believed.

use std::time::Duration;

use mesh_tests::{
    addresses::Block,
    length,
    load::Load,
    mesh::Mesh,
    registry::{Data, Registry, Server},
    wait::{PATIENCE, stays_true, until, until_true},
};
use tokio::time::Instant;

use crate::world::{Member, answers, known, mesh, rows, settings};

on_both_servers! {
    killed_server_fails_no_call_and_comes_back_empty_full_length,
    hundred_flaps_fail_no_call,
    empty_list_is_held_while_instances_answer_and_believed_when_they_do_not,
}

const SERVICE: &str = "orders";

async fn two_members(registry: &Registry, block: &Block) -> [Member; 2] {
    [Member::start(registry, block, 1, SERVICE).await, Member::start(registry, block, 2, SERVICE).await]
}

async fn kept(mesh: &Mesh, pod: &str) {
    let file = mesh.sidecar_state(pod).join("snapshot.json");
    let is_kept = || std::fs::read_to_string(&file).is_ok_and(|kept| kept.contains(SERVICE));
    until_true("the service in the snapshot", PATIENCE, is_kept).await;
}

async fn killed_server_fails_no_call_and_comes_back_empty_full_length(server: Server) {
    let (mut registry, block) = (Registry::start(server).await, Block::reserve());
    let _members = two_members(&registry, &block).await;
    let mut mesh = mesh(&settings(&registry, ""), &["steady", "restarted"]).await;
    for pod in ["steady", "restarted"] {
        answers(&mesh, pod, SERVICE).await;
        kept(&mesh, pod).await;
    }
    // Each sends a request every 5 ms at most: together some 500 in a second.
    let loads: Vec<Load> = (0..4).map(|_| Load::start(mesh.pod("steady").outbound(), "orders.nacos")).collect();
    registry.kill();
    let (killed, lasts) = (Instant::now(), length::of(Duration::from_secs(30), Duration::from_secs(300)));
    let mut restarts = 0;
    while killed.elapsed() < lasts {
        mesh.controller.start_again();
        mesh.controller_ready().await;
        mesh.pod_mut("restarted").proxy().start_again();
        mesh.pod("restarted").ready().await;
        answers(&mesh, "restarted", SERVICE).await;
        restarts += 1;
        let sent = loads[0].sent();
        until_true("requests between restarts", PATIENCE, || loads[0].sent() > sent + 100).await;
    }
    registry.start_again(Data::Empty).await;
    let back = Instant::now();
    let api = registry.open_api().await;
    until("both registered again by the SDK", Duration::from_secs(60), || async {
        assert_eq!(known(&mesh, "steady", SERVICE).await.len(), 2, "the old list stays until then");
        (api.instances(SERVICE).await.len() == 2).then_some(())
    })
    .await;
    let registered = Instant::now();
    until("the registry's word is followed again", PATIENCE, || async {
        let rows = rows(&mesh, SERVICE).await;
        (rows.len() == 2 && rows.iter().all(|row| row["out"].is_null())).then_some(())
    })
    .await;
    println!("{server:?}: registered again after {:?}, followed {:?} later", registered - back, registered.elapsed());
    assert!(registered.elapsed() < Duration::from_secs(5));
    let mut sent = 0;
    for load in loads {
        sent += load.end_without_failure("while the server was away").await;
    }
    println!("{server:?}: {sent} requests, {restarts} restarts of controller and proxy");
    assert!(restarts >= 2, "{restarts}");
}

async fn hundred_flaps_fail_no_call(server: Server) {
    let (registry, block) = (Registry::start(server).await, Block::reserve());
    let [mut flapping, _steady] = two_members(&registry, &block).await;
    let mesh = mesh(&settings(&registry, ""), &["a"]).await;
    answers(&mesh, "a", SERVICE).await;
    let load = Load::start(mesh.pod("a").outbound(), "orders.nacos");
    for _ in 0..100 {
        flapping.deregister().await;
        flapping.register().await;
    }
    until("both known at the end", PATIENCE, || async { (known(&mesh, "a", SERVICE).await.len() == 2).then_some(()) })
        .await;
    load.end_without_failure("while an instance came and went a hundred times").await;
}

async fn empty_list_is_held_while_instances_answer_and_believed_when_they_do_not(server: Server) {
    let (registry, block) = (Registry::start(server).await, Block::reserve());
    let mut members = two_members(&registry, &block).await;
    let mesh = mesh(&settings(&registry, "  emptyPushGuard: 5m\n"), &["a"]).await;
    answers(&mesh, "a", SERVICE).await;
    let load = Load::start(mesh.pod("a").outbound(), "orders.nacos");
    for member in &mut members {
        member.deregister().await;
    }
    let api = registry.open_api().await;
    until("an empty list", PATIENCE, || async { api.instances(SERVICE).await.is_empty().then_some(()) }).await;
    // The guard lets an instance go only when the last list had others: with both gone at least the last one stays.
    stays_true("requests go on", Duration::from_secs(10), || !load.has_failed()).await;
    assert!(!known(&mesh, "a", SERVICE).await.is_empty(), "held");
    load.end_without_failure("with an empty list").await;
    for member in &mut members {
        member.application = None;
    }
    until("the removal believed", Duration::from_secs(60), || async {
        known(&mesh, "a", SERVICE).await.is_empty().then_some(())
    })
    .await;
}
