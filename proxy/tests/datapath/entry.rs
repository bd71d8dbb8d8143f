//! The entry: where requests are stained, once, and whose labels count.

use std::sync::Arc;

use mesh_core::model::{
    lane::{Carrier, Condition, Lane, LaneGroup, Match, Operator, Subject},
    policy::Clients,
};
use mesh_proxy::worker::{OutsideLanes, Role, WorkerConfig};
use tokio::net::TcpListener;

use crate::harness::{Authority, DETECT, Peer, Proxy, allow, authority, endpoint, has, identity, route};

/// A group whose lane `vip` takes requests with `x-user: alice`.
fn group() -> LaneGroup {
    let condition = Condition {
        subject: Subject::Header,
        name: "x-user".to_owned(),
        operator: Operator::Equal("alice".to_owned()),
    };
    let lane = Lane { rule: Some(Match::Any(vec![condition])), ..Lane::new("vip".parse().unwrap()) };
    let carrier = Carrier { aliases: vec!["x-mse-tag".to_owned()], ..Carrier::default() };
    LaneGroup { revision: 1, carrier, lanes: vec![lane], ..LaneGroup::new("shop".parse().unwrap()) }
}

/// Caller (a gateway, or the sidecar of account `a`) and callee (the sidecar of `b.demo`) that know `group`.
struct Entry {
    caller: Proxy,
    callee: Proxy,
    application: TcpListener,
}

impl Entry {
    async fn start(role: Role, outside_lanes: OutsideLanes, group: &LaneGroup) -> Entry {
        Entry::start_with(group, |config| (config.role, config.outside_lanes) = (role, outside_lanes)).await
    }

    async fn start_with(group: &LaneGroup, change: impl FnOnce(&mut WorkerConfig)) -> Entry {
        let issuer = Authority::new();
        let application = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = application.local_addr().unwrap();
        let caller = Proxy::start_with(Some(issuer.material("a")), change);
        let callee = Proxy::start(Some(issuer.material("b")));
        caller.publish(|snapshot| {
            route(snapshot, authority("b.demo"), "b", vec![endpoint(address, Some(("b", callee.inbound)))]);
            snapshot.set_lanes(Arc::new(vec![group.clone()]));
        });
        callee.publish(|snapshot| {
            allow(snapshot, address.port(), DETECT, Clients::AnyMeshed);
            snapshot.workload.services = vec!["b.demo".to_owned()];
            snapshot.set_lanes(Arc::new(vec![group.clone()]));
        });
        Entry { caller, callee, application }
    }

    /// Head that the application gets for a request with these fields.
    async fn received(&self, fields: &str) -> String {
        let mut call = Peer::connect(self.caller.outbound).await;
        call.send(format!("GET / HTTP/1.1\r\nhost: b.demo\r\n{fields}connection: close\r\n\r\n")).await;
        let mut application = Peer(self.application.accept().await.unwrap().0);
        let head = application.head().await;
        application.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        call.head().await;
        head
    }
}

#[tokio::test]
async fn gateway_stains_what_a_rule_wants_and_says_why() {
    let mut entry = Entry::start(Role::Gateway, OutsideLanes::Strip, &group()).await;
    let head = entry.received("x-user: alice\r\n").await;
    assert!(has(&head, "x-mesh-lane: vip") && has(&head, "baggage: mesh-lane=vip"), "{head}");
    let record = entry.caller.record().await;
    assert_eq!(record.entry.as_deref(), Some("rule of vip: header x-user is \"alice\""));
    assert_eq!((record.source, record.lane.as_deref()), ("entry", Some("vip")));
    let head = entry.received("x-user: bob\r\n").await;
    assert!(!head.contains("vip") && !head.contains("x-mesh"), "{head}");
}

#[tokio::test]
async fn label_from_outside_neither_counts_nor_arrives_unless_trusted() {
    let spoofed = "x-user: bob\r\nx-mesh-lane: vip\r\nmesh-lane: vip\r\nX-MSE-Tag: vip\r\nx_mesh_lane: vip\r\n\
                   baggage: a=1,mesh-lane=vip\r\nbaggage: Mesh%2DLane=vip;x=1\r\nuberctx-mesh-lane: vip\r\n";
    let entry = Entry::start(Role::Gateway, OutsideLanes::Strip, &group()).await;
    let head = entry.received(spoofed).await;
    assert!(!head.contains("vip") && has(&head, "baggage: a=1"), "{head}");
    // Staining does not let the sender's own spelling through either.
    let head = entry.received("x-user: alice\r\nx-mse-tag: other\r\nx-mesh-lane: other\r\n").await;
    assert!(has(&head, "x-mesh-lane: vip") && !head.contains("other"), "{head}");
    let entry = Entry::start(Role::Gateway, OutsideLanes::Trust, &group()).await;
    let head = entry.received("x-user: bob\r\nx-mesh-lane: vip\r\n").await;
    assert!(has(&head, "x-mesh-lane: vip"), "{head}");
}

#[tokio::test]
async fn sidecar_of_an_entry_service_stains_and_others_do_not() {
    for (entries, expected) in [(["b.demo"], true), (["c.demo"], false)] {
        let group = LaneGroup { entries: entries.map(str::to_owned).into(), ..group() };
        let mut entry = Entry::start(Role::Sidecar, OutsideLanes::Strip, &group).await;
        let head = entry.received("x-user: alice\r\n").await;
        assert_eq!(has(&head, "x-mesh-lane: vip"), expected, "{head}");
        let source = if expected { "entry" } else { "none" };
        assert_eq!(entry.callee.record().await.source, source);
        assert_eq!(entry.caller.record().await.source, "none");
    }
}

#[tokio::test]
async fn what_a_gateway_has_decided_is_not_decided_again() {
    let open = LaneGroup { entries: ["b.demo".to_owned()].into(), ..group() };
    let entry = Entry::start(Role::Gateway, OutsideLanes::Strip, &open).await;
    // The gateway knows a group whose lane wants nobody; the sidecar's would want alice.
    entry.caller.publish(|snapshot| {
        let group = LaneGroup { lanes: Vec::new(), ..open.clone() };
        snapshot.set_lanes(Arc::new(vec![group]));
    });
    let head = entry.received("x-user: alice\r\n").await;
    assert!(!head.contains("vip") && !head.contains("x-mesh"), "{head}");
    // An application cannot say so for its sidecar.
    let entry = Entry::start(Role::Sidecar, OutsideLanes::Strip, &open).await;
    let head = entry.received("x-user: alice\r\nx-mesh-decided: shop\r\n").await;
    assert!(has(&head, "x-mesh-lane: vip"), "{head}");
}

#[tokio::test]
async fn label_of_an_identity_that_is_not_trusted_neither_counts_nor_arrives() {
    let spoofed = "x-mesh-lane: vip\r\nx-mse-tag: vip\r\nbaggage: mesh-lane=vip,a=1\r\n";
    for (trusted, expected) in [(identity("a"), true), (identity("other"), false)] {
        let closed = LaneGroup { trusted: Some([trusted].into()), ..group() };
        // The callee's sidecar takes it off even where the caller's does not, and the other way round.
        for [at_caller, at_callee] in [[&closed, &group()], [&group(), &closed]] {
            let entry = Entry::start(Role::Sidecar, OutsideLanes::Strip, &closed).await;
            entry.caller.publish(|snapshot| snapshot.set_lanes(Arc::new(vec![at_caller.clone()])));
            entry.callee.publish(|snapshot| snapshot.set_lanes(Arc::new(vec![at_callee.clone()])));
            let head = entry.received(spoofed).await;
            assert_eq!(head.contains("vip"), expected, "{head}");
            assert!(head.contains("a=1"), "{head}");
        }
    }
}

#[tokio::test]
async fn upgrade_is_stained_like_any_request_and_its_tunnel_opens() {
    let entry = Entry::start(Role::Gateway, OutsideLanes::Strip, &group()).await;
    let mut call = Peer::connect(entry.caller.outbound).await;
    call.send(
        "GET /chat HTTP/1.1\r\nhost: b.demo\r\nx-user: alice\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    let mut application = Peer(entry.application.accept().await.unwrap().0);
    let head = application.head().await;
    assert!(has(&head, "x-mesh-lane: vip") && has(&head, "upgrade: websocket"), "{head}");
    application.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    call.head().await;
    call.send("ping").await;
    assert_eq!(application.exactly(4).await, b"ping");
}

#[tokio::test]
async fn address_that_a_trusted_proxy_saw_is_the_source_of_a_rule() {
    let condition =
        Condition { subject: Subject::SourceIp, name: String::new(), operator: Operator::Equal("10.9.8.7".to_owned()) };
    let lane = Lane { rule: Some(Match::Any(vec![condition])), ..Lane::new("office".parse().unwrap()) };
    let group = LaneGroup { lanes: vec![lane], ..group() };
    for (hops, expected) in [(0, false), (1, true)] {
        let entry =
            Entry::start_with(&group, |config| (config.role, config.forwarded_hops) = (Role::Gateway, hops)).await;
        let head = entry.received("x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 10.9.8.7\r\n").await;
        assert_eq!(has(&head, "x-mesh-lane: office"), expected, "{head}");
        assert!(has(&head, "x-forwarded-for: 6.6.6.6, 10.9.8.7, 127.0.0.1"), "{head}");
        assert!(has(&head, "x-forwarded-proto: http"), "{head}");
    }
}
