//! The lane oracle.

use std::rc::Rc;

use mesh_core::{
    lane::{correlation::CAPACITY, trace::TraceIds, unanimity::Kind},
    model::{
        endpoint::{Endpoint, ProtocolHint, WEIGHT_ONE},
        lane::{Lane, LaneGroup, LaneRef, LaneState},
        route::Target,
        service::{Service, ServiceKey},
    },
    snapshot::Snapshot,
};

use super::*;
use crate::datapath::lane::memory::Memory;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The pod is in the lane canary; its service has a canary and a baseline instance, and one of a closed lane.
fn with_lanes(shared: &Shared) {
    let mut group = LaneGroup::new("g".parse().unwrap());
    group.lanes = ["canary", "old"].map(|name| Lane::new(name.parse().unwrap())).into();
    group.lanes[1].state = LaneState::Closed;
    let lane = |name: &str| LaneRef { group: "g".parse().unwrap(), lane: name.parse().unwrap() };
    let endpoint = |last, lanes: Vec<LaneRef>| {
        Arc::new(Endpoint {
            address: SocketAddr::from(([10, 0, 0, last], 80)),
            weight: WEIGHT_ONE,
            identity: None,
            server_name: None,
            inbound_port: None,
            hint: ProtocolHint::Unknown,
            lanes,
            zone: None,
            ready_since: None,
            draining: false,
            labels: Default::default(),
        })
    };
    let endpoints = vec![endpoint(1, Vec::new()), endpoint(2, vec![lane("canary")]), endpoint(3, vec![lane("old")])];
    let key = ServiceKey("orders.demo.svc.cluster.local:8080".into());
    let mut snapshot = Snapshot::default();
    snapshot.workload.lanes.push(lane("canary"));
    snapshot.workload.services.push("orders.demo".to_owned());
    snapshot.services.insert(key.clone(), Arc::new(Service::new(key, true, endpoints)));
    snapshot.unknown.insert(Target::Authority("nobody.demo".into(), 80));
    snapshot.lanes = Arc::new(vec![group]);
    shared.snapshot.store(Arc::new(snapshot));
}

#[tokio::test]
async fn oracle_tells_own_lanes_and_those_of_a_service_that_somebody_serves() {
    let port = port().await;
    assert_eq!(port.get("/lane/self").await, (200, "{\"lanes\":[],\"services\":[],\"zone\":null}\n".to_owned()));
    with_lanes(&port.shared);
    let own = r#"{"lanes":[{"group":"g","lane":"canary","state":"active"}],"services":["orders.demo"],"zone":null}"#;
    assert_eq!(port.get("/lane/self").await, (200, format!("{own}\n")));
    let lane = r#"{"group":"g","instances":1,"lane":"canary","state":"active"}"#;
    let active = format!("{{\"baseline\":{{\"instances\":2}},\"lanes\":[{lane}],\"service\":\"orders.demo\"}}\n");
    for name in ["orders.demo", "Orders.demo:8080"] {
        assert_eq!(port.get(&format!("/lane/active?service={name}")).await, (200, active.clone()), "{name}");
    }
    assert_eq!(port.get("/lane/active?service=nobody.demo").await.0, 404);
    assert_eq!(port.get("/lane/active").await.0, 400);
    assert_eq!(port.ask("GET /lane/self", "pages.example", "").await.0, 403, "for this machine only");
}

#[tokio::test]
async fn oracle_resolves_what_the_workers_know_and_says_when_none_answers() {
    let mut port = port().await;
    with_lanes(&port.shared);
    let resolve = |query: &str| format!("/lane/resolve?{query}");
    let memory = Rc::new(Memory::new(CAPACITY, port.links.take().unwrap(), Arc::clone(&port.worker)));
    let mut questions = memory.questions().unwrap();
    let groups = Arc::clone(&port.shared.load().lanes);
    let request: &[(&str, &str)] = &[("x-mesh-lane", "canary"), ("traceparent", PARENT)];
    let carried = mesh_core::lane::carried(&request, &groups, None);
    let noted = memory.note(&groups, carried.as_ref(), (TraceIds::read(&request, &groups), Kind::Request), 1);
    let answering = async {
        while let Some(question) = questions.recv().await {
            question.answer(&memory, &port.shared);
        }
    };
    let found = |source: &str| {
        format!(r#"{{"ambiguous":false,"group":null,"lane":"canary","source":"{source}","stale":false}}"#)
    };
    let asking = async {
        for query in
            [format!("traceparent={PARENT}"), "b3=4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1".to_owned()]
        {
            assert_eq!(port.get(&resolve(&query)).await, (200, found("trace") + "\n"), "{query}");
        }
        assert_eq!(port.get(&resolve("baggage=mesh-lane%3Dcanary")).await, (200, found("baggage") + "\n"));
        let unknown = port.get(&resolve("traceparent=00-00000000000000000000000000000001-00f067aa0ba902b7-01")).await;
        assert_eq!(unknown, (404, "{\"level\":\"baseline\",\"source\":\"none\",\"stale\":false}\n".to_owned()));
        assert_eq!(port.get("/lane/resolve").await.0, 400);
    };
    tokio::select! {
        () = asking => {}
        () = answering => panic!("the port asks no more"),
    }
    assert_eq!(port.worker.lane_stale.get(), 0, "questions are not counted");
    drop((noted, questions));
    assert_eq!(port.get(&resolve(&format!("traceparent={PARENT}"))).await.0, 503);
}
