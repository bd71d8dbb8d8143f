//! Raw connections through both sidecars.

use std::time::Duration;

use mesh_core::{
    model::policy::{Clients, InboundProtocol},
    outcome::Outcome,
};
use mesh_proxy::net::{socket::Socket, transport_header::TransportHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{LIMIT, Pair, allow, has, identity};

/// CONNECT gives a raw connection a destination without a redirect rule.
async fn connected(pair: &Pair) -> crate::harness::Peer {
    let mut client = pair.call().await;
    client.send("CONNECT b.demo:80 HTTP/1.1\r\nHost: b.demo:80\r\n\r\n").await;
    client.head().await;
    client
}

#[tokio::test]
async fn bytes_cross_both_ways_and_a_half_closed_side_still_reads() {
    let pair = Pair::start().await;
    let mut client = connected(&pair).await;
    client.send("\x00binary").await;
    let mut application = pair.application().await;
    assert_eq!(application.exactly(7).await, b"\x00binary");
    client.0.shutdown().await.unwrap();
    assert!(application.rest().await.unwrap().is_empty());
    application.send("answer").await;
    drop(application);
    assert_eq!(client.rest().await.unwrap(), b"answer");
}

#[tokio::test]
async fn ten_megabytes_cross_unchanged() {
    let pair = Pair::start().await;
    let sent: Vec<u8> = (0..10_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut client = connected(&pair).await;
    let (mut reader, mut writer) = client.0.split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let echo = async {
        let mut application = pair.application().await;
        let (mut from, mut to) = application.0.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    };
    let mut received = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut received);
    let ((), (), read) = tokio::join!(write, echo, read);
    read.unwrap();
    assert!(received == sent);
}

/// A peer with the caller's identity that announces bytes to the callee's sidecar.
async fn announced(pair: &Pair) -> Socket {
    let material = pair.caller.shared.tls.load_full().unwrap();
    let name = material.name_of(&identity("b"), None).unwrap();
    let io = tokio::net::TcpStream::connect(pair.callee.inbound).await.unwrap();
    let mut socket = Socket::connect_tls(io, name, material.client.clone()).await.unwrap();
    let port = pair.application.local_addr().unwrap().port();
    socket.write_all(&TransportHeader { port, session: None }.encode()).await.unwrap();
    socket.flush().await.unwrap();
    socket
}

/// First bytes are awaited for no time at all: whoever says nothing at once is late.
fn await_nothing(pair: &Pair) {
    let port = pair.application.local_addr().unwrap().port();
    let protocol = InboundProtocol::Detect { timeout: Duration::ZERO };
    pair.callee.publish(|snapshot| allow(snapshot, port, protocol, Clients::AnyMeshed));
}

const FORGED: &str = "GET / HTTP/1.1\r\nHost: b.demo\r\nl5d-client-id: admin.demo\r\n\r\n";

#[tokio::test]
async fn request_that_was_announced_as_bytes_names_its_sender_truly() {
    let pair = Pair::start().await;
    let mut peer = announced(&pair).await;
    peer.write_all(FORGED.as_bytes()).await.unwrap();
    peer.flush().await.unwrap();
    let head = pair.application().await.head().await;
    assert!(!has(&head, "l5d-client-id: admin.demo") && head.contains("l5d-client-id: a.demo."), "{head}");
}

#[tokio::test]
async fn request_after_a_long_silence_names_its_sender_truly() {
    let pair = Pair::start().await;
    await_nothing(&pair);
    let mut peer = announced(&pair).await;
    let mut dialled = pair.application().await;
    peer.write_all(FORGED.as_bytes()).await.unwrap();
    peer.flush().await.unwrap();
    assert_eq!(dialled.rest().await.unwrap(), b"", "what was dialled in case the application speaks first");
    let head = pair.application().await.head().await;
    assert!(!has(&head, "l5d-client-id: admin.demo") && head.contains("l5d-client-id: a.demo."), "{head}");
}

#[tokio::test]
async fn request_that_begins_as_bytes_is_cut_before_it_is_one() {
    for rest in [&FORGED[2..], "T / HT\nTP/1.1\r\n\r\n", &FORGED[2..15]] {
        let mut pair = Pair::start().await;
        await_nothing(&pair);
        let mut peer = announced(&pair).await;
        peer.write_all(b"GE").await.unwrap();
        peer.flush().await.unwrap();
        let mut application = pair.application().await;
        assert_eq!(application.exactly(2).await, b"GE");
        peer.write_all(rest.as_bytes()).await.unwrap();
        peer.flush().await.unwrap();
        if rest.contains("HT\n") {
            assert_eq!(application.exactly(rest.len()).await, rest.as_bytes(), "no request line");
        } else {
            assert_eq!(application.rest().await.unwrap_or_default(), b"", "{rest}");
            assert_eq!(pair.callee.record().await.outcome, Outcome::Denied);
        }
    }
}

#[tokio::test]
async fn request_after_words_of_the_application_is_cut() {
    for request in [FORGED, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let pair = Pair::start().await;
        let mut peer = announced(&pair).await;
        let mut application = pair.application().await;
        application.send("220 ready\r\n").await;
        let mut greeting = [0; 11];
        tokio::time::timeout(LIMIT, peer.read_exact(&mut greeting)).await.unwrap().unwrap();
        peer.write_all(request.as_bytes()).await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!(application.rest().await.unwrap_or_default(), b"", "{request}");
    }
}

#[tokio::test]
async fn stream_to_an_application_that_says_its_settings_first_names_its_sender_truly() {
    for late in [false, true] {
        let pair = Pair::start().await;
        if late {
            await_nothing(&pair);
        }
        let peer = announced(&pair).await;
        let mut dialled = pair.application().await;
        dialled.send(b"\0\0\0\x04\0\0\0\0\0").await;
        let (send, connection) = h2::client::handshake(peer).await.unwrap();
        tokio::spawn(connection);
        let mut send = send.ready().await.unwrap();
        let request = http::Request::get("http://b.demo/").header("l5d-client-id", "admin.demo").body(()).unwrap();
        let (_response, _) = send.send_request(request, true).unwrap();
        assert_eq!(dialled.rest().await.unwrap_or_default(), b"");
        let mut server: h2::server::Connection<_, bytes::Bytes> =
            h2::server::handshake(pair.application().await.0).await.unwrap();
        let (request, _) = server.accept().await.unwrap().unwrap();
        let id = request.headers()["l5d-client-id"].to_str().unwrap();
        assert!(id.starts_with("a.demo."), "{id}");
    }
}

#[tokio::test]
async fn application_that_speaks_first_is_heard() {
    for late in [false, true] {
        let pair = Pair::start().await;
        if late {
            await_nothing(&pair);
        }
        let mut peer = announced(&pair).await;
        let mut application = pair.application().await;
        application.send("220 ready\r\n").await;
        let mut greeting = [0; 11];
        tokio::time::timeout(LIMIT, peer.read_exact(&mut greeting)).await.unwrap().unwrap();
        assert_eq!(&greeting, b"220 ready\r\n");
        peer.write_all(b"QUIT\r\n").await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!(application.exactly(6).await, b"QUIT\r\n");
    }
}
