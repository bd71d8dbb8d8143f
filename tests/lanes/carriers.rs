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

/// A trace of the client's own.
const TRACE: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

#[tokio::test]
async fn applications_that_copy_only_traceparent_keep_the_lane() {
    keeps_the_lane_in_every_protocol(Forward::TraceParent, &[LABEL]).await;
}

#[tokio::test]
async fn trace_of_the_client_keeps_the_lane_too() {
    let chain = Chain::of_links("", Forward::TraceParent).await;
    for protocol in PROTOCOLS {
        // A trace of its own for each request: the same trace in a lane and in baseline would be ambiguous.
        let trace = format!("00-{:032x}-b7ad6b7169203331-01", rand::random::<u128>() | 1);
        let labelled = [LABEL, ("traceparent", trace.as_str())];
        assert_eq!(chain.call(protocol, "/", &labelled).await, CANARY, "{protocol:?}");
        assert_eq!(chain.call(protocol, "/", &[TRACE]).await, BASELINE, "{protocol:?}");
    }
}

#[tokio::test]
async fn applications_that_know_only_b3_keep_the_lane() {
    keeps_the_lane_in_every_protocol(Forward::B3, &[LABEL]).await;
}

#[tokio::test]
async fn applications_that_know_only_sw8_keep_the_lane() {
    keeps_the_lane_in_every_protocol(Forward::Sw8, &[LABEL]).await;
}
