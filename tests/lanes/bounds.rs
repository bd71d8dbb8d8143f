//! A thousand lanes in one group and two hundred services: how long a change takes until proxies serve it, how large it
//! is, and that memory stays as it is over many changes.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use mesh_tests::{
    length,
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, until},
};

use crate::stages::change;

const LANES: usize = 1_000;
const SERVICES: usize = 200;
/// Proxies of the mesh.
const PROXIES: usize = 2;
/// Changes between two looks at memory.
const BETWEEN: usize = 10;
/// What the least resident memory of the last third of all looks may be above that of the middle third, KiB. The least,
/// since a look may fall into a change, which makes every lane anew before it gives the old ones back. The first hundred
/// changes may still find the allocator at a step of 5 MiB below where it stays.
const SLACK_OF_CONTROLLER: (u64, u64) = (6 << 10, 2 << 10);
const SLACK_OF_PROXY: (u64, u64) = (2 << 10, 1 << 10);
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

#[tokio::test]
async fn thousand_lanes_change_in_time_and_memory_stays_as_it_is_full_length() {
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
    let (mut times, mut controller, mut proxy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..length::of(12, 90) {
        for number in 0..BETWEEN {
            let verb = if number % 2 == 0 { "drain" } else { "rollback" };
            times.push(change(&mesh, PROXIES, "shop/lane-7", verb).await);
        }
        controller.push(mesh.controller.resident());
        proxy.push(mesh.pod_mut("client").proxy().resident());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("a change is served by every proxy after {} ms, at worst {} ms", median.as_millis(), worst.as_millis());
    println!("resident after every {BETWEEN} changes, KiB: controller {controller:?}, proxy {proxy:?}");
    assert!(worst < LIMIT, "{worst:?}");
    for (looks, (shortened, full)) in [(controller, SLACK_OF_CONTROLLER), (proxy, SLACK_OF_PROXY)] {
        let slack = length::of(shortened, full);
        let third = looks.len() / 3;
        let least = |looks: &[u64]| looks.iter().copied().min().unwrap_or_default();
        let (middle, last) = (least(&looks[third..2 * third]), least(&looks[2 * third..]));
        assert!(last <= middle + slack, "memory grows from {middle} to {last} KiB: {looks:?}");
    }
}
