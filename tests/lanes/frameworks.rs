//! Chains of applications that do nothing for lanes: their tracing frameworks carry the label, or what leads to it.

use mesh_tests::wait::within;
use tokio::task::JoinSet;

use crate::{
    chain::{BASELINE, CANARY, Chain, LABEL, PODS},
    link::Behaviour,
    stacks::{NONE, Stack, W3C},
    words::{Protocol, call_once},
};

/// Requests of one run.
const REQUESTS: usize = 200;
/// Method that the links of gRPC know.
const METHOD: &str = "/lane.Link/Call";
/// Requests at the same time.
const AT_ONCE: usize = 8;

/// Many requests at the same time, of the lane and of baseline: all of them are served where they belong.
async fn keeps_the_lane(chain: &Chain) {
    keeps_the_lane_over(Protocol::Http1, chain).await;
}

async fn keeps_the_lane_over(protocol: Protocol, chain: &Chain) {
    let to = chain.mesh.pod("client").outbound();
    let mut running = JoinSet::new();
    for position in 0..REQUESTS {
        while running.len() >= AT_ONCE {
            running.join_next().await.expect("some run").unwrap();
        }
        running.spawn(async move {
            let (headers, expected) = if position % 3 == 0 { (vec![], BASELINE) } else { (vec![LABEL], CANARY) };
            let path = match protocol {
                Protocol::Grpc => METHOD.to_owned(),
                Protocol::Http1 | Protocol::Http2 | Protocol::WebSocket => format!("/{position}"),
            };
            let answer = call_once(protocol, to, "a", &path, &headers).await.unwrap();
            assert_eq!(answer.replace("shop/canary", "canary"), expected, "{protocol:?} {position}");
        });
    }
    let rest = async {
        while let Some(done) = running.join_next().await.transpose().unwrap() {
            done
        }
    };
    within("the answers", mesh_tests::client::LIMIT, rest).await;
}

#[tokio::test]
async fn fastapi_with_opentelemetry_carries_the_lane_in_baggage() {
    keeps_the_lane(&Chain::of_stack("", Stack::FastApi, W3C).await).await;
}

#[tokio::test]
async fn flask_with_opentelemetry_carries_the_lane_in_baggage() {
    keeps_the_lane(&Chain::of_stack("", Stack::Flask, W3C).await).await;
}

#[tokio::test]
async fn express_with_opentelemetry_carries_the_lane_in_baggage() {
    keeps_the_lane(&Chain::of_stack("", Stack::Express, W3C).await).await;
}

#[tokio::test]
async fn go_with_otelhttp_carries_the_lane_in_baggage() {
    keeps_the_lane(&Chain::of_stack("", Stack::Go, W3C).await).await;
}

#[tokio::test]
async fn chain_of_four_stacks_carries_the_lane_in_baggage() {
    let mut chain = Chain::mesh("").await;
    chain.stack(&["a"], Stack::FastApi, W3C, Behaviour::Now).await;
    chain.stack(&["b", "b-canary"], Stack::Express, W3C, Behaviour::Now).await;
    chain.stack(&["c"], Stack::Go, W3C, Behaviour::Now).await;
    chain.stack(&["d", "d-canary"], Stack::Flask, W3C, Behaviour::Now).await;
    chain.ready().await;
    keeps_the_lane(&chain).await;
}

#[tokio::test]
async fn stacks_that_propagate_only_the_trace_context_keep_the_lane() {
    for stack in [Stack::FastApi, Stack::Flask, Stack::Express, Stack::Go] {
        keeps_the_lane(&Chain::of_stack("", stack, "tracecontext").await).await;
    }
}

#[tokio::test]
async fn stacks_that_propagate_only_b3_keep_the_lane() {
    for (stack, propagators) in
        [(Stack::Go, "b3"), (Stack::Go, "b3multi"), (Stack::FastApi, "b3"), (Stack::Express, "b3")]
    {
        keeps_the_lane(&Chain::of_stack("", stack, propagators).await).await;
    }
}

#[tokio::test]
async fn skywalking_that_propagates_only_sw8_keeps_the_lane() {
    keeps_the_lane(&Chain::of_stack("", Stack::SkyWalking, NONE).await).await;
}

#[tokio::test]
async fn chain_of_stacks_that_share_no_format_keeps_the_lane() {
    let mut chain = Chain::mesh("").await;
    chain.stack(&["a"], Stack::SkyWalking, NONE, Behaviour::Now).await;
    chain.stack(&["b", "b-canary"], Stack::Express, "tracecontext", Behaviour::Now).await;
    chain.stack(&["c", "d", "d-canary"], Stack::Go, "b3", Behaviour::Now).await;
    chain.ready().await;
    keeps_the_lane(&chain).await;
}

/// A chain of links that speak gRPC alone.
async fn of_grpc(stack: Stack, propagators: &str) -> Chain {
    let mut chain = Chain::mesh("").await;
    chain.stack(&PODS, stack, propagators, Behaviour::Now).await;
    chain.ready_over(Protocol::Grpc, METHOD).await;
    chain
}

#[tokio::test]
async fn go_with_otelhttp_keeps_the_lane_over_http2_in_baggage_trace_context_and_b3() {
    for propagators in [W3C, "tracecontext", "b3", "b3multi"] {
        keeps_the_lane_over(Protocol::Http2, &Chain::of_stack("", Stack::Go, propagators).await).await;
    }
}

#[tokio::test]
async fn grpc_in_go_with_otelgrpc_keeps_the_lane_in_baggage_trace_context_and_b3() {
    for propagators in [W3C, "tracecontext", "b3", "b3multi"] {
        keeps_the_lane_over(Protocol::Grpc, &of_grpc(Stack::Go, propagators).await).await;
    }
}

#[tokio::test]
async fn grpc_in_python_with_opentelemetry_keeps_the_lane_in_baggage_trace_context_and_b3() {
    for propagators in [W3C, "tracecontext", "b3"] {
        keeps_the_lane_over(Protocol::Grpc, &of_grpc(Stack::GrpcPython, propagators).await).await;
    }
}

#[tokio::test]
async fn grpc_in_node_with_opentelemetry_keeps_the_lane_in_baggage_trace_context_and_b3() {
    for propagators in [W3C, "tracecontext", "b3"] {
        keeps_the_lane_over(Protocol::Grpc, &of_grpc(Stack::GrpcNode, propagators).await).await;
    }
}

#[tokio::test]
async fn chain_of_three_stacks_of_grpc_keeps_the_lane() {
    let mut chain = Chain::mesh("").await;
    chain.stack(&["a"], Stack::GrpcNode, W3C, Behaviour::Now).await;
    chain.stack(&["b", "b-canary"], Stack::Go, "tracecontext", Behaviour::Now).await;
    chain.stack(&["c", "d", "d-canary"], Stack::GrpcPython, W3C, Behaviour::Now).await;
    chain.ready_over(Protocol::Grpc, METHOD).await;
    keeps_the_lane_over(Protocol::Grpc, &chain).await;
}
