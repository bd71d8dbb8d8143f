//! Clients that are not ours, on either server: what one registers another sees, and when what they registered ends.

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use mesh_tests::{
    registry::{
        Registry, Server,
        open_api::{Listed, OpenApi, Registration},
        sdk::Sdk,
    },
    wait::{PATIENCE, until},
};
use tokio::time::Instant;

on_both_servers! {
    instance_of_the_sdk_is_listed_with_all_that_it_said,
    instance_of_plain_http_is_listed_with_all_that_it_said,
    killed_client_loses_its_instances,
    frozen_client_loses_its_instances,
    instance_without_heartbeats_ends,
    changes_of_an_operator_are_listed,
    disabled_instance_is_not_listed,
    namespaces_groups_and_clusters_are_apart,
    documents_are_the_same_for_every_client,
}

/// A name that no other test on the same server uses.
fn own(name: &str) -> String {
    format!("{name}-{:08x}", rand::random::<u32>())
}

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 8_080).into()
}

async fn listed(api: &OpenApi, service: &str, count: usize) -> Vec<Listed> {
    until(&format!("{count} instances of {service}"), PATIENCE, || async {
        let found = api.instances(service).await;
        (found.len() == count).then_some(found)
    })
    .await
}

fn assert_is(listed: &Listed, instance: &Registration) {
    assert_eq!(listed.address(), instance.address);
    assert_eq!(listed.weight, instance.weight);
    assert_eq!(listed.cluster_name, instance.cluster);
    assert!(listed.enabled && listed.healthy);
    assert_eq!(listed.ephemeral, instance.ephemeral);
    for (key, value) in &instance.metadata {
        assert_eq!(listed.metadata.get(key), Some(value), "{key} of {listed:?}");
    }
}

fn rich(service: &str) -> Registration {
    Registration::new(service, address(1))
        .cluster("hangzhou")
        .weight(0.3)
        .metadata("lane", "blue")
        .metadata("zone", "ü 1")
}

async fn instance_of_the_sdk_is_listed_with_all_that_it_said(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = rich(&own("orders"));
    let mut sdk = Sdk::start(registry);
    sdk.register(&instance).await;
    let api = registry.open_api().await;
    assert_is(&listed(&api, &instance.service, 1).await[0], &instance);
    sdk.deregister(&instance).await;
    listed(&api, &instance.service, 0).await;
}

async fn instance_of_plain_http_is_listed_with_all_that_it_said(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = rich(&own("orders"));
    let api = registry.open_api().await;
    api.register(&instance).await.expect("registered");
    assert_is(&listed(&api, &instance.service, 1).await[0], &instance);
    api.deregister(&instance).await.expect("deregistered");
    listed(&api, &instance.service, 0).await;
}

/// How long from `since` until nothing of the service is listed any more.
async fn gone(api: &OpenApi, service: &str, since: Instant) -> Duration {
    until(&format!("{service} gone"), Duration::from_secs(60), || async {
        api.instances(service).await.is_empty().then(|| since.elapsed())
    })
    .await
}

async fn killed_client_loses_its_instances(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let mut sdk = Sdk::start(registry);
    sdk.register(&instance).await;
    let api = registry.open_api().await;
    listed(&api, &instance.service, 1).await;
    let killed = Instant::now();
    sdk.kill();
    let took = gone(&api, &instance.service, killed).await;
    assert!(took < Duration::from_secs(5), "{server:?} took {took:?}; a closed connection is noticed at once");
}

async fn frozen_client_loses_its_instances(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let mut sdk = Sdk::start(registry);
    sdk.register(&instance).await;
    let api = registry.open_api().await;
    listed(&api, &instance.service, 1).await;
    let frozen = Instant::now();
    sdk.freeze();
    let took = gone(&api, &instance.service, frozen).await;
    let expected = match server {
        Server::Rnacos => Duration::from_secs(10)..Duration::from_secs(30),
        Server::Nacos31 => Duration::from_secs(20)..Duration::from_secs(40),
    };
    assert!(expected.contains(&took), "{server:?} took {took:?}, expected {expected:?}");
}

/// Nacos says after 15 s that it is unhealthy and after 30 s that it is gone; rnacos goes straight to the end.
async fn instance_without_heartbeats_ends(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let api = registry.open_api().await;
    let registered = Instant::now();
    api.register(&instance).await.expect("registered");
    let unhealthy_after = Mutex::new(None);
    until("the instance gone", Duration::from_secs(60), || async {
        let found = api.instances(&instance.service).await;
        if found.iter().any(|listed| !listed.healthy) {
            unhealthy_after.lock().expect("no panic").get_or_insert_with(|| registered.elapsed());
        }
        found.is_empty().then_some(())
    })
    .await;
    let unhealthy_after = unhealthy_after.into_inner().expect("no panic");
    let gone_after = registered.elapsed();
    assert!((28..45).contains(&gone_after.as_secs()), "{server:?}: gone after {gone_after:?}");
    match server {
        Server::Rnacos => assert_eq!(unhealthy_after, None),
        Server::Nacos31 => {
            let after = unhealthy_after.expect("unhealthy before it is gone");
            assert!((14..25).contains(&after.as_secs()), "unhealthy after {after:?}");
        }
    }
}

async fn changes_of_an_operator_are_listed(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1)).metadata("lane", "blue");
    let mut sdk = Sdk::start(registry);
    sdk.register(&instance).await;
    let api = registry.open_api().await;
    listed(&api, &instance.service, 1).await;
    let changed = Registration::new(&instance.service, address(1)).weight(2.5).metadata("lane", "green");
    api.change(&changed).await.expect("changed");
    until("the change listed", PATIENCE, || async {
        let found = api.instances(&instance.service).await;
        let [one] = &found[..] else { return None };
        (one.weight == 2.5 && one.metadata.get("lane").is_some_and(|lane| lane == "green")).then_some(())
    })
    .await;
}

async fn disabled_instance_is_not_listed(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let mut sdk = Sdk::start(registry);
    sdk.register(&instance).await;
    let api = registry.open_api().await;
    listed(&api, &instance.service, 1).await;
    sdk.register(&instance.clone().disabled()).await;
    listed(&api, &instance.service, 0).await;
}

async fn namespaces_groups_and_clusters_are_apart(server: Server) {
    let registry = Registry::shared(server).await;
    let service = own("orders");
    let api = registry.open_api().await;
    let instances = [
        Registration::new(&service, address(1)),
        Registration::new(&service, address(2)).group("shop"),
        Registration::new(&service, address(3)).namespace("staging"),
    ];
    for instance in &instances {
        api.register(instance).await.expect("registered");
    }
    for instance in &instances {
        let found = api.list(&instance.namespace, &instance.group, &service).await.expect("listed").hosts;
        assert_eq!(found.iter().map(Listed::address).collect::<Vec<_>>(), [instance.address]);
    }
}

async fn documents_are_the_same_for_every_client(server: Server) {
    let registry = Registry::shared(server).await;
    let document = format!("{}.yaml", own("policy"));
    let api = registry.open_api().await;
    let mut sdk = Sdk::start(registry);
    let text = "kind: Lane\nname: \"a & b = ü\"\n";
    sdk.publish("LANEMESH", &document, text).await;
    let read = until("document by HTTP", PATIENCE, || async { api.document("LANEMESH", &document).await.ok()? }).await;
    assert_eq!(read, text);
    api.publish("LANEMESH", &document, "kind: LaneGroup").await.expect("published");
    until("the new text by HTTP", PATIENCE, || async {
        (api.document("LANEMESH", &document).await.ok()??.trim() == "kind: LaneGroup").then_some(())
    })
    .await;
    assert_eq!(sdk.document("LANEMESH", &document).await, "kind: LaneGroup");
    api.remove("LANEMESH", &document).await.expect("removed");
    until("no document", PATIENCE, || async {
        api.document("LANEMESH", &document).await.ok()?.is_none().then_some(())
    })
    .await;
}
