//! Exchanges that wait for a connection to their instance, and HTTP/2 peers that allow few streams.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use mesh_core::model::policy::{Limits, Retries, TrafficPolicy};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::harness::{LIMIT, Pair, Peer, Proxy, authority, endpoint, has, route};

/// Attempts that are not repeated, with these limits and this time to connect.
fn policy(limits: Limits, connect: Duration) -> Arc<TrafficPolicy> {
    let mut policy =
        TrafficPolicy { limits, retries: Retries { attempts: 1, ..Retries::default() }, ..Default::default() };
    policy.timeouts.connect = connect;
    Arc::new(policy)
}

async fn pair(limits: Limits, connect: Duration) -> Pair {
    let pair = Pair::start().await;
    pair.caller.publish(|snapshot| drop(snapshot.traffic.insert("b.demo".to_owned(), policy(limits, connect))));
    pair
}

async fn get(pair: &Pair) -> Peer {
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nHost: b.demo\r\n\r\n").await;
    client
}

/// Waits until so many exchanges of the caller have waited, or still do.
async fn waited(pair: &Pair, count: u64) {
    let counted = async {
        while pair.caller.metrics.waits.get() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("a peer of the test does as it is told");
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn exchanges_wait_for_the_only_connection_in_the_order_in_which_they_came() {
    let pair = pair(Limits { connections: 1, ..Limits::default() }, LIMIT).await;
    let mut clients = vec![get(&pair).await];
    let mut application = pair.application().await;
    application.head().await;
    for count in 1..4 {
        clients.push(get(&pair).await);
        waited(&pair, count).await;
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        if number > 0 {
            application.head().await;
        }
        application.send(NO_CONTENT).await;
        assert!(client.head().await.starts_with("HTTP/1.1 204 "), "{number}");
    }
    assert_eq!(pair.caller.metrics.connects.get(), 1);
    assert_eq!(pair.caller.metrics.waits_refused.get(), 0);
}

#[tokio::test]
async fn exchange_takes_the_place_of_a_connection_that_ended() {
    let pair = pair(Limits { connections: 1, ..Limits::default() }, LIMIT).await;
    let mut first = get(&pair).await;
    let mut application = pair.application().await;
    application.head().await;
    let mut second = get(&pair).await;
    waited(&pair, 1).await;
    // Cut in the middle of its answer: neither connection can be used again.
    application.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    drop(application);
    assert!(first.head().await.starts_with("HTTP/1.1 200 "));
    let mut application = pair.application().await;
    application.head().await;
    application.send(NO_CONTENT).await;
    assert!(second.head().await.starts_with("HTTP/1.1 204 "));
    assert_eq!(pair.caller.metrics.connects.get(), 2);
}

#[tokio::test]
async fn as_many_wait_as_may_and_none_for_longer_than_connecting_may_take() {
    let pair = pair(Limits { connections: 1, pending: 1, ..Limits::default() }, Duration::from_secs(2)).await;
    let mut first = get(&pair).await;
    let mut application = pair.application().await;
    application.head().await;
    let mut second = get(&pair).await;
    waited(&pair, 1).await;
    let head = get(&pair).await.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && has(&head, "x-mesh-error: overloaded"), "{head}");
    assert!(head.contains("may wait"), "{head}");
    let head = second.head().await;
    assert!(head.starts_with("HTTP/1.1 503 ") && has(&head, "x-mesh-error: overloaded"), "{head}");
    assert!(head.contains("in time"), "{head}");
    assert_eq!(pair.caller.metrics.waits_refused.get(), 2);
    application.send(NO_CONTENT).await;
    assert!(first.head().await.starts_with("HTTP/1.1 204 "));
    // Its connection waits for the next one.
    let mut fourth = get(&pair).await;
    application.head().await;
    application.send(NO_CONTENT).await;
    assert!(fourth.head().await.starts_with("HTTP/1.1 204 "));
    assert_eq!(pair.caller.metrics.connects.get(), 1);
}

/// An HTTP/2 application that allows so many streams at once, and hands them over.
struct FewStreams {
    streams: mpsc::Receiver<SendResponse<Bytes>>,
    connections: mpsc::Receiver<()>,
    address: std::net::SocketAddr,
    _accepting: JoinSet<()>,
}

impl FewStreams {
    async fn start(allowed: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a peer of the test does as it is told");
        let address = listener.local_addr().expect("a peer of the test does as it is told");
        let (told, streams) = mpsc::channel(64);
        let (came, connections) = mpsc::channel(64);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((io, _)) = listener.accept().await {
                came.send(()).await.expect("a peer of the test does as it is told");
                let told = told.clone();
                serving.spawn(async move {
                    let mut server = h2::server::Builder::new();
                    let mut server = server
                        .max_concurrent_streams(allowed)
                        .handshake::<_, Bytes>(io)
                        .await
                        .expect("a peer of the test does as it is told");
                    while let Some(Ok((_, respond))) = server.accept().await {
                        told.send(respond).await.expect("a peer of the test does as it is told");
                    }
                });
            }
        });
        FewStreams { streams, connections, address, _accepting: accepting }
    }

    async fn next(&mut self) -> SendResponse<Bytes> {
        tokio::time::timeout(LIMIT, self.streams.recv())
            .await
            .expect("a peer of the test does as it is told")
            .expect("a peer of the test does as it is told")
    }

    /// Connections so far.
    fn connections(&mut self) -> usize {
        std::iter::from_fn(|| self.connections.try_recv().ok()).count()
    }
}

/// A sidecar whose calls to `b.demo` go to an address in the clear.
fn caller(address: std::net::SocketAddr, limits: Limits) -> Proxy {
    let caller = Proxy::start(None);
    caller.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", vec![endpoint(address, None)]);
        snapshot.traffic.insert("b.demo".to_owned(), policy(limits, LIMIT));
    });
    caller
}

async fn client(proxy: &Proxy) -> h2::client::SendRequest<Bytes> {
    let io = TcpStream::connect(proxy.outbound).await.expect("a peer of the test does as it is told");
    let (send, connection) = h2::client::handshake(io).await.expect("a peer of the test does as it is told");
    tokio::spawn(connection);
    send.ready().await.expect("a peer of the test does as it is told")
}

fn requests(client: &mut h2::client::SendRequest<Bytes>, count: usize) -> Vec<h2::client::ResponseFuture> {
    let request = || Request::post("http://b.demo/").body(()).expect("a peer of the test does as it is told");
    (0..count).map(|_| client.send_request(request(), true).expect("a peer of the test does as it is told").0).collect()
}

#[tokio::test]
async fn peer_that_allows_few_streams_gets_further_connections_and_refuses_nothing() {
    for allowed in [1, 2, 5] {
        let mut application = FewStreams::start(allowed).await;
        let proxy = caller(application.address, Limits::default());
        let mut client = client(&proxy).await;
        let responses = requests(&mut client, 10);
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(application.next().await);
        }
        assert_eq!(application.connections(), 10_usize.div_ceil(allowed as usize), "{allowed} at once");
        open.into_iter().for_each(|mut respond| {
            drop(respond.send_response(Response::new(()), true).expect("a peer of the test does as it is told"))
        });
        for response in responses {
            assert_eq!(
                tokio::time::timeout(LIMIT, response)
                    .await
                    .expect("a peer of the test does as it is told")
                    .expect("a peer of the test does as it is told")
                    .status(),
                200
            );
        }
    }
}

#[tokio::test]
async fn streams_wait_for_others_to_end_where_no_further_connection_may_be_opened() {
    let mut application = FewStreams::start(2).await;
    let proxy = caller(application.address, Limits { connections: 1, ..Limits::default() });
    let mut client = client(&proxy).await;
    let responses = requests(&mut client, 7);
    let mut open = vec![application.next().await, application.next().await];
    for number in 0..7 {
        open.remove(0).send_response(Response::new(()), true).expect("a peer of the test does as it is told");
        if number < 5 {
            open.push(application.next().await);
        }
    }
    for response in responses {
        assert_eq!(
            tokio::time::timeout(LIMIT, response)
                .await
                .expect("a peer of the test does as it is told")
                .expect("a peer of the test does as it is told")
                .status(),
            200
        );
    }
    assert_eq!(application.connections(), 1);
    assert_eq!(proxy.metrics.waits_refused.get(), 0);
}

#[tokio::test]
async fn peer_that_allows_many_streams_keeps_its_one_connection() {
    let mut application = FewStreams::start(100).await;
    let proxy = caller(application.address, Limits::default());
    let mut client = client(&proxy).await;
    let responses = requests(&mut client, 50);
    for _ in 0..50 {
        application.next().await.send_response(Response::new(()), true).expect("a peer of the test does as it is told");
    }
    for response in responses {
        assert_eq!(
            tokio::time::timeout(LIMIT, response)
                .await
                .expect("a peer of the test does as it is told")
                .expect("a peer of the test does as it is told")
                .status(),
            200
        );
    }
    assert_eq!(application.connections(), 1);
}
