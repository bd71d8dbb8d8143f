//! What people write: good input becomes the world it describes; bad input is refused with file, line, field and what is
//! allowed, everything at once.

use std::time::Duration;

use mesh_core::{
    model::{
        lane::{KeySource, LaneState, OnMissing},
        policy::{Clients, HealthCheck, HttpProbe, OutlierDetection, Probe},
        route::{Backend, Distribution, OutboundProtocol, PathMatch},
    },
    resources::{Domains, Problem, World, compile, parse},
};

const MESH: &str = include_str!("mesh.yaml");

fn world(text: &str) -> World {
    let resources = parse("mesh.yaml", text).expect("no problem in any document");
    compile(&resources, &Domains::default()).expect("no problem between documents")
}

fn problems(text: &str) -> Vec<String> {
    let parsed = match parse("bad.yaml", text) {
        Ok(resources) => compile(&resources, &Domains::default()).map(|_| ()),
        Err(problems) => Err(problems),
    };
    parsed.expect_err("there are problems").iter().map(Problem::to_string).collect()
}

#[test]
fn services_workloads_and_lanes_come_out_as_written() {
    let world = world(MESH);
    let port = &world.services["b.demo"].ports[&8080];
    assert_eq!(port.key.as_str(), "b.demo.svc.cluster.local:8080");
    let lanes: Vec<Vec<String>> =
        port.endpoints.iter().map(|endpoint| endpoint.lanes.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(lanes, [vec![], vec!["demo/canary".to_owned()]]);
    assert_eq!(port.endpoints[0].identity.as_ref().unwrap().to_string(), "spiffe://cluster.local/ns/demo/sa/b");
    assert_eq!(port.endpoints[1].weight, 5_000);
    assert_eq!(port.endpoints[0].ready_since, Some(1_764_028_800));
    let workload = &world.workloads["demo/b-canary"];
    assert_eq!(workload.lanes[0].to_string(), "demo/canary");
    assert_eq!(workload.services, ["b.demo"]);
    let group = &world.groups[0];
    assert_eq!(group.lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>(), ["canary", "dev", "dev.alice"]);
    let alice = &group.lanes[2];
    assert_eq!(group.parent_of(alice).unwrap().name.as_str(), "dev");
    assert_eq!((alice.on_missing, alice.state), (OnMissing::Reject, LaneState::Draft));
    assert_eq!(world.traffic["b.demo"].retries.attempts, 2);
    assert!(world.resolve("b", "demo", "cluster.local").is_some());
    assert!(world.resolve("B.demo.svc.cluster.local", "other", "cluster.local").is_some());
    assert!(world.resolve("b", "other", "cluster.local").is_none());
}

#[test]
fn share_that_is_not_sticky_is_decided_for_each_trace() {
    let lane = |own: &str, defaults: &str| {
        let text = format!(
            "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: g}}\n\
             spec: {{services: [\"*\"], defaults: {{{defaults}}}}}\n---\n\
             apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: l}}\nspec: {{group: g, {own}}}\n"
        );
        let share = world(&text).groups[0].lanes[0].share.clone().unwrap();
        (share.value, share.keys)
    };
    let traced = vec![KeySource::TraceId, KeySource::Header("x-request-id".to_owned())];
    let by_user = vec![KeySource::SourceIp];
    assert_eq!(lane("percentage: {value: 5}, sticky: false", ""), (500, traced.clone()));
    assert_eq!(lane("percentage: {value: 5}", "sticky: false"), (500, traced));
    assert_eq!(lane("percentage: {value: 5, key: [sourceIP]}, sticky: true", "sticky: false"), (500, by_user.clone()));
    assert_eq!(lane("percentage: {value: 5, key: [sourceIP]}", ""), (500, by_user));
}

#[test]
fn port_without_policy_takes_any_mesh_identity_and_nothing_else() {
    let world = world(MESH);
    let server = &world.workloads["demo/a"].inbound[&8080];
    assert_eq!(server.name, "default");
    assert_eq!(server.authorizations.len(), 1);
    assert_eq!(server.authorizations[0].clients, Clients::AnyMeshed);
}

#[test]
fn access_policy_names_callers_and_routes() {
    let world = world(MESH);
    let server = &world.workloads["demo/b-canary"].inbound[&8080];
    assert_eq!(server.name, "demo/b-callers");
    let Clients::Identities { names, suffixes } = &server.authorizations[0].clients else { panic!("{server:?}") };
    assert_eq!(names[0], "spiffe://cluster.local/ns/demo/sa/a");
    assert_eq!(suffixes[0].join("."), "shop.serviceaccount.identity.lanemesh.cluster.local");
    assert_eq!(server.routes[0].authorizations[0].clients, Clients::Anyone);
    assert_eq!(server.routes[0].matches[0].path, Some(PathMatch::Exact("/health".to_owned())));
}

#[test]
fn traffic_policy_says_when_instances_are_ejected_how_they_are_probed_and_in_which_zone_they_are() {
    let world = world(MESH);
    let policy = &world.traffic["b.demo"];
    let expected = OutlierDetection {
        consecutive_gateway_failures: 0,
        base_ejection_time: Duration::from_secs(10),
        max_ejection_percent: 30,
        ..OutlierDetection::default()
    };
    assert_eq!(policy.outlier_detection, expected);
    let statuses = vec![(200, 204), (301, 301)];
    let check = HealthCheck {
        interval: Duration::from_secs(5),
        healthy_threshold: 1,
        ..HealthCheck::new(Probe::Http(HttpProbe { path: "/healthz".to_owned(), statuses, ..HttpProbe::default() }))
    };
    assert_eq!(policy.health_check, Some(check));
    assert!(policy.zones.prefer_same);
}

#[test]
fn routes_split_traffic_and_services_without_route_lead_to_themselves() {
    let world = world(MESH);
    let OutboundProtocol::Detect { http1, opaque, .. } = &world.services["a.demo"].ports[&8080].outbound.protocol
    else {
        panic!("protocol of a")
    };
    let Distribution::Weighted(backends) = &http1[0].rules[0].backends else { panic!("{http1:?}") };
    let shown: Vec<_> = backends
        .iter()
        .map(|(backend, weight)| match backend {
            Backend::Service(key) => (key.label(), *weight),
            Backend::Forward(_) => panic!("an address"),
        })
        .collect();
    assert_eq!(shown, [("a.demo", 90), ("b.demo", 10)]);
    assert!(matches!(opaque, Distribution::FirstAvailable(to) if to.len() == 1));
    let OutboundProtocol::Grpc(routes) = &world.services["g.demo"].ports[&9090].outbound.protocol else {
        panic!("protocol of g")
    };
    assert_eq!(routes[0].name, "demo/g-route");
    assert_eq!(routes[0].rules[0].matches[0].path, Some(PathMatch::Exact("/shop.Cart/Add".to_owned())));
}

#[test]
fn equal_groups_have_equal_revisions_and_changed_ones_do_not() {
    let changed = MESH.replace("state: draft", "state: active");
    assert_eq!(world(MESH).groups[0].revision, world(MESH).groups[0].revision);
    assert_ne!(world(MESH).groups[0].revision, world(&changed).groups[0].revision);
}

#[test]
fn every_problem_of_every_document_is_reported_at_once() {
    let found = problems(include_str!("bad.yaml"));
    let expected = include_str!("bad.expected");
    assert_eq!(found.join("\n"), expected.trim_end());
}

#[test]
fn broken_yaml_names_its_line_in_the_file() {
    let found = problems("---\napiVersion: v1\n---\nkind: Lane\nspec: [1, 2\nother: x\n");
    assert!(found.iter().any(|problem| problem.starts_with("bad.yaml:6: not YAML: ")), "{found:?}");
}

#[test]
fn references_duplicates_and_cycles_are_found_across_documents() {
    let found = problems(include_str!("tangled.yaml"));
    let expected = include_str!("tangled.expected");
    assert_eq!(found.join("\n"), expected.trim_end());
}

#[test]
fn comments_block_scalars_and_flow_style_do_not_shift_lines() {
    let text = "# a comment\napiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata:\n  name: g\n  annotations:\n    \
                note: |\n      spec:\n        carrier: no\n\n      end\nspec:\n  services: [\"*\"]\n  carrier: {header: \
                \"bad name\"}\n  laneKeys:\n  - lane\n  - 7\n";
    let found = problems(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("bad.yaml:14: LaneGroup default/g: spec.carrier.header: "), "{found:?}");
    assert!(found[1].starts_with("bad.yaml:17: LaneGroup default/g: spec.laneKeys[1]: "), "{found:?}");
}
