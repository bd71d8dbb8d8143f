//! Proxies that know nothing of lanes: routes that match headers, each leading to the instances of one level.

use std::collections::BTreeSet;

use linkerd2_proxy_api::{
    destination::{GetDestination, Update, destination_client::DestinationClient, update::Update as Kind},
    outbound::{OutboundPolicy as Message, outbound_policies_client::OutboundPoliciesClient},
};
use mesh_core::model::route::{Backend, Distribution, Filter, HttpRule, OutboundProtocol, ValueCondition};
use mesh_proto::convert::{
    metadata, outbound,
    target::{LaneChoice, Workload, authority, traffic_spec},
};
use serde_json::json;
use tonic::{Streaming, transport::Channel};

use crate::harness::{Controller, LANES, SERVICES, next};

/// The lanes of [`LANES`] with a child of canary that has no instance, one that has none anywhere, and a header of the
/// group's own.
fn lanes() -> String {
    let lane = |name: &str, rest: &str| {
        format!(
            "---\napiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: {name}, namespace: demo}}\n\
             spec: {{group: shop{rest}}}\n"
        )
    };
    let group = LANES.replace("  services: ['*']", "  services: ['*']\n  carrier: {header: x-shop-lane}");
    format!("{group}{}{}{}", lane("canary.eve", ""), lane("empty", ""), lane("strict", ", onMissing: reject"))
}

async fn ready() -> Controller {
    let controller = Controller::with(&[("services.yaml", SERVICES), ("lanes.yaml", &lanes())], &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    controller
}

async fn watch(channel: &Channel, lanes: LaneChoice) -> Streaming<Message> {
    let source = Workload { namespace: "demo".to_owned(), pod: "a-1".to_owned(), lanes };
    let ask = traffic_spec(&source, &authority("target", "b:8080").unwrap());
    OutboundPoliciesClient::new(channel.clone()).watch(ask).await.unwrap().into_inner()
}

/// Rules of HTTP/2 requests, by the code with which our own proxy reads the message.
async fn rules(stream: &mut Streaming<Message>) -> Vec<HttpRule> {
    let policy = outbound::from_wire(next(stream).await.unwrap(), "lanemesh").unwrap();
    let OutboundProtocol::Detect { http2, .. } = policy.protocol else { panic!("{policy:?}") };
    http2.into_iter().flat_map(|route| route.rules).collect()
}

fn backend(rule: &HttpRule) -> String {
    match &rule.backends {
        Distribution::FirstAvailable(all) => match &all[0] {
            Backend::Service(key) => key.to_string(),
            Backend::Forward(endpoint) => endpoint.address.to_string(),
        },
        other => panic!("{other:?}"),
    }
}

/// The rule for requests with this header: the one that names it, or else the one that names none.
fn led<'r>(rules: &'r [HttpRule], header: Option<(&str, &str)>) -> &'r HttpRule {
    let holds = |rule: &&HttpRule| match header {
        Some((name, value)) => rule.matches.iter().any(|one| {
            one.headers.iter().any(|field| {
                let ValueCondition::Exact(wanted) = &field.value else { return false };
                field.name.eq_ignore_ascii_case(name) && wanted == value
            })
        }),
        None => false,
    };
    let plain = |rule: &&HttpRule| rule.matches.iter().all(|one| one.headers.is_empty());
    rules.iter().find(holds).or_else(|| rules.iter().find(plain)).expect("a rule without header")
}

async fn addresses(stream: &mut Streaming<Update>) -> BTreeSet<String> {
    match next(stream).await.unwrap().update {
        Some(Kind::Add(added)) => {
            let address = |one: &linkerd2_proxy_api::destination::WeightedAddr| {
                std::net::SocketAddr::try_from(one.addr.unwrap()).unwrap().to_string()
            };
            added.addrs.iter().map(address).collect()
        }
        Some(Kind::NoEndpoints(_)) => BTreeSet::new(),
        other => panic!("{other:?}"),
    }
}

async fn instances(channel: &Channel, path: &str) -> Streaming<Update> {
    let ask = GetDestination { path: path.to_owned(), ..GetDestination::default() };
    DestinationClient::new(channel.clone()).get(ask).await.unwrap().into_inner()
}

#[tokio::test]
async fn label_leads_to_the_level_that_has_members_and_everything_else_to_baseline() {
    let controller = ready().await;
    let channel = controller.proxy("a").await;
    let rules = rules(&mut watch(&channel, LaneChoice::Routes).await).await;
    let baseline = backend(led(&rules, None));
    assert_eq!(baseline, "baseline.lanes.b.demo.svc.cluster.local:8080");
    let canary = backend(led(&rules, Some(("x-mesh-lane", "canary"))));
    assert_ne!(canary, baseline);
    for header in ["x-mesh-lane", "x-shop-lane"] {
        for (label, expected) in [
            ("canary", &canary),
            ("shop/canary", &canary),
            ("canary.eve", &canary),
            ("empty", &baseline),
            ("nobody", &baseline),
        ] {
            assert_eq!(&backend(led(&rules, Some((header, label)))), expected, "{header}: {label}");
        }
        let strict = led(&rules, Some((header, "strict")));
        assert!(matches!(strict.filters[0], Filter::Fail { status: 503, .. }), "{strict:?}");
    }
    let mut level = instances(&channel, &canary).await;
    assert_eq!(addresses(&mut level).await, BTreeSet::from(["127.1.0.4:8080".to_owned()]));
    let plain = ["127.1.0.2:8080", "127.1.0.3:8080"].map(str::to_owned);
    assert_eq!(addresses(&mut instances(&channel, &baseline).await).await, BTreeSet::from(plain));
    controller.stop().await;
}

#[tokio::test]
async fn change_of_a_lane_moves_routes_and_levels() {
    let controller = ready().await;
    let channel = controller.proxy("a").await;
    let mut policies = watch(&channel, LaneChoice::Routes).await;
    let first = rules(&mut policies).await;
    let baseline = backend(led(&first, None));
    let mut level = instances(&channel, &baseline).await;
    assert_eq!(addresses(&mut level).await.len(), 2);
    let order = json!({ "lane": "shop/canary", "verb": "promote" }).to_string();
    assert_eq!(controller.post("/api/v1/lane", &order).await.0, 200);
    // Its instance is baseline now, and its label means nothing.
    assert_eq!(addresses(&mut level).await, BTreeSet::from(["127.1.0.4:8080".to_owned()]));
    let promoted = rules(&mut policies).await;
    assert_eq!(backend(led(&promoted, Some(("x-mesh-lane", "canary")))), baseline);
    controller.stop().await;
}

#[tokio::test]
async fn proxy_that_chooses_itself_gets_one_route_to_all_instances() {
    let controller = ready().await;
    let channel = controller.proxy("a").await;
    let rules = rules(&mut watch(&channel, LaneChoice::Own).await).await;
    assert_eq!(rules.len(), 1);
    let path = backend(&rules[0]);
    assert_eq!(path, "b.demo.svc.cluster.local:8080");
    assert_eq!(addresses(&mut instances(&channel, &path).await).await.len(), 3);
    controller.stop().await;
}

#[tokio::test]
async fn level_of_a_service_is_named_as_that_service() {
    let controller = ready().await;
    let channel = controller.proxy("a").await;
    let rules = rules(&mut watch(&channel, LaneChoice::Routes).await).await;
    for rule in &rules {
        let Distribution::FirstAvailable(all) = &rule.backends else { panic!("{rule:?}") };
        let Backend::Service(key) = &all[0] else { panic!("{rule:?}") };
        assert_eq!(metadata::name(&metadata::service(key)), "demo/b");
    }
    let unknown = instances(&channel, "lgone-000000000000.lanes.b.demo.svc.cluster.local:8080");
    assert_eq!(addresses(&mut unknown.await).await, BTreeSet::new());
    controller.stop().await;
}
