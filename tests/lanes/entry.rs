//! Shares of users at the entry: two gateways and the sidecar of an entry service decide alike, over HTTP/1 and HTTP/2,
//! before and after a restart; a share that grows only adds users; ramps move and lanes end without any controller.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use http::Method;
use mesh_core::lane::entry::bucket;
use mesh_tests::{
    client::{Version, full, request},
    length,
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, until},
};

use crate::chain::lane;

/// Users that a share is measured by.
const USERS: u32 = 10_000;
/// Connections of one measurement.
const CONNECTIONS: u32 = 4;
/// Ways by which a user may come: the pod whose proxy decides, or that calls the proxy which does, and the protocol.
const WAYS: [(&str, Version); 6] = [
    ("gate-1", Version::Http1),
    ("gate-2", Version::Http2),
    ("client", Version::Http1),
    ("gate-1", Version::Http2),
    ("gate-2", Version::Http1),
    ("client", Version::Http2),
];
const GROUP: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: [a], entries: [gate, a]}
";

fn canary(rest: &str) -> String {
    format!("{GROUP}---\n{}", lane("canary", rest))
}

/// The lane `canary` with this share of the users, hundredths of a percent.
fn share(hundredths: u16) -> String {
    let value = f64::from(hundredths) / 100.0;
    canary(&format!(", percentage: {{value: {value}, key: [\"header:x-user\"]}}"))
}

fn user_in(buckets: std::ops::Range<u16>) -> String {
    let users = (0..).map(|number| format!("probe-{number}"));
    users.filter(|user| buckets.contains(&bucket("shop", user.as_bytes()))).take(1).collect()
}

/// Two gateways and a client in front of service `a`, which has an instance in the lane.
struct Entry {
    mesh: Mesh,
    _applications: Vec<Server>,
}

impl Entry {
    async fn start(resources: &str) -> Entry {
        let gate = |name: &str| PodSpec::new(name).of("gate").account("gate").gateway();
        let mesh = Mesh::builder()
            .pod(gate("gate-1"))
            .pod(gate("gate-2"))
            .pod(PodSpec::new("client"))
            .pod(PodSpec::new("a").of("a"))
            .pod(PodSpec::new("a-canary").of("a").account("a").label("lane", "canary"))
            .resource(resources)
            .start()
            .await;
        let mut applications = Vec::new();
        for pod in ["a", "a-canary"] {
            let answer = move |request| server::link(pod.to_owned(), None, &[], request);
            applications.push(Server::start(mesh.application(pod), answer).await);
        }
        for from in ["gate-1", "gate-2", "client"] {
            mesh.reachable(from, "a").await;
        }
        Entry { mesh, _applications: applications }
    }

    /// Those of `users` who are stained, coming by one way.
    async fn stained(&self, (from, version): (&str, Version), users: impl Iterator<Item = u32>) -> BTreeSet<u32> {
        let mut connection = self.mesh.connection(from, version).await.expect("the proxy takes connections");
        let mut stained = BTreeSet::new();
        for user in users {
            let name = format!("user-{user}");
            let get = request(Method::GET, "a", "/", &[("x-user", &name)], full(""));
            let answer = connection.send(get).await.expect("the proxy answers").text();
            let is_stained = match (from, answer.as_str()) {
                // Decided at the gateway: the lane's instance serves.
                ("gate-1" | "gate-2", "a-canary[canary]") => true,
                // Decided behind the choice of the instance: the lane begins at the next hop.
                ("client", "a[canary]") => true,
                (_, "a[-]") => false,
                (_, other) => panic!("{from}: {other}"),
            };
            if is_stained {
                stained.insert(user);
            }
        }
        stained
    }

    /// As [`Entry::stained`], over several connections at once.
    async fn all_stained(&self, way: (&str, Version), users: &BTreeSet<u32>) -> BTreeSet<u32> {
        let part =
            |part: u32| self.stained(way, users.iter().copied().filter(move |user| user / 6 % CONNECTIONS == part));
        futures_util::future::join_all((0..CONNECTIONS).map(part)).await.into_iter().flatten().collect()
    }

    /// Waits until every proxy has taken over the share that a user belongs to.
    async fn taken_over(&self, user: &str) {
        for (from, version) in WAYS {
            until(&format!("{user} stained at {from}"), PATIENCE, || async {
                let mut connection = self.mesh.connection(from, version).await.ok()?;
                let get = request(Method::GET, "a", "/", &[("x-user", user)], full(""));
                let answer = connection.send(get).await.ok()?;
                answer.text().ends_with("[canary]").then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn share_grows_without_losing_a_user_and_is_the_same_at_every_proxy_full_length() {
    let entry = Entry::start(&share(0)).await;
    let (mut entry, mut before, mut shown) = (entry, BTreeSet::new(), Vec::new());
    let mut last = 0;
    for hundredths in [1_000_u16, 2_500, 5_000] {
        entry.mesh.write_source("resources.yaml", &share(hundredths));
        entry.taken_over(&user_in(last..hundredths)).await;
        // Every user comes by one way, or, at full length, by all.
        let mut stained: BTreeSet<u32> = BTreeSet::new();
        for (number, way) in (0..).zip(WAYS) {
            let comes = |user: &u32| length::of(user % 6 == number, true);
            let users: BTreeSet<u32> = (0..USERS).filter(comes).collect();
            let here = entry.all_stained(way, &users).await;
            let elsewhere: BTreeSet<u32> = stained.intersection(&users).copied().collect();
            assert!(elsewhere.is_subset(&here), "{way:?} leaves out whom another proxy stained");
            stained.extend(here);
        }
        assert!(stained.is_superset(&before), "{} users left", before.difference(&stained).count());
        let expected = USERS * u32::from(hundredths) / 10_000;
        assert!(stained.len().abs_diff(expected as usize) <= USERS as usize / 100, "{} of {expected}", stained.len());
        shown.push(format!("{} %: {}", hundredths / 100, stained.len()));
        (before, last) = (stained, hundredths);
    }
    // The same users by every way, and after a restart.
    let sample: BTreeSet<u32> = (0..length::of(300, USERS)).collect();
    let expected: BTreeSet<u32> = before.intersection(&sample).copied().collect();
    entry.mesh.pod_mut("gate-1").proxy().kill();
    entry.mesh.pod_mut("gate-1").proxy().start_again();
    entry.mesh.pod("gate-1").ready().await;
    entry.mesh.reachable("gate-1", "a").await;
    for way in WAYS {
        assert_eq!(entry.all_stained(way, &sample).await, expected, "{way:?}");
    }
    println!("users stained of {USERS}: {}", shown.join(", "));
}

#[tokio::test]
async fn ramp_moves_and_a_lane_ends_with_all_controllers_stopped() {
    let mut entry = Entry::start(&share(0)).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let ramp = |to: u32, over: &str, ttl: &str| {
        let start = rfc3339(now);
        canary(&format!(
            ", percentage: {{value: 0, key: [\"header:x-user\"]}}, ramp: {{from: 1, to: {to}, over: {over}, startTime: \"{start}\"}}{ttl}"
        ))
    };
    // From 1 % to 100 % within 20 s from now.
    entry.mesh.write_source("resources.yaml", &ramp(100, "20s", ""));
    entry.taken_over(&user_in(0..100)).await;
    entry.mesh.controller.kill();
    let users: BTreeSet<u32> = (0..200).collect();
    let ways = [WAYS[0], WAYS[1], WAYS[2]];
    let mut before: [BTreeSet<u32>; 3] = Default::default();
    let began = std::time::Instant::now();
    let mut sizes = Vec::new();
    while before.iter().any(|stained| stained.len() < users.len()) {
        assert!(began.elapsed() < Duration::from_secs(60), "the ramp does not end: {sizes:?}");
        for (way, before) in ways.into_iter().zip(&mut before) {
            let stained = entry.all_stained(way, &users).await;
            assert!(stained.is_superset(before), "{way:?}: users left during the ramp");
            *before = stained;
        }
        sizes.push(before[0].len());
    }
    sizes.dedup();
    assert!(sizes.len() > 3, "it moved step by step: {sizes:?}");
    println!("users of 200 stained while no controller lived: {sizes:?}");
}

/// RFC 3339, as resources have it.
fn rfc3339(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days since 0000-03-01 (Howard Hinnant's civil_from_days).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[tokio::test]
async fn lane_ends_by_its_ttl_with_all_controllers_stopped() {
    let mut entry = Entry::start(&share(0)).await;
    // Counted from when the file was written.
    let everyone = ", ttl: 15s, percentage: {value: 100, key: [\"header:x-user\"]}";
    // With this baseline the instance of an ended lane serves nobody.
    let group = GROUP.replace("entries:", "baseline: untagged, entries:");
    entry.mesh.write_source("resources.yaml", &canary(everyone).replace(GROUP, &group));
    entry.taken_over("anybody").await;
    entry.mesh.controller.kill();
    for (from, version) in WAYS {
        until(&format!("the lane has ended at {from}"), PATIENCE, || async {
            let mut connection = entry.mesh.connection(from, version).await.ok()?;
            let mut get = async |field| {
                let get = request(Method::GET, "a", "/", &[field], full(""));
                Some(connection.send(get).await.ok()?.text())
            };
            // Neither stained nor honoured: a label that means nothing any more is carried on all the same.
            let stained = get(("x-user", "anybody")).await?;
            let labelled = get(("x-mesh-lane", "canary")).await?;
            (stained == "a[-]" && labelled.starts_with("a[")).then_some(())
        })
        .await;
    }
}
