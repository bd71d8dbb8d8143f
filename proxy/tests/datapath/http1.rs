//! HTTP/1 through both sidecars.

use mesh_core::outcome::Outcome;
use tokio::io::AsyncWriteExt;

use crate::harness::{Pair, Peer, has};

const GET: &str = "GET /x?y=1 HTTP/1.1\r\nHost: b.demo\r\n\r\n";

#[tokio::test]
async fn request_and_response_cross_both_sidecars_and_connections_are_kept() {
    let mut pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send(GET).await;
    let mut application = pair.application().await;
    for _ in 0..3 {
        let head = application.head().await;
        assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
        assert!(has(&head, "host: b.demo"), "{head}");
        assert!(has(&head, "l5d-client-id: a.demo.serviceaccount.identity.lanemesh.cluster.local"), "{head}");
        application.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(client.exactly(5).await, b"hello");
        client.send(GET).await;
    }
    let record = pair.callee.record().await;
    assert_eq!((record.outcome, record.status), (Outcome::Success, 200));
    assert_eq!(record.peer.as_deref(), Some("spiffe://cluster.local/ns/demo/sa/a"));
    assert_eq!(pair.caller.metrics.connects.get(), 1, "one connection served all requests");
}

#[tokio::test]
async fn chunked_bodies_and_trailers_cross_in_both_directions() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("POST / HTTP/1.1\r\nHost: b.demo\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("3\r\nabc\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    application.until("3\r\nabc\r\n").await;
    // The answer begins while the request goes on.
    application.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
    client.head().await;
    client.until("2\r\nok\r\n").await;
    client.send("1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert_eq!(application.until("\r\n\r\n").await.to_ascii_lowercase(), "1\r\nd\r\n0\r\nx-sum: 1\r\n\r\n");
    application.send("0\r\nX-Total: 2\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await.to_ascii_lowercase(), "0\r\nx-total: 2\r\n\r\n");
}

#[tokio::test]
async fn interim_responses_cross_before_the_final_one() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("PUT / HTTP/1.1\r\nHost: b.demo\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
    let mut application = pair.application().await;
    assert!(has(&application.head().await, "expect: 100-continue"));
    application.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    client.send("hi").await;
    assert_eq!(application.exactly(2).await, b"hi");
    application.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 103 "));
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("GET /1 HTTP/1.1\r\nHost: b.demo\r\n\r\nGET /2 HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    for path in ["/1", "/2"] {
        assert!(application.head().await.starts_with(&format!("GET {path} ")));
        application.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{path}")).await;
        client.head().await;
        assert_eq!(client.exactly(2).await, path.as_bytes());
    }
}

#[tokio::test]
async fn truncated_response_reaches_the_client_as_truncated() {
    let mut pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send(GET).await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    drop(application);
    client.head().await;
    let rest = client.rest().await;
    assert!(rest.is_err() || rest.unwrap().len() < 10, "the client must see that bytes are missing");
    assert_eq!(pair.callee.record().await.outcome, Outcome::UpstreamIncomplete);
    assert_eq!(pair.caller.record().await.outcome, Outcome::UpstreamIncomplete);
}

#[tokio::test]
async fn endpoint_that_closes_without_an_answer_is_reported_as_bad_gateway() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 0\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    drop(application);
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(has(&head, "x-mesh-error: upstream_reset") && head.contains("\r\nl5d-proxy-error: the endpoint"), "{head}");
    assert!(has(&head, "content-type: application/problem+json"), "{head}");
}

#[tokio::test]
async fn upgrade_becomes_a_tunnel_with_half_close() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst").await;
    let mut application = pair.application().await;
    let head = application.head().await;
    assert!(has(&head, "upgrade: websocket") && has(&head, "connection: upgrade"), "{head}");
    application.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.exactly(2).await, b"hi");
    assert_eq!(application.exactly(5).await, b"first");
    client.send("last").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(application.rest().await.unwrap(), b"last");
    application.send("bye").await;
    drop(application);
    assert_eq!(client.rest().await.unwrap(), b"bye");
}

#[tokio::test]
async fn plain_http_inside_connect_is_routed_and_carries_its_lane() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("CONNECT b.demo:80 HTTP/1.1\r\nHost: b.demo:80\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\nx-mesh-lane: canary\r\n\r\n").await;
    let mut application = pair.application().await;
    let head = application.head().await;
    assert!(has(&head, "x-mesh-lane: canary") && has(&head, "baggage: mesh-lane=canary"), "{head}");
    application.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test]
async fn half_closed_client_still_gets_its_answer() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send(GET).await;
    client.0.shutdown().await.unwrap();
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.head().await;
    assert_eq!(client.rest().await.unwrap(), b"ok");
}

#[tokio::test]
async fn client_that_resets_cancels_the_request_at_the_application() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send(GET).await;
    let mut application = pair.application().await;
    application.head().await;
    socket2::SockRef::from(&client.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    assert!(application.rest().await.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn reserved_fields_of_the_client_do_not_cross() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\nl5d-client-id: forged\r\nx-forwarded-client-cert: forged\r\n").await;
    client.send("Keep-Alive: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n").await;
    let head = pair.application().await.head().await;
    assert!(!head.contains("forged") && !has(&head, "x-hop: 1") && !head.contains("Keep-Alive"), "{head}");
    assert!(has(&head, "x-end: 2"), "{head}");
}

#[tokio::test]
async fn unknown_name_is_answered_not_found_with_a_problem() {
    let pair = Pair::start().await;
    pair.caller.publish(|snapshot| {
        snapshot.unknown.insert(crate::harness::authority("nobody"));
    });
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: nobody\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 404 ") && has(&head, "x-mesh-error: no_route"), "{head}");
}

#[tokio::test]
async fn target_is_asked_for_and_served_once_the_answer_is_there() {
    let mut pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: Other.Demo:80\r\n\r\n").await;
    let asked = pair.caller.asks.recv().await.unwrap();
    assert_eq!(asked, mesh_proxy::shared::Ask::Target(crate::harness::authority("other.demo")));
    let (address, inbound) = (pair.application.local_addr().unwrap(), pair.callee.inbound);
    pair.caller.publish(|snapshot| {
        let endpoint = crate::harness::endpoint(address, Some(("b", inbound)));
        crate::harness::route(snapshot, crate::harness::authority("other.demo"), "b", vec![endpoint]);
    });
    assert!(pair.application().await.head().await.starts_with("GET / "));
}

#[tokio::test]
async fn ambiguous_request_is_refused_and_never_reaches_the_application() {
    let pair = Pair::start().await;
    let mut client: Peer = pair.call().await;
    client
        .send("POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    let answer = String::from_utf8(client.rest().await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    assert_eq!(pair.caller.metrics.connects.get(), 0);
}

#[tokio::test]
async fn failed_connect_goes_to_another_instance() {
    let pair = Pair::start().await;
    let (address, inbound) = (pair.application.local_addr().unwrap(), pair.callee.inbound);
    let closed = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    pair.caller.publish(|snapshot| {
        let dead = crate::harness::endpoint(closed, Some(("b", closed)));
        let live = crate::harness::endpoint(address, Some(("b", inbound)));
        crate::harness::route(snapshot, crate::harness::authority("b.demo"), "b", vec![dead, live]);
    });
    let served = async {
        let mut application = pair.application().await;
        loop {
            application.head().await;
            application.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    };
    let called = async {
        for _ in 0..20 {
            let mut client = pair.call().await;
            client.send("POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 1\r\n\r\nx").await;
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
    };
    tokio::select! {
        () = called => {}
        () = served => {}
    }
}
