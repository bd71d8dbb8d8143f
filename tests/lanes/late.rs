//! Calls that an application makes after it answered: at once, ten seconds later, or from a worker that outlives the
//! request.

use std::{sync::Arc, time::Duration};

use mesh_tests::wait::{PATIENCE, stays_true, until};

use crate::{
    chain::{Chain, LABEL},
    link::{Behaviour, Forward},
    stacks::{Stack, W3C},
};

/// How long after its answer the application calls.
const LATE: Duration = Duration::from_secs(10);

/// The chain whose first application is still to be started.
async fn chain(group: &str) -> Chain {
    let mut chain = Chain::mesh(group).await;
    chain.links(&["b", "b-canary", "c", "d", "d-canary"], Behaviour::Now, Arc::new(|_| Forward::Header)).await;
    chain
}

/// What the application of `a` forwards of a path, in links.
fn by_path(path: &str) -> Forward {
    match path {
        "/header" | "/header-plain" => Forward::Header,
        "/baggage" | "/baggage-plain" => Forward::Baggage,
        "/trace" | "/trace-plain" => Forward::TraceParent,
        "/b3" | "/b3-plain" => Forward::B3,
        _ => Forward::Nothing,
    }
}

/// The instance and the label with which a call arrived at the end of the chain.
async fn arrived(chain: &Chain, path: &str) -> String {
    let arrival = chain.record.arrival("d", path).await;
    format!("{}[{}]", arrival.instance, arrival.label)
}

#[tokio::test]
async fn call_ten_seconds_after_the_answer_is_in_the_lane_whatever_the_application_forwards() {
    let mut chain = chain("").await;
    chain.links(&["a"], Behaviour::Late(LATE), Arc::new(by_path)).await;
    chain.ready().await;
    for path in ["/header", "/baggage", "/trace", "/b3", "/nothing"] {
        assert_eq!(chain.get(path, &[LABEL]).await, "a[canary]");
        let plain = format!("{path}-plain");
        assert_eq!(chain.get(&plain, &[]).await, "a[-]");
    }
    for path in ["/header", "/baggage", "/trace", "/b3"] {
        assert_eq!(arrived(&chain, path).await, "d-canary[canary]", "{path}");
        assert_eq!(arrived(&chain, &format!("{path}-plain")).await, "d[-]", "{path}");
    }
    assert_eq!(arrived(&chain, "/nothing").await, "d[-]");
}

#[tokio::test]
async fn frameworks_keep_the_lane_for_a_call_ten_seconds_after_the_answer() {
    // One chain for each, all waiting at the same time.
    let mut chains = Vec::new();
    for (stack, propagators) in [(Stack::FastApi, W3C), (Stack::Express, "tracecontext"), (Stack::Go, "b3")] {
        let mut chain = chain("").await;
        chain.stack(&["a"], stack, propagators, Behaviour::Late(LATE)).await;
        chain.ready().await;
        assert_eq!(chain.get("/lane", &[LABEL]).await, "a[canary]");
        assert_eq!(chain.get("/plain", &[]).await, "a[-]");
        chains.push((stack, chain));
    }
    for (stack, chain) in chains {
        assert_eq!(arrived(&chain, "/lane").await, "d-canary[canary]", "{stack:?}");
        assert_eq!(arrived(&chain, "/plain").await, "d[-]", "{stack:?}");
    }
}

/// The known limit: nothing but its age tells the calls of such a worker from calls of the request that started it.
#[tokio::test]
async fn worker_started_inside_a_request_stays_in_its_lane_by_default_and_is_counted_as_stale() {
    for stack in [Stack::FastApi, Stack::Express, Stack::Go] {
        let mut chain = chain("propagation: {linger: 1s}").await;
        chain.stack(&["a"], stack, W3C, Behaviour::Worker).await;
        // Not through `ready`: the first request is the one whose context stays.
        assert_eq!(chain.get("/first", &[LABEL]).await, "a[canary]", "{stack:?}");
        assert_eq!(arrived(&chain, "/first").await, "d-canary[canary]", "{stack:?}");
        let mut position = 0;
        until("a stale call is counted", PATIENCE, || {
            position += 1;
            let (path, chain) = (format!("/later/{position}"), &chain);
            async move {
                assert_eq!(chain.get(&path, &[]).await, "a[-]", "{stack:?}");
                assert_eq!(arrived(chain, &path).await, "d-canary[canary]", "{stack:?}");
                let stale = chain.mesh.pod("a").metrics().await.sum("mesh_lane_stale_total", &[]);
                (stale > 0.0).then_some(())
            }
        })
        .await;
    }
}

#[tokio::test]
async fn worker_started_outside_the_lane_never_calls_into_it() {
    let mut chain = chain("").await;
    chain.stack(&["a"], Stack::FastApi, W3C, Behaviour::Worker).await;
    chain.ready().await;
    for position in 0..20 {
        let path = format!("/{position}");
        assert_eq!(chain.get(&path, &[LABEL]).await, "a[canary]");
        assert_eq!(arrived(&chain, &path).await, "d[-]");
    }
    let untouched = || chain.record.all().iter().all(|arrival| !arrival.instance.ends_with("canary"));
    stays_true("nothing reached the lane", Duration::from_millis(100), untouched).await;
}

/// Sends requests of baseline until the worker's call for one arrives in baseline.
async fn worker_returns_to_baseline(chain: &Chain) {
    let mut position = 0;
    until("the worker returns to baseline", PATIENCE, || {
        position += 1;
        let path = format!("/later/{position}");
        async move {
            assert_eq!(chain.get(&path, &[]).await, "a[-]");
            (arrived(chain, &path).await == "d[-]").then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn worker_that_forwards_only_a_trace_returns_to_baseline_when_the_linger_is_over() {
    for (stack, propagators) in [(Stack::Go, "tracecontext"), (Stack::Express, "b3")] {
        let mut chain = chain("propagation: {linger: 1s}").await;
        chain.stack(&["a"], stack, propagators, Behaviour::Worker).await;
        assert_eq!(chain.get("/first", &[LABEL]).await, "a[canary]");
        assert_eq!(arrived(&chain, "/first").await, "d-canary[canary]", "{stack:?}");
        worker_returns_to_baseline(&chain).await;
    }
}

#[tokio::test]
async fn stale_context_of_a_worker_is_ignored_where_the_group_says_so() {
    let mut chain = chain("propagation: {linger: 1s, stale: ignore}").await;
    chain.stack(&["a"], Stack::FastApi, W3C, Behaviour::Worker).await;
    assert_eq!(chain.get("/first", &[LABEL]).await, "a[canary]");
    assert_eq!(arrived(&chain, "/first").await, "d-canary[canary]");
    worker_returns_to_baseline(&chain).await;
    // Not only once: its calls stay there, and a request of the lane does not take them back.
    assert_eq!(chain.get("/another", &[LABEL]).await, "a[canary]");
    assert_eq!(arrived(&chain, "/another").await, "d[-]");
}
