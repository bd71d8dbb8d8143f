//! The control side against a controller made for the test: what is asked, what is kept, what is refused.

#[path = "control/controller.rs"]
mod controller;
#[path = "control/follower.rs"]
mod follower;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use controller::Controller;
use follower::{Authority, Follower};
use mesh_core::{
    model::{
        endpoint::{Endpoint, ProtocolHint},
        policy::{InboundProtocol, InboundServer},
        route::{Backend, Distribution, OutboundPolicy, OutboundProtocol, Target},
        service::ServiceKey,
    },
    snapshot::Snapshot,
};
use mesh_proto::convert::{endpoint::Change, policy::Policy};
use mesh_proxy::shared::Ask;
use tonic::{Code, Status};

fn key() -> ServiceKey {
    ServiceKey("b.demo.svc.cluster.local:80".into())
}

fn target(host: &str) -> Target {
    Target::Authority(host.into(), 80)
}

fn policy() -> OutboundPolicy {
    let to = Distribution::FirstAvailable(vec![Backend::Service(key())]);
    OutboundPolicy { protocol: OutboundProtocol::Opaque(to) }
}

fn endpoint(last: u8) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: SocketAddr::from(([10, 0, 0, last], 80)),
        weight: 10_000,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: ProtocolHint::Unknown,
        lanes: Vec::new(),
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: BTreeMap::new(),
    })
}

fn server(port: u16) -> InboundServer {
    InboundServer {
        port,
        protocol: InboundProtocol::Detect { timeout: Duration::from_secs(1) },
        authorizations: Vec::new(),
        routes: Vec::new(),
        name: "test".to_owned(),
    }
}

#[tokio::test]
async fn target_that_is_asked_for_arrives_with_the_instances_that_its_policy_names() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    follower.ask(Ask::Target(target("b"))).await;
    controller.outbound(&target("b")).await.send(Ok(policy())).await;
    controller.service(&key()).await.send(Ok(Change::Add(vec![endpoint(1), endpoint(2)]))).await;
    let snapshot = follower.until(|snapshot| snapshot.services.contains_key(&key())).await;
    assert_eq!(*snapshot.outbound[&target("b")], policy());
    assert_eq!(snapshot.services[&key()].endpoints().len(), 2);

    controller.service(&key()).await.send(Ok(Change::Remove(vec![endpoint(1).address]))).await;
    follower.until(|snapshot| snapshot.services[&key()].endpoints().len() == 1).await;
}

#[tokio::test]
async fn broken_streams_keep_the_last_state_and_the_first_update_after_it_is_the_whole_set() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    follower.ask(Ask::Target(target("b"))).await;
    controller.outbound(&target("b")).await.send(Ok(policy())).await;
    controller.service(&key()).await.send(Ok(Change::Add(vec![endpoint(1), endpoint(2)]))).await;
    follower.until(|snapshot| snapshot.services.contains_key(&key())).await;

    let broken = controller.service(&key()).await;
    broken.send(Err(Status::unavailable("going away"))).await;
    controller.forget_service(&key()).await;
    let again = controller.service(&key()).await;
    assert_eq!(follower.snapshot().services[&key()].endpoints().len(), 2);
    again.send(Ok(Change::Add(vec![endpoint(2), endpoint(3)]))).await;
    let ports = |snapshot: &Snapshot| -> Vec<SocketAddr> {
        snapshot.services[&key()].endpoints().iter().map(|endpoint| endpoint.address).collect()
    };
    follower.until(|snapshot| ports(snapshot) == [endpoint(2).address, endpoint(3).address]).await;
}

#[tokio::test]
async fn target_that_the_controller_does_not_know_is_unknown_for_a_while_and_can_be_asked_again() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    for code in [Code::NotFound, Code::InvalidArgument] {
        let target = target(&format!("{code:?}").to_lowercase());
        follower.ask(Ask::Target(target.clone())).await;
        controller.outbound(&target).await.send(Err(Status::new(code, "no such service"))).await;
        follower.until(|snapshot| snapshot.unknown.contains(&target)).await;
        controller.forget_outbound(&target).await;
        // Ten seconds pass here: the bounded time of the answer "unknown".
        follower.until(|snapshot| !snapshot.unknown.contains(&target)).await;
        follower.ask(Ask::Target(target.clone())).await;
        controller.outbound(&target).await.send(Ok(policy())).await;
        follower.until(|snapshot| snapshot.outbound.contains_key(&target)).await;
    }
}

#[tokio::test]
async fn port_without_policy_stays_denied_and_one_that_loses_it_is_denied() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    follower.ask(Ask::Port(8080)).await;
    controller.port(8080).await.send(Ok(server(8080))).await;
    follower.until(|snapshot| snapshot.inbound.contains_key(&8080)).await;
    controller.port(8080).await.send(Err(Status::not_found("no such port"))).await;
    follower.until(|snapshot| !snapshot.inbound.contains_key(&8080)).await;
}

#[tokio::test]
async fn policy_is_acknowledged_once_applied_and_makes_the_proxy_ready() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    let hello = controller.hello().await;
    assert_eq!((hello.namespace.as_str(), hello.pod.as_str(), hello.applied_revision.as_str()), ("demo", "a-1", ""));
    assert!(!follower.missing().is_empty());
    let policy = Policy { revision: "r1".to_owned(), ports: [8080].into(), ..Policy::default() };
    controller.publish(&policy).await;
    assert_eq!(controller.answer().await, Ok("r1".to_owned()));
    follower.until(|snapshot| snapshot.policy_revision == "r1").await;
    assert_eq!(follower.missing(), ["policy of inbound port 8080"]);
    controller.port(8080).await.send(Ok(server(8080))).await;
    follower.until(|snapshot| snapshot.inbound.contains_key(&8080)).await;
    assert!(follower.missing().is_empty());
}

#[tokio::test]
async fn policy_that_cannot_be_used_is_refused_with_a_reason_and_the_last_one_stays() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    controller.publish(&Policy { revision: "good".to_owned(), ..Policy::default() }).await;
    assert_eq!(controller.answer().await, Ok("good".to_owned()));
    let anchors = vec![Arc::from(&b"no certificate"[..])];
    controller.publish(&Policy { revision: "bad".to_owned(), trust_anchors: anchors, ..Policy::default() }).await;
    let (revision, reason) = controller.answer().await.unwrap_err();
    assert_eq!(revision, "bad");
    assert!(reason.contains("certificate 0 of the trust bundle"), "{reason}");
    assert_eq!(follower.until(|_| true).await.policy_revision, "good");
    assert_eq!(follower.anchors(), 1);
}

#[tokio::test]
async fn trust_anchors_are_replaced_while_the_proxy_runs() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    let (old, new) = (follower.authority.anchor(), Authority::new("next").anchor());
    for (revision, anchors) in [("both", vec![old, Arc::clone(&new)]), ("new", vec![new])] {
        let count = anchors.len();
        let policy = Policy { revision: revision.to_owned(), trust_anchors: anchors.clone(), ..Policy::default() };
        controller.publish(&policy).await;
        assert_eq!(controller.answer().await, Ok(revision.to_owned()));
        assert_eq!(follower.anchors(), count);
        follower.until(|snapshot| snapshot.trust_anchors == anchors).await;
    }
}

#[tokio::test]
async fn certificates_are_obtained_and_renewed_again_and_again_with_the_token() {
    let controller = Controller::start().await;
    let follower = Follower::start(&controller);
    let rotation = follower.rotate(&controller, "the token");
    let mut ends = Vec::new();
    for _ in 0..4 {
        // A life of two seconds: renewal comes within one and a half.
        let request = controller.certify(&follower.authority, 2).await;
        assert_eq!(request.token, b"the token");
        assert_eq!(request.identity, "a.demo.serviceaccount.identity.lanemesh.cluster.local");
        ends.push(request.certificate_signing_request);
    }
    ends.dedup();
    assert_eq!(ends.len(), 4, "every certificate has a key of its own");
    rotation.abort();
}

#[tokio::test]
async fn certificate_of_an_untrusted_authority_is_not_used_and_asked_for_again() {
    let controller = Controller::start().await;
    let follower = Follower::start(&controller);
    let rotation = follower.rotate(&controller, "the token");
    controller.certify(&Authority::new("stranger"), 60).await;
    controller.certify(&follower.authority, 60).await;
    follower.certificate().await;
    rotation.abort();
}

#[tokio::test]
async fn certificate_is_renewed_at_once_when_its_authority_is_no_longer_trusted() {
    let controller = Controller::start().await;
    let follower = Follower::start(&controller);
    let rotation = follower.rotate(&controller, "the token");
    controller.certify(&follower.authority, 3_600).await;
    follower.certificate().await;
    let next = Authority::new("next");
    let policy = Policy { revision: "new".to_owned(), trust_anchors: vec![next.anchor()], ..Policy::default() };
    controller.publish(&policy).await;
    assert_eq!(controller.answer().await, Ok("new".to_owned()));
    controller.certify(&next, 3_600).await;
    rotation.abort();
}

/// Most snapshots that there may be of what took so long: one in ten milliseconds.
fn most_snapshots(took: Duration) -> u64 {
    took.as_millis() as u64 / 10 + 3
}

#[tokio::test]
async fn ten_thousand_updates_become_few_snapshots_and_the_last_is_in_force() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    follower.ask(Ask::Target(target("b"))).await;
    controller.outbound(&target("b")).await.send(Ok(policy())).await;
    let service = controller.service(&key()).await;
    let (began, before) = (Instant::now(), follower.snapshot().revision);
    for number in 1..=10_000 {
        let instance = Endpoint { weight: number, ..Endpoint::clone(&endpoint((number % 200) as u8)) };
        service.send(Ok(Change::Add(vec![Arc::new(instance)]))).await;
    }
    let has_last = |snapshot: &Snapshot| {
        let service = snapshot.services.get(&key());
        service.is_some_and(|service| service.endpoints().iter().any(|endpoint| endpoint.weight == 10_000))
    };
    let snapshot = follower.until(has_last).await;
    let mut weights: Vec<u32> = snapshot.services[&key()].endpoints().iter().map(|endpoint| endpoint.weight).collect();
    weights.sort_unstable();
    assert_eq!(weights, (9_801..=10_000).collect::<Vec<u32>>(), "every instance as it was said last");
    assert!(snapshot.revision - before <= most_snapshots(began.elapsed()), "{}", snapshot.revision - before);
}

#[tokio::test]
async fn revisions_that_come_at_once_are_acknowledged_each_and_become_few_snapshots() {
    let controller = Controller::start().await;
    let mut follower = Follower::start(&controller);
    let (began, before) = (Instant::now(), follower.snapshot().revision);
    for number in 0..50 {
        let revision = number.to_string();
        controller.publish(&Policy { revision: revision.clone(), ..Policy::default() }).await;
        assert_eq!(controller.answer().await, Ok(revision.clone()));
        assert_eq!(follower.snapshot().policy_revision, revision, "acknowledged when it is in force");
    }
    let snapshot = follower.until(|snapshot| snapshot.policy_revision == "49").await;
    assert!(snapshot.revision - before <= most_snapshots(began.elapsed()), "{}", snapshot.revision - before);
    controller.publish(&Policy { revision: "49".to_owned(), ..Policy::default() }).await;
    assert_eq!(controller.answer().await, Ok("49".to_owned()), "one that changes nothing, too");
}
