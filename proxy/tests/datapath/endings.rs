//! How WebSockets and streams end whose server's sidecar goes down.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use mesh_core::{
    drain::{
        Limits,
        message::{GOING_AWAY, masked_going_away},
    },
    model::policy::Clients,
};
use mesh_proxy::worker::Stage;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Authority, DETECT, DRAIN, LIMIT, Pair, Peer, Proxy, allow, authority, endpoint, has, route};

/// Streams are ended soon after the order.
const SOON: Limits = Limits { streams: Duration::from_millis(300), ..DRAIN };

/// A pair whose callee's sidecar goes down like this.
async fn pair(limits: Limits) -> Pair {
    let issuer = Authority::new();
    let application = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = application.local_addr().unwrap();
    let caller = Proxy::start(Some(issuer.material("a")));
    let callee = Proxy::start_with(Some(issuer.material("b")), |config| config.drain = limits);
    caller.publish(|snapshot| {
        let endpoint = endpoint(address, Some(("b", callee.inbound)));
        route(snapshot, authority("b.demo"), "b", vec![endpoint]);
    });
    callee.publish(|snapshot| allow(snapshot, address.port(), DETECT, Clients::AnyMeshed));
    Pair { caller, callee, application }
}

async fn ended(pair: Pair) {
    pair.callee.drained().await;
    drop(pair.caller);
}

#[tokio::test]
async fn event_stream_ends_in_order_behind_a_whole_event() {
    let pair = pair(SOON).await;
    let mut client = pair.call().await;
    client.send("GET /events HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let head = client.head().await;
    assert!(has(&head, "transfer-encoding: chunked"), "{head}");
    application.send("9\r\ndata: a\n\n\r\n7\r\ndata: b\r\n").await;
    client.until("7\r\ndata: b\r\n").await;
    pair.callee.drain();
    pair.callee.reached(Stage::Streams).await;
    // Younger than a second it is served; each chunk completes an event and begins the next.
    application.send("9\r\n\n\ndata: c\r\n").await;
    while client.until("\r\n").await == "9\r\n" {
        client.until("data: c\r\n").await;
        application.send("9\r\n\n\ndata: c\r\n").await;
    }
    assert_eq!(client.until("0\r\n\r\n").await, "\n\n\r\n0\r\n\r\n");
    ended(pair).await;
}

#[tokio::test]
async fn event_stream_that_is_silent_between_events_is_ended_without_waiting_for_another() {
    let pair = pair(SOON).await;
    let mut client = pair.call().await;
    client.send("GET /events HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\n").await;
    client.until("data: a\n\n\r\n").await;
    pair.callee.drain();
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    ended(pair).await;
}

#[tokio::test]
async fn event_stream_that_ends_by_itself_in_time_is_left_alone() {
    let pair = pair(DRAIN).await;
    let mut client = pair.call().await;
    client.send("GET /events HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    pair.callee.drain();
    pair.callee.reached(Stage::Sessions).await;
    application.send("9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n").await;
    let rest = client.until("0\r\n\r\n").await;
    assert!(rest.contains("data: a\n\n") && rest.contains("data: b\n\n"), "{rest}");
    ended(pair).await;
}

/// A gRPC call through the pair: the client's stream and the server's side.
async fn grpc(
    pair: &Pair,
    client: &mut h2::client::SendRequest<Bytes>,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>, h2::server::Connection<TcpStream, Bytes>) {
    let request = Request::post("http://b.demo/s/m").header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(message(b"hello"), false).unwrap();
    let server = h2::server::handshake(pair.application().await.0).await.unwrap();
    (response, send, server)
}

fn message(text: &[u8]) -> Bytes {
    let mut message = vec![0, 0, 0, 0, text.len() as u8];
    message.extend(text);
    message.into()
}

async fn client(pair: &Pair) -> h2::client::SendRequest<Bytes> {
    let (send, connection) =
        h2::client::handshake(TcpStream::connect(pair.caller.outbound).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

fn status(trailers: &HeaderMap) -> &str {
    trailers["grpc-status"].to_str().unwrap()
}

#[tokio::test]
async fn grpc_stream_ends_as_unavailable_behind_a_whole_message() {
    let pair = pair(SOON).await;
    let mut client = client(&pair).await;
    let (response, _send, mut server) = grpc(&pair, &mut client).await;
    let (_request, mut respond) = server.accept().await.unwrap().unwrap();
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    stream.send_data(message(b"one"), false).unwrap();
    let served = tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), message(b"one"));
    // Half a message is there when the time is over.
    stream.send_data(message(b"second").slice(..7), false).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), message(b"second").slice(..7));
    pair.callee.drain();
    pair.callee.reached(Stage::Streams).await;
    stream.send_data(message(b"second").slice(7..), false).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), message(b"second").slice(7..));
    assert!(body.data().await.is_none());
    assert_eq!(status(&body.trailers().await.unwrap().unwrap()), "14");
    ended(pair).await;
    served.abort();
}

#[tokio::test]
async fn grpc_call_that_nobody_has_begun_to_answer_ends_as_unavailable() {
    let pair = pair(SOON).await;
    let mut client = client(&pair).await;
    let (response, _send, mut server) = grpc(&pair, &mut client).await;
    let accepted = server.accept().await.unwrap().unwrap();
    let served = tokio::spawn(async move { while server.accept().await.is_some() {} });
    pair.callee.drain();
    let response = tokio::time::timeout(LIMIT, response).await.unwrap().unwrap();
    assert_eq!(status(response.headers()), "14");
    ended(pair).await;
    drop(accepted);
    served.abort();
}

/// A WebSocket through the pair.
async fn websocket(pair: &Pair) -> (Peer, Peer) {
    let mut client = pair.call().await;
    client.send("GET /chat HTTP/1.1\r\nHost: b.demo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let mut application = pair.application().await;
    application.head().await;
    application.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, application)
}

#[tokio::test]
async fn websocket_is_closed_between_two_frames_and_its_client_answers_to_the_server() {
    let pair = pair(DRAIN).await;
    let (mut client, mut application) = websocket(&pair).await;
    application.send(b"\x81\x04ab").await;
    assert_eq!(client.exactly(4).await, b"\x81\x04ab");
    pair.callee.drain();
    pair.callee.reached(Stage::Sessions).await;
    // The client's direction goes on while the server's frame is not whole.
    client.send(b"\x81\x81\0\0\0\0x").await;
    assert_eq!(application.exactly(7).await, b"\x81\x81\0\0\0\0x");
    application.send(b"cd\x81\x01e").await;
    assert_eq!(client.exactly(2).await, b"cd");
    // The next frame is passed on whole, too, if it was faster.
    let mut head = client.exactly(2).await;
    if head == b"\x81\x01" {
        assert_eq!(client.exactly(1).await, b"e");
        head = client.exactly(2).await;
    }
    assert_eq!([head, client.exactly(2).await].concat(), GOING_AWAY);
    // What it says before it answers still arrives.
    let answer = masked_going_away([1, 2, 3, 4]);
    client.send(b"\x81\x81\0\0\0\0y").await;
    client.send(answer).await;
    assert_eq!(application.exactly(7).await, b"\x81\x81\0\0\0\0y");
    assert_eq!(application.exactly(8).await, answer);
    application.send(GOING_AWAY).await;
    drop(application);
    assert_eq!(client.rest().await.unwrap(), b"");
    drop(client);
    ended(pair).await;
}

#[tokio::test]
async fn websocket_whose_client_does_not_answer_is_ended_on_both_sides_all_the_same() {
    let pair = pair(DRAIN).await;
    let (mut client, mut application) = websocket(&pair).await;
    pair.callee.drain();
    assert_eq!(client.exactly(4).await, GOING_AWAY);
    let frame = application.exactly(8).await;
    assert_eq!(frame[..2], [0x88, 0x82]);
    let unmasked = [frame[6] ^ frame[2], frame[7] ^ frame[3]];
    assert_eq!(unmasked, GOING_AWAY[2..]);
    assert_eq!(application.rest().await.unwrap(), b"");
    assert_eq!(client.rest().await.unwrap(), b"");
    ended(pair).await;
}

#[tokio::test]
async fn websocket_that_its_server_closed_is_not_closed_again() {
    let pair = pair(DRAIN).await;
    let (mut client, mut application) = websocket(&pair).await;
    application.send(b"\x88\x02\x03\xe8").await;
    assert_eq!(client.exactly(4).await, b"\x88\x02\x03\xe8");
    pair.callee.drain();
    pair.callee.reached(Stage::Sessions).await;
    client.send(b"\x88\x82\0\0\0\0\x03\xe8").await;
    assert_eq!(application.exactly(8).await, b"\x88\x82\0\0\0\0\x03\xe8");
    drop(application);
    assert_eq!(client.rest().await.unwrap(), b"");
    drop(client);
    ended(pair).await;
}
