//! Retries through real sidecars, counted at the application: a POST is not repeated unless that is allowed, bodies that are
//! sent again are the same to the last byte, and a dead backend gets no more load than the budget allows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mesh_tests::{
    client::{Answer, Body, Connection, Version, full, request},
    mesh::Mesh,
    pod::PodSpec,
    server::{Server, text},
    wait::{PATIENCE, pace, until},
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::callers::HOST;

/// Attempts of one request that fail before one succeeds.
const FAILURES: usize = 2;
/// Field that names a request, the same in all of its attempts.
const NAME: &str = "x-request-name";

/// Hashes of the bodies that came, by name of the request.
type Came = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

fn hash(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn policy(retries: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: b, namespace: demo}}\nspec:\n  service: \
         b\n  retries: {retries}\n"
    )
}

/// A caller, and instances of `b` that answer by `handler`.
async fn start<F, A>(retries: &str, instances: usize, handler: F) -> (Mesh, Vec<Server>)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let mut builder = Mesh::builder().pod(PodSpec::new("a")).resource(&policy(retries));
    for instance in 0..instances {
        builder = builder.pod(PodSpec::new(&format!("b{instance}")).account("b").of(HOST));
    }
    let mesh = builder.start().await;
    let mut servers = Vec::new();
    for instance in 0..instances {
        servers.push(Server::start(mesh.application(&format!("b{instance}")), handler.clone()).await);
    }
    until("the service answers", PATIENCE, || async {
        let answer = ask(&mesh, Version::Http1, Method::HEAD, "ready", Bytes::new()).await.ok()?;
        answer.header("x-mesh-error").is_empty().then_some(())
    })
    .await;
    (mesh, servers)
}

async fn ask(mesh: &Mesh, version: Version, method: Method, name: &str, body: Bytes) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(mesh.pod("a").outbound(), version).await?;
    connection.send(request(method, HOST, "/", &[(NAME, name)], full(body))).await
}

/// Answers 503 to the first attempts of each request and then 200, always once the body came whole.
async fn fail_at_first(request: Request<Incoming>, came: Came) -> Response<Body> {
    let name = request.headers().get(NAME).and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
    let Ok(body) = request.into_body().collect().await else { return text("broken off") };
    let body = hash(&body.to_bytes());
    let mut came = came.lock().expect("no panic while held");
    let attempts = came.entry(name).or_default();
    attempts.push(body.clone());
    let mut response = text(body);
    if attempts.len() <= FAILURES {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

#[tokio::test]
async fn bodies_are_sent_again_byte_for_byte_and_a_post_only_where_that_is_allowed() {
    let came = Came::default();
    let heard = Arc::clone(&came);
    let handler = move |request| fail_at_first(request, Arc::clone(&heard));
    let generous = "{on: [gateway-error], methods: [PATCH], bodyLimit: 64KiB, backoff: {base: 1ms}, budget: {percent: 100, \
                    minPerSecond: 1000}}";
    let (mesh, _servers) = start(generous, 2, handler).await;
    let mut sent = Vec::new();
    for version in [Version::Http1, Version::Http2] {
        for (method, attempts) in [(Method::PUT, 3), (Method::PATCH, 3), (Method::POST, 1)] {
            for length in [0, 1, 1_000, 20_000, 65_536, 65_537] {
                let body: Bytes = (0..length).map(|position: usize| (position * 131 % 251) as u8).collect();
                // Longer than what is kept.
                let attempts = if length > 65_536 { 1 } else { attempts };
                let name = format!("{method} {length} {version:?}");
                let answer = ask(&mesh, version, method.clone(), &name, body.clone()).await.expect("an answer");
                let expected = if attempts == 1 { 503 } else { 200 };
                assert_eq!((answer.status, answer.text()), (expected, hash(&body)), "{name}");
                sent.push((name, attempts, hash(&body)));
            }
        }
    }
    let came = came.lock().expect("no panic while held").clone();
    for (name, attempts, hash) in sent {
        assert_eq!(came[&name], vec![hash; attempts], "{name}");
    }
    let metrics = mesh.pod("a").metrics().await;
    assert_eq!(metrics.sum("mesh_retries_refused_total", &[("reason", "method")]), 12.0);
    assert_eq!(metrics.sum("mesh_retries_refused_total", &[("reason", "body")]), 4.0);
}

#[tokio::test]
async fn dead_backend_gets_no_more_load_than_the_budget_allows() {
    const CALLERS: usize = 8;
    const EACH: usize = 200;
    let dead = |_| async {
        let mut response = text("dead");
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    };
    let (mesh, servers) = start("{on: [reset, gateway-error], backoff: {base: 1ms, max: 1ms}}", 2, dead).await;
    let requests = || servers.iter().map(|server| server.seen.requests()).sum::<usize>();
    let (before, began) = (requests(), Instant::now());
    let mut callers = JoinSet::new();
    let outbound = mesh.pod("a").outbound();
    for _ in 0..CALLERS {
        callers.spawn(async move {
            let mut connection = Connection::open(outbound, Version::Http1).await.expect("the sidecar listens");
            for _ in 0..EACH {
                let answer = connection.send(request(Method::GET, HOST, "/", &[], full(""))).await.expect("an answer");
                assert_eq!(answer.status, 503);
                pace(Duration::from_millis(5)).await;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller does not panic");
    }
    let (sent, got) = ((CALLERS * EACH) as f64, (requests() - before) as f64);
    // A second's minimum may be there at the beginning.
    let most = sent * 1.2 + 10.0 * (began.elapsed().as_secs_f64() + 1.0);
    println!("{sent} requests were sent in {:?}, {got} arrived, at most {most:.0} may", began.elapsed());
    assert!(got <= most, "{got} of at most {most}");
    assert!(got >= sent * 1.15, "the budget is there to be used: {got} of {sent}");
}
