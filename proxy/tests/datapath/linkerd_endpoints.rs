//! Endpoints of Linkerd's: their sidecars ask for HTTP/1 over HTTP/2.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use mesh_core::{
    model::endpoint::{Endpoint, ProtocolHint},
    outcome::Outcome,
};
use mesh_proxy::net::{
    socket::Socket,
    tls::TlsMaterial,
    transport_header::{SessionProtocol, TransportHeader},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{Authority, LIMIT, Pair, Peer, Proxy, authority, endpoint, has, route};

/// A caller's sidecar, and the scripted sidecar of its endpoint.
struct Caller {
    proxy: Proxy,
    sidecar: TcpListener,
    material: Arc<TlsMaterial>,
}

type Stream = (Request<RecvStream>, SendResponse<Bytes>);

impl Caller {
    async fn start() -> Self {
        let issuer = Authority::new();
        let sidecar = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(Some(issuer.material("a")));
        proxy.publish(|snapshot| {
            let application = (Ipv4Addr::LOCALHOST, 8080).into();
            let endpoint = endpoint(application, Some(("b", sidecar.local_addr().unwrap())));
            route(snapshot, authority("b.demo"), "b", vec![hinted(&endpoint)]);
        });
        Caller { proxy, sidecar, material: issuer.material("b") }
    }

    async fn call(&self, request: &str) -> Peer {
        let mut client = Peer::connect(self.proxy.outbound).await;
        client.send(request).await;
        client
    }

    /// The next connection to the endpoint's sidecar, and what it is said to carry.
    async fn session(&self) -> (Option<SessionProtocol>, Socket) {
        let accepted = async {
            let (io, _) = self.sidecar.accept().await.unwrap();
            let mut socket = Socket::accept_tls(io, b"", Arc::clone(&self.material.server)).await.unwrap();
            let mut read = BytesMut::new();
            loop {
                if let Some(header) = TransportHeader::take(&mut read).unwrap() {
                    assert_eq!(header.port, 8080);
                    socket.unread(read);
                    return (header.session, socket);
                }
                socket.read_buf(&mut read).await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, accepted).await.unwrap()
    }

    async fn http2(&self) -> Endpoint2 {
        let (session, socket) = self.session().await;
        assert_eq!(session, Some(SessionProtocol::Http2));
        Endpoint2(h2::server::handshake(socket).await.unwrap())
    }
}

/// The endpoint's sidecar in an HTTP/2 session.
struct Endpoint2(h2::server::Connection<Socket, Bytes>);

impl Endpoint2 {
    async fn stream(&mut self) -> Stream {
        tokio::time::timeout(LIMIT, self.0.accept()).await.unwrap().unwrap().unwrap()
    }

    /// Moves the frames of streams that were taken.
    fn run(mut self) {
        tokio::spawn(async move { while self.0.accept().await.is_some() {} });
    }
}

fn hinted(endpoint: &Endpoint) -> Arc<Endpoint> {
    Arc::new(Endpoint { hint: ProtocolHint::Http2, ..endpoint.clone() })
}

fn ok() -> http::response::Builder {
    Response::builder().header("l5d-orig-proto", "HTTP/1.1")
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())])
}

async fn whole(body: &mut RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data.unwrap());
    }
    bytes
}

#[tokio::test]
async fn chunked_request_with_trailers_arrives_as_a_marked_stream() {
    let caller = Caller::start().await;
    let head = "POST /x?y=1 HTTP/1.1\r\nHost: b.demo\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
        Keep-Alive: timeout=5\r\nL5d-Orig-Proto: HTTP/1.0\r\nl5d-client-id: admin\r\nX-Kept: 2\r\n\r\n";
    let mut client = caller.call(head).await;
    client.send("3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    let mut endpoint = caller.http2().await;
    let (request, mut respond) = endpoint.stream().await;
    endpoint.run();
    assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "http://b.demo/x?y=1"));
    let mut names: Vec<&str> = request.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["l5d-orig-proto", "x-kept"], "{:?}", request.headers());
    assert_eq!(request.headers()["l5d-orig-proto"], "HTTP/1.1");
    let mut body = request.into_body();
    assert_eq!(whole(&mut body).await, b"abcd");
    assert_eq!(body.trailers().await.unwrap().unwrap(), trailers());
    let mut send = respond.send_response(ok().header("x-own", "3").body(()).unwrap(), false).unwrap();
    send.send_data("pong".into(), false).unwrap();
    send.send_trailers(trailers()).unwrap();
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(has(&head, "transfer-encoding: chunked") && has(&head, "x-own: 3"), "{head}");
    assert!(!head.contains("l5d-") && !head.to_ascii_lowercase().contains("connection:"), "{head}");
    assert_eq!(client.until("0\r\nx-sum: 1\r\n\r\n").await, "4\r\npong\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[tokio::test]
async fn connection_of_the_client_carries_one_exchange_after_another_over_one_session() {
    let caller = Caller::start().await;
    let mut client = caller.call("POST /1 HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 4\r\n\r\nping").await;
    let mut endpoint = caller.http2().await;
    let (request, mut respond) = endpoint.stream().await;
    assert_eq!(request.headers()["content-length"], "4");
    let answer = ok().header("content-length", "4").body(()).unwrap();
    respond.send_response(answer, false).unwrap().send_data("pong".into(), true).unwrap();
    let (client, server) = tokio::join!(
        async move {
            let head = client.head().await;
            assert!(has(&head, "content-length: 4") && !head.contains("ransfer-"), "{head}");
            assert_eq!(client.exactly(4).await, b"pong");
            client.send("HEAD /2 HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
            client
        },
        endpoint.stream()
    );
    let mut client = client;
    assert_eq!(server.0.method(), "HEAD");
    let mut respond = server.1;
    respond.send_response(ok().header("content-length", "7").body(()).unwrap(), true).unwrap();
    let (mut client, (request, mut respond)) = tokio::join!(
        async move {
            let head = client.head().await;
            assert!(has(&head, "content-length: 7"), "{head}");
            client.send("GET /3 HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
            client
        },
        endpoint.stream()
    );
    assert!(request.body().is_end_stream());
    respond.send_informational(Response::builder().status(103).header("link", "</a>").body(()).unwrap()).unwrap();
    respond.send_response(ok().status(204).body(()).unwrap(), true).unwrap();
    endpoint.run();
    let interim = client.head().await;
    assert!(interim.starts_with("HTTP/1.1 103 ") && has(&interim, "link: </a>"), "{interim}");
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n") && !head.contains("ontent-"), "{head}");
    assert_eq!(caller.proxy.metrics.connects.get(), 1, "one session served all requests");
}

#[tokio::test]
async fn what_http2_cannot_carry_goes_on_an_http1_connection() {
    let caller = Caller::start().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: b.demo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let expectation = "PUT / HTTP/1.1\r\nHost: b.demo\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let target = "GET /<x> HTTP/1.1\r\nHost: b.demo\r\n\r\n";
    for (request, field) in [(upgrade, "upgrade: websocket"), (expectation, "expect: 100-continue"), (target, "")] {
        let mut client = caller.call(request).await;
        let (session, mut socket) = caller.session().await;
        assert_eq!(session, Some(SessionProtocol::Http1), "{request}");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with(request.lines().next().unwrap()), "{head}");
        assert!((field.is_empty() || has(&head, field)) && !head.contains("l5d-orig-proto"), "{head}");
        socket.write_all(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(client.head().await.starts_with("HTTP/1.1 418 "));
    }
}

#[tokio::test]
async fn absolute_form_is_told_and_an_http10_client_gets_its_body_until_the_end() {
    let caller = Caller::start().await;
    let mut client = caller.call("GET http://b.demo/x HTTP/1.1\r\nHost: ignored\r\n\r\n").await;
    let mut endpoint = caller.http2().await;
    let (request, mut respond) = endpoint.stream().await;
    assert_eq!(request.uri(), "http://b.demo/x");
    assert_eq!(request.headers()["l5d-orig-proto"], "HTTP/1.1; absolute-form");
    respond.send_response(ok().body(()).unwrap(), true).unwrap();
    let old = caller.call("GET /old HTTP/1.0\r\nHost: b.demo\r\nExpect: 100-continue\r\n\r\n");
    let (mut old, (request, mut respond)) = tokio::join!(old, endpoint.stream());
    assert!(has(&client.head().await, "content-length: 0"));
    assert_eq!(request.headers()["l5d-orig-proto"], "HTTP/1.1");
    assert!(!request.headers().contains_key("expect"));
    respond.send_response(ok().body(()).unwrap(), false).unwrap().send_data("pong".into(), true).unwrap();
    endpoint.run();
    let head = old.head().await;
    assert!(has(&head, "connection: close") && !head.contains("hunked"), "{head}");
    assert_eq!(old.rest().await.unwrap(), b"pong");
}

#[tokio::test]
async fn response_that_http1_cannot_frame_ends_before_it_confuses_the_client() {
    let caller = Caller::start().await;
    let get = "GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n";
    let mut client = caller.call(get).await;
    let mut endpoint = caller.http2().await;
    let (_, mut respond) = endpoint.stream().await;
    let mut send = respond.send_response(ok().status(204).body(()).unwrap(), false).unwrap();
    send.send_data("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), true).unwrap();
    let (mut next, (_, mut respond)) = tokio::join!(caller.call(get), endpoint.stream());
    respond.send_informational(Response::builder().status(101).body(()).unwrap()).unwrap();
    endpoint.run();
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
    assert_eq!(client.rest().await.unwrap_or_default(), b"");
    let head = next.head().await;
    assert!(head.starts_with("HTTP/1.1 502 ") && has(&head, "x-mesh-error: upstream_protocol"), "{head}");
}

#[tokio::test]
async fn cut_stream_reaches_the_client_as_a_cut_response() {
    let mut caller = Caller::start().await;
    let mut client = caller.call("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut endpoint = caller.http2().await;
    let (_, mut respond) = endpoint.stream().await;
    let mut send = respond.send_response(ok().body(()).unwrap(), false).unwrap();
    send.send_data("half".into(), false).unwrap();
    endpoint.run();
    client.until("4\r\nhalf\r\n").await;
    send.send_reset(h2::Reason::INTERNAL_ERROR);
    assert_eq!(client.rest().await.unwrap_or_default(), b"", "no last chunk");
    assert_eq!(caller.proxy.record().await.outcome, Outcome::UpstreamIncomplete);
}

#[tokio::test]
async fn stream_is_reset_with_its_client_and_repeated_where_it_was_refused() {
    let caller = Caller::start().await;
    let client = caller.call("POST / HTTP/1.1\r\nHost: b.demo\r\nContent-Length: 4\r\n\r\nping").await;
    let mut endpoint = caller.http2().await;
    let (_, mut respond) = endpoint.stream().await;
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    let (request, mut respond) = endpoint.stream().await;
    endpoint.run();
    assert_eq!(whole(&mut request.into_body()).await, b"ping");
    socket2::SockRef::from(&client.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    assert_eq!(tokio::time::timeout(LIMIT, reset).await.unwrap().unwrap(), h2::Reason::CANCEL);
}

#[tokio::test]
async fn connection_is_closed_after_an_answer_with_which_the_endpoint_asks_for_it() {
    let caller = Caller::start().await;
    let mut client = caller.call("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    let mut endpoint = caller.http2().await;
    let (_, mut respond) = endpoint.stream().await;
    let answer = ok().status(503).header("l5d-proxy-connection", "close").header("l5d-proxy-error", "gone");
    respond.send_response(answer.body(()).unwrap(), true).unwrap();
    endpoint.run();
    let head = client.head().await;
    assert!(has(&head, "connection: close") && has(&head, "l5d-proxy-error: gone"), "{head}");
    assert!(!head.contains("l5d-proxy-connection"), "{head}");
    assert_eq!(client.rest().await.unwrap(), b"");
}

#[tokio::test]
async fn own_sidecar_that_is_asked_in_this_way_gives_its_application_http1() {
    let pair = Pair::start().await;
    pair.caller.publish(|snapshot| {
        let sidecar = Some(("b", pair.callee.inbound));
        let endpoint = endpoint(pair.application.local_addr().unwrap(), sidecar);
        route(snapshot, authority("b.demo"), "b", vec![hinted(&endpoint)]);
    });
    let mut client = pair.call().await;
    client.send("POST / HTTP/1.1\r\nHost: b.demo\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let mut application = pair.application().await;
    let head = application.head().await;
    assert!(head.starts_with("POST / HTTP/1.1\r\n") && has(&head, "transfer-encoding: chunked"), "{head}");
    assert!(has(&head, "l5d-client-id: a.demo.serviceaccount.identity.lanemesh.cluster.local"), "{head}");
    assert!(!head.contains("l5d-orig-proto"), "{head}");
    application.until("3\r\nabc\r\n").await;
    client.send("0\r\nX-Sum: 1\r\n\r\n").await;
    application.until("0\r\nx-sum: 1\r\n\r\n").await;
    application.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Total: 2\r\n\r\n").await;
    assert!(has(&client.head().await, "transfer-encoding: chunked"));
    assert_eq!(client.until("x-total: 2\r\n\r\n").await, "2\r\nok\r\n0\r\nx-total: 2\r\n\r\n");
}
