//! What the connection does with a server that does what real ones do rarely.

use std::time::Duration;

use mesh_controller::sources::nacos::wire::{Cause, Event, Options};
use mesh_core::{discovery::nacos::Name, resources::nacos::Address};

use crate::{
    fake::Fake,
    harness::{Connection, instance},
};

fn options(addresses: &[&Address]) -> Options {
    Options {
        name: "fake".to_owned(),
        addresses: addresses.iter().map(|address| (*address).clone()).collect(),
        namespace: "public".to_owned(),
        tls: None,
        login: None,
    }
}

fn orders() -> Name {
    Name::new("", "", "orders")
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_an_error_and_the_connection_stays() {
    let fake = Fake::start().await;
    let mut connection = Connection::up(options(&[&fake.address])).await;
    for json in [
        "",
        "{",
        "null",
        "[]",
        "5",
        r#"{"resultCode":200}"#,
        r#"{"resultCode":200,"serviceInfo":5}"#,
        r#"{"resultCode":200,"serviceInfo":{"hosts":"none"}}"#,
        r#"{"resultCode":200,"serviceInfo":{"hosts":[5]}}"#,
        "\u{0}",
    ] {
        fake.answer("ServiceQueryRequest", json);
        let error = connection.client.query(&orders()).await.expect_err(json);
        assert!(matches!(error.cause, Cause::Malformed(_) | Cause::Refused { .. }), "{json}: {error}");
        assert!(error.to_string().contains(": ServiceQueryRequest: "), "{error}");
    }
    let list = r#"{"resultCode":200,"serviceInfo":{"name":"x","hosts":[{"ip":"10.0.0.1","port":"80","weight":"NaN","metadata":[]}]}}"#;
    fake.answer("ServiceQueryRequest", list);
    let listing = connection.client.query(&orders()).await.expect("the connection lives");
    assert_eq!((listing.hosts[0].ip.as_str(), listing.hosts[0].port), ("10.0.0.1", 80));
    assert!(listing.hosts[0].weight.is_nan());
    connection.expect_quiet();
}

#[tokio::test]
async fn what_a_server_refuses_is_said_with_its_code_and_words() {
    let fake = Fake::start().await;
    let connection = Connection::up(options(&[&fake.address])).await;
    fake.answer("InstanceRequest", r#"{"resultCode":500,"errorCode":400,"message":"no\nport"}"#);
    let error = connection.client.register(&orders(), &instance("10.0.0.1", 80)).await.expect_err("refused");
    assert!(error.to_string().ends_with("InstanceRequest: refused (400): noport"), "{error}");
    fake.answer("InstanceRequest", r#"{"resultCode":500,"errorCode":403,"message":"user not found"}"#);
    let error = connection.client.register(&orders(), &instance("10.0.0.1", 80)).await.expect_err("refused");
    assert!(matches!(error.cause, Cause::Denied { .. }), "{error}");
}

#[tokio::test]
async fn pushes_are_answered_and_told_and_one_that_cannot_be_read_costs_nothing() {
    let fake = Fake::start().await;
    let mut connection = Connection::up(options(&[&fake.address])).await;
    fake.push("NotifySubscriberRequest", r#"{"requestId":"7","serviceInfo":7}"#).await;
    fake.hears("NotifySubscriberResponse").await;
    assert!(matches!(connection.next().await, Event::Unreadable(_)));
    let push = r#"{"requestId":8,"serviceInfo":{"name":"orders","groupName":"G","lastRefTime":5,"reachProtectionThreshold":true,"hosts":null}}"#;
    fake.push("NotifySubscriberRequest", push).await;
    let Event::Pushed(listing) = connection.next().await else { panic!("no list") };
    assert_eq!(
        (listing.name, listing.last_ref_time, listing.reach_protection),
        (Name::new("", "G", "orders"), 5, true)
    );
    fake.push("ClientDetectionRequest", "{}").await;
    fake.hears("ClientDetectionResponse").await;
    fake.push("SomethingNew", "{").await;
    fake.push("ConfigChangeNotifyRequest", r#"{"dataId":"a.yaml","group":"LANEMESH","tenant":null}"#).await;
    let Event::ConfigChanged { data_id, group } = connection.next().await else { panic!("no change") };
    assert_eq!((data_id.as_str(), group.as_str()), ("a.yaml", "LANEMESH"));
    fake.hears("ConfigChangeNotifyResponse").await;
}

#[tokio::test]
async fn a_server_that_sends_us_away_is_left_for_another_one() {
    let fakes = [Fake::at("127.0.0.1").await, Fake::at("127.0.0.2").await];
    let mut connection = Connection::up(options(&[&fakes[0].address, &fakes[1].address])).await;
    let at = usize::from(connection.server.contains("127.0.0.2"));
    fakes[at].push("ConnectResetRequest", r#"{"serverIp":"","serverPort":null}"#).await;
    let Event::Disconnected { reason } = connection.next().await else { panic!("still there") };
    assert!(matches!(reason.cause, Cause::Moved { .. }), "{reason}");
    let Event::Connected { server } = connection.next().await else { panic!("not connected again") };
    assert_ne!(*server, *connection.server);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_within_ten_seconds() {
    let fake = Fake::start().await;
    let mut connection = Connection::up(options(&[&fake.address])).await;
    fake.fall_silent();
    let asked = std::time::Instant::now();
    let error = connection.client.query(&orders()).await.expect_err("silence");
    assert!(matches!(error.cause, Cause::Silent(_)), "{error}");
    let Event::Disconnected { reason } = connection.next().await else { panic!("still there") };
    assert!(matches!(reason.cause, Cause::Silent(_)), "{reason}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_server_that_forgot_the_connection_is_connected_to_again() {
    let fake = Fake::start().await;
    let mut connection = Connection::up(options(&[&fake.address])).await;
    fake.answer(
        "SubscribeServiceRequest",
        r#"{"resultCode":500,"errorCode":301,"message":"Connection is unregistered."}"#,
    );
    connection.client.subscribe(&orders()).await.expect_err("forgotten");
    assert!(matches!(connection.next().await, Event::Disconnected { .. }));
    assert!(matches!(connection.next().await, Event::Connected { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_again_and_again() {
    let nobody = Address { host: "127.0.0.1".to_owned(), port: 1, grpc_port: 2 };
    let mut connection = Connection::begin(options(&[&nobody]));
    for _ in 0..3 {
        let Event::Disconnected { reason } = connection.next().await else { panic!("connected to nobody") };
        assert!(matches!(reason.cause, Cause::Unreachable(_)), "{reason}");
    }
    let error = connection.client.query(&orders()).await.expect_err("no connection");
    assert!(matches!(error.cause, Cause::NotConnected(_)), "{error}");
}
