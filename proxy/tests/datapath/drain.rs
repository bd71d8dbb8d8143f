//! A worker that drains finishes what it began, and ends.

use crate::harness::{Pair, has};

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
