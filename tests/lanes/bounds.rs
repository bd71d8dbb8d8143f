//! A thousand lanes in one group and two hundred services: how long a change takes until proxies serve it, how large it
//! is, and that memory stays as it is over many changes.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use mesh_tests::{
    client,
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, until},
};
use serde_json::json;

const LANES: usize = 1_000;
const SERVICES: usize = 200;
/// Changes after which memory is compared, and changes until then.
const CHANGES: usize = 60;
const WARM: usize = 20;
/// Growth of memory that the allocators' habits explain, KiB.
const SLACK: u64 = 24 << 10;
/// Longest wait for a proxy to serve a change.
const LIMIT: Duration = Duration::from_secs(5);

fn resources() -> String {
    let mut yaml = String::from(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {name: shop, namespace: demo}\n\
         spec: {services: ['*'], entries: [a]}\n",
    );
    for number in 0..LANES {
        let rule = format!("{{any: [{{on: header, name: x-user, operator: in, values: [u{number}, v{number}]}}]}}");
        let _ = write!(
            yaml,
            "---\napiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: lane-{number}, namespace: demo}}\n\
             spec: {{group: shop, priority: {number}, match: {rule}}}\n"
        );
    }
    yaml
}

fn services() -> String {
    let mut yaml = String::from("apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n");
    for number in 0..SERVICES {
        let _ = writeln!(yaml, "- name: s{number}\n  namespace: demo\n  ports: [{{port: 80}}]\n  endpoints:");
        for instance in 0..5 {
            let label = if instance == 0 {
                String::new()
            } else {
                format!(", labels: {{lane: lane-{}}}", number * 4 + instance)
            };
            let _ = writeln!(yaml, "  - {{address: '10.77.{number}.{instance}:80', pod: s{number}-{instance}{label}}}");
        }
    }
    yaml
}

/// Changes a lane and waits until every proxy serves it.
async fn change(mesh: &Mesh, verb: &str) -> Duration {
    let revisions = async || {
        let table = mesh.console("/api/v1/proxies").await.ok()?;
        let rows = table["items"].as_array()?.clone();
        let all = rows.iter().all(|row| row["appliedRevision"] == row["currentRevision"]);
        (all && !rows.is_empty()).then(|| rows.iter().map(|row| row["currentRevision"].to_string()).collect::<Vec<_>>())
    };
    let before = until("every proxy is up to date", PATIENCE, &revisions).await;
    let console = mesh.controller_admin();
    let order = json!({ "lane": "shop/lane-7", "verb": verb }).to_string();
    let begun = Instant::now();
    let answer = client::post(console, &console.to_string(), "/api/v1/lane", order).await.expect("the console answers");
    assert_eq!(answer.status, 200, "{verb}: {}", answer.text());
    until("every proxy has the change", PATIENCE, || async {
        let now = revisions().await?;
        now.iter().zip(&before).all(|(now, before)| now != before).then_some(())
    })
    .await;
    begun.elapsed()
}

#[tokio::test]
async fn thousand_lanes_change_in_time_and_memory_stays_as_it_is() {
    let mut mesh = Mesh::builder().pod(PodSpec::new("client")).pod(PodSpec::new("a").of("a")).start().await;
    let _application = Server::start(mesh.application("a"), async |_| server::text("a")).await;
    mesh.write_source("many-services.yaml", &services());
    let begun = Instant::now();
    mesh.write_source("many-lanes.yaml", &resources());
    until("the lanes are in force", PATIENCE, || async {
        let groups = mesh.console("/api/v1/lanes").await.ok()?;
        (groups["items"][0]["lanes"].as_array()?.len() == LANES).then_some(())
    })
    .await;
    eprintln!(
        "{LANES} lanes and {SERVICES} services are in force {} ms after they were written",
        begun.elapsed().as_millis()
    );
    mesh.reachable("client", "a").await;
    let (mut times, mut memory) = (Vec::new(), None);
    for number in 0..CHANGES {
        times.push(change(&mesh, if number % 2 == 0 { "drain" } else { "rollback" }).await);
        let now = (mesh.controller.resident(), mesh.pod_mut("client").proxy().resident());
        if number + 1 == WARM {
            memory = Some(now);
        }
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let before = memory.expect("more changes than are needed to warm up");
    let after = (mesh.controller.resident(), mesh.pod_mut("client").proxy().resident());
    let mib = |kib: u64| kib as f64 / 1_024.0;
    eprintln!("a change is served by every proxy after {} ms, at worst {} ms", median.as_millis(), worst.as_millis());
    eprintln!(
        "controller {:.1} → {:.1} MiB, proxy {:.1} → {:.1} MiB over {} changes",
        mib(before.0),
        mib(after.0),
        mib(before.1),
        mib(after.1),
        CHANGES - WARM
    );
    assert!(worst < LIMIT, "{worst:?}");
    assert!(after.0 < before.0 + SLACK && after.1 < before.1 + SLACK, "memory grows: {before:?} → {after:?}");
}
