//! What was planned by a snapshot does not keep it: configuration may change ten thousand times while a stream is open.

use std::sync::{Arc, Weak};

use mesh_core::{
    model::service::{Service, ServiceKey},
    snapshot::Snapshot,
};

use crate::harness::{LIMIT, Pair, Peer, Proxy, endpoint, key};

/// Another state of everything, as a controller that never rests would say it.
fn change(proxy: &Proxy) {
    let other: ServiceKey = key("other");
    proxy.publish(|snapshot| {
        let address = ([127, 0, 0, 1], 1 + (snapshot.revision % 1_000) as u16).into();
        snapshot.services.insert(other.clone(), Arc::new(Service::new(other, true, vec![endpoint(address, None)])));
    });
}

/// Waits until nobody holds a snapshot that was replaced.
async fn gone(snapshot: &Weak<Snapshot>) {
    let gone = async {
        while snapshot.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, gone).await.is_ok(), "{} still hold the snapshot", snapshot.strong_count());
}

/// Opens streams at snapshots of their own and has these replaced: they must go while the streams stay.
async fn streams_let_go(pair: &Pair, request: &str, answer: &str) -> Vec<(Peer, Peer)> {
    let (mut open, mut snapshots) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        for proxy in [&pair.caller, &pair.callee] {
            change(proxy);
            snapshots.push(Arc::downgrade(&proxy.shared.load()));
        }
        let mut client = pair.call().await;
        client.send(request).await;
        let mut application = pair.application().await;
        application.head().await;
        application.send(answer).await;
        client.head().await;
        open.push((client, application));
    }
    change(&pair.caller);
    change(&pair.callee);
    for snapshot in &snapshots {
        gone(snapshot).await;
    }
    open
}

#[tokio::test]
async fn websockets_do_not_keep_the_snapshot_that_they_began_with() {
    let pair = Pair::start().await;
    let request = "GET /chat HTTP/1.1\r\nHost: b.demo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (mut client, mut application) in streams_let_go(&pair, request, answer).await {
        client.send("up").await;
        assert_eq!(application.exactly(2).await, b"up");
        application.send("down").await;
        assert_eq!(client.exactly(4).await, b"down");
    }
}

#[tokio::test]
async fn event_streams_do_not_keep_the_snapshot_that_they_began_with() {
    let pair = Pair::start().await;
    let request = "GET /events HTTP/1.1\r\nHost: b.demo\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (mut client, mut application) in streams_let_go(&pair, request, answer).await {
        application.send("9\r\ndata: a\n\n\r\n").await;
        client.until("data: a\n\n\r\n").await;
    }
}
