//! A worker that drains finishes what it began, and ends.

use mesh_core::identity::Identity;
use mesh_proxy::net::{socket::Socket, tls::TlsMaterial, transport_header::TransportHeader};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{Authority, Pair, Peer, Proxy, authority, endpoint, has, route};

const GET: &str = "GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n";

#[tokio::test]
async fn exchange_under_way_is_finished_and_is_the_last_of_its_connection() {
    let pair = Pair::start().await;
    let mut client = pair.call().await;
    client.send(GET).await;
    let mut application = pair.application().await;
    application.head().await;
    pair.caller.drain();
    pair.callee.drain();
    // New connections are taken while others are still served.
    let mut late = pair.call().await;
    late.send(GET).await;
    let mut second = pair.application().await;
    second.head().await;
    for (client, application) in [(&mut client, &mut application), (&mut late, &mut second)] {
        application.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 ") && has(&head, "connection: close"), "{head}");
        assert_eq!(client.rest().await.unwrap(), b"ok");
    }
    let Pair { caller, callee, .. } = pair;
    caller.drained().await;
    callee.drained().await;
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
    const POST: &str = "POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 0\r\n\r\n";
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
