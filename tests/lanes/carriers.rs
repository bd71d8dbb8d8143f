//! What an application must hand on for the lane to come back at the next hop, in every protocol.

use crate::{
    chain::{BASELINE, CANARY, Chain, LABEL},
    link::Forward,
    words::PROTOCOLS,
};

/// Baseline and lane by turns, in every protocol, several times.
async fn keeps_the_lane_in_every_protocol(forward: Forward, lane_headers: &[(&str, &str)]) {
    let chain = Chain::of_links("", forward).await;
    for round in 0..5 {
        for protocol in PROTOCOLS {
            assert_eq!(chain.call(protocol, "/", &[]).await, BASELINE, "{forward:?} {protocol:?} {round}");
            let came = chain.call(protocol, "/", lane_headers).await;
            assert_eq!(came, CANARY, "{forward:?} {protocol:?} {round}");
        }
    }
}

#[tokio::test]
async fn applications_that_copy_the_header_keep_the_lane() {
    keeps_the_lane_in_every_protocol(Forward::Header, &[LABEL]).await;
}

#[tokio::test]
async fn applications_that_copy_baggage_keep_the_lane() {
    keeps_the_lane_in_every_protocol(Forward::Baggage, &[LABEL]).await;
    let in_baggage = ("baggage", "user=1,mesh-lane=canary");
    keeps_the_lane_in_every_protocol(Forward::Baggage, &[in_baggage]).await;
}
