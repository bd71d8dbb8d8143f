//! Applications that forward nothing at all.

use std::time::Duration;

use mesh_tests::wait::{PATIENCE, until};
use tokio::task::JoinSet;

use crate::{
    chain::{BASELINE, CANARY, Chain, LABEL, PODS},
    link::Forward,
    words::{Protocol, call_once},
};

/// A request of the lane whose label the first application lost.
const LOST: &str = "a[canary] b[-] c[-] d[-]";

#[tokio::test]
async fn lost_label_is_baseline_under_mixed_load_and_is_counted() {
    const REQUESTS: usize = 1_200;
    const AT_ONCE: usize = 16;
    let chain = Chain::of_links("", Forward::Nothing).await;
    let to = chain.mesh.pod("client").outbound();
    chain.settled(&PODS).await;
    let before = chain.sources(&["a"], "none").await;
    let mut running = JoinSet::new();
    for position in 0..REQUESTS {
        if running.len() >= AT_ONCE {
            running.join_next().await.expect("some run").unwrap();
        }
        running.spawn(async move {
            let (headers, expected) = if position % 2 == 0 { (vec![LABEL], LOST) } else { (vec![], BASELINE) };
            let protocol = [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::WebSocket][position / 2 % 4];
            let answer = call_once(protocol, to, "a", "/", &headers).await.unwrap();
            assert_eq!(answer.replace("shop/canary", "canary"), expected, "{position} {protocol:?}");
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    // A request of baseline is unlabelled on its way in and on its way out, one of the lane on its way out.
    let expected = (REQUESTS / 2 * 2 + REQUESTS / 2) as f64;
    until(&format!("{expected} exchanges of a counted without label"), PATIENCE, || async {
        (chain.sources(&["a"], "none").await - before == expected).then_some(())
    })
    .await;
}

/// A group that allows the guess.
const UNANIMITY: &str = "propagation: {unanimity: true}";
/// A sidecar that just started does not know what was in flight before it, and is silent for half a minute.
const BLIND: Duration = Duration::from_secs(90);

#[tokio::test]
async fn one_request_after_the_other_keeps_its_lane_by_unanimity() {
    let chain = Chain::of_links(UNANIMITY, Forward::Nothing).await;
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc] {
        until("unanimity answers", BLIND, || async {
            (chain.call(protocol, "/", &[LABEL]).await == CANARY).then_some(())
        })
        .await;
        for position in 0..200 {
            assert_eq!(chain.call(protocol, "/", &[LABEL]).await, CANARY, "{protocol:?} {position}");
        }
        // Baseline right behind the lane, with nothing in between.
        for position in 0..200 {
            assert_eq!(chain.call(protocol, "/", &[]).await, BASELINE, "{protocol:?} {position}");
        }
    }
}
