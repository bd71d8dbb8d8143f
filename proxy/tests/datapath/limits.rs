//! Time limits and retries that routes and policies set.

use std::{sync::Arc, time::Duration};

use mesh_core::model::{
    policy::{Limits, TrafficPolicy},
    route::{OutboundProtocol, RouteRetry, RouteTimeouts},
};

use crate::harness::{Pair, authority, has};

/// Sets the timeouts and retries of the only route.
fn set(pair: &Pair, timeouts: RouteTimeouts, retry: Option<RouteRetry>) {
    pair.caller.publish(|snapshot| {
        let policy = Arc::make_mut(snapshot.outbound.get_mut(&authority("b.demo")).unwrap());
        let OutboundProtocol::Detect { http1, .. } = &mut policy.protocol else { panic!("set by the harness") };
        http1[0].rules[0].timeouts = timeouts;
        http1[0].rules[0].retry = retry;
    });
}

#[tokio::test]
async fn silent_endpoint_is_answered_for_after_the_time_limit() {
    let pair = Pair::start().await;
    set(&pair, RouteTimeouts { response: Some(Duration::from_millis(100)), ..RouteTimeouts::default() }, None);
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 504 ") && has(&head, "x-mesh-error: timeout"), "{head}");
    assert!(application.rest().await.unwrap_or_default().is_empty(), "the endpoint's request is cancelled");
}

#[tokio::test]
async fn status_that_the_route_repeats_is_repeated_for_idempotent_methods_only() {
    let pair = Pair::start().await;
    let retry = RouteRetry { retries: 2, body_limit: 65_536, statuses: vec![(503, 503)], try_timeout: None };
    set(&pair, RouteTimeouts::default(), Some(retry));
    for (method, answers) in [("PUT", 2), ("POST", 1)] {
        let mut client = pair.call().await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 3\r\n\r\nabc")).await;
        for answer in 1..=answers {
            let mut application = pair.application().await;
            application.head().await;
            assert_eq!(application.exactly(3).await, b"abc");
            let status = if answer == 2 { 200 } else { 503 };
            application.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await;
        }
        let expected = if method == "PUT" { "HTTP/1.1 200 " } else { "HTTP/1.1 503 " };
        assert!(client.head().await.starts_with(expected), "{method}");
    }
}

#[tokio::test]
async fn body_longer_than_the_route_keeps_is_sent_once() {
    let pair = Pair::start().await;
    for (body_limit, answers) in [(3, 3), (2, 1)] {
        let retry = RouteRetry { retries: 2, body_limit, statuses: vec![(503, 503)], try_timeout: None };
        set(&pair, RouteTimeouts::default(), Some(retry));
        let mut client = pair.call().await;
        client.send("PUT / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 3\r\n\r\nabc").await;
        for _ in 0..answers {
            let mut application = pair.application().await;
            application.head().await;
            assert_eq!(application.exactly(3).await, b"abc");
            application.send("HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
        assert!(client.head().await.starts_with("HTTP/1.1 503 "), "{body_limit}");
    }
}

/// One exchange at a time at the instance.
fn allow_one(pair: &Pair) {
    pair.caller.publish(|snapshot| {
        let limits = Limits { requests: 1, ..Limits::default() };
        let policy = TrafficPolicy { limits, ..TrafficPolicy::default() };
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(policy));
    });
}

#[tokio::test]
async fn tunnel_counts_as_an_exchange_as_long_as_it_is_open() {
    let mut pair = Pair::start().await;
    allow_one(&pair);
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    let mut second = pair.call().await;
    second.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    assert!(has(&second.head().await, "x-mesh-error: overloaded"));
    assert_eq!(pair.caller.record().await.status, 503);
    drop((application, client));
    assert_eq!(pair.caller.record().await.status, 101);
    let mut third = pair.call().await;
    third.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    pair.application().await.head().await;
}

#[tokio::test]
async fn exchanges_beyond_the_limit_are_refused_at_once() {
    let pair = Pair::start().await;
    allow_one(&pair);
    let mut first = pair.call().await;
    first.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    let mut second = pair.call().await;
    second.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let head = second.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && has(&head, "x-mesh-error: overloaded"), "{head}");
}
