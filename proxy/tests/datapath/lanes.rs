//! Lanes through an application that forwards more or less: a caller's sidecar, the application's own with one worker or
//! two, and what the next service is told.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use mesh_core::{
    lane::Source,
    model::{
        lane::{Condition, Lane, LaneGroup, LaneRef, Match, Operator, Propagation, Stale, Subject},
        policy::Clients,
    },
};
use mesh_proxy::datapath::lane::links::Links;
use tokio::net::TcpListener;

use crate::harness::{Authority, DETECT, LIMIT, Peer, Proxy, allow, authority, endpoint, has, route};

const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const B3: &str = "b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1";

/// Sidecar A, the application of B behind its sidecar (whose calls may be another worker's), and the next service.
struct Chain {
    caller: Proxy,
    inbound: Proxy,
    /// The worker that takes B's calls, where it is not `inbound`.
    outbound: Option<Proxy>,
    application: TcpListener,
    next: TcpListener,
    outside: TcpListener,
}

impl Chain {
    async fn start(workers: usize, propagation: Propagation) -> Chain {
        let issuer = Authority::new();
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (application, next, outside) = (bind().await.unwrap(), bind().await.unwrap(), bind().await.unwrap());
        let next_sidecar = Proxy::start(Some(issuer.material("c")));
        let next_address = next.local_addr().unwrap();
        next_sidecar.publish(|snapshot| allow(snapshot, next_address.port(), DETECT, Clients::AnyMeshed));
        let mut links = Links::all(workers).0;
        let mut b = || Proxy::start_linked(Some(issuer.material("b")), links.remove(0), |_| {});
        let inbound = b();
        let outbound = (workers > 1).then(&mut b);
        let mut group = LaneGroup::new("g".parse().unwrap());
        group.lanes = ["canary", "blue"].map(|name| Lane::new(name.parse().unwrap())).into();
        let alice = Operator::Equal("alice".to_owned());
        let rule = Condition { subject: Subject::Header, name: "x-user".to_owned(), operator: alice };
        group.lanes[0].rule = Some(Match::Any(vec![rule]));
        group.propagation = propagation;
        let groups = Arc::new(vec![group]);
        let address = application.local_addr().unwrap();
        for proxy in [&inbound].into_iter().chain(&outbound) {
            proxy.publish(|snapshot| {
                snapshot.lanes = Arc::clone(&groups);
                allow(snapshot, address.port(), DETECT, Clients::AnyMeshed);
                let next = endpoint(next_address, Some(("c", next_sidecar.inbound)));
                route(snapshot, authority("c.demo"), "c", vec![next]);
                route(snapshot, authority("outside"), "o", vec![endpoint(outside.local_addr().unwrap(), None)]);
            });
        }
        let caller = Proxy::start(Some(issuer.material("a")));
        caller.publish(|snapshot| {
            route(snapshot, authority("b.demo"), "b", vec![endpoint(address, Some(("b", inbound.inbound)))]);
        });
        // Lives as long as the test.
        std::mem::forget(next_sidecar);
        Chain { caller, inbound, outbound, application, next, outside }
    }

    fn out(&self) -> &Proxy {
        self.outbound.as_ref().unwrap_or(&self.inbound)
    }

    /// A request for B with these fields, held by its application.
    async fn request(&self, fields: &[&str]) -> Held {
        let mut client = Peer::connect(self.caller.outbound).await;
        client.send(get("b.demo", fields)).await;
        let mut application = accept(&self.application).await;
        let head = application.head().await;
        Held { client, application, head }
    }

    /// What the next service gets of a call with these fields.
    async fn call(&self, fields: &[&str]) -> String {
        self.call_to("c.demo", &self.next, fields).await
    }

    async fn call_to(&self, host: &str, listener: &TcpListener, fields: &[&str]) -> String {
        let mut client = Peer::connect(self.out().outbound).await;
        client.send(get(host, fields)).await;
        let mut server = accept(listener).await;
        let head = server.head().await;
        server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 204 "));
        head
    }

    /// Waits until so many calls found their label there: an exchange is told of after its answer was read.
    async fn counts(&self, source: Source, count: u64) {
        let counted = || self.out().metrics.lane_sources[source as usize].get();
        let waits = async {
            while counted() != count {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(LIMIT, waits).await.is_ok(), "{} {}", counted(), source.label());
    }
}

struct Held {
    client: Peer,
    application: Peer,
    head: String,
}

impl Held {
    async fn answer(mut self) {
        self.application.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert!(self.client.head().await.starts_with("HTTP/1.1 204 "));
    }

    fn value(&self, name: &str) -> String {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head)).split_once(": ").unwrap().1.to_owned()
    }
}

fn get(host: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

async fn accept(listener: &TcpListener) -> Peer {
    Peer(tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap().0)
}

fn is_canary(head: &str) -> bool {
    let in_baggage = has(head, "baggage: mesh-lane=canary") || head.contains("baggage: mesh-lane=canary,");
    let carried = has(head, "x-mesh-lane: canary") && in_baggage;
    assert!(carried || !head.to_ascii_lowercase().contains("mesh-lane"), "half a label: {head}");
    carried
}

#[tokio::test]
async fn call_with_nothing_but_the_trace_id_finds_its_lane() {
    let chain = Chain::start(1, Propagation::default()).await;
    let held = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    assert!(is_canary(&chain.call(&[PARENT]).await));
    assert!(is_canary(&chain.call(&[B3]).await), "another format of the same id");
    let other = "traceparent: 00-00000000000000000000000000000001-00f067aa0ba902b7-01";
    assert!(!is_canary(&chain.call(&[other]).await));
    assert!(!is_canary(&chain.call(&[]).await));
    held.answer().await;
    assert!(is_canary(&chain.call(&[PARENT]).await), "work goes on after the answer");
    chain.counts(Source::Trace, 3).await;
    assert_eq!(chain.out().metrics.lane_stale.get(), 0);
}

#[tokio::test]
async fn request_without_trace_id_is_given_one_in_every_format_until_it_is_known_which_is_forwarded() {
    let chain = Chain::start(1, Propagation::default()).await;
    let first = chain.request(&["x-mesh-lane: canary"]).await;
    let (parent, b3, sw8) = (first.value("traceparent"), first.value("b3"), first.value("sw8"));
    assert!(parent.starts_with("00-") && parent.ends_with("-00"), "{parent}");
    assert_eq!(parent[3..35], b3[..32]);
    assert!(is_canary(&chain.call(&[&format!("sw8: {sw8}")]).await));
    let second = chain.request(&["x-mesh-lane: canary"]).await;
    let again = second.value("sw8");
    assert!(!second.head.contains("traceparent") && !second.head.contains("b3: "), "{}", second.head);
    assert_ne!(sw8, again);
    // A stack that reads another format than came in is given the id in its own.
    let third = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    assert!(has(&third.head, PARENT));
    assert!(is_canary(&chain.call(&[&format!("sw8: {}", third.value("sw8"))]).await));
    assert_eq!(chain.inbound.metrics.lane_minted.get(), 3);
    let plain = chain.request(&[]).await;
    assert!(!plain.head.contains("sw8"), "baseline is left alone: {}", plain.head);
}

#[tokio::test]
async fn calls_on_another_worker_than_their_request_find_its_lane() {
    let chain = Chain::start(2, Propagation::default()).await;
    let held = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    for _ in 0..20 {
        assert!(is_canary(&chain.call(&[PARENT]).await));
    }
    held.answer().await;
    assert!(is_canary(&chain.call(&[PARENT]).await));
    let minted = chain.request(&["x-mesh-lane: blue"]).await;
    let head = chain.call(&[&format!("traceparent: {}", minted.value("traceparent"))]).await;
    assert!(has(&head, "x-mesh-lane: blue"), "{head}");
    assert!(!minted.head.contains("b3: "), "what one worker learned all know: {}", minted.head);
    assert_eq!(chain.inbound.metrics.lane_notes_dropped.get(), 0);
}

#[tokio::test]
async fn context_of_a_request_that_ended_long_ago_is_told_and_not_followed() {
    let propagation = Propagation { linger: Duration::ZERO, ..Propagation::default() };
    let chain = Chain::start(1, propagation).await;
    // The client goes away: the end is noted all the same.
    let Held { client, mut application, .. } = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    assert!(is_canary(&chain.call(&[PARENT]).await));
    socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(application.rest().await.unwrap_or_default().is_empty());
    assert!(!is_canary(&chain.call(&[PARENT]).await));
    assert!(is_canary(&chain.call(&[PARENT, "baggage: a=b,mesh-lane=canary"]).await), "what is carried is honoured");
    assert_eq!(chain.out().metrics.lane_stale.get(), 2);
    let ignoring = Propagation { linger: Duration::ZERO, stale: Stale::Ignore, ..Propagation::default() };
    let chain = Chain::start(1, ignoring).await;
    chain.request(&["x-mesh-lane: canary", PARENT]).await.answer().await;
    assert!(!is_canary(&chain.call(&[PARENT, "x-mesh-lane: canary"]).await));
}

#[tokio::test]
async fn trace_in_two_lanes_keeps_the_first_and_is_counted() {
    let chain = Chain::start(2, Propagation::default()).await;
    let _first = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    let _second = chain.request(&["x-mesh-lane: blue", PARENT]).await;
    assert!(is_canary(&chain.call(&[PARENT]).await));
    let counted = chain.inbound.metrics.lane_ambiguous.get() + chain.out().metrics.lane_ambiguous.get();
    assert_eq!(counted, 1, "once, although two workers know");
}

#[tokio::test]
async fn unanimity_answers_only_where_it_is_asked_for_and_nothing_speaks_against_it() {
    let chain = Chain::start(1, Propagation { unanimity: true, ..Propagation::default() }).await;
    let held = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    assert!(is_canary(&chain.call(&[]).await));
    let plain = chain.request(&[]).await;
    assert!(!is_canary(&chain.call(&[]).await), "a baseline request is in flight");
    assert!(is_canary(&chain.call(&[PARENT]).await));
    plain.answer().await;
    assert!(!is_canary(&chain.call(&[]).await), "it has just ended");
    drop(held);
    let chain = Chain::start(1, Propagation { unanimity: true, ..Propagation::default() }).await;
    let _events = chain.request(&["x-mesh-lane: canary", "accept: text/event-stream"]).await;
    assert!(!is_canary(&chain.call(&[]).await), "a stream of events says nothing");
}

/// Less than this after a request without label has ended, calls are of the pod's own lane again.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn own_lane_is_taken_up_soon_after_a_peer_called_without_label_on_whichever_worker() {
    for workers in [1, 2] {
        let chain = Chain::start(workers, Propagation::default()).await;
        let own = LaneRef { group: "g".parse().unwrap(), lane: "canary".parse().unwrap() };
        for proxy in [&chain.inbound].into_iter().chain(&chain.outbound) {
            proxy.publish(|snapshot| snapshot.workload.lanes.push(own.clone()));
        }
        assert!(is_canary(&chain.call(&[]).await));
        let plain = chain.request(&[PARENT]).await;
        assert!(!is_canary(&chain.call(&[]).await), "it may be made for the request");
        plain.answer().await;
        assert!(!is_canary(&chain.call(&[]).await), "that has just ended");
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let soon = async {
            while !is_canary(&chain.call(&[]).await) {
                tick.tick().await;
            }
        };
        assert!(tokio::time::timeout(SOON, soon).await.is_ok(), "{workers} workers");
        assert!(!is_canary(&chain.call(&[PARENT]).await), "its trace tells that it is another's");
        assert!(is_canary(&chain.call(&[PARENT, "x-mesh-lane: canary"]).await));
    }
}

#[tokio::test]
async fn rules_are_evaluated_again_only_where_it_is_asked_for_and_on_what_the_call_carries() {
    let silent = Chain::start(1, Propagation::default()).await;
    assert!(!silent.call(&["X-User: alice"]).await.contains("x-mesh-lane"));
    let chain = Chain::start(1, Propagation { rederive: true, ..Propagation::default() }).await;
    assert!(has(&chain.call(&["X-User: alice"]).await, "x-mesh-lane: canary"));
    chain.counts(Source::Rederived, 1).await;
    for fields in [&["X-User: bob"][..], &[]] {
        assert!(!chain.call(fields).await.contains("x-mesh-lane"), "{fields:?}");
    }
    assert!(has(&chain.call(&["X-User: alice", "X-Mesh-Lane: blue"]).await, "x-mesh-lane: blue"));
}

#[tokio::test]
async fn skywalking_and_tracestate_carry_the_label_where_the_message_uses_them() {
    let chain = Chain::start(1, Propagation { tracestate: true, ..Propagation::default() }).await;
    let fields = ["x-mesh-lane: canary", PARENT, "tracestate: rojo=1", "sw8-correlation: a2V5:dmFsdWU="];
    let held = chain.request(&fields).await;
    let correlation = held.value("sw8-correlation");
    assert_eq!(correlation, "bWVzaC1sYW5l:Y2FuYXJ5,a2V5:dmFsdWU=");
    assert_eq!(held.value("tracestate"), "mesh-lane=canary,rojo=1");
    assert!(is_canary(&chain.call(&[&format!("sw8-correlation: {correlation}")]).await));
    assert!(is_canary(&chain.call(&["tracestate: rojo=1,mesh-lane=canary"]).await));
    chain.counts(Source::Sw8, 1).await;
    chain.counts(Source::Tracestate, 1).await;
}

#[tokio::test]
async fn no_label_leaves_the_mesh_in_any_field() {
    let chain = Chain::start(1, Propagation { tracestate: true, ..Propagation::default() }).await;
    let _held = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    let fields = [
        "x-mesh-lane: canary",
        "mesh-lane: canary",
        "baggage: a=b,mesh-lane=canary,c=d",
        "sw8-correlation: bWVzaC1sYW5l:Y2FuYXJ5,a2V5:dmFsdWU=",
        "tracestate: mesh-lane=canary,rojo=1",
        PARENT,
    ];
    let head = chain.call_to("outside", &chain.outside, &fields).await.to_ascii_lowercase();
    assert!(!head.contains("mesh-lane") && !head.contains("bwvzac1syw5l"), "{head}");
    for kept in ["baggage: a=b,c=d", "sw8-correlation: a2v5:dmfsdwu=", "tracestate: rojo=1", PARENT] {
        assert!(head.lines().any(|line| line == kept), "{kept} in {head}");
    }
}

#[tokio::test]
async fn baggage_is_one_line_with_ours_first_and_within_its_bound() {
    let chain = Chain::start(1, Propagation::default()).await;
    let long = format!("baggage: {}", vec!["k=vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"; 250].join(","));
    let fields = ["baggage: a=b, mesh-lane=blue", &long, "baggage: mesh-lane=old, z=1", "x-mesh-lane: canary"];
    let head = chain.call(&fields).await;
    let lines: Vec<&str> = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("baggage:")).collect();
    assert_eq!(lines.len(), 1, "{head}");
    let value = lines[0].split_once(": ").unwrap().1;
    assert!(value.starts_with("mesh-lane=canary,a=b,k=v") && !value.contains("blue") && !value.contains("old"));
    assert!(value.len() <= 8_192 && value.len() > 8_100, "{}", value.len());
}

#[tokio::test]
async fn connect_tunnels_and_absolute_targets_are_looked_into() {
    let chain = Chain::start(1, Propagation::default()).await;
    let _held = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    let mut client = Peer::connect(chain.out().outbound).await;
    client.send("CONNECT c.demo:80 HTTP/1.1\r\nHost: c.demo:80\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.send(get("c.demo", &[PARENT])).await;
    let mut server = accept(&chain.next).await;
    assert!(is_canary(&server.head().await));
    server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    client.head().await;
    let mut client = Peer::connect(chain.out().outbound).await;
    client.send(format!("GET http://c.demo/x HTTP/1.1\r\nHost: c.demo\r\n{PARENT}\r\n\r\n")).await;
    let head = accept(&chain.next).await.head().await;
    assert!(head.starts_with("GET /x HTTP/1.1\r\n") && is_canary(&head), "{head}");
}

#[tokio::test]
async fn without_lane_groups_nothing_is_remembered_or_added() {
    let chain = Chain::start(1, Propagation::default()).await;
    chain.inbound.publish(|snapshot| snapshot.lanes = Arc::default());
    let held = chain.request(&["x-mesh-lane: canary"]).await;
    assert!(!held.head.contains("traceparent"), "{}", held.head);
    let traced = chain.request(&["x-mesh-lane: canary", PARENT]).await;
    assert!(!is_canary(&chain.call(&[PARENT]).await));
    assert!(is_canary(&chain.call(&["x-mesh-lane: canary"]).await));
    drop((held, traced));
}
