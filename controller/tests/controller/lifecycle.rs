//! Lives of sidecars: who drains is told to every caller at once, who is ready again comes back, and orders to drain go down
//! the sidecar's own stream.

use std::time::{Duration, Instant, SystemTime};

use mesh_core::lifecycle::{Registration, Standing, State};
use mesh_proto::{
    convert::{endpoint::Change, lifecycle::Life, timestamp},
    mesh::v1::{Ack, Hello, UnusableInstance, UnusableInstances, proxy_report::Report},
};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    discovery::{change, get},
    harness::{Controller, DEADLINE},
    mesh::{Proxy, hello},
};

/// Callers that listen.
const CALLERS: usize = 50;
/// Times at which the instance drains and comes back.
const ROUNDS: usize = 20;
/// Longest time for 99 of 100 callers.
const AT_ONCE: Duration = Duration::from_millis(200);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn life(state: State, seconds: u64) -> Report {
    let ready_since = (state != State::NotReady).then(|| at(1_700_000_000));
    Report::Lifecycle(Life { state, since: at(seconds), ready_since }.to_wire())
}

#[tokio::test]
async fn every_caller_learns_at_once_that_an_instance_drains_and_that_it_is_back() {
    let controller = Controller::start().await;
    let channel = controller.proxy("a").await;
    let (heard, mut told) = mpsc::channel(CALLERS);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut stream = get(&channel, "b.demo.svc.cluster.local:8080").await.unwrap();
        change(&mut stream).await;
        let heard = heard.clone();
        callers.spawn(async move {
            while let Change::Add(changed) = change(&mut stream).await {
                assert_eq!((changed.len(), changed[0].address.to_string().as_str()), (1, "127.1.0.2:8080"));
                let _ = heard.send((changed[0].draining, changed[0].ready_since, Instant::now())).await;
            }
        });
    }
    let channel = controller.proxy("b").await;
    let proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        for (state, draining) in [(State::Ready, false), (State::Draining, true)] {
            let said = Instant::now();
            proxy.say(life(state, 1_700_000_000 + round as u64)).await;
            for _ in 0..CALLERS {
                let next = tokio::time::timeout(DEADLINE, told.recv()).await;
                let (found, ready, when) = next.expect("callers are told").unwrap();
                assert_eq!((found, ready), (draining, Some(1_700_000_000)));
                took.extend(draining.then(|| when - said));
            }
        }
    }
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{} notices: half within {half:?}, 99 of 100 within {most:?}", took.len());
    assert!(most < AT_ONCE, "{most:?}");
    callers.shutdown().await;
    controller.stop().await;
}

#[tokio::test]
async fn an_order_to_drain_reaches_the_process_that_was_there_and_is_acknowledged() {
    let controller = Controller::start().await;
    let channel = controller.proxy("b").await;
    let first = || Report::Hello(Hello { started: 7, ..hello("b", "b-1") });
    let mut proxy = Proxy::connect(&channel, first()).await.unwrap();
    assert_eq!(proxy.snapshot().await.standing, Standing::default());
    proxy.say(life(State::Ready, 1_700_000_000)).await;

    let order = |name: &str| json!({ "name": name }).to_string();
    for (name, status, reason) in [
        ("b-9", 404, "no proxy is connected here of a pod b-9"),
        ("x.demo", 404, "nor of a service x.demo"),
        ("", 404, "no proxy"),
    ] {
        let (found, answer) = controller.post("/api/v1/drain", &order(name)).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
    }
    let (status, answer) = controller.post("/api/v1/drain", &order("demo/b-1")).await;
    assert_eq!((status, &answer["items"][0]["drainOrdered"]), (200, &json!(true)), "{answer}");
    let ordered = proxy.snapshot().await;
    assert_eq!(ordered.standing, Standing { drain: true, registration: Registration::NotOurs });
    proxy.say(Report::Ack(Ack { revision: ordered.revision.clone() })).await;
    proxy.say(life(State::Draining, 1_700_000_100)).await;
    let path = "/api/v1/proxies";
    let table = controller.until(path, |table| table["items"][0]["life"] == "draining").await;
    assert_eq!(table["items"][0]["appliedRevision"], json!(ordered.revision));
    let endpoints = controller.until("/api/v1/endpoints", |all| all["items"][0]["draining"] == true).await;
    assert_eq!(endpoints["items"][0]["pod"], "b-1");
    drop(proxy);

    // The process lost its stream: the order is still for it. The next one in the pod begins without.
    let mut again = Proxy::connect(&channel, first()).await.unwrap();
    assert!(again.snapshot().await.standing.drain);
    drop(again);
    let next = Report::Hello(Hello { started: 8, ..hello("b", "b-1") });
    let mut next = Proxy::connect(&channel, next).await.unwrap();
    assert!(!next.snapshot().await.standing.drain);
    next.say(life(State::Ready, 1_700_000_200)).await;
    controller.until("/api/v1/endpoints", |all| all["items"][0]["draining"] == false).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_service_keeps_an_instance_that_takes_calls_unless_somebody_says_that_it_need_not() {
    let controller = Controller::start().await;
    let channel = controller.proxy("b").await;
    let mut proxies = Vec::new();
    for pod in ["b-1", "b-2", "b-canary"] {
        let first = Report::Hello(Hello { started: 7, ..hello("b", pod) });
        proxies.push(Proxy::connect(&channel, first).await.unwrap());
    }
    controller.until("/api/v1/proxies", |table| table["items"].as_array().is_some_and(|all| all.len() == 3)).await;
    let whole = |leave_none| json!({ "name": "b.demo", "leaveNone": leave_none }).to_string();
    let (status, answer) = controller.post("/api/v1/drain", &whole(false)).await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("service b.demo would have no instance left"), "{answer}");
    let (status, answer) = controller.post("/api/v1/drain", &whole(true)).await;
    assert_eq!((status, answer["items"].as_array().unwrap().len()), (200, 3), "{answer}");
    controller.stop().await;
}

#[tokio::test]
async fn what_callers_say_of_instances_is_shown_and_becomes_events() {
    let controller = Controller::start().await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    proxy.snapshot().await;
    let since = SystemTime::now() - Duration::from_secs(60);
    let one = |address: &str, reason: &str| UnusableInstance {
        service: "b.demo.svc.cluster.local:8080".to_owned(),
        address: address.to_owned(),
        reason: reason.to_owned(),
        since: Some(timestamp(since)),
    };
    let (ejected, new) = (one("127.1.0.2:8080", "ejected"), one("127.1.0.3:8080", "warming"));
    let report = UnusableInstances { instances: vec![ejected], watched: vec![new.clone()] };
    proxy.say(Report::Unusable(report)).await;
    let path = "/api/v1/endpoints/explain?service=b.demo";
    let all = controller.until(path, |all| all["items"][0]["state"] == "ejected").await;
    let (first, second) = (&all["items"][0], &all["items"][1]);
    assert_eq!((&first["pod"], &first["weight"]), (&json!("b-1"), &json!(0.0)), "{all}");
    assert_eq!(first["seenBy"][0]["proxy"], "demo/b-1");
    // Half of the two minutes: a quarter of the weight of 0.5.
    assert_eq!((&second["state"], &second["ofWeight"]), (&json!("warming"), &json!(0.5)), "{all}");
    assert!((24..=27).contains(&second["percent"].as_u64().unwrap()), "{all}");
    assert_eq!(all["items"][2]["state"], "usable");

    proxy.say(Report::Unusable(UnusableInstances { instances: Vec::new(), watched: vec![new] })).await;
    controller.until(path, |all| all["items"][0]["state"] == "usable").await;
    proxy.say(Report::Unusable(UnusableInstances::default())).await;
    let path = "/api/v1/events?service=b.demo";
    let events = controller.until(path, |all| all["items"].as_array().is_some_and(|all| all.len() == 4)).await;
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str()).collect();
    let expected = ["ejected", "warm_up_started", "recovered", "warm_up_ended"];
    assert_eq!(kinds, expected.map(Some));
    assert_eq!((&events["items"][0]["workload"], &events["items"][0]["by"]), (&json!("demo/b-1"), &json!("demo/b-1")));
    let (status, answer) = controller.get("/api/v1/endpoints/explain?service=x").await;
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = controller.get("/api/v1/events?after=yesterday").await;
    assert_eq!(status, 400, "{answer}");
    controller.stop().await;
}
