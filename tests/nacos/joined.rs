//! Settings that say what of a registry counts and how, and services made of several sources.

use std::collections::BTreeSet;

use mesh_tests::{
    addresses::Block,
    mesh::{Builder, Mesh},
    pod::PodSpec,
    registry::{Registry, Server},
    wait::{PATIENCE, until},
};

use crate::world::{Member, answers, application, known, mesh, own, settings};

on_both_servers! {
    call_by_address_goes_to_the_service_or_to_that_instance_as_settings_say,
    instances_of_other_clusters_take_no_calls,
    mesh_service_joins_a_registry_and_the_file,
    mesh_service_joins_two_registries,
    policies_are_in_force_after_a_restart_while_the_registry_is_away,
}

/// Calls of which some would go to each of two instances, whatever the chance.
const CALLS: usize = 60;

/// Who answers calls to `host`, all of which must be answered.
async fn answerers(mesh: &Mesh, host: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for _ in 0..CALLS {
        let answer = mesh.get("a", host, "/", &[]).await.expect("an answer");
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
        found.insert(answer.text());
    }
    found
}

async fn call_by_address_goes_to_the_service_or_to_that_instance_as_settings_say(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let one = Member::start(registry, &block, 1, &service).await;
    let _two = Member::start(registry, &block, 2, &service).await;
    for (setting, expected) in [("service", &["1", "2"][..]), ("pinned", &["1"][..])] {
        let mesh = mesh(&settings(registry, &format!("  addressCalls: {setting}\n")), &["a"]).await;
        answers(&mesh, "a", &service).await;
        until("both instances", PATIENCE, || async { (known(&mesh, "a", &service).await.len() == 2).then_some(()) })
            .await;
        let found = answerers(&mesh, &one.instance.address.to_string()).await;
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "addressCalls: {setting}");
    }
}

async fn instances_of_other_clusters_take_no_calls(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let mut members = Vec::new();
    for (last, cluster) in [(1, "hz"), (2, "bj")] {
        let mut member = Member::start(registry, &block, last, &service).await;
        member.deregister().await;
        member.instance = member.instance.cluster(cluster);
        member.register().await;
        members.push(member);
    }
    let mesh = mesh(&settings(registry, "  clusters: [hz]\n"), &["a"]).await;
    answers(&mesh, "a", &service).await;
    assert_eq!(known(&mesh, "a", &service).await.keys().copied().collect::<Vec<_>>(), [members[0].instance.address]);
    assert_eq!(answerers(&mesh, &format!("{service}.nacos")).await, BTreeSet::from(["1".to_owned()]));
    members[1].deregister().await;
    members[1].instance = members[1].instance.clone().cluster("hz");
    members[1].register().await;
    until("the instance that came into the cluster", PATIENCE, || async {
        (known(&mesh, "a", &service).await.len() == 2).then_some(())
    })
    .await;
}

/// A service `order` of these members.
fn logical(members: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: MeshService\nmetadata: {{name: order, namespace: demo}}\n\
         spec: {{members: [{members}]}}\n"
    )
}

/// Starts the mesh and waits until both members of `order` answer.
async fn joins(builder: Builder, expected: [&str; 2], file: Option<&str>) {
    let mesh = builder.pod(PodSpec::new("a")).start().await;
    let _application = match file {
        Some(pod) => Some(application(mesh.application(pod), "file").await),
        None => None,
    };
    let expected = BTreeSet::from(expected.map(str::to_owned));
    until("order answers", PATIENCE, || async {
        let answer = mesh.get("a", "order.demo", "/", &[]).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    until(&format!("calls go to all of {expected:?}"), PATIENCE, || async {
        (answerers(&mesh, "order.demo").await == expected).then_some(())
    })
    .await;
}

async fn mesh_service_joins_a_registry_and_the_file(server: Server) {
    let (registry, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let _member = Member::start(registry, &block, 1, &service).await;
    let members = format!("{{source: nacos, name: {service}}}, {{source: file, name: old, namespace: demo}}");
    let builder = Mesh::builder().nacos(&settings(registry, "")).resource(&logical(&members));
    joins(builder.pod(PodSpec::new("old").of("old")), ["1", "file"], Some("old")).await;
}

async fn mesh_service_joins_two_registries(server: Server) {
    let (one, block, service) = (Registry::shared(server).await, Block::reserve(), own("orders"));
    let other = Registry::start(server).await;
    let _first = Member::start(one, &block, 1, &service).await;
    let _second = Member::start(&other, &block, 2, &service).await;
    let settings = settings(one, &format!("- name: other\n  addresses: [\"{}\"]\n", other.address()));
    let members = format!("{{source: nacos, name: {service}}}");
    joins(Mesh::builder().nacos(&settings).resource(&logical(&members)), ["1", "2"], None).await;
}

fn group(name: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: {name}, namespace: demo}}\n\
         spec: {{services: ['*']}}\n"
    )
}

async fn groups(mesh: &Mesh) -> Vec<String> {
    let Ok(page) = mesh.console("/api/v1/resources").await else { return Vec::new() };
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let groups = items.iter().filter(|item| item["kind"] == "LaneGroup");
    groups.filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
}

async fn policies_are_in_force_after_a_restart_while_the_registry_is_away(server: Server) {
    let mut registry = Registry::start(server).await;
    let api = registry.open_api().await;
    for name in ["first", "second"] {
        api.publish("LANEMESH", &format!("{name}.yaml"), &group(name)).await.expect("published");
    }
    let mut mesh = mesh(&settings(&registry, ""), &["a"]).await;
    until("both policies", PATIENCE, || async { (groups(&mesh).await == ["first", "second"]).then_some(()) }).await;
    // What is in force is the last good text, not what the server said last.
    api.publish("LANEMESH", "second.yaml", "kind: LaneGruop").await.expect("published");
    until("the bad text said", PATIENCE, || async {
        let (_, page) = mesh.controller_page("/api/v1/source").await.ok()?;
        page.contains("LaneGruop").then_some(())
    })
    .await;
    registry.kill();
    mesh.controller.start_again();
    mesh.controller_ready().await;
    assert_eq!(groups(&mesh).await, ["first", "second"], "in force before any proxy is served");
}
