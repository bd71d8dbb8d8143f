//! Rate limits at the sidecars of a service: one limit for all of them through a real Redis, which is killed and comes back;
//! who is counted is who proved it; and keys that callers invent are bounded.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::Method;
use mesh_tests::{
    client::{self, Answer, Connection, Version, full, request},
    mesh::Mesh,
    peer::{Handshake, Leaf, Session},
    pod::{APPLICATION_PORT, NAMESPACE, Pod, PodSpec, TRUST_DOMAIN},
    redis::Redis,
    server::{self, Server},
    wait::{PATIENCE, pace, until},
};

use crate::{
    callers::HOST,
    world::{self, World, within_pod},
};

/// Instances of the service.
const INSTANCES: usize = 3;
const CALLERS: usize = 100;
/// Requests a second that the service takes, all sidecars together.
const LIMIT: usize = 1_000;
/// How long is measured.
const PHASE: Duration = Duration::from_secs(10);
/// Pause of each caller between two requests: together some more than the limit.
const PAUSE: Duration = Duration::from_millis(60);

/// Instances of a service with these limits.
struct Sidecars {
    mesh: Mesh,
    applications: Vec<Server>,
}

/// A policy of the service that says this, in YAML.
fn policy(kind: &str, spec: &str) -> String {
    let meta = "metadata: {name: b, namespace: demo}";
    format!("apiVersion: lanemesh.io/v1alpha1\nkind: {kind}\n{meta}\nspec:\n  service: {HOST}\n{spec}")
}

fn peer(mesh: &Mesh, account: &str) -> Handshake {
    Handshake::with(mesh.authority().sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, account)))
}

/// A connection of a mesh peer to the sidecar at this address.
async fn connect(peer: &Handshake, to: SocketAddr, server_name: &str, version: Version) -> Connection {
    let session = if version == Version::Http1 { Session::Http1 } else { Session::Http2 };
    let opened = peer.open(to, server_name, APPLICATION_PORT, session).await;
    Connection::over(opened.expect("the sidecar takes a peer of the mesh"), version).await.expect("it speaks HTTP")
}

impl Sidecars {
    async fn start(instances: usize, limits: &str) -> Sidecars {
        let mut builder = Mesh::builder().resource(&policy("TrafficPolicy", limits));
        for instance in 0..instances {
            builder = builder.pod(PodSpec::new(&world::pod(instance)).account("b").of(HOST));
        }
        let mesh = builder.start().await;
        let mut applications = Vec::new();
        for instance in 0..instances {
            let address = mesh.application(&world::pod(instance));
            applications.push(Server::start(address, |_| async { server::text("served") }).await);
        }
        Sidecars { mesh, applications }
    }

    fn pod(&self, instance: usize) -> &Pod {
        self.mesh.pod(&world::pod(instance))
    }

    /// A connection of a caller of this account, as its sidecar makes one.
    async fn caller(&self, account: &str, instance: usize, version: Version) -> Connection {
        self.through(&peer(&self.mesh, account), instance, version).await
    }

    async fn through(&self, peer: &Handshake, instance: usize, version: Version) -> Connection {
        let pod = self.pod(instance);
        connect(peer, pod.inbound(), &pod.server_name(), version).await
    }

    /// Requests that have reached applications.
    fn served(&self) -> usize {
        self.applications.iter().map(|application| application.seen.requests()).sum()
    }

    /// Waits until every sidecar knows that so many share the limits.
    async fn know_each_other(&self, part: &str) {
        for instance in 0..self.applications.len() {
            until("sidecars hear of each other", PATIENCE, || async {
                let labels = [("service", "b.demo"), ("part", part)];
                let known = self.pod(instance).metrics().await.sum("mesh_rate_limit_proxies", &labels);
                (known as usize == self.applications.len()).then_some(())
            })
            .await;
        }
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> http::Request<client::Body> {
    request(Method::GET, HOST, path, headers, full(""))
}

async fn send(connection: &mut Connection, path: &str, headers: &[(&str, &str)]) -> Answer {
    connection.send(get(path, headers)).await.expect("every request is answered")
}

/// How many of so many requests are let through.
async fn passed(connection: &mut Connection, path: &str, requests: usize, headers: &[(&str, &str)]) -> usize {
    let mut passed = 0;
    for _ in 0..requests {
        match send(connection, path, headers).await.status {
            200 => passed += 1,
            429 => {}
            other => panic!("a request was answered {other}"),
        }
    }
    passed
}

/// What was let through in so long, counted by the applications, and how much was asked.
async fn hammer(sidecars: &Sidecars, connections: &mut [Connection], lasts: Duration) -> (usize, usize) {
    let (began, before) = (Instant::now(), sidecars.served());
    let one = |connection| async move {
        let (mut asked, connection): (usize, &mut Connection) = (0, connection);
        while began.elapsed() < lasts {
            let answer = send(connection, "/", &[]).await;
            assert!(matches!(answer.status, 200 | 429), "{}: {}", answer.status, answer.text());
            asked += 1;
            pace(PAUSE).await;
        }
        asked
    };
    let asked = join_all(connections.iter_mut().map(one)).await.into_iter().sum();
    // The last windows are cut by the end; so what is let through counts to the end of the time, not to that of the last.
    (sidecars.served() - before, asked)
}

/// Callers of ten accounts, spread over all sidecars.
async fn callers(sidecars: &Sidecars) -> Vec<Connection> {
    let peers: Vec<Handshake> = (0..10)
        .map(|account| Leaf::of(TRUST_DOMAIN, NAMESPACE, &format!("caller-{account}")))
        .map(|leaf| Handshake::with(sidecars.mesh.authority().sign(&leaf)))
        .collect();
    let mut connections = Vec::new();
    for caller in 0..CALLERS {
        let version = if caller % 2 == 0 { Version::Http1 } else { Version::Http2 };
        connections.push(sidecars.through(&peers[caller % peers.len()], caller % INSTANCES, version).await);
    }
    connections
}

#[tokio::test]
async fn a_hundred_callers_at_three_sidecars_share_one_limit_while_redis_is_killed_and_comes_back() {
    let mut redis = Redis::start().await;
    let policy = format!(
        "  rateLimits:\n  - {{name: all, requests: {LIMIT}, per: 1s, store: {{redis: {{url: \"{}\"}}}}}}\n",
        redis.url()
    );
    let sidecars = Sidecars::start(INSTANCES, &policy).await;
    sidecars.know_each_other("known").await;
    let mut connections = callers(&sidecars).await;
    // Until each is known to have requests. What is measured begins within a window of which as much was used before as
    // will be at the end.
    hammer(&sidecars, &mut connections, Duration::from_secs(3)).await;
    sidecars.know_each_other("sharing").await;
    hammer(&sidecars, &mut connections, Duration::from_secs(2)).await;
    let mut phases = BTreeMap::new();
    phases.insert("1 with Redis", hammer(&sidecars, &mut connections, PHASE).await);
    redis.kill();
    hammer(&sidecars, &mut connections, Duration::from_secs(2)).await;
    phases.insert("2 without", hammer(&sidecars, &mut connections, PHASE).await);
    redis.come_back().await;
    hammer(&sidecars, &mut connections, Duration::from_secs(5)).await;
    phases.insert("3 again", hammer(&sidecars, &mut connections, PHASE).await);
    let expected = LIMIT * PHASE.as_secs() as usize;
    println!("let through and asked, of {expected} in {PHASE:?}: {phases:?}");
    for (phase, (through, asked)) in &phases {
        assert!(*asked * 100 > expected * 110, "{phase}: the machine is too busy, only {asked} were asked");
        let off = through.abs_diff(expected);
        assert!(off * 100 <= expected * 5, "{phase}: {through} were let through instead of {expected}");
    }
    let down = sidecars.pod(0).metrics().await.sum("mesh_rate_limit_store_down", &[("service", "b.demo")]);
    assert_eq!(down, 0.0, "Redis is back");
}

#[tokio::test]
async fn each_identity_has_its_limit_and_nobody_can_take_that_of_another() {
    let limits = "  rateLimits:\n  - {name: each, key: [identity], requests: 5, per: 1h}\n";
    let builder = Mesh::builder()
        .captured()
        .resource(&policy("TrafficPolicy", limits))
        .resource(&policy("AccessPolicy", "  mode: permissive\n"))
        .pod(PodSpec::new("outside").plain());
    let world = World::build(builder, 1, &[]).await;
    let own = format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/victim");
    let dns = mesh_tests::peer::dns_name(TRUST_DOMAIN, NAMESPACE, "victim");
    let [other, victim] = ["other", "victim"].map(|account| peer(&world.mesh, account));
    let pod = world.mesh.pod(&world::pod(0));
    let (application, inbound, server_name) = (pod.application(), pod.inbound(), pod.server_name());
    let outside = world.mesh.pod("outside").namespace.clone();
    let counts = within_pod(outside.as_deref(), move || async move {
        let forged = [("l5d-client-id", dns.as_str()), ("x-forwarded-client-cert", own.as_str())];
        let mut plain = Connection::open(application, Version::Http1).await.expect("it is permissive");
        let mut again = Connection::open(application, Version::Http1).await.expect("it is permissive");
        let mut other = connect(&other, inbound, &server_name, Version::Http1).await;
        let mut one = connect(&victim, inbound, &server_name, Version::Http1).await;
        let mut two = connect(&victim, inbound, &server_name, Version::Http2).await;
        [
            passed(&mut plain, "/", 10, &forged).await,
            passed(&mut again, "/", 10, &[]).await,
            passed(&mut other, "/", 10, &forged).await,
            passed(&mut one, "/", 3, &[]).await,
            passed(&mut two, "/", 10, &[]).await,
        ]
    })
    .await;
    // Who proves nothing shares one limit; an identity has its own, of which nobody else has used anything, on all of its
    // connections together.
    assert_eq!(counts, [5, 0, 5, 3, 2]);
}

#[tokio::test]
async fn who_is_refused_is_told_what_and_when_in_the_way_of_its_protocol() {
    let policy = "  healthCheck: {http: {path: /healthz}}\n  rateLimits:\n  - {name: few, requests: 2, per: 1h}\n  - {name: \
                  watched, requests: 1, per: 1h, mode: shadow}\n";
    let sidecars = Sidecars::start(1, policy).await;
    let mut caller = sidecars.caller("a", 0, Version::Http1).await;
    assert_eq!(passed(&mut caller, "/", 5, &[]).await, 2);
    let refused = send(&mut caller, "/", &[]).await;
    assert_eq!((refused.status, refused.header("x-mesh-error")), (429, "rate_limited"));
    let seconds = |name| refused.header(name).parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number"));
    assert!((1_770..=1_800).contains(&seconds("retry-after")), "{}", seconds("retry-after"));
    assert!((3_570..=3_600).contains(&seconds("x-ratelimit-reset")), "{}", seconds("x-ratelimit-reset"));
    assert_eq!((refused.header("x-ratelimit-limit"), refused.header("x-ratelimit-remaining")), ("2", "0"));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let problem: serde_json::Value = serde_json::from_slice(&refused.body).expect("a problem");
    assert_eq!((&problem["status"], &problem["outcome"]), (&429.into(), &"rate_limited".into()));
    assert_eq!(problem["detail"], "limit few of b.demo, 2 requests in 3600 s, is used up");
    let mut grpc = sidecars.caller("a", 0, Version::Http2).await;
    let mut call = request(Method::POST, HOST, "/shop.Cart/Get", &[("content-type", "application/grpc")], full(""));
    call.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
    let answer = grpc.send(call).await.expect("an answer");
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "8"), "RESOURCE_EXHAUSTED");
    assert_eq!(answer.header("x-mesh-error"), "rate_limited");
    // Health checks come before every limit.
    assert_eq!(send(&mut caller, "/healthz", &[]).await.status, 200);
    let metrics = sidecars.pod(0).metrics().await;
    let decided = |limit, decision| {
        metrics
            .sum("mesh_rate_limit_decisions_total", &[("service", "b.demo"), ("limit", limit), ("decision", decision)])
    };
    assert_eq!((decided("few", "allowed"), decided("few", "used")), (2.0, 5.0));
    assert_eq!((decided("watched/shadow", "allowed"), decided("watched/shadow", "shadowed")), (1.0, 1.0));
    assert_eq!(metrics.sum("mesh_requests_total", &[("outcome", "rate_limited")]), 5.0);
}

#[tokio::test]
async fn flood_of_invented_keys_stays_bounded() {
    /// More than are held of keys that callers make up.
    const KEYS: usize = 24_000;
    /// What that many entries take at most, bytes.
    const ROOM: f64 = 32.0 * 1_024.0 * 1_024.0;
    let policy = "  rateLimits:\n  - {name: user, key: [\"header:x-user\"], requests: 5, per: 1h}\n  - {name: each, key: \
                  [identity], requests: 7, per: 1h, matches: [{path: {value: /own}}]}\n";
    let sidecars = Sidecars::start(1, policy).await;
    let mut victim = sidecars.caller("victim", 0, Version::Http1).await;
    assert_eq!(passed(&mut victim, "/own", 9, &[("x-user", "victim")]).await, 5);
    let memory = || async { sidecars.pod(0).metrics().await.sum("process_resident_memory_bytes", &[]) };
    let before = memory().await;
    let flooder = peer(&sidecars.mesh, "flooder");
    let flood = async |part: usize| {
        let mut connection = sidecars.through(&flooder, 0, Version::Http2).await;
        for number in 0..KEYS / 8 {
            let user = format!("invented-{part}-{number}");
            let answer = send(&mut connection, "/", &[("x-user", user.as_str())]).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    join_all((0..8).map(flood)).await;
    let more = memory().await - before;
    assert!(more < ROOM, "{more} bytes more");
    let metrics = sidecars.pod(0).metrics().await;
    let forgotten = metrics.sum("mesh_rate_limit_keys_forgotten_total", &[]);
    println!("{more} bytes more, {forgotten} keys forgotten");
    assert!(forgotten > 0.0, "there were more than are held");
    assert_eq!(
        passed(&mut victim, "/own", 3, &[("x-user", "victim")]).await,
        0,
        "what is used up is not forgotten for them"
    );
    assert_eq!(passed(&mut victim, "/own", 9, &[("x-user", "victim-2")]).await, 2, "nor what its identity has used");
}
