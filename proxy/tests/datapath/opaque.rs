//! Raw connections through both sidecars.

use tokio::io::AsyncWriteExt;

use crate::harness::Pair;

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
