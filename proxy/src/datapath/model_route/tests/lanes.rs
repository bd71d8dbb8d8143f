//! Calls without label to a model route that is an entry of a lane group.

use std::sync::Arc;

use mesh_core::{
    model::lane::LaneGroup,
    resources::{Domains, Input, Resource, compile_all, parse},
};

use super::*;

const GROUP: &str = "
apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: models, namespace: demo}
spec:
  entries: [ENTRIES]
  services: [\"*\"]
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec:
  group: models
  state: active
  match: {any: [{on: header, name: x-user, operator: equal, value: tester}]}
";

fn groups(entries: &str) -> Arc<Vec<LaneGroup>> {
    let resources: Vec<Resource> = parse("lanes.yaml", &GROUP.replace("ENTRIES", entries)).expect("it can be read");
    let resources: Vec<&Resource> = resources.iter().collect();
    let compiled = compile_all(&Input { resources: &resources, ..Input::default() }, &Domains::default());
    Arc::new(compiled.expect("nothing is wrong").world.groups)
}

async fn served(stage: &Stage, user: &str) -> Option<String> {
    let answer = stage.with_field(&format!("x-user: {user}"), WHOLE).await;
    answer.field("x-mesh-model-target").map(str::to_owned)
}

#[test]
fn call_without_label_gets_into_the_lane_whose_rule_holds_and_reaches_its_target() {
    let cases = [
        ("llm.demo", "b.demo", "canary"),
        // What reached the application was decided there.
        ("llm.demo, app.demo", "app.demo", "stable"),
        ("other.demo", "b.demo", "stable"),
    ];
    for (entries, own, expected) in cases {
        Stage::run(async |stage| {
            stage.lanes.replace(groups(entries));
            stage.services.replace(vec![own.to_owned()]);
            let says = |name: &str| Say::answer(200, "application/json", &whole(name));
            let a = stage.target(vec![says("stable"), says("stable")]).await;
            let b = stage.target(vec![says("canary"), says("canary")]).await;
            let mut canary = target("canary", b.address);
            canary.lane = Some("models/canary".to_owned());
            stage.route(vec![target("stable", a.address), canary], timers(8_000));
            assert_eq!(served(stage, "tester").await.as_deref(), Some(expected), "{entries}");
            assert_eq!(served(stage, "other").await.as_deref(), Some("stable"), "{entries}");
        });
    }
}
