//! `Destination`: the whole set first, then deltas.

use std::net::SocketAddr;

use linkerd2_proxy_api::destination::{
    GetDestination, Update, destination_client::DestinationClient, update::Update as Kind,
};
use mesh_proto::convert::endpoint::{Change, from_wire};
use tonic::{Code, Streaming, transport::Channel};

use crate::harness::{Controller, LANES, SERVICES, next, workload};

pub(crate) async fn get(channel: &Channel, path: &str) -> Result<Streaming<Update>, tonic::Status> {
    let context_token = workload("demo", "a-1");
    let ask = GetDestination { path: path.to_owned(), context_token, ..GetDestination::default() };
    DestinationClient::new(channel.clone()).get(ask).await.map(tonic::Response::into_inner)
}

pub(crate) async fn change(stream: &mut Streaming<Update>) -> Change {
    Change::from_wire(next(stream).await.unwrap(), "lanemesh").unwrap()
}

fn addresses(change: &Change) -> Vec<String> {
    match change {
        Change::Add(endpoints) => endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
        Change::Remove(addresses) => addresses.iter().map(ToString::to_string).collect(),
        Change::Empty { .. } => Vec::new(),
    }
}

#[tokio::test]
async fn the_first_update_is_the_whole_set_and_later_ones_are_deltas() {
    let controller = Controller::with(&[("services.yaml", SERVICES), ("lanes.yaml", LANES)], &[]).await;
    let channel = controller.proxy("a").await;
    let mut stream = get(&channel, "b.demo.svc.cluster.local:8080").await.unwrap();
    let Change::Add(all) = change(&mut stream).await else { panic!("add first") };
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].zone.as_deref(), Some("z1"));
    assert_eq!(all[0].inbound_port, Some(4_143));
    assert_eq!(all[0].identity.as_ref().unwrap().service_account(), "b");
    assert_eq!(all[1].weight, 5_000);
    assert_eq!(all[2].lanes[0].to_string(), "shop/canary");

    let without_canary: String =
        SERVICES.lines().filter(|line| !line.contains("b-canary")).map(|line| format!("{line}\n")).collect();
    controller.write("services.yaml", &without_canary);
    assert_eq!(change(&mut stream).await, Change::Remove(vec!["127.1.0.4:8080".parse().unwrap()]));

    controller.write("services.yaml", &SERVICES.replace("weight: 0.5", "weight: 2"));
    let changed = change(&mut stream).await;
    assert_eq!(addresses(&changed), ["127.1.0.3:8080", "127.1.0.4:8080"]);

    controller
        .write("services.yaml", &SERVICES.replace("127.1.0.2:", "127.1.0.9:").replace("weight: 0.5", "weight: 0"));
    let added = change(&mut stream).await;
    assert_eq!(addresses(&added), ["127.1.0.9:8080"], "new ones before old ones go");
    assert_eq!(addresses(&change(&mut stream).await), ["127.1.0.2:8080", "127.1.0.3:8080"]);
    controller.stop().await;
}

#[tokio::test]
async fn a_service_without_instances_exists_and_an_unknown_one_does_not_until_it_appears() {
    let controller = Controller::start().await;
    let channel = controller.proxy("a").await;
    let mut empty = get(&channel, "c.demo.svc.cluster.local:80").await.unwrap();
    assert_eq!(change(&mut empty).await, Change::Empty { exists: true });
    let mut unknown = get(&channel, "x.demo.svc.cluster.local:8080").await.unwrap();
    assert_eq!(change(&mut unknown).await, Change::Empty { exists: false });
    controller.write("services.yaml", &SERVICES.replace("name: b", "name: x"));
    assert_eq!(addresses(&change(&mut unknown).await).len(), 3);
    controller.write("services.yaml", SERVICES);
    assert_eq!(change(&mut unknown).await, Change::Empty { exists: false });
    controller.stop().await;
}

#[tokio::test]
async fn an_address_and_a_name_that_is_none_are_refused() {
    let controller = Controller::start().await;
    let channel = controller.proxy("a").await;
    for path in ["127.1.0.2:8080", "[::1]:80", "", "b demo:80", "www.example.com:80", "b:port"] {
        assert_eq!(get(&channel, path).await.unwrap_err().code(), Code::InvalidArgument, "{path}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn a_profile_names_the_service_of_a_name_and_the_instance_of_an_address() {
    let controller = Controller::start().await;
    let mut client = DestinationClient::new(controller.proxy("a").await);
    let mut profile = async |path: &str| {
        let ask = GetDestination { path: path.to_owned(), ..GetDestination::default() };
        next(client.get_profile(ask).await.unwrap().get_mut()).await.unwrap()
    };
    let named = profile("b.demo.svc.cluster.local:8080").await;
    assert_eq!(named.fully_qualified_name, "b.demo.svc.cluster.local");
    assert!(named.endpoint.is_none() && !named.opaque_protocol);
    assert!(profile("c.demo.svc.cluster.local:6379").await.opaque_protocol);
    let addressed = profile("127.1.0.2:8080").await;
    let endpoint = from_wire(addressed.endpoint.unwrap(), "lanemesh").unwrap();
    assert_eq!(endpoint.address, "127.1.0.2:8080".parse::<SocketAddr>().unwrap());
    assert_eq!(profile("10.9.9.9:80").await.fully_qualified_name, "");
    controller.stop().await;
}

#[tokio::test]
async fn the_plaintext_port_answers_loopback_clients_without_certificate() {
    let controller = Controller::with(&[("s.yaml", SERVICES)], &["--plaintext-loopback", "127.0.0.1:0"]).await;
    let address = format!("http://{}", controller.plaintext());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut stream = get(&channel, "b.demo.svc.cluster.local:8080").await.unwrap();
    assert!(matches!(next(&mut stream).await.unwrap().update, Some(Kind::Add(_))));
    controller.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_so_that_proxies_go_to_another_replica() {
    let controller = Controller::start().await;
    let channel = controller.proxy("a").await;
    let mut stream = get(&channel, "b.demo.svc.cluster.local:8080").await.unwrap();
    next(&mut stream).await.unwrap();
    let ((), last) = tokio::join!(controller.stop(), next(&mut stream));
    assert_eq!(last.unwrap_err().code(), Code::Unavailable);
}
