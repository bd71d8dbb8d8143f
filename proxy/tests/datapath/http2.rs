//! HTTP/2 through both sidecars.

use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, Request, Response};
use mesh_core::model::policy::TrafficPolicy;
use tokio::net::TcpStream;

use crate::harness::{LIMIT, Pair, authority, endpoint, route};

async fn client(pair: &Pair) -> SendRequest<Bytes> {
    let io = TcpStream::connect(pair.caller.outbound).await.unwrap();
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

async fn application(pair: &Pair) -> h2::server::Connection<TcpStream, Bytes> {
    h2::server::handshake(pair.application().await.0).await.unwrap()
}

fn get() -> Request<()> {
    Request::get("http://b.demo/x?y=1").body(()).unwrap()
}

async fn accepted(server: &mut h2::server::Connection<TcpStream, Bytes>) -> (Request<RecvStream>, SendResponse<Bytes>) {
    server.accept().await.unwrap().unwrap()
}

#[tokio::test]
async fn streams_trailers_and_interim_responses_cross() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let (mut response, mut send) = client.send_request(get(), false).unwrap();
    send.send_data("ping".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    send.send_trailers(trailers.clone()).unwrap();
    let mut server = application(&pair).await;
    let (request, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    assert_eq!(request.uri(), "http://b.demo/x?y=1");
    assert!(request.headers()["l5d-client-id"].to_str().unwrap().starts_with("a.demo."));
    let mut body = request.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "ping");
    assert_eq!(body.trailers().await.unwrap().unwrap(), trailers);
    respond.send_informational(Response::builder().status(103).body(()).unwrap()).unwrap();
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!(interim.status(), 103);
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send.send_data("pong".into(), false).unwrap();
    send.send_trailers(trailers.clone()).unwrap();
    let response = response.await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "pong");
    assert_eq!(body.trailers().await.unwrap().unwrap(), trailers);
}

#[tokio::test]
async fn stream_cancelled_by_the_client_is_cancelled_at_the_application() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let (response, mut send) = client.send_request(get(), false).unwrap();
    let mut server = application(&pair).await;
    let (_request, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    send.send_reset(h2::Reason::CANCEL);
    drop(response);
    let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, h2::Reason::CANCEL);
}

#[tokio::test]
async fn upload_that_nobody_reads_is_cancelled_at_the_application_with_its_client() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let (response, mut send) = client.send_request(get(), false).unwrap();
    send.send_data(vec![7_u8; MUCH].into(), false).unwrap();
    let mut server = application(&pair).await;
    let (request, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut body = request.into_body();
    let mut received = 0;
    // Its window is never opened again: from here on both sidecars hold what they cannot pass on.
    while received < WINDOW {
        received += body.data().await.unwrap().unwrap().len();
    }
    send.send_reset(h2::Reason::CANCEL);
    drop(response);
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    assert_eq!(tokio::time::timeout(LIMIT, reset).await.unwrap().unwrap(), h2::Reason::CANCEL);
}

#[tokio::test]
async fn refused_stream_is_repeated() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let (response, _) = client.send_request(get(), true).unwrap();
    let mut server = application(&pair).await;
    let (_, mut respond) = accepted(&mut server).await;
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    let (_, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    respond.send_response(Response::new(()), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test]
async fn grpc_call_to_an_unknown_name_gets_a_grpc_status() {
    let pair = Pair::start().await;
    pair.caller.publish(|snapshot| {
        snapshot.unknown.insert(authority("nobody"));
    });
    let mut client = client(&pair).await;
    let request = Request::post("http://nobody/a.B/C").header("content-type", "application/grpc").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "12");
    assert_eq!(response.headers()["x-mesh-error"], "no_route");
    assert!(response.headers().contains_key("l5d-proxy-error"));
}

#[tokio::test]
async fn contradicting_host_is_refused() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let request = Request::get("http://b.demo/").header("host", "c.demo").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap_err().reason(), Some(h2::Reason::PROTOCOL_ERROR));
    assert_eq!(pair.caller.metrics.connects.get(), 0);
}

#[tokio::test]
async fn large_bodies_cross_at_the_pace_of_the_reader() {
    const SIZE: usize = 3_000_000;
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let (response, _) = client.send_request(get(), true).unwrap();
    let mut server = application(&pair).await;
    let (_, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send.send_data(vec![7_u8; SIZE].into(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut received = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        received += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(received, SIZE);
}

#[tokio::test]
async fn answer_to_a_request_that_is_still_being_sent_arrives_whole() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let (response, mut send) = client.send_request(get(), false).unwrap();
    send.send_data("part".into(), false).unwrap();
    let mut server = application(&pair).await;
    let (_request, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut answer = respond.send_response(Response::builder().status(413).body(()).unwrap(), false).unwrap();
    answer.send_data("too much".into(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 413);
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "too much");
    assert_eq!(std::future::poll_fn(|cx| send.poll_reset(cx)).await.unwrap(), h2::Reason::NO_ERROR);
}

#[tokio::test]
async fn answer_of_the_mesh_to_a_request_that_is_still_being_sent_arrives_whole() {
    let pair = Pair::start().await;
    pair.caller.publish(|snapshot| {
        snapshot.unknown.insert(authority("nobody"));
    });
    let mut client = client(&pair).await;
    let (response, mut send) = client.send_request(Request::post("http://nobody/").body(()).unwrap(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.into_body().data().await.unwrap().unwrap().starts_with(b"{"));
    assert_eq!(std::future::poll_fn(|cx| send.poll_reset(cx)).await.unwrap(), h2::Reason::NO_ERROR);
}

/// First window of a stream and of a connection (RFC 9113 6.9.2).
const WINDOW: usize = 65_535;
/// More than the windows of a stream on the whole way hold.
const MUCH: usize = 2_000_000;

#[tokio::test]
async fn clients_that_do_not_read_stop_no_other_stream() {
    let pair = Pair::start().await;
    let io = TcpStream::connect(pair.caller.outbound).await.unwrap();
    let (mut client, connection) =
        h2::client::Builder::new().initial_connection_window_size(1 << 30).handshake::<_, Bytes>(io).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    let mut server = None;
    for _ in 0..40 {
        let (response, _) = client.send_request(get(), true).unwrap();
        let server = match &mut server {
            Some(server) => server,
            None => server.insert(application(&pair).await),
        };
        let (_, mut respond) = accepted(server).await;
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(vec![7_u8; MUCH].into(), true).unwrap();
        unread.push(response);
    }
    let (response, _) = client.send_request(get(), true).unwrap();
    let mut server = server.unwrap();
    let (_, mut respond) = accepted(&mut server).await;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    respond.send_response(Response::new(()), false).unwrap().send_data("read me".into(), true).unwrap();
    let mut body = tokio::time::timeout(LIMIT, response).await.unwrap().unwrap().into_body();
    assert_eq!(tokio::time::timeout(LIMIT, body.data()).await.unwrap().unwrap().unwrap(), "read me");
}

#[tokio::test]
async fn requests_that_the_application_does_not_read_stop_no_other_stream() {
    let pair = Pair::start().await;
    let mut client = client(&pair).await;
    let mut sending = Vec::new();
    let (first, mut send) = client.send_request(get(), false).unwrap();
    send.send_data(vec![7_u8; MUCH].into(), true).unwrap();
    let mut application = h2::server::Builder::new();
    application.initial_connection_window_size(1 << 30);
    let mut server = application.handshake::<_, Bytes>(pair.application().await.0).await.unwrap();
    let mut unread = vec![accepted(&mut server).await];
    sending.push((first, send));
    for _ in 0..20 {
        let (response, mut send) = client.send_request(get(), false).unwrap();
        send.send_data(vec![7_u8; MUCH].into(), true).unwrap();
        sending.push((response, send));
        unread.push(tokio::time::timeout(LIMIT, accepted(&mut server)).await.unwrap());
    }
    let (response, mut send) = client.send_request(get(), false).unwrap();
    send.send_data("read me".into(), true).unwrap();
    let (request, mut respond) = tokio::time::timeout(LIMIT, accepted(&mut server)).await.unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut body = request.into_body();
    assert_eq!(tokio::time::timeout(LIMIT, body.data()).await.unwrap().unwrap().unwrap(), "read me");
    respond.send_response(Response::new(()), true).unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, response).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn requests_for_an_endpoint_that_does_not_answer_fail_together() {
    const CONNECT: Duration = Duration::from_millis(400);
    let pair = Pair::start().await;
    // It takes connections, and never a handshake.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    pair.caller.publish(|snapshot| {
        let silent = silent.local_addr().unwrap();
        route(snapshot, authority("silent.demo"), "silent", vec![endpoint(silent, Some(("b", silent)))]);
        let mut policy = TrafficPolicy::default();
        policy.retries.attempts = 1;
        policy.timeouts.connect = CONNECT;
        snapshot.traffic.insert("silent.demo".to_owned(), policy.into());
    });
    let mut client = client(&pair).await;
    let began = std::time::Instant::now();
    let requests: Vec<_> = (0..20)
        .map(|_| client.send_request(Request::get("http://silent.demo/").body(()).unwrap(), true).unwrap().0)
        .collect();
    for response in requests {
        assert_eq!(tokio::time::timeout(LIMIT, response).await.unwrap().unwrap().status(), 503);
    }
    assert!(began.elapsed() < CONNECT * 10, "{:?}", began.elapsed());
}
