//! Shared probing: who is told to probe what, who hears of it, and who may ask.

use std::{collections::BTreeMap, net::SocketAddr};

use mesh_core::{
    health::{ProbeResult, Traffic},
    model::service::ServiceKey,
};
use mesh_proto::{
    convert::shared_health::{Called, Calls, Shares, calls_to_wire, shares_from_wire},
    mesh::v1::{Caller, CallerHealth, SharedHealth, mesh_health_client::MeshHealthClient},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::harness::{Controller, SERVICES, next};

/// Each instance of `b` is probed by one of its callers.
const POLICY: &str = "apiVersion: lanemesh.io/v1alpha1
kind: TrafficPolicy
metadata: {name: b, namespace: demo}
spec: {service: b, healthCheck: {tcp: {}, sharedBy: 1}}
";
/// Instances of `b`.
const INSTANCES: usize = 3;

fn key() -> ServiceKey {
    ServiceKey("b.demo.svc.cluster.local:8080".into())
}

fn calls(seen: BTreeMap<SocketAddr, ProbeResult>) -> Calls {
    Calls::from([(key(), Called { traffic: Traffic::Flowing, seen })])
}

struct Sharing {
    reports: mpsc::Sender<CallerHealth>,
    answers: Streaming<SharedHealth>,
    shares: Shares,
}

impl Sharing {
    async fn begin(channel: &Channel, caller: Option<Caller>) -> Result<Sharing, Status> {
        let (reports, queue) = mpsc::channel(8);
        reports.send(calls_to_wire(&calls(BTreeMap::new()), caller)).await.unwrap();
        let answers = MeshHealthClient::new(channel.clone()).share(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Sharing { reports, answers, shares: Shares::default() })
    }

    async fn report(&self, seen: BTreeMap<SocketAddr, ProbeResult>) {
        self.reports.send(calls_to_wire(&calls(seen), None)).await.unwrap();
    }

    async fn until(&mut self, holds: impl Fn(&Shares) -> bool) {
        while !holds(&self.shares) {
            let answer = next(&mut self.answers).await.unwrap();
            self.shares = shares_from_wire(&answer).unwrap().remove(&key()).unwrap_or_default();
        }
    }
}

fn caller(service_account: &str, pod: &str) -> Option<Caller> {
    let [namespace, pod, service_account] = ["demo", pod, service_account].map(str::to_owned);
    Some(Caller { namespace, pod, service_account })
}

#[tokio::test]
async fn caller_hears_what_it_is_to_probe_and_what_others_found() {
    let controller = Controller::with(&[("services.yaml", SERVICES), ("policy.yaml", POLICY)], &[]).await;
    let channel = controller.proxy("a").await;
    let mut first = Sharing::begin(&channel, caller("a", "a-1")).await.unwrap();
    first.until(|shares| shares.probe.len() == INSTANCES).await;
    assert_eq!(first.shares.unknown.len(), INSTANCES, "nobody has said anything yet");
    let own = first.shares.probe.clone();
    let ill = *own.first().unwrap();
    first.report(own.iter().map(|address| (*address, ProbeResult::Succeeded)).collect()).await;
    first.until(|shares| shares.unknown.is_empty()).await;
    first.report(own.iter().map(|address| (*address, ProbeResult::Failed)).collect()).await;
    first.until(|shares| shares.failing.len() == INSTANCES).await;

    let mut second = Sharing::begin(&channel, caller("a", "a-2")).await.unwrap();
    second.until(|shares| shares.failing.contains(&ill)).await;
    first.until(|shares| shares.probe.len() + second.shares.probe.len() == INSTANCES).await;
    assert!(first.shares.probe.is_disjoint(&second.shares.probe));
    let shown = controller.until("/api/v1/endpoints", |table| table["items"][0]["probedBy"].is_array()).await;
    let prober = if first.shares.probe.contains(&ill) { "demo/a-1" } else { "demo/a-2" };
    let address = ill.to_string();
    let items = shown["items"].as_array().unwrap();
    let row = items.iter().find(|item| item["address"] == address.as_str()).unwrap();
    assert_eq!(row["probedBy"], json!([prober]));

    drop(first);
    second.until(|shares| shares.probe.len() == INSTANCES).await;
    drop(second);
    controller.stop().await;
}

#[tokio::test]
async fn stream_must_say_whose_it_is_and_prove_it() {
    let controller = Controller::with(&[("services.yaml", SERVICES), ("policy.yaml", POLICY)], &[]).await;
    let channel = controller.proxy("a").await;
    for (caller, code) in [(None, Code::InvalidArgument), (caller("b", "b-1"), Code::PermissionDenied)] {
        let refused = Sharing::begin(&channel, caller).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.message());
    }
    let anonymous = controller.anonymous().await;
    let refused = Sharing::begin(&anonymous, caller("a", "a-1")).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    drop((channel, anonymous));
    controller.stop().await;
}
