//! What Linkerd's sidecars do that ours do not: HTTP/1 carried over HTTP/2.

use bytes::Bytes;
use http::{Method, Request};
use mesh_proxy::net::{
    socket::Socket,
    transport_header::{SessionProtocol, TransportHeader},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::harness::{Authority, Pair, has, identity};

/// An HTTP/2 session with the callee's sidecar, as Linkerd's outbound proxy begins it.
async fn session(pair: &Pair, issuer: &Authority) -> h2::client::SendRequest<Bytes> {
    let material = issuer.material("a");
    let io = TcpStream::connect(pair.callee.inbound).await.unwrap();
    let name = material.name_of(&identity("b"), None).unwrap();
    let mut socket = Socket::connect_tls(io, name, material.client.clone()).await.unwrap();
    let port = pair.application.local_addr().unwrap().port();
    let mut header = TransportHeader { port, session: Some(SessionProtocol::Http2) }.encode();
    socket.write_all_buf(&mut header).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::task::spawn(connection);
    send.ready().await.unwrap()
}

#[tokio::test]
async fn http1_carried_over_http2_reaches_the_application_as_http1() {
    let issuer = Authority::new();
    let pair = Pair::start_under(&issuer).await;
    let mut client = session(&pair, &issuer).await;
    for (method, body) in [(Method::POST, "ping"), (Method::GET, "")] {
        let request = Request::builder()
            .method(method.clone())
            .uri("http://b.demo/x?y=1")
            .header("l5d-orig-proto", "HTTP/1.1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let (response, mut send) = client.send_request(request, body.is_empty()).unwrap();
        let mut application = pair.application().await;
        let head = application.head().await;
        assert!(head.starts_with(&format!("{method} /x?y=1 HTTP/1.1\r\n")) && has(&head, "host: b.demo"), "{head}");
        assert!(!head.contains("l5d-orig-proto") && has(&head, "cookie: a=1; b=2"), "{head}");
        if !body.is_empty() {
            assert!(has(&head, "transfer-encoding: chunked"), "{head}");
            send.send_data(body.into(), true).unwrap();
            application.until("4\r\nping\r\n0\r\n\r\n").await;
        }
        application.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong").await;
        let response = response.await.unwrap();
        assert_eq!(response.headers()["l5d-orig-proto"], "HTTP/1.1");
        assert_eq!(response.headers()["content-length"], "4");
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(response.into_body().data().await.unwrap().unwrap(), "pong");
    }
}
