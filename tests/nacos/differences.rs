//! Where the two servers differ for a client that reads them: asserted as it is, so that what our source makes of either
//! stands on facts.

use std::{net::SocketAddr, time::Duration};

use mesh_tests::{
    registry::{
        Registry, Server,
        open_api::{List, Listed, OpenApi, Registration},
        sdk::Sdk,
    },
    wait::{PATIENCE, until},
};
use serde_json::json;
use tokio::time::Instant;

on_both_servers! {
    weight_back_to_one_by_registering_again,
    enabled_again_by_registering_again,
    edit_of_an_operator_outlives_registering_again,
    member_left_out_of_a_batch,
    cluster_asked_for,
    most_instances_unhealthy_under_protection,
}

/// Between heartbeats of a client without gRPC.
const BEAT: Duration = Duration::from_secs(2);

fn own(name: &str) -> String {
    format!("{name}-{:08x}", rand::random::<u32>())
}

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 8_080).into()
}

/// The instances once the registration has arrived that `round` marks in its metadata.
async fn at_round(api: &OpenApi, service: &str, round: &str) -> Vec<Listed> {
    until(&format!("round {round} of {service}"), PATIENCE, || async {
        let found = api.instances(service).await;
        let arrived = |one: &Listed| one.metadata.get("round").is_some_and(|found| found == round);
        found.iter().any(arrived).then_some(found)
    })
    .await
}

/// For rnacos a weight of 1 says nothing, so that the old weight stays.
async fn weight_back_to_one_by_registering_again(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let (mut sdk, api) = (Sdk::start(registry), registry.open_api().await);
    sdk.register(&instance.clone().weight(3.0).metadata("round", "1")).await;
    assert_eq!(at_round(&api, &instance.service, "1").await[0].weight, 3.0);
    sdk.register(&instance.clone().weight(1.0).metadata("round", "2")).await;
    let weight = at_round(&api, &instance.service, "2").await[0].weight;
    let expected = match server {
        Server::Rnacos => 3.0,
        Server::Nacos31 => 1.0,
    };
    assert_eq!(weight, expected);
}

/// For rnacos a client that disables its instance disables it until it is deregistered.
async fn enabled_again_by_registering_again(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let (mut sdk, api) = (Sdk::start(registry), registry.open_api().await);
    sdk.register(&instance).await;
    sdk.register(&instance.clone().disabled()).await;
    let none = || async { api.instances(&instance.service).await.is_empty().then_some(()) };
    until("a disabled instance gone", PATIENCE, none).await;
    sdk.register(&instance).await;
    if server == Server::Rnacos {
        // Another service of the same client shows that the server has taken what was said before.
        let later = Registration::new(&own("later"), address(1)).metadata("round", "1");
        sdk.register(&later).await;
        at_round(&api, &later.service, "1").await;
        assert_eq!(api.instances(&instance.service).await, []);
        sdk.deregister(&instance).await;
        sdk.register(&instance).await;
    }
    until("the instance back", PATIENCE, || async {
        (api.instances(&instance.service).await.len() == 1).then_some(())
    })
    .await;
}

/// What an operator set at the console wins over what the instance says, even one that went and came back: for Nacos
/// weight and metadata, for rnacos metadata.
async fn edit_of_an_operator_outlives_registering_again(server: Server) {
    let registry = Registry::shared(server).await;
    let instance = Registration::new(&own("orders"), address(1));
    let (mut sdk, api) = (Sdk::start(registry), registry.open_api().await);
    let said = |weight: f64| instance.clone().weight(weight).metadata("lane", "blue");
    sdk.register(&said(3.0)).await;
    until("the instance", PATIENCE, || async { (!api.instances(&instance.service).await.is_empty()).then_some(()) })
        .await;
    api.change(&instance.clone().weight(2.5).metadata("lane", "green")).await.expect("changed");
    for (weight, deregistered) in [(4.0, false), (5.0, true)] {
        if deregistered {
            sdk.deregister(&instance).await;
        }
        sdk.register(&said(weight)).await;
        let expected = match server {
            Server::Rnacos => weight,
            Server::Nacos31 => 2.5,
        };
        until(&format!("weight {expected} and lane green"), PATIENCE, || async {
            let found = api.instances(&instance.service).await;
            let [one] = &found[..] else { return None };
            (one.weight == expected && one.metadata.get("lane").is_some_and(|lane| lane == "green")).then_some(())
        })
        .await;
    }
}

/// A batch says all instances of its client: for Nacos. rnacos keeps the one that is no longer among them.
async fn member_left_out_of_a_batch(server: Server) {
    let registry = Registry::shared(server).await;
    let service = own("orders");
    let (mut sdk, api) = (Sdk::start(registry), registry.open_api().await);
    for (round, last) in [("1", 3), ("2", 2)] {
        let member = |last: u8| json!({"ip": format!("10.0.0.{last}"), "port": 8_080, "metadata": {"round": round}});
        let members: Vec<_> = (1..=last).map(member).collect();
        let answer = sdk.ask(json!({"do": "batch", "service": service, "instances": members})).await;
        assert_eq!(answer["ok"], json!(true), "{answer}");
    }
    let expected = match server {
        Server::Rnacos => 3,
        Server::Nacos31 => 2,
    };
    let found = at_round(&api, &service, "2").await;
    assert_eq!(found.len(), expected, "{found:?}");
}

/// rnacos gives the instances of every cluster, whichever is asked for.
async fn cluster_asked_for(server: Server) {
    let registry = Registry::shared(server).await;
    let service = own("orders");
    let api = registry.open_api().await;
    api.register(&Registration::new(&service, address(1)).cluster("east")).await.expect("registered");
    api.register(&Registration::new(&service, address(2)).cluster("west")).await.expect("registered");
    let path = format!("/nacos/v1/ns/instance/list?serviceName={service}&clusters=east");
    let answer = api.get(&path).await.expect("an answer");
    let list: List = serde_json::from_slice(&answer.body).expect("a list");
    let mut found: Vec<SocketAddr> = list.hosts.iter().map(Listed::address).collect();
    found.sort();
    match server {
        Server::Rnacos => assert_eq!(found, [address(1), address(2)]),
        Server::Nacos31 => assert_eq!(found, [address(1)]),
    }
}

/// One of three with heartbeats, threshold 0.8: Nacos says that the threshold is reached, and that all are healthy. rnacos
/// has no threshold, and takes those without heartbeats out at the end.
async fn most_instances_unhealthy_under_protection(server: Server) {
    let registry = Registry::shared(server).await;
    let service = own("orders");
    let api = registry.open_api().await;
    let instances: Vec<Registration> = (1..=3).map(|last| Registration::new(&service, address(last))).collect();
    for instance in &instances {
        api.register(instance).await.expect("registered");
    }
    api.protect(&service, 0.8).await.expect("the threshold set");
    let beaten = Instant::now();
    let mut last_beat = None::<Instant>;
    let list = loop {
        if last_beat.is_none_or(|last| last.elapsed() >= BEAT) {
            api.beat(&instances[0]).await.expect("a heartbeat");
            last_beat = Some(Instant::now());
        }
        let list = api.list("public", "DEFAULT_GROUP", &service).await.expect("a list");
        let is_end = match server {
            Server::Rnacos => list.hosts.len() < 3,
            Server::Nacos31 => list.reach_protection_threshold,
        };
        if is_end {
            break list;
        }
        assert!(beaten.elapsed() < Duration::from_secs(60), "{server:?} still says {list:?}");
        mesh_tests::wait::pace(Duration::from_millis(100)).await;
    };
    assert!(list.hosts.iter().all(|one| one.healthy), "{list:?}");
    match server {
        Server::Rnacos => assert!(!list.reach_protection_threshold, "{list:?}"),
        Server::Nacos31 => assert_eq!(list.hosts.len(), 3, "{list:?}"),
    }
}
