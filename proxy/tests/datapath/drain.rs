//! A worker that drains finishes what it began, and ends.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use mesh_core::{drain::Limits, health::Usability, identity::Identity, model::policy::Clients};
use mesh_proxy::{
    net::{
        socket::Socket,
        tls::TlsMaterial,
        transport_header::{SessionProtocol, TransportHeader},
    },
    telemetry::worker::Direction,
    worker::{Notice, Notices, Stage, WorkerConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::{Authority, DETECT, DRAIN, LIMIT, Pair, Peer, Proxy, allow, authority, endpoint, has, identity, route},
    health::{http_server, usability},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 0\r\n\r\n";

/// A session with the callee's sidecar, as a caller's sidecar begins it, and its first request.
async fn session(callee: &Proxy, port: u16, issuer: &Authority) -> Socket {
    let mut socket = connect(callee, port, issuer).await;
    socket.write_all(GET.as_bytes()).await.unwrap();
    socket.flush().await.unwrap();
    socket
}

async fn connect(callee: &Proxy, port: u16, issuer: &Authority) -> Socket {
    let material = issuer.material("a");
    let io = TcpStream::connect(callee.inbound).await.unwrap();
    let name = material.name_of(&identity("b"), None).unwrap();
    let mut socket = Socket::connect_tls(io, name, material.client.clone()).await.unwrap();
    let mut header = TransportHeader { port, session: Some(SessionProtocol::Http1) }.encode();
    socket.write_all_buf(&mut header).await.unwrap();
    socket.flush().await.unwrap();
    socket
}

async fn read_head(socket: &mut Socket) -> String {
    let mut read = bytes::BytesMut::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(tokio::time::timeout(LIMIT, socket.read_buf(&mut read)).await.unwrap().unwrap() > 0, "{read:?}");
    }
    String::from_utf8(read.to_vec()).unwrap()
}

/// A callee's sidecar whose application answers every request with 204.
async fn callee(issuer: &Authority, change: impl FnOnce(&mut WorkerConfig)) -> (Proxy, SocketAddr) {
    let address = http_server(Arc::new(AtomicBool::new(true))).await;
    let callee = Proxy::start_with(Some(issuer.material("b")), change);
    callee.publish(|snapshot| allow(snapshot, address.port(), DETECT, Clients::AnyMeshed));
    (callee, address)
}

/// Two instances of `b` and a caller that knows both.
async fn two(issuer: &Authority) -> (Proxy, [(Proxy, SocketAddr); 2]) {
    let caller = Proxy::start(Some(issuer.material("a")));
    let callees = [callee(issuer, |_| {}).await, callee(issuer, |_| {}).await];
    know(&caller, &callees);
    (caller, callees)
}

fn know(caller: &Proxy, callees: &[(Proxy, SocketAddr)]) {
    let endpoints = callees.iter().map(|(callee, address)| endpoint(*address, Some(("b", callee.inbound)))).collect();
    caller.publish(|snapshot| route(snapshot, authority("b.demo"), "b", endpoints));
}

async fn served(client: &mut Peer, request: &str) {
    client.send(request).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    assert!(!head.contains("x-mesh-draining") && !has(&head, "connection: close"), "{head}");
}

fn accepted(callee: &Proxy) -> u64 {
    callee.metrics.accepted[Direction::Inbound as usize].get()
}

#[tokio::test]
async fn mesh_peer_is_told_by_marker_and_close_and_served_all_the_same() {
    let issuer = Authority::new();
    let (callee, address) = callee(&issuer, |_| {}).await;
    let mut before = session(&callee, address.port(), &issuer).await;
    let head = read_head(&mut before).await;
    assert!(!head.contains("x-mesh-draining") && !has(&head, "connection: close"), "{head}");
    callee.drain();
    callee.reached(Stage::Leaving).await;
    before.write_all(GET.as_bytes()).await.unwrap();
    before.flush().await.unwrap();
    let mut late = session(&callee, address.port(), &issuer).await;
    for socket in [&mut before, &mut late] {
        let head = read_head(socket).await;
        assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
        assert!(has(&head, "x-mesh-draining: 1") && has(&head, "connection: close"), "{head}");
    }
    callee.drained().await;
}

#[tokio::test]
async fn first_request_of_a_connection_that_was_just_made_is_answered_although_nothing_new_is_taken() {
    let issuer = Authority::new();
    let (callee, address) = callee(&issuer, |_| {}).await;
    let mut fresh = connect(&callee, address.port(), &issuer).await;
    callee.drain();
    callee.reached(Stage::Closing).await;
    fresh.write_all(GET.as_bytes()).await.unwrap();
    fresh.flush().await.unwrap();
    let head = read_head(&mut fresh).await;
    assert!(head.starts_with("HTTP/1.1 204 ") && has(&head, "connection: close"), "{head}");
    callee.drained().await;
}

#[tokio::test]
async fn ends_of_connections_are_spread_over_the_window_and_notices_can_be_withheld() {
    let issuer = Authority::new();
    let long = Limits { grace: Duration::from_secs(4_000_000), window: Duration::from_secs(1_000_000), ..DRAIN };
    for (notices, marked) in [
        (Notices::default(), true),
        (Notices { marker: Notice::Withheld, close: Notice::Given, controller: Notice::Given }, false),
        (Notices { marker: Notice::Given, close: Notice::Withheld, controller: Notice::Given }, true),
    ] {
        // One in a million is told within the first second.
        let (callee, address) = callee(&issuer, |config| {
            (config.notices, config.drain) = (notices, long);
        })
        .await;
        callee.drain();
        callee.reached(Stage::Leaving).await;
        let mut socket = session(&callee, address.port(), &issuer).await;
        let head = read_head(&mut socket).await;
        assert_eq!(head.contains("x-mesh-draining: 1"), marked, "{head}");
        assert!(!has(&head, "connection: close"), "{head}");
    }
}

#[tokio::test]
async fn calls_of_the_application_go_on_until_it_is_gone() {
    let issuer = Authority::new();
    let (caller, [one, two]) = two(&issuer).await;
    let mut client = Peer::connect(caller.outbound).await;
    served(&mut client, GET).await;
    caller.drain();
    caller.reached(Stage::Outbound).await;
    let mut late = Peer::connect(caller.outbound).await;
    for _ in 0..3 {
        served(&mut client, GET).await;
        served(&mut late, POST).await;
    }
    // Nothing comes in any more.
    let refused = TcpStream::connect(caller.inbound).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    caller.drained().await;
    assert!(client.rest().await.unwrap().is_empty());
    drop((one, two));
}

#[tokio::test]
async fn instance_that_says_it_drains_gets_no_new_exchange_while_another_serves() {
    let issuer = Authority::new();
    let (caller, [leaving, staying]) = two(&issuer).await;
    leaving.0.drain();
    leaving.0.reached(Stage::Leaving).await;
    let mut client = Peer::connect(caller.outbound).await;
    let drains = || {
        let series = caller.metrics.all_health().series();
        series.iter().map(|series| series.drains.get()).sum::<u64>()
    };
    for _ in 0..200 {
        if drains() == 0 {
            served(&mut client, POST).await;
        }
    }
    let (before, _) = (accepted(&leaving.0), assert_eq!(drains(), 1));
    assert_eq!(usability(&caller, leaving.1), Usability::Draining);
    for _ in 0..100 {
        served(&mut client, POST).await;
    }
    assert_eq!(accepted(&leaving.0), before);
    // Where nobody else is left, it is used: it still serves, or its connection is refused, which is repeated.
    drop(staying);
}

#[tokio::test]
async fn marker_that_nobody_heard_is_not_needed() {
    let issuer = Authority::new();
    let caller = Proxy::start(Some(issuer.material("a")));
    let callees = [callee(&issuer, |_| {}).await, callee(&issuer, |_| {}).await];
    know(&caller, &callees[..1]);
    let mut client = Peer::connect(caller.outbound).await;
    served(&mut client, POST).await;
    know(&caller, &callees);
    let [(leaving, _), staying] = callees;
    leaving.drain();
    // The idle connection between the sidecars is ended in order, and the next call goes elsewhere.
    leaving.drained().await;
    for _ in 0..50 {
        served(&mut client, POST).await;
    }
    drop(staying);
}

#[tokio::test]
async fn request_that_the_application_of_a_draining_instance_did_not_take_goes_elsewhere() {
    goes_elsewhere(Leaves::Drains).await;
}

#[tokio::test]
async fn request_goes_elsewhere_where_the_application_is_gone_before_its_sidecar_knows() {
    goes_elsewhere(Leaves::Unaware).await;
}

/// What the sidecar knows whose application is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Drains,
    Unaware,
}

async fn goes_elsewhere(leaves: Leaves) {
    let issuer = Authority::new();
    let caller = Proxy::start(Some(issuer.material("a")));
    let stays = callee(&issuer, |_| {}).await;
    // Its application is gone already.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let leaving = Proxy::start(Some(issuer.material("b")));
    leaving.publish(|snapshot| allow(snapshot, gone.port(), DETECT, Clients::AnyMeshed));
    if leaves == Leaves::Drains {
        leaving.drain();
        leaving.reached(Stage::Leaving).await;
    }
    let callees = [stays, (leaving, gone)];
    know(&caller, &callees);
    for _ in 0..20 {
        served(&mut Peer::connect(caller.outbound).await, POST).await;
    }
}

#[tokio::test]
async fn idle_connections_do_not_keep_a_worker() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send(GET).await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.head().await;
    pair.caller.drain();
    pair.callee.drain();
    let Pair { caller, callee, .. } = pair;
    caller.drained().await;
    callee.drained().await;
    assert!(client.rest().await.unwrap().is_empty());
}

#[tokio::test]
async fn http2_connection_is_told_to_go_away_and_its_stream_is_finished() {
    let pair = Pair::start().await;
    let io = tokio::net::TcpStream::connect(pair.caller.outbound).await.unwrap();
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = http::Request::get("http://b.demo/").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let mut server = h2::server::handshake(pair.application().await.0).await.unwrap();
    let (_, mut respond) = server.accept().await.unwrap().unwrap();
    pair.caller.drain();
    pair.callee.drain();
    let served = tokio::spawn(async move { while server.accept().await.is_some() {} });
    respond.send_response(http::Response::new(()), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    drop(send);
    connection.await.unwrap().unwrap();
    let Pair { caller, callee, .. } = pair;
    caller.drained().await;
    callee.drained().await;
    served.await.unwrap();
}

/// A sidecar's session, up to the end of the first request's head.
async fn taken(listener: &TcpListener, material: &TlsMaterial) -> Socket {
    let (io, _) = listener.accept().await.unwrap();
    let mut socket = Socket::accept_tls(io, b"", material.server.clone()).await.unwrap();
    let mut read = bytes::BytesMut::new();
    while TransportHeader::take(&mut read).unwrap().is_none() {
        socket.read_buf(&mut read).await.unwrap();
    }
    while !read.ends_with(b"\r\n\r\n") {
        socket.read_buf(&mut read).await.unwrap();
    }
    socket
}

#[tokio::test]
async fn post_on_a_pooled_connection_that_a_sidecar_ends_in_order_is_repeated() {
    let issuer = Authority::new();
    let (caller, material) = (Proxy::start(Some(issuer.material("a"))), issuer.material("b"));
    assert_eq!(material.identity, Identity::new("cluster.local", "demo", "b").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inbound = listener.local_addr().unwrap();
    caller.publish(|snapshot| {
        let endpoint = endpoint("127.0.0.1:1".parse().unwrap(), Some(("b", inbound)));
        route(snapshot, authority("b.demo"), "b", vec![endpoint]);
    });
    let mut client = Peer::connect(caller.outbound).await;
    client.send(POST).await;
    let mut first = taken(&listener, &material).await;
    first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    first.flush().await.unwrap();
    client.head().await;
    // The next request is on its way when the sidecar ends the session.
    client.send(POST).await;
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    first.shutdown().await.unwrap();
    let mut second = taken(&listener, &material).await;
    second.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    second.flush().await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
}
