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
async fn exchanges_beyond_the_limit_are_refused_at_once() {
    let pair = Pair::start().await;
    pair.caller.publish(|snapshot| {
        let limits = Limits { requests: 1, ..Limits::default() };
        let policy = TrafficPolicy { limits, ..TrafficPolicy::default() };
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(policy));
    });
    let mut first = pair.call().await;
    first.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    let mut second = pair.call().await;
    second.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let head = second.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && has(&head, "x-mesh-error: overloaded"), "{head}");
}
