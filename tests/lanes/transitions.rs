//! Changes of a lane's stage under load: nothing fails, every hop of a request sees the same label and serves it on the
//! level that the label means, and every proxy has the change in less than a second.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_tests::{
    client::{self, Connection, Version, full, request},
    mesh::Mesh,
    pod::PodSpec,
    server::{self, PROPAGATED, Server},
    wait::{PATIENCE, pace, until},
};
use serde_json::{Value, json};

const RESOURCES: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: ['*'], entries: [a]}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec: {group: shop}
";

/// Proxies that are connected: those of the chain and more that only listen.
const PROXIES: usize = 50;
/// Clients of the load, each with a connection of its own.
const CLIENTS: usize = 20;
/// Pause of a client between two requests: with the time of an answer about 500 requests per second together.
const PAUSE: Duration = Duration::from_millis(30);
/// How fast a change must be known everywhere.
const LIMIT: Duration = Duration::from_secs(1);
/// Requests between two changes.
const BETWEEN: usize = 500;

/// What a request may find, by the stage of the lane when it began and when it ended.
const LANE: usize = 0;
const MOVING: usize = 1;
const PROMOTED: usize = 2;

async fn start() -> (Mesh, Vec<Server>) {
    let canary =
        |service: &str| PodSpec::new(&format!("{service}-canary")).of(service).account(service).label("lane", "canary");
    let mut builder = Mesh::builder().pod(PodSpec::new("client"));
    for service in ["a", "b", "c", "d"] {
        builder = builder.pod(PodSpec::new(service).of(service));
    }
    builder = builder.pod(canary("b")).pod(canary("d"));
    for number in 7..PROXIES {
        builder = builder.pod(PodSpec::new(&format!("listener-{number}")));
    }
    let mesh = builder.resource(RESOURCES).start().await;
    let mut applications = Vec::new();
    let links = [
        ("a", Some("b")),
        ("b", Some("c")),
        ("b-canary", Some("c")),
        ("c", Some("d")),
        ("d", None),
        ("d-canary", None),
    ];
    for (pod, next) in links {
        let (name, outbound) = (pod.to_owned(), mesh.pod(pod).outbound());
        let next = next.map(|host| (outbound, host.to_owned()));
        let handler = move |request| server::link(name.clone(), next.clone(), PROPAGATED, request);
        applications.push(Server::start(mesh.application(pod), handler).await);
    }
    mesh.reachable("client", "a").await;
    (mesh, applications)
}

/// The load, and what was wrong with its answers.
struct Load {
    stage: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(to: SocketAddr) -> Load {
        let mut load = Load {
            stage: Arc::new(AtomicUsize::new(LANE)),
            sent: Arc::default(),
            wrong: Arc::default(),
            stop: Arc::default(),
            clients: Vec::new(),
        };
        for number in 0..CLIENTS {
            let (stage, sent) = (Arc::clone(&load.stage), Arc::clone(&load.sent));
            let (wrong, stop) = (Arc::clone(&load.wrong), Arc::clone(&load.stop));
            let label: &'static [(&str, &str)] = if number % 2 == 0 { &[("x-mesh-lane", "canary")] } else { &[] };
            load.clients.push(tokio::spawn(async move {
                let mut connection = Connection::open(to, Version::Http1).await.expect("the sidecar listens");
                while !stop.load(Ordering::Relaxed) {
                    let before = stage.load(Ordering::SeqCst);
                    let answer = connection.send(request(http::Method::GET, "a", "/", label, full(""))).await;
                    let after = stage.load(Ordering::SeqCst);
                    let stage = if before == after { before } else { MOVING };
                    let found = match answer {
                        Ok(answer) if answer.status == 200 => crossed(&answer.text(), !label.is_empty(), stage),
                        Ok(answer) => Some(format!("{} {}", answer.status, answer.text())),
                        Err(error) => Some(format!("{error:#}")),
                    };
                    wrong.lock().expect("no panic while held").extend(found);
                    sent.fetch_add(1, Ordering::Relaxed);
                    pace(PAUSE).await;
                }
            }));
        }
        load
    }

    async fn more(&self, requests: usize) {
        let wanted = self.sent.load(Ordering::Relaxed) + requests;
        until(&format!("{requests} more requests"), PATIENCE, || async {
            (self.sent.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("a client does not panic");
        }
        let wrong = self.wrong.lock().expect("no panic while held");
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(wrong.is_empty(), "{} of {sent} requests: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        sent
    }
}

/// What is wrong with a chain `a[label] b[label] …`: two labels in one request, or a hop on another level than the label
/// means. While the lane changes, a hop may be on the old or on the new level.
fn crossed(chain: &str, labelled: bool, stage: usize) -> Option<String> {
    let hops: Vec<(&str, &str)> =
        chain.split(' ').filter_map(|hop| hop.strip_suffix(']').and_then(|hop| hop.split_once('['))).collect();
    let wanted = if labelled { "canary" } else { "-" };
    let labels_agree = hops.len() == 4 && hops.iter().all(|(_, label)| label.trim_start_matches("shop/") == wanted);
    let pods: Vec<&str> = hops.iter().map(|(pod, _)| *pod).collect();
    let level = match (stage, labelled) {
        (LANE, true) => pods == ["a", "b-canary", "c", "d-canary"],
        (LANE, false) => pods == ["a", "b", "c", "d"],
        _ => true,
    };
    (!labels_agree || !level).then(|| format!("stage {stage}, labelled {labelled}: {chain}"))
}

/// Revision that each proxy was sent, where all of them serve it.
async fn served(mesh: &Mesh) -> Option<BTreeMap<String, String>> {
    let table = mesh.console("/api/v1/proxies").await.ok()?;
    let rows = table["items"].as_array()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = rows.len() == PROXIES && rows.iter().all(|row| row["appliedRevision"] == row["currentRevision"]);
    all.then(|| rows.iter().map(|row| (text(&row["pod"]), text(&row["currentRevision"]))).collect())
}

/// Changes the lane and waits until every proxy has it; from the call on.
async fn change(mesh: &Mesh, verb: &str) -> Duration {
    let before = until("every proxy is up to date", PATIENCE, || served(mesh)).await;
    let console = mesh.controller_admin();
    let order = json!({ "lane": "shop/canary", "verb": verb, "reason": "test" }).to_string();
    let begun = Instant::now();
    let answer = client::post(console, &console.to_string(), "/api/v1/lane", order).await.expect("the console answers");
    assert_eq!(answer.status, 200, "{verb}: {}", answer.text());
    until("every proxy has the change", PATIENCE, || async {
        let now = served(mesh).await?;
        now.iter().all(|(pod, revision)| before.get(pod) != Some(revision)).then_some(())
    })
    .await;
    begun.elapsed()
}

#[tokio::test]
async fn drain_promote_and_rollback_under_load_fail_nothing_and_cross_no_lanes() {
    let (mesh, _applications) = start().await;
    let load = Load::start(mesh.pod("client").outbound());
    let begun = Instant::now();
    load.more(BETWEEN).await;
    let mut slowest = Duration::ZERO;
    let rounds = [("drain", LANE), ("rollback", LANE), ("drain", LANE), ("promote", PROMOTED), ("rollback", LANE)];
    for (verb, after) in rounds {
        let was = load.stage.load(Ordering::SeqCst);
        if was != after {
            load.stage.store(MOVING, Ordering::SeqCst);
        }
        let took = change(&mesh, verb).await;
        load.stage.store(after, Ordering::SeqCst);
        eprintln!("{verb}: {PROXIES} proxies (processes) have it {} ms after the call began", took.as_millis());
        if verb == "rollback" {
            slowest = slowest.max(took);
        }
        load.more(BETWEEN).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let sent = load.end().await;
    eprintln!("{sent} requests through four hops, {:.0} per second, none failed, none crossed", sent as f64 / seconds);
    assert!(slowest < LIMIT, "rollback took {slowest:?}");
}
