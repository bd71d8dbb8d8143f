//! `mesh.v1`: snapshots, acknowledgements, the table of proxies, rotation of trust.

use mesh_controller::sign::files::Paths;
use mesh_proto::{
    convert::{policy::Policy, timestamp},
    mesh::v1::{
        Ack, Hello, Nack, PolicySnapshot, ProxyReport, Status as ProxyStatus, UnusableInstance, UnusableInstances,
        mesh_policy_client::MeshPolicyClient, proxy_report::Report,
    },
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::harness::{Controller, LANES, SERVICES, next};

pub(crate) struct Proxy {
    reports: mpsc::Sender<ProxyReport>,
    snapshots: Streaming<PolicySnapshot>,
}

pub(crate) fn hello(service_account: &str, pod: &str) -> Hello {
    Hello {
        namespace: "demo".to_owned(),
        pod: pod.to_owned(),
        service_account: service_account.to_owned(),
        version: "0.1.0".to_owned(),
        applied_revision: String::new(),
        admin_address: "127.1.0.2:4191".to_owned(),
        role: "sidecar".to_owned(),
        ..Hello::default()
    }
}

impl Proxy {
    pub(crate) async fn connect(channel: &Channel, first: Report) -> Result<Proxy, Status> {
        let (reports, receiver) = mpsc::channel(8);
        reports.send(ProxyReport { report: Some(first) }).await.unwrap();
        let mut client = MeshPolicyClient::new(channel.clone());
        let snapshots = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Proxy { reports, snapshots })
    }

    pub(crate) async fn say(&self, report: Report) {
        self.reports.send(ProxyReport { report: Some(report) }).await.unwrap();
    }

    pub(crate) async fn snapshot(&mut self) -> Policy {
        Policy::from_wire(next(&mut self.snapshots).await.unwrap()).unwrap()
    }
}

const FILES: &[(&str, &str)] = &[("services.yaml", SERVICES), ("lanes.yaml", LANES)];

#[tokio::test]
async fn a_snapshot_tells_a_proxy_its_lanes_ports_and_trust() {
    let controller = Controller::with(FILES, &[]).await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-canary"))).await.unwrap();
    let policy = proxy.snapshot().await;
    assert_eq!(policy.lanes[0].name.as_str(), "shop");
    assert_eq!(policy.workload.lanes[0].to_string(), "shop/canary");
    assert_eq!(policy.workload.services, ["b.demo"]);
    assert!(policy.ports.contains(&8_080));
    assert_eq!(policy.trust_anchors.len(), 1);
    controller.stop().await;
}

#[tokio::test]
async fn acknowledgements_refusals_and_status_stand_in_the_table() {
    let controller = Controller::with(FILES, &[]).await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    let revision = proxy.snapshot().await.revision;
    proxy.say(Report::Ack(Ack { revision: revision.clone() })).await;
    let end = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000);
    proxy
        .say(Report::Status(ProxyStatus {
            certificate_not_after: Some(timestamp(end)),
            snapshot_written: None,
            draining: true,
            subscriptions: 7,
        }))
        .await;
    let path = "/api/v1/proxies";
    let table = controller.until(path, |table| table["items"][0]["subscriptions"] == 7).await;
    let row = &table["items"][0];
    assert_eq!(row["appliedRevision"], json!(revision));
    assert_eq!(row["currentRevision"], json!(revision));
    assert_eq!(row["identity"], "spiffe://cluster.local/ns/demo/sa/b");
    assert_eq!(row["certificateNotAfter"], 2_000_000_000);
    assert_eq!(row["draining"], true);

    controller
        .write("lanes.yaml", &LANES.replace("name: canary", "name: green").replace("lane: canary", "lane: green"));
    let second = proxy.snapshot().await.revision;
    assert_ne!(second, revision);
    proxy.say(Report::Nack(Nack { revision: second.clone(), reason: "too green".to_owned() })).await;
    let table = controller.until(path, |table| table["items"][0]["refusedReason"] == "too green").await;
    assert_eq!(table["items"][0]["appliedRevision"], json!(revision));
    assert_eq!(table["items"][0]["currentRevision"], json!(second));

    drop(proxy);
    controller.until(path, |table| table["items"] == json!([])).await;
    controller.stop().await;
}

#[tokio::test]
async fn explain_passes_over_what_discovery_and_proxies_have_something_against() {
    let controller = Controller::with(FILES, &[]).await;
    let question = json!({ "url": "http://b.demo:8080/", "headers": { "x-mesh-lane": "canary" } }).to_string();
    let hop = async || {
        let (status, answer) = controller.post("/api/v1/explain", &question).await;
        assert_eq!(status, 200, "{answer}");
        (answer["services"][0].clone(), answer["health"].clone())
    };
    controller.until("/api/v1/endpoints", |all| all["items"].as_array().is_some_and(|items| items.len() == 3)).await;
    let (served, health) = hop().await;
    assert_eq!((&served["servedBy"], &served["aside"]), (&json!("shop/canary"), &json!([])));
    assert_eq!(health["reportingProxies"], 0);
    assert!(health["notKnown"].as_str().unwrap().contains("other replicas"), "{health}");

    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    proxy.snapshot().await;
    let service = "b.demo.svc.cluster.local:8080".to_owned();
    let address = "127.1.0.4:8080".to_owned();
    let ejected = UnusableInstance { service, address, reason: "ejected".to_owned(), since: None };
    let unreadable = UnusableInstance { reason: "bored".to_owned(), ..ejected.clone() };
    let watched = Vec::new();
    proxy.say(Report::Unusable(UnusableInstances { instances: vec![ejected, unreadable], watched })).await;
    controller.until("/api/v1/proxies", |table| table["items"][0]["unusableInstances"] == 1).await;
    let (served, health) = hop().await;
    assert_eq!((&served["servedBy"], &served["reason"]), (&json!("baseline"), &json!("unhealthy")), "{served}");
    assert_eq!((&served["lookedAt"][0]["usable"], &served["lookedAt"][0]["members"]), (&json!(0), &json!(1)));
    let reasons = json!([{ "reason": "ejected", "reportedBy": ["demo/b-1"] }]);
    let canary = json!({ "address": "127.1.0.4:8080", "lanes": ["shop/canary"], "reasons": reasons });
    assert_eq!((&served["aside"], &health["reportingProxies"]), (&json!([canary]), &json!(1)));

    proxy.say(Report::Unusable(UnusableInstances::default())).await;
    controller.until("/api/v1/proxies", |table| table["items"][0]["unusableInstances"] == 0).await;
    let changed = SERVICES
        .replace("labels: {lane: canary}", "draining: true, labels: {lane: canary}")
        .replace("weight: 0.5", "weight: 0");
    controller.write("services.yaml", &changed);
    controller.until("/api/v1/endpoints", |all| all["items"].to_string().contains("\"draining\":true")).await;
    let (served, _) = hop().await;
    assert_eq!(
        (&served["servedBy"], &served["instances"]),
        (&json!("baseline"), &json!(["127.1.0.2:8080"])),
        "{served}"
    );
    let aside = served["aside"].as_array().unwrap();
    let reason = |at: usize| (&aside[at]["address"], &aside[at]["reasons"][0]["reason"]);
    assert_eq!(reason(0), (&json!("127.1.0.3:8080"), &json!("out_of_traffic")));
    assert_eq!(reason(1), (&json!("127.1.0.4:8080"), &json!("draining")));
    drop(proxy);
    controller.stop().await;
}

#[tokio::test]
async fn a_stream_must_begin_with_a_hello_that_fits_the_certificate() {
    let controller = Controller::start().await;
    let channel = controller.proxy("b").await;
    let code = async |first| match Proxy::connect(&channel, first).await {
        Ok(mut proxy) => next(&mut proxy.snapshots).await.unwrap_err().code(),
        Err(status) => status.code(),
    };
    assert_eq!(code(Report::Ack(Ack::default())).await, Code::InvalidArgument);
    assert_eq!(code(Report::Hello(hello("c", "c-1"))).await, Code::PermissionDenied);
    let foreign = Hello { namespace: "prod".to_owned(), ..hello("b", "b-1") };
    assert_eq!(code(Report::Hello(foreign)).await, Code::PermissionDenied);
    controller.stop().await;
}

#[tokio::test]
async fn replicas_give_equal_contents_equal_revisions() {
    let one = Controller::with(FILES, &[]).await;
    let other = one.replica().await;
    let mut proxies = Vec::new();
    for controller in [&one, &other] {
        let channel = controller.proxy("b").await;
        proxies.push(Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap());
    }
    let first = [proxies[0].snapshot().await, proxies[1].snapshot().await];
    assert_eq!(first[0], first[1]);
    one.write("lanes.yaml", &LANES.replace("canary", "green"));
    let second = [proxies[0].snapshot().await, proxies[1].snapshot().await];
    assert_eq!(second[0], second[1]);
    assert_ne!(first[0].revision, second[0].revision);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn trust_moves_from_one_root_to_another_without_a_restart() {
    let controller = Controller::with(FILES, &[]).await;
    let next_root = Controller::start().await;
    let old = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&old, Report::Hello(hello("b", "b-1"))).await.unwrap();
    let anchors_a = proxy.snapshot().await.trust_anchors;

    let (paths, new) = (Paths::in_directory(controller.state()), Paths::in_directory(next_root.state()));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let both = read(&paths.trust_bundle) + &read(&new.trust_bundle);
    std::fs::write(&paths.trust_bundle, both).unwrap();
    let anchors_both = proxy.snapshot().await.trust_anchors;
    assert_eq!(anchors_both.len(), 2);

    // The two files cannot be replaced at one moment; in between the old pair stays in force.
    std::fs::copy(&new.issuer.key, &paths.issuer.key).unwrap();
    std::fs::copy(&new.issuer.certificate, &paths.issuer.certificate).unwrap();
    std::fs::copy(&new.trust_bundle, &paths.trust_bundle).unwrap();
    let anchors_b = proxy.snapshot().await.trust_anchors;
    assert_eq!(anchors_b.len(), 1);
    assert_ne!(anchors_a, anchors_b);

    // The stream that began under the old root goes on, and newcomers get certificates of the new one.
    controller.write("lanes.yaml", &LANES.replace("canary", "green"));
    assert_eq!(proxy.snapshot().await.trust_anchors, anchors_b);
    let newcomer = controller.proxy("b").await;
    let mut newcomer = Proxy::connect(&newcomer, Report::Hello(hello("b", "b-2"))).await.unwrap();
    assert_eq!(newcomer.snapshot().await.trust_anchors, anchors_b);
    controller.stop().await;
    next_root.stop().await;
}
