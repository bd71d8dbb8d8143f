//! The lane oracle.

use std::rc::Rc;

use mesh_core::{
    health::Usability,
    lane::{correlation::CAPACITY, trace::TraceIds, unanimity::Kind},
    model::{
        endpoint::{Endpoint, ProtocolHint, WEIGHT_ONE},
        lane::{Lane, LaneGroup, LaneRef, LaneState},
        route::Target,
        service::{Service, ServiceKey},
    },
    snapshot::Snapshot,
};

use serde_json::Value;

use super::*;
use crate::{
    datapath::lane::{
        memory::{Arrival, Memory, Sender},
        oracle::Known,
    },
    health::Health,
    telemetry::health::Unusable,
};

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
            healthy: true,
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
    let lane = r#"{"group":"g","instances":1,"lane":"canary","state":"active","usable":1}"#;
    let baseline = r#"{"instances":2,"usable":2}"#;
    let active = format!("{{\"baseline\":{baseline},\"lanes\":[{lane}],\"service\":\"orders.demo\"}}\n");
    for name in ["orders.demo", "Orders.demo:8080"] {
        assert_eq!(port.get(&format!("/lane/active?service={name}")).await, (200, active.clone()), "{name}");
    }
    assert_eq!(port.get("/lane/active?service=nobody.demo").await.0, 404);
    assert_eq!(port.get("/lane/active").await.0, 400);
    assert_eq!(port.ask("GET /lane/self", "pages.example", "").await.0, 403, "for this machine only");
}

#[tokio::test]
async fn lane_whose_instances_a_worker_cannot_use_is_not_active_and_the_next_level_serves_it() {
    let port = port().await;
    with_lanes(&port.shared);
    let ask = async |query: &str| -> Value {
        let (status, told) = port.get(&format!("/lane/active?service=orders.demo{query}")).await;
        assert_eq!(status, 200, "{told}");
        serde_json::from_str(&told).unwrap()
    };
    let served = |level: &str, reason: &str| json!({ "level": level, "reason": reason });
    assert_eq!(ask("&lane=canary").await["servedBy"], served("g/canary", "matched"));
    assert_eq!(ask("&lane=g%2Fold").await["servedBy"], served("baseline", "lane_closed"));
    assert_eq!(ask("&lane=unknown").await["servedBy"], served("baseline", "outside_group"));
    let service = ServiceKey("orders.demo.svc.cluster.local:8080".into());
    let unusable = |usability| Unusable { service: service.clone(), address: ([10, 0, 0, 2], 80).into(), usability };
    let all = [Usability::Ejected, Usability::FailingHealth, Usability::OnTrial, Usability::HalfOpen];
    for (usability, lives) in all.into_iter().zip([false, false, false, true]) {
        port.worker.show_unusable(vec![unusable(usability)]);
        let told = ask("&lane=canary").await;
        assert_eq!(told["lanes"].as_array().unwrap().len(), usize::from(lives), "{usability:?}: {told}");
        let expected = if lives { served("g/canary", "matched") } else { served("baseline", "unhealthy") };
        assert_eq!(told["servedBy"], expected, "{usability:?}");
    }
    assert_eq!(port.get("/lane/active?service=orders.demo&lane=a%20b").await.0, 400);
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
    let (ids, sender) = (TraceIds::read(&request, &groups), Sender::Other);
    let noted = memory.note(&groups, Arrival { carried: carried.as_ref(), ids, kind: Kind::Request, sender }, 1);
    let answering = async {
        while let Some(question) = questions.recv().await {
            let (health, shared) = (&Health::default(), &*port.shared);
            question.answer(Known { memory: &memory, health, shared, now: Duration::ZERO });
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
