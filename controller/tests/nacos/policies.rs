//! Policies that a controller reads out of configurations of real servers.

use mesh_controller::runtime::Running;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    harness::DEADLINE,
    registration::controller,
    servers::{publish, servers, service, withdraw},
};

fn group(name: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: {name}, namespace: demo}}\n\
         spec: {{services: ['*']}}\n"
    )
}

/// Asks the console until `holds`.
async fn until(controller: &Running, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let url = format!("http://{}{path}", controller.admin);
    let wait = async {
        loop {
            let output = tokio::process::Command::new("curl").args(["-sf", &url]).output().await.expect("curl runs");
            let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            if holds(&answer) {
                return answer;
            }
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{path} never became what is expected"))
}

fn groups(answer: &Value) -> Vec<&str> {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_group = |item: &&Value| item["kind"] == "LaneGroup";
    items.iter().filter(of_group).filter_map(|item| item["name"].as_str()).collect()
}

#[tokio::test]
async fn policies_are_read_live_and_a_bad_one_leaves_the_last_good_one_in_force() {
    for server in servers() {
        let own = service("policies").service().to_owned();
        let folder = tempfile::tempdir().expect("a temporary folder");
        publish(&server, &own, "a.yaml", &group("first")).await;
        let fields = format!("policies: {{group: {own}}}");
        let controller = controller(&server, "b", &fields, &folder).await;
        let resources = "/api/v1/resources";
        until(&controller, resources, |answer| groups(answer) == ["first"]).await;

        publish(&server, &own, "b.yaml", &group("second")).await;
        until(&controller, resources, |answer| groups(answer) == ["first", "second"]).await;
        let asked = std::time::Instant::now();
        publish(&server, &own, "a.yaml", &group("changed")).await;
        until(&controller, resources, |answer| groups(answer) == ["changed", "second"]).await;
        eprintln!("{}: changed policy in force after {:?}", server.address.authority(), asked.elapsed());

        publish(&server, &own, "a.yaml", "kind: LaneGruop").await;
        let bad = |answer: &Value| answer.to_string().contains("LaneGruop");
        let state = until(&controller, "/api/v1/source", bad).await;
        assert!(state.to_string().contains(&format!("nacos/nacos/{own}/a.yaml")), "{state}");
        until(&controller, resources, |answer| groups(answer) == ["changed", "second"]).await;

        publish(&server, &own, "a.yaml", &group("mended")).await;
        until(&controller, resources, |answer| groups(answer) == ["mended", "second"]).await;
        until(&controller, "/api/v1/source", |answer| !bad(answer)).await;
        withdraw(&server, &own, "b.yaml").await;
        until(&controller, resources, |answer| groups(answer) == ["mended"]).await;
        controller.stop().await;
    }
}
