//! Callers that must not get through: not a byte reaches the application, and the reason is counted.

use mesh_core::{
    identity::Refusal,
    lane::Source,
    model::policy::{Clients, InboundProtocol},
    outcome::Outcome,
};
use mesh_proxy::{telemetry::worker::Direction, worker::Role};

use crate::harness::{Authority, DETECT, Pair, Peer, Proxy, allow, authority, endpoint, has, route};

fn refused(proxy: &Proxy, direction: Direction, refusal: Refusal) -> u64 {
    let position = Refusal::ALL.iter().position(|known| *known == refusal).unwrap();
    proxy.metrics.tls_refused[direction as usize][position].get()
}

#[tokio::test]
async fn plaintext_at_the_inbound_port_is_cut_off_without_a_byte() {
    let mut pair = Pair::start().await;
    let mut client = Peer::connect(pair.callee.inbound).await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    assert!(client.rest().await.unwrap_or_default().is_empty());
    assert_eq!(pair.callee.record().await.outcome, mesh_core::outcome::Outcome::TlsRefused);
    assert_eq!(refused(&pair.callee, Direction::Inbound, Refusal::Plaintext), 1);
    assert_eq!(pair.callee.metrics.connects.get(), 0);
}

#[tokio::test]
async fn connection_that_is_refused_is_no_request_without_label() {
    let mut pair = Pair::start().await;
    // A handshake that its caller gave up, as one on a busy machine does after a second, and tries again.
    let mut client = Peer::connect(pair.callee.inbound).await;
    client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00").await;
    assert!(client.rest().await.is_ok());
    assert_eq!(pair.callee.record().await.outcome, Outcome::TlsRefused);
    assert_eq!(pair.callee.metrics.lane_sources[Source::None as usize].get(), 0);
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused_in_both_directions() {
    let mut pair = Pair::start().await;
    let foreign = Proxy::start(Some(Authority::new().material("a")));
    let (address, inbound) = (pair.application.local_addr().unwrap(), pair.callee.inbound);
    foreign.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", vec![endpoint(address, Some(("b", inbound)))]);
    });
    let mut client = Peer::connect(foreign.outbound).await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && has(&head, "x-mesh-error: connect_failed"), "{head}");
    assert!(refused(&foreign, Direction::Outbound, Refusal::UnknownIssuer) > 0);
    let record = pair.callee.record().await;
    assert_eq!(record.outcome, mesh_core::outcome::Outcome::TlsRefused);
    assert_eq!(pair.callee.metrics.connects.get(), 0);
}

#[tokio::test]
async fn endpoint_with_another_service_account_is_not_spoken_to() {
    let pair = Pair::start().await;
    let (address, inbound) = (pair.application.local_addr().unwrap(), pair.callee.inbound);
    pair.caller.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", vec![endpoint(address, Some(("c", inbound)))]);
    });
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 503 "));
    assert!(refused(&pair.caller, Direction::Outbound, Refusal::WrongIdentity) > 0);
    assert_eq!(pair.callee.metrics.connects.get(), 0);
}

#[tokio::test]
async fn caller_outside_the_policy_is_told_so_and_the_application_hears_nothing() {
    let pair = Pair::start().await;
    let port = pair.application.local_addr().unwrap().port();
    pair.callee.publish(|snapshot| {
        let names = vec!["spiffe://cluster.local/ns/demo/sa/z".to_owned()];
        allow(snapshot, port, DETECT, Clients::Identities { names, suffixes: Vec::new() });
    });
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 403 ") && has(&head, "x-mesh-error: denied"), "{head}");
    assert_eq!(pair.callee.metrics.connects.get(), 0);
}

#[tokio::test]
async fn admin_interface_is_not_reached_through_the_inbound_port() {
    let admin = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = admin.local_addr().unwrap();
    let issuer = Authority::new();
    let caller = Proxy::start(Some(issuer.material("a")));
    let mut callee = Proxy::start_with(Some(issuer.material("b")), |config| config.admin_listen = Some(address));
    callee.publish(|snapshot| allow(snapshot, address.port(), DETECT, Clients::AnyMeshed));
    caller.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", vec![endpoint(address, Some(("b", callee.inbound)))]);
    });
    let mut client = Peer::connect(caller.outbound).await;
    client.send("POST /drain HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    assert_eq!(callee.record().await.outcome, mesh_core::outcome::Outcome::Denied);
    assert_eq!(callee.metrics.connects.get(), 0);
}

#[tokio::test]
async fn port_of_the_proxy_itself_is_never_dialled_in_the_clear() {
    let pair = Pair::start().await;
    let (own, inbound) = (pair.callee.outbound, pair.callee.inbound);
    pair.callee.publish(|snapshot| allow(snapshot, own.port(), DETECT, Clients::AnyMeshed));
    pair.caller.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", vec![endpoint(own, Some(("b", inbound)))]);
    });
    let mut client = pair.call().await;
    client.send("POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    assert_eq!(pair.callee.metrics.connects.get(), 0);
}

#[tokio::test]
async fn bytes_do_not_reach_an_application_whose_port_takes_requests_only() {
    for protocol in [InboundProtocol::Http1, InboundProtocol::Http2, InboundProtocol::Grpc] {
        let mut pair = Pair::start().await;
        let port = pair.application.local_addr().unwrap().port();
        pair.callee.publish(|snapshot| allow(snapshot, port, protocol, Clients::AnyMeshed));
        let mut client = pair.call().await;
        client.send("CONNECT b.demo:80 HTTP/1.1\r\nHost: b.demo:80\r\n\r\n").await;
        client.head().await;
        client.send("\x00bytes").await;
        assert!(client.rest().await.unwrap_or_default().is_empty());
        assert_eq!(pair.callee.record().await.outcome, Outcome::Denied);
        assert_eq!(pair.callee.metrics.connects.get(), 0);
    }
}

#[tokio::test]
async fn gateway_makes_no_tunnels_into_the_mesh() {
    let pair = Pair::start().await;
    let gateway = Proxy::start_with(None, |config| config.role = Role::Gateway);
    let (address, inbound) = (pair.application.local_addr().unwrap(), pair.callee.inbound);
    gateway.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", vec![endpoint(address, Some(("b", inbound)))]);
    });
    let mut client = Peer::connect(gateway.outbound).await;
    client.send("CONNECT b.demo:80 HTTP/1.1\r\nHost: b.demo:80\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 403 "));
    assert_eq!(gateway.metrics.connects.get(), 0);
}
