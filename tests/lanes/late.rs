//! Calls that an application makes after it answered: at once, ten seconds later, or from a worker that outlives the
//! request.

use std::{sync::Arc, time::Duration};

use mesh_tests::wait::stays_true;

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
        "/header" => Forward::Header,
        "/baggage" => Forward::Baggage,
        "/trace" => Forward::TraceParent,
        "/b3" => Forward::B3,
        _ => Forward::Nothing,
    }
}

/// The instance and the label with which a call arrived at the end of the chain.
async fn arrived(chain: &Chain, path: &str) -> String {
    let arrival = chain.record.arrival("d", path).await;
    format!("{}[{}]", arrival.instance, arrival.label)
}

#[tokio::test]
async fn call_ten_seconds_after_the_answer_is_in_the_lane_where_the_application_forwards_the_label() {
    let mut chain = chain("").await;
    chain.links(&["a"], Behaviour::Late(LATE), Arc::new(by_path)).await;
    chain.ready().await;
    for path in ["/header", "/baggage", "/nothing"] {
        assert_eq!(chain.get(path, &[LABEL]).await, "a[canary]");
        let plain = format!("{path}-plain");
        assert_eq!(chain.get(&plain, &[]).await, "a[-]");
    }
    for path in ["/header", "/baggage"] {
        assert_eq!(arrived(&chain, path).await, "d-canary[canary]", "{path}");
        assert_eq!(arrived(&chain, &format!("{path}-plain")).await, "d[-]", "{path}");
    }
    assert_eq!(arrived(&chain, "/nothing").await, "d[-]");
}

#[tokio::test]
async fn frameworks_keep_the_baggage_for_a_call_ten_seconds_after_the_answer() {
    // One chain for each, all waiting at the same time.
    let mut chains = Vec::new();
    for stack in [Stack::FastApi, Stack::Express, Stack::Go] {
        let mut chain = chain("").await;
        chain.stack(&["a"], stack, W3C, Behaviour::Late(LATE)).await;
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

/// The known limit: nothing tells the calls of such a worker from calls of the request that started it.
#[tokio::test]
async fn worker_started_inside_a_request_stays_in_its_lane_by_default() {
    for stack in [Stack::FastApi, Stack::Express, Stack::Go] {
        let mut chain = chain("").await;
        chain.stack(&["a"], stack, W3C, Behaviour::Worker).await;
        // Not through `ready`: the first request is the one whose context stays.
        assert_eq!(chain.get("/first", &[LABEL]).await, "a[canary]", "{stack:?}");
        assert_eq!(arrived(&chain, "/first").await, "d-canary[canary]", "{stack:?}");
        assert_eq!(chain.get("/later", &[]).await, "a[-]", "{stack:?}");
        assert_eq!(arrived(&chain, "/later").await, "d-canary[canary]", "{stack:?}");
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
