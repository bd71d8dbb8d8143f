//! Policies: outbound by name and by address, inbound by workload and port.

use linkerd2_proxy_api::{
    inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient},
    outbound::outbound_policies_client::OutboundPoliciesClient,
};
use mesh_core::model::{
    policy::{Authorization, Clients, InboundServer},
    route::{Backend, Distribution, OutboundPolicy, OutboundProtocol, Target},
};
use mesh_proto::convert::{
    inbound, outbound,
    target::{LaneChoice, Workload, authority, port_spec, traffic_spec},
};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{Controller, SERVICES, next};

fn source(namespace: &str) -> Workload {
    Workload { namespace: namespace.to_owned(), pod: "a-1".to_owned(), lanes: LaneChoice::Own }
}

fn target(text: &str) -> Target {
    authority("target", text).unwrap()
}

async fn outbound(channel: &Channel, namespace: &str, text: &str) -> Result<OutboundPolicy, Status> {
    let mut client = OutboundPoliciesClient::new(channel.clone());
    let mut stream = client.watch(traffic_spec(&source(namespace), &target(text))).await?.into_inner();
    Ok(outbound::from_wire(next(&mut stream).await?, "lanemesh").unwrap())
}

fn service(policy: &OutboundPolicy) -> String {
    let backends = match &policy.protocol {
        OutboundProtocol::Detect { opaque, .. } | OutboundProtocol::Opaque(opaque) => opaque,
        other => panic!("{other:?}"),
    };
    match backends {
        Distribution::FirstAvailable(all) => match &all[0] {
            Backend::Service(key) => key.to_string(),
            Backend::Forward(endpoint) => endpoint.address.to_string(),
        },
        Distribution::Weighted(all) => match &all[0].0 {
            Backend::Service(key) => key.to_string(),
            Backend::Forward(endpoint) => endpoint.address.to_string(),
        },
        Distribution::Empty => "nowhere".to_owned(),
    }
}

#[tokio::test]
async fn every_spelling_of_a_service_means_it_and_an_address_means_its_instance() {
    let shared = "- name: shared\n  ports: [{port: 80}]\n  endpoints: []\n";
    let controller = Controller::with(&[("s.yaml", &format!("{SERVICES}{shared}"))], &[]).await;
    let channel = controller.proxy("a").await;
    let whole = "b.demo.svc.cluster.local:8080";
    for name in ["b:8080", "B.demo:8080", "b.demo.svc:8080", whole, "b.demo.svc.cluster.local.:8080"] {
        assert_eq!(service(&outbound(&channel, "demo", name).await.unwrap()), whole, "{name}");
    }
    assert_eq!(service(&outbound(&channel, "demo", "shared").await.unwrap()), "shared.default.svc.cluster.local:80");
    assert_eq!(service(&outbound(&channel, "demo", "127.1.0.3:8080").await.unwrap()), "127.1.0.3:8080");
    for unknown in ["x:8080", "b:9", "b", "b.other:8080", "10.9.9.9:80", "127.1.0.2:81", "www.example.com:80"] {
        assert_eq!(outbound(&channel, "demo", unknown).await.unwrap_err().code(), Code::NotFound, "{unknown}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn questions_about_other_namespaces_are_refused() {
    let controller = Controller::start().await;
    let channel = controller.proxy("a").await;
    assert_eq!(outbound(&channel, "prod", "b:8080").await.unwrap_err().code(), Code::PermissionDenied);
    let foreign = PortSpec { workload: "{\"ns\":\"prod\",\"pod\":\"b-1\"}".to_owned(), port: 8_080 };
    let mut client = InboundServerPoliciesClient::new(channel);
    assert_eq!(client.watch_port(foreign).await.unwrap_err().code(), Code::PermissionDenied);
    for wrong in ["", "demo", "{\"pod\":1}"] {
        let ask = PortSpec { workload: wrong.to_owned(), port: 8_080 };
        assert_eq!(client.get_port(ask).await.unwrap_err().code(), Code::InvalidArgument, "{wrong}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn an_outbound_policy_follows_the_files_and_ends_with_the_service() {
    let controller = Controller::start().await;
    let mut client = OutboundPoliciesClient::new(controller.proxy("a").await);
    let ask = traffic_spec(&source("demo"), &target("b:8080"));
    let mut stream = client.watch(ask).await.unwrap().into_inner();
    next(&mut stream).await.unwrap();
    controller.write("services.yaml", &SERVICES.replace("{port: 8080}", "{port: 8080, protocol: opaque}"));
    let policy = outbound::from_wire(next(&mut stream).await.unwrap(), "lanemesh").unwrap();
    assert!(matches!(policy.protocol, OutboundProtocol::Opaque(_)));
    controller.write("services.yaml", &SERVICES.replace("name: b", "name: x"));
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::NotFound);
    controller.stop().await;
}

async fn inbound(channel: &Channel, pod: &str, port: u16) -> InboundServer {
    let workload = Workload { namespace: "demo".to_owned(), pod: pod.to_owned(), lanes: LaneChoice::Own };
    let mut client = InboundServerPoliciesClient::new(channel.clone());
    let mut stream = client.watch_port(port_spec(&workload, port)).await.unwrap().into_inner();
    inbound::from_wire(next(&mut stream).await.unwrap(), port).unwrap()
}

#[tokio::test]
async fn a_known_port_takes_mesh_identities_and_an_unknown_one_nobody() {
    let controller = Controller::start().await;
    let channel = controller.proxy("b").await;
    let strict = inbound(&channel, "b-1", 8_080).await;
    assert!(!strict.authorizations.is_empty());
    assert!(strict.authorizations.iter().all(|one| one.clients == Clients::AnyMeshed), "{strict:?}");
    for (pod, port) in [("b-1", 9_999), ("nobody", 8_080)] {
        let denied = inbound(&channel, pod, port).await;
        assert!(denied.authorizations.is_empty() && denied.routes.is_empty(), "{pod} {port}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn an_unknown_workload_is_let_in_as_soon_as_it_is_known() {
    let controller = Controller::start().await;
    let mut client = InboundServerPoliciesClient::new(controller.proxy("b").await);
    let workload = Workload { namespace: "demo".to_owned(), pod: "b-9".to_owned(), lanes: LaneChoice::Own };
    let mut stream = client.watch_port(port_spec(&workload, 8_080)).await.unwrap().into_inner();
    assert!(next(&mut stream).await.unwrap().authorizations.is_empty());
    controller.write("services.yaml", &SERVICES.replace("b-1", "b-9"));
    assert!(!next(&mut stream).await.unwrap().authorizations.is_empty());
    controller.stop().await;
}

const ACCESS: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: AccessPolicy
metadata: {name: b, namespace: demo}
spec:
  service: b
  allow:
  - serviceAccounts: [a]
  routes:
  - name: admin
    matches: [{path: {type: PathPrefix, value: /admin}}]
    allow:
    - serviceAccounts: [operator]
";

#[tokio::test]
async fn an_access_policy_reaches_the_port_with_its_routes() {
    let controller = Controller::with(&[("services.yaml", SERVICES), ("access.yaml", ACCESS)], &[]).await;
    let server = inbound(&controller.proxy("b").await, "b-1", 8_080).await;
    let names = |authorizations: &[Authorization]| match &authorizations[0].clients {
        Clients::Identities { names, .. } => names.clone(),
        other => panic!("{other:?}"),
    };
    let account_of = |account: &str| crate::harness::account("demo", account);
    let linkerd = |account: &str| format!("{account}.demo.serviceaccount.identity.lanemesh.cluster.local");
    let both = |account: &str| [account_of(account).to_string(), linkerd(account)];
    assert_eq!(names(&server.authorizations), both("a"));
    assert_eq!(server.routes.len(), 1);
    assert_eq!(names(&server.routes[0].authorizations), both("operator"));
    controller.stop().await;
}
