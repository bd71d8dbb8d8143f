//! The lane oracle of a running proxy: which lanes of a service somebody lives for, by what calls and probes showed.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use mesh_core::model::{
    endpoint::Endpoint,
    lane::{Lane, LaneGroup, LaneRef},
    policy::{HealthCheck, HttpProbe, Probe, TrafficPolicy},
};
use mesh_proxy::{
    admin::{self, Admin},
    config::{Role, parse, variables},
    datapath::lane::links::Links,
    drain::Order,
    identity::Credentials,
    net::tls::Trust,
    telemetry::{control::ControlCounters, metrics::render::Sources},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::interval,
};
use tracing_subscriber::{EnvFilter, reload};

use crate::{
    harness::{Authority, CONTROL, DOMAIN, LIMIT, Peer, Proxy, authority, endpoint, identity, route},
    health::{http_server, well},
};

/// A proxy with its admin port. It knows the service b: an instance in the lane canary, and one of baseline.
struct Asked {
    proxy: Proxy,
    admin: SocketAddr,
    /// Ends with the test.
    _server: JoinSet<()>,
}

async fn asked(traffic: TrafficPolicy, (canary, baseline): (SocketAddr, SocketAddr)) -> Asked {
    let (mut links, oracle) = Links::all(1);
    let proxy = Proxy::start_linked(None, links.remove(0), |_| {});
    proxy.publish(|snapshot| {
        let name = LaneRef { group: "g".parse().unwrap(), lane: "canary".parse().unwrap() };
        let member = Endpoint { lanes: vec![name.clone()], ..Endpoint::clone(&endpoint(canary, None)) };
        route(snapshot, authority("b.demo"), "b", vec![Arc::new(member), endpoint(baseline, None)]);
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(traffic));
        snapshot.lanes = Arc::new(vec![LaneGroup { lanes: vec![Lane::new(name.lane)], ..LaneGroup::new(name.group) }]);
    });
    let environment = [(variables::CONTROLLER_ADDRESS.name.to_owned(), "10.0.0.1:8086".to_owned())];
    let anchors = vec![Authority::new().anchor()];
    let trust = Trust::new(&anchors, DOMAIN, CONTROL).unwrap();
    let credentials = Credentials { identity: identity("a"), anchors, trust, held: None };
    let sources = Sources {
        workers: vec![Arc::clone(&proxy.metrics)],
        control: Arc::new(ControlCounters::default()),
        shared: Arc::clone(&proxy.shared),
        credentials: tokio::sync::watch::channel(Arc::new(credentials)).1,
        missing: tokio::sync::watch::channel(BTreeSet::new()).1,
        started: SystemTime::now(),
    };
    let (layer, log) = reload::Layer::new(EnvFilter::new("warn"));
    let settings = Arc::new(parse::settings(Role::Sidecar, environment).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let admin = listener.local_addr().unwrap();
    let served = Admin { settings, sources, order: Order::new().0, log, oracle };
    let mut server = JoinSet::new();
    server.spawn(async move {
        // The handle reaches its filter as long as the layer lives.
        let _layer = layer;
        admin::serve(served, listener).await;
    });
    Asked { proxy, admin, _server: server }
}

impl Asked {
    async fn active(&self) -> Value {
        let mut client = Peer(TcpStream::connect(self.admin).await.unwrap());
        client.send("GET /lane/active?service=b.demo&lane=canary HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
        let answer = String::from_utf8(client.rest().await.unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Asks until the lane is active with so many usable instances (0 = not active), and gives the answer.
    async fn until_usable(&self, usable: u64) -> Value {
        let mut tick = interval(Duration::from_millis(10));
        let asking = async {
            loop {
                let told = self.active().await;
                if told["lanes"][0]["usable"].as_u64().unwrap_or_default() == usable {
                    return told;
                }
                tick.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{usable} usable: not seen"))
    }
}

#[tokio::test]
async fn lane_that_fails_its_health_check_is_not_active_although_nobody_calls_it() {
    let is_well = Arc::new(AtomicBool::new(true));
    let canary = http_server(Arc::clone(&is_well)).await;
    let probe = Probe::Http(HttpProbe::default());
    let check = HealthCheck {
        interval: Duration::from_millis(100),
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        ..HealthCheck::new(probe)
    };
    let traffic = TrafficPolicy { health_check: Some(check), ..TrafficPolicy::default() };
    let asked = asked(traffic, (canary, http_server(well(true)).await)).await;
    assert_eq!(asked.until_usable(1).await["servedBy"]["level"], "g/canary");
    is_well.store(false, Ordering::SeqCst);
    let told = asked.until_usable(0).await;
    assert_eq!((&told["lanes"], &told["servedBy"]["level"]), (&Value::Array(Vec::new()), &"baseline".into()));
    assert_eq!((&told["servedBy"]["reason"], &told["baseline"]["usable"]), (&"unhealthy".into(), &1.into()));
    is_well.store(true, Ordering::SeqCst);
    let told = asked.until_usable(1).await;
    assert_eq!((&told["servedBy"]["level"], &told["servedBy"]["reason"]), (&"g/canary".into(), &"matched".into()));
}

#[tokio::test]
async fn lane_whose_only_instance_calls_have_ejected_is_not_active() {
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let asked = asked(TrafficPolicy::default(), (dead, http_server(well(true)).await)).await;
    assert_eq!(asked.active().await["lanes"][0]["lane"], "canary", "nobody knows yet");
    for _ in 0..5 {
        let mut client = Peer::connect(asked.proxy.outbound).await;
        client.send("GET / HTTP/1.1\r\nhost: b.demo\r\nx-mesh-lane: canary\r\nconnection: close\r\n\r\n").await;
        client.head().await;
    }
    let told = asked.until_usable(0).await;
    assert_eq!((&told["servedBy"]["level"], &told["servedBy"]["reason"]), (&"baseline".into(), &"unhealthy".into()));
}

#[tokio::test]
async fn lane_whose_instances_drain_is_not_active() {
    let live = http_server(well(true)).await;
    let asked = asked(TrafficPolicy::default(), (live, http_server(well(true)).await)).await;
    assert_eq!(asked.active().await["lanes"][0]["instances"], 1);
    asked.proxy.publish(|snapshot| {
        let service = &snapshot.services[&crate::harness::key("b")];
        let drained = |one: &Arc<Endpoint>| {
            let draining = !one.lanes.is_empty();
            Arc::new(Endpoint { draining, ..Endpoint::clone(one) })
        };
        let endpoints = service.endpoints().iter().map(drained).collect();
        route(snapshot, authority("b.demo"), "b", endpoints);
    });
    let told = asked.active().await;
    assert_eq!((&told["lanes"], &told["servedBy"]["level"]), (&Value::Array(Vec::new()), &"baseline".into()));
}
