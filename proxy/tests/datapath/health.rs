//! Instances that fail: ejected by what calls show, found ill by probes, and left by the last attempt.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use mesh_core::{
    health::Usability,
    model::{
        endpoint::Endpoint,
        lane::{Lane, LaneGroup, LaneRef, OnUnhealthy},
        policy::{
            Clients, HealthCheck, HttpProbe, InboundProtocol, OutlierDetection, Probe, TcpProbe, TrafficPolicy,
            ZoneMatch, Zones,
        },
        route::{PathMatch, RouteMatch},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::interval,
};

use crate::harness::{LIMIT, Pair, Peer, Proxy, allow, authority, endpoint, route};

/// Looks every few milliseconds until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut tick = interval(Duration::from_millis(5));
    let looking = async {
        while !condition() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, looking).await.is_ok(), "{what}: not seen");
}

pub(crate) fn usability(proxy: &Proxy, address: SocketAddr) -> Usability {
    let unusable = proxy.metrics.all_health().unusable();
    unusable.iter().find(|one| one.address == address).map_or(Usability::Usable, |one| one.usability)
}

/// A gRPC server that answers every call alike: `SERVING` and, in trailers, the status of its health.
async fn grpc_server(is_well: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(grpc_connection(io, Arc::clone(&is_well)));
        }
    });
    address
}

async fn grpc_connection(io: TcpStream, is_well: Arc<AtomicBool>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let is_well = is_well.load(Ordering::SeqCst);
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        let state = if is_well { 1 } else { 2 };
        send.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, state]), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", if is_well { "0" } else { "14" }.parse().unwrap());
        send.send_trailers(trailers).unwrap();
    }
}

/// An HTTP/1 server that answers every request with 204, or 500 while it is ill.
pub(crate) async fn http_server(is_well: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let is_well = Arc::clone(&is_well);
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                while io.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let status = if is_well.load(Ordering::SeqCst) { "204 No Content" } else { "500 Ill" };
                    let length = if status.starts_with("500") { "content-length: 0\r\n" } else { "" };
                    let _ = io.write_all(format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes()).await;
                }
            });
        }
    });
    address
}

pub(crate) fn well(is_well: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(is_well))
}

fn caller(traffic: TrafficPolicy, addresses: &[SocketAddr]) -> Proxy {
    let caller = Proxy::start(None);
    caller.publish(|snapshot| {
        let endpoints = addresses.iter().map(|address| endpoint(*address, None)).collect();
        route(snapshot, authority("b.demo"), "b", endpoints);
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(traffic));
    });
    caller
}

async fn grpc_call(caller: &Proxy) -> String {
    let io = TcpStream::connect(caller.outbound).await.unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://b.demo/x.Y/Z").header("content-type", "application/grpc").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        data.unwrap();
    }
    body.trailers().await.unwrap().unwrap()["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn grpc_unavailable_in_trailers_ejects_and_others_serve() {
    let (ill, fine) = (grpc_server(well(false)).await, grpc_server(well(true)).await);
    let caller = caller(TrafficPolicy::default(), &[ill, fine]);
    let mut failed = 0;
    while usability(&caller, ill) == Usability::Usable {
        failed += usize::from(grpc_call(&caller).await == "14");
        assert!(failed <= 5, "not ejected after {failed} failures");
    }
    assert_eq!((failed, usability(&caller, ill)), (5, Usability::Ejected));
    for _ in 0..50 {
        assert_eq!(grpc_call(&caller).await, "0");
    }
}

#[tokio::test]
async fn instances_of_the_own_zone_serve_while_one_of_them_is_usable() {
    let (near, far) = (http_server(well(true)).await, http_server(well(false)).await);
    let zones = Zones { prefer_same: true, ..Zones::default() };
    let traffic = TrafficPolicy { zones, ..TrafficPolicy::default() };
    let caller = caller(traffic, &[]);
    let in_zone = |address, zone: &str, healthy| {
        Arc::new(Endpoint { zone: Some(zone.to_owned()), healthy, ..Endpoint::clone(&endpoint(address, None)) })
    };
    let publish = |near_is_healthy| {
        caller.publish(|snapshot| {
            snapshot.workload.zone = Some("z1".to_owned());
            let endpoints = vec![in_zone(near, "z1", near_is_healthy), in_zone(far, "z2", true)];
            route(snapshot, authority("b.demo"), "b", endpoints);
        });
    };
    for (near_is_healthy, status) in [(true, "HTTP/1.1 204"), (false, "HTTP/1.1 500")] {
        publish(near_is_healthy);
        let mut client = Peer::connect(caller.outbound).await;
        for _ in 0..20 {
            client.send("GET / HTTP/1.1\r\nhost: b.demo\r\n\r\n").await;
            let head = client.head().await;
            assert!(head.starts_with(status), "near is healthy: {near_is_healthy}: {head}");
        }
    }
    // Back bit by bit: the first of many requests still goes to the other zone.
    publish(true);
    let mut client = Peer::connect(caller.outbound).await;
    let mut answers = Vec::new();
    while !answers.iter().any(|head: &String| head.starts_with("HTTP/1.1 204")) {
        client.send("GET / HTTP/1.1\r\nhost: b.demo\r\n\r\n").await;
        answers.push(client.head().await);
    }
    assert!(answers[0].starts_with("HTTP/1.1 500"), "{answers:?}");
}

#[tokio::test]
async fn a_drained_zone_gets_no_call_whatever_the_policy_says_while_another_can_take_over() {
    let (near, far) = (http_server(well(true)).await, http_server(well(false)).await);
    let in_zone = |address, zone: &str, healthy| {
        Arc::new(Endpoint { zone: Some(zone.to_owned()), healthy, ..Endpoint::clone(&endpoint(address, None)) })
    };
    for prefer_same in [true, false] {
        let zones = Zones { prefer_same, ..Zones::default() };
        let caller = caller(TrafficPolicy { zones, ..TrafficPolicy::default() }, &[]);
        for (drained, far_is_healthy, status) in
            [("z1", true, "HTTP/1.1 500"), ("z2", true, "HTTP/1.1 204"), ("z1", false, "HTTP/1.1 204")]
        {
            caller.publish(|snapshot| {
                snapshot.workload.zone = Some("z1".to_owned());
                snapshot.drained_zones = Arc::new([drained.to_owned()].into());
                let endpoints = vec![in_zone(near, "z1", true), in_zone(far, "z2", far_is_healthy)];
                route(snapshot, authority("b.demo"), "b", endpoints);
            });
            let mut client = Peer::connect(caller.outbound).await;
            for _ in 0..20 {
                client.send("GET / HTTP/1.1\r\nhost: b.demo\r\n\r\n").await;
                let head = client.head().await;
                assert!(head.starts_with(status), "{drained} is drained, prefer {prefer_same}: {head}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_the_policy_names_a_zone_for_goes_there() {
    let (near, far) = (http_server(well(true)).await, http_server(well(false)).await);
    let request = RouteMatch { path: Some(PathMatch::Exact("/far".to_owned())), ..RouteMatch::default() };
    let matches = vec![ZoneMatch { request, zone: "z2".to_owned() }];
    let zones = Zones { prefer_same: true, matches, ..Zones::default() };
    let caller = caller(TrafficPolicy { zones, ..TrafficPolicy::default() }, &[]);
    caller.publish(|snapshot| {
        snapshot.workload.zone = Some("z1".to_owned());
        let in_zone = |address, zone: &str| {
            Arc::new(Endpoint { zone: Some(zone.to_owned()), ..Endpoint::clone(&endpoint(address, None)) })
        };
        route(snapshot, authority("b.demo"), "b", vec![in_zone(near, "z1"), in_zone(far, "z2")]);
    });
    let mut client = Peer::connect(caller.outbound).await;
    for (path, status) in [("/", "HTTP/1.1 204"), ("/far", "HTTP/1.1 500")].into_iter().cycle().take(20) {
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: b.demo\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with(status), "{path}: {head}");
    }
}

#[tokio::test]
async fn only_instance_of_baseline_stays_however_it_fails() {
    let ill = grpc_server(well(false)).await;
    let caller = caller(TrafficPolicy::default(), &[ill]);
    for _ in 0..20 {
        assert_eq!(grpc_call(&caller).await, "14");
    }
    assert_eq!(caller.metrics.health(&"b.demo".into()).kept.get(), 16);
    until("that it is kept is shown", || usability(&caller, ill) == Usability::Kept).await;
}

/// Checks with this probe follow the health of a server.
async fn probe_follows(probe: Probe, address: SocketAddr, is_well: &AtomicBool) {
    let check = HealthCheck {
        interval: Duration::from_millis(100),
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        ..HealthCheck::new(probe.clone())
    };
    // Calls themselves must not eject.
    let outlier_detection = OutlierDetection { max_ejection_percent: 0, ..OutlierDetection::default() };
    let traffic = TrafficPolicy { health_check: Some(check), outlier_detection, ..TrafficPolicy::default() };
    let caller = caller(traffic, &[address]);
    let mut client = Peer::connect(caller.outbound).await;
    client.send("GET / HTTP/1.1\r\nhost: b.demo\r\n\r\n").await;
    let probes = caller.metrics.health(&"b.demo".into());
    until("a first probe", || probes.probes[0].get() > 0).await;
    for (state, expected) in [(false, Usability::FailingHealth), (true, Usability::Usable)] {
        is_well.store(state, Ordering::SeqCst);
        until(&format!("{probe:?} says {expected:?}"), || usability(&caller, address) == expected).await;
    }
}

#[tokio::test]
async fn http_probe_follows_the_status_of_the_instance() {
    let is_well = well(true);
    let address = http_server(Arc::clone(&is_well)).await;
    let probe = Probe::Http(HttpProbe { path: "/healthz".to_owned(), ..HttpProbe::default() });
    probe_follows(probe, address, &is_well).await;
}

#[tokio::test]
async fn grpc_probe_follows_the_health_service_of_the_instance() {
    let is_well = well(true);
    let address = grpc_server(Arc::clone(&is_well)).await;
    probe_follows(Probe::Grpc { service: String::new() }, address, &is_well).await;
}

#[tokio::test]
async fn connection_probe_notices_that_nobody_listens_at_an_opaque_port_behind_a_sidecar() {
    let pair = Pair::start().await;
    let address = pair.application.local_addr().unwrap();
    pair.callee.publish(|snapshot| allow(snapshot, address.port(), InboundProtocol::Opaque, Clients::AnyMeshed));
    let probe = Probe::Tcp(TcpProbe::default());
    let check = HealthCheck { interval: Duration::from_millis(100), ..HealthCheck::new(probe) };
    let traffic = TrafficPolicy { health_check: Some(check), ..TrafficPolicy::default() };
    pair.caller.publish(|snapshot| {
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(traffic));
    });
    let mut client = pair.call().await;
    client.send("GET / HTTP/1.1\r\nhost: b.demo\r\n\r\n").await;
    let probes = pair.caller.metrics.health(&"b.demo".into());
    until("a first probe", || probes.probes[0].get() > 0).await;
    let Pair { caller, callee: _callee, application } = pair;
    drop(application);
    until("failing", || usability(&caller, address) == Usability::FailingHealth).await;
}

/// A dead instance in the lane `l`, and one of baseline that lives.
async fn dead_lane(on_unhealthy: OnUnhealthy) -> Proxy {
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let fine = http_server(well(true)).await;
    let caller = caller(TrafficPolicy::default(), &[]);
    caller.publish(|snapshot| {
        let (group, lane) = ("g".parse().unwrap(), "l".parse().unwrap());
        let name = LaneRef { group, lane };
        let member = Endpoint { lanes: vec![name.clone()], ..Endpoint::clone(&endpoint(dead, None)) };
        route(snapshot, authority("b.demo"), "b", vec![Arc::new(member), endpoint(fine, None)]);
        let lane = Lane { on_unhealthy, ..Lane::new(name.lane) };
        snapshot.lanes = Arc::new(vec![LaneGroup { lanes: vec![lane], ..LaneGroup::new(name.group) }]);
    });
    caller
}

#[tokio::test]
async fn last_attempt_goes_one_level_down_where_the_lane_falls_back() {
    let cases = [
        (OnUnhealthy::Fallback, "HTTP/1.1 204", "baseline", "retried"),
        (OnUnhealthy::Stay, "HTTP/1.1 503", "g/l", "matched"),
        (OnUnhealthy::Reject, "HTTP/1.1 503", "g/l", "matched"),
    ];
    for (on_unhealthy, status, level, reason) in cases {
        let mut caller = dead_lane(on_unhealthy).await;
        let mut client = Peer::connect(caller.outbound).await;
        client.send("POST / HTTP/1.1\r\nhost: b.demo\r\nx-mesh-lane: l\r\ncontent-length: 2\r\n\r\nhi").await;
        let head = client.head().await;
        assert!(head.starts_with(status), "{on_unhealthy:?}: {head}");
        let record = caller.record().await;
        let shown = (record.level.as_deref(), record.reason, record.attempts);
        assert_eq!(shown, (Some(level), Some(reason), 3), "{on_unhealthy:?}");
        let series = caller.metrics.series();
        let in_flight: u64 = series.iter().map(|series| series.in_flight.get()).sum();
        assert_eq!(in_flight, 0, "{on_unhealthy:?}");
    }
}
