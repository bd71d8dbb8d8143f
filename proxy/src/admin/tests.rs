//! The admin port over real connections.

mod lanes;
mod models;

use std::{collections::BTreeSet, net::SocketAddr, time::SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::outcome::Outcome;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
};

use super::*;
use crate::{
    config::{Role, parse, variables},
    datapath::lane::links::Links,
    identity::Credentials,
    net::tls::Trust,
    shared::Shared,
    telemetry::{
        control::ControlCounters,
        metrics::{self, Kind},
        worker::{Direction, SeriesKey, WorkerMetrics},
    },
};

struct Port {
    address: SocketAddr,
    order: Order,
    missing: watch::Sender<BTreeSet<String>>,
    worker: Arc<WorkerMetrics>,
    shared: Arc<Shared>,
    links: Option<Links>,
    /// Ends with the port.
    _server: JoinSet<()>,
}

fn credentials() -> Arc<Credentials> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let anchors = vec![Arc::from(root.der().as_ref())];
    let trust = Trust::new(&anchors, "cluster.local", "lanemesh").unwrap();
    let identity = mesh_core::identity::Identity::new("cluster.local", "demo", "a").unwrap();
    Arc::new(Credentials { identity, anchors, trust, held: None })
}

async fn port() -> Port {
    let environment = [(variables::CONTROLLER_ADDRESS.name.to_owned(), "10.0.0.1:8086".to_owned())];
    let settings = Arc::new(parse::settings(Role::Sidecar, environment).unwrap());
    let (order, draining) = Order::new();
    let (ask, _) = mpsc::channel(1);
    let shared = Shared {
        snapshot: ArcSwap::default(),
        tls: ArcSwapOption::empty(),
        outside_tls: ArcSwapOption::empty(),
        ask,
        revision: watch::channel(0).1,
        draining,
        limits: crate::limits::Limits::new().0,
        probing: Default::default(),
    };
    let shared = Arc::new(shared);
    let missing = watch::Sender::new(BTreeSet::from(["certificate".to_owned()]));
    let worker = Arc::new(WorkerMetrics::new(0));
    let sources = Sources {
        workers: vec![Arc::clone(&worker)],
        control: Arc::new(ControlCounters::default()),
        shared: Arc::clone(&shared),
        credentials: watch::channel(credentials()).1,
        missing: missing.subscribe(),
        started: SystemTime::now(),
    };
    let (layer, log) = reload::Layer::new(EnvFilter::new("warn"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut links, oracle) = Links::all(1);
    let links = links.pop();
    let admin = Admin { settings, sources, order: order.clone(), log, oracle };
    let mut server = JoinSet::new();
    server.spawn(async move {
        // The handle reaches its filter as long as the layer lives.
        let _layer = layer;
        serve(admin, listener).await;
    });
    Port { address, order, missing, worker, shared, links, _server: server }
}

impl Port {
    /// Status and body.
    async fn ask(&self, line: &str, host: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request =
            format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), "localhost", "").await
    }
}

#[tokio::test]
async fn ready_turns_true_when_nothing_is_missing_and_false_when_draining() {
    let port = port().await;
    assert_eq!(port.get("/ready").await, (503, "not ready\n".to_owned()));
    assert_eq!(port.get("/ready?verbose").await.1, "not ready\nmissing: certificate\n");
    port.missing.send_modify(BTreeSet::clear);
    assert_eq!(port.get("/ready").await, (200, "ready\n".to_owned()));
    port.order.give(Cause::Admin);
    assert_eq!(port.get("/ready?verbose").await, (503, "not ready\nmissing: draining\n".to_owned()));
    assert_eq!(port.get("/live").await.0, 200);
}

#[tokio::test]
async fn shutdown_says_that_the_application_has_ended() {
    let port = port().await;
    assert_eq!(port.ask("POST /shutdown", "localhost", "").await, (200, "ending\n".to_owned()));
    port.order.given().await;
    assert_eq!(port.order.application(), mesh_core::drain::application::Ended::Said);
}

#[tokio::test]
async fn drain_is_ordered_by_post_only() {
    let port = port().await;
    assert_eq!(port.get("/drain").await.0, 405);
    assert_eq!(port.ask("POST /drain?wait=false", "localhost", "").await, (202, "draining\n".to_owned()));
    port.order.given().await;
    let finished = async { assert!(port.order.finish_inbound()) };
    let (answer, ()) = tokio::join!(port.ask("POST /drain", "localhost", ""), finished);
    assert_eq!(answer, (200, "drained\n".to_owned()));
    assert_eq!(port.ask("POST /drain", "localhost", "").await, (200, "drained\n".to_owned()));
}

#[tokio::test]
async fn log_level_can_be_read_and_changed_and_a_bad_one_is_refused() {
    let port = port().await;
    assert_eq!(port.get("/log-level").await, (200, "warn\n".to_owned()));
    assert_eq!(port.ask("PUT /log-level", "localhost", "info,mesh_proxy=debug\n").await.0, 200);
    assert!(port.get("/log-level").await.1.contains("mesh_proxy=debug"));
    assert_eq!(port.ask("PUT /log-level", "localhost", "mesh_proxy=loud").await.0, 400);
    assert_eq!(port.ask("PUT /log-level", "localhost", &"x".repeat(BODY_MAX + 1)).await.0, 400);
    assert!(port.get("/log-level").await.1.contains("mesh_proxy=debug"));
}

#[tokio::test]
async fn dump_shows_settings_identity_and_snapshot_and_no_secret() {
    let port = port().await;
    let (status, body) = port.get("/config_dump").await;
    let dump: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(dump["identity"]["name"], "spiffe://cluster.local/ns/demo/sa/a");
    assert_eq!(dump["snapshot"]["revision"], 0);
    assert_eq!(dump["settings"]["role"], "sidecar");
    assert!(!body.contains("PRIVATE"));
}

#[tokio::test]
async fn page_with_a_name_from_elsewhere_is_refused() {
    let port = port().await;
    assert_eq!(port.ask("GET /config_dump", "rebound.example.com:4191", "").await.0, 403);
    assert_eq!(port.ask("GET /config_dump", "[::1]:4191", "").await.0, 200);
    assert_eq!(port.ask("GET /ready", "rebound.example.com", "").await.0, 503);
}

#[tokio::test]
async fn other_pages_do_not_exist() {
    let port = port().await;
    for path in ["/", "/debug", "/ready/", "/metrics/x"] {
        assert_eq!(port.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn every_metric_of_the_table_is_served_and_nothing_else() {
    let port = port().await;
    let key = SeriesKey { service: "b.demo".into(), ..SeriesKey::overflow(Direction::Outbound) };
    let series = port.worker.register(key);
    series.finish(Outcome::Success, 200, Duration::from_millis(3));
    series.finish(Outcome::Timeout, 504, Duration::from_secs(100));
    let (status, text) = port.get("/metrics").await;
    assert_eq!(status, 200);
    let described: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let table: BTreeSet<&str> = metrics::ALL
        .iter()
        .map(|metric| if metric.kind == Kind::Counter { metric.name.trim_end_matches("_total") } else { metric.name })
        .collect();
    assert_eq!(described, table);
    let labels = "direction=\"outbound\",service=\"b.demo\",lane=\"\",level=\"\",reason=\"\"";
    let sample = format!("{}{{{labels},outcome=\"timeout\"}} 1.0", metrics::EXCHANGES.name);
    assert!(text.contains(&sample), "{text}");
    assert!(text.contains(&format!("le=\"+Inf\",{labels}}} 2")), "{text}");
    assert!(text.contains(&format!("{} 0.0", metrics::READY.name)));
}

#[tokio::test]
async fn head_beyond_the_limit_is_answered_431() {
    let port = port().await;
    let long = format!("localhost\r\nx: {}", "x".repeat(HEAD_MAX));
    assert_eq!(port.ask("GET /ready", &long, "").await.0, 431);
}
