//! Providers of language models: `examples/models/provider.py` as a process, told by a test what goes wrong.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{self, Connection, Version},
    process::{Process, Spec},
    programs,
    wait::{PATIENCE, until},
};

/// A provider to be stood in for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name, for the stand-in's orders.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose wire format it speaks: `openai`, `anthropic`, `gemini`, `azure`, `dashscope`, `vllm` or `any`.
    pub provider: String,
    /// Key that it wants; empty = none.
    pub key: String,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Target {
    /// A target that wants the key `key-of-<name>`.
    pub fn new(name: &str, provider: &str, address: SocketAddr) -> Target {
        let key = format!("key-of-{name}");
        Target { name: name.to_owned(), address, provider: provider.to_owned(), key, tls: false }
    }

    /// It wants no key.
    pub fn open(mut self) -> Target {
        self.key = String::new();
        self
    }

    /// It speaks TLS, with the certificate given to [`StandIn::start_with_tls`].
    pub fn tls(mut self) -> Target {
        self.tls = true;
        self
    }

    fn argument(&self) -> String {
        let Target { name, address, provider, key, .. } = self;
        let tls = if self.tls { ",tls" } else { "" };
        format!("{name}={address},provider={provider},key={key}{tls}")
    }
}

/// What one request cost.
#[derive(Clone, Debug, Deserialize)]
pub struct Bill {
    /// Number of the request in the process.
    pub id: u64,
    /// Who served it.
    pub target: String,
    /// `chat`, `responses`, `completions`, `embeddings`, `messages`, `gemini`…
    pub api: String,
    /// Model that was asked for.
    pub model: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Tokens of the prompt; 0 where nothing is billed.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// `running`, `finished`, `refused`, `broken` (by its behaviour) or `gone` (the client closed).
    pub outcome: String,
    /// The client closed before the end.
    pub cancelled: bool,
    /// Milliseconds of the machine's monotonic clock.
    pub started_ms: f64,
    /// As above.
    pub ended_ms: Option<f64>,
    /// When it was noticed that the client had gone.
    pub gone_ms: Option<f64>,
}

/// A request as it was received.
#[derive(Clone, Debug, Deserialize)]
pub struct Received {
    /// Number of the request in the process.
    pub id: u64,
    /// Who received it.
    pub target: String,
    /// Number of the connection in the process.
    pub connection: u64,
    /// Method.
    pub method: String,
    /// Path, without query.
    pub path: String,
    /// Names in lower case, values.
    pub headers: Vec<(String, String)>,
    /// The body, unless it is longer than 16 KiB.
    pub body: Option<String>,
    /// Bytes of the body.
    pub body_length: u64,
    /// Of the body, in hexadecimal digits.
    pub body_sha256: String,
    /// `name` that was asked for and `version`; null without TLS.
    pub tls: Value,
}

impl Received {
    /// First value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none, or too long to have been kept.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.body.as_deref().expect("the body was kept")).expect("the body is JSON")
    }
}

/// A running stand-in.
pub struct StandIn {
    targets: Vec<Target>,
    process: Process,
    _folder: TempDir,
}

impl StandIn {
    /// Starts it and waits until all targets listen.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(targets: Vec<Target>) -> StandIn {
        StandIn::begin(targets, None).await
    }

    /// As [`StandIn::start`], with a certificate and its key (PEM files) for targets that speak TLS.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with_tls(targets: Vec<Target>, certificate: &Path, key: &Path) -> StandIn {
        StandIn::begin(targets, Some((certificate, key))).await
    }

    async fn begin(targets: Vec<Target>, tls: Option<(&Path, &Path)>) -> StandIn {
        let folder = TempDir::with_prefix("lanemesh-stand-in-").expect("a temporary folder");
        let mut spec = Spec::new("stand-in", programs::system("python3")).arg("-B").arg(program());
        for target in &targets {
            spec = spec.arg("--listen").arg(target.argument());
        }
        if let Some((certificate, key)) = tls {
            spec = spec.arg("--tls").arg(certificate).arg(key);
        }
        let process = spec.start(folder.path());
        until("the stand-in listens", PATIENCE, || async {
            assert!(!process.has_ended(), "the stand-in ended: {}", process.log());
            process.log().lines().any(|line| line == "ready").then_some(())
        })
        .await;
        StandIn { targets, process, _folder: folder }
    }

    /// The target of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn target(&self, name: &str) -> &Target {
        self.targets.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
    }

    /// Where a target is: `http://ip:port` or `https://ip:port`.
    pub fn url(&self, name: &str) -> String {
        let target = self.target(name);
        format!("{}://{}", if target.tls { "https" } else { "http" }, target.address)
    }

    /// What a target (`*`: all) does from now on; an empty object is an ordinary answer.
    pub async fn behave(&self, target: &str, behaviour: Value) {
        self.order("behave", json!({"target": target, "standing": behaviour})).await;
    }

    /// What a target does with its next requests, one each.
    pub async fn next(&self, target: &str, behaviours: &[Value]) {
        self.order("behave", json!({"target": target, "next": behaviours})).await;
    }

    /// A target refuses connections from now on, and cuts those that are open.
    pub async fn refuse_connections(&self, target: &str) {
        self.order("reach", json!({"target": target, "as": "refused"})).await;
    }

    /// A target answers no connection any more, as if packets to it were lost.
    pub async fn swallow_connections(&self, target: &str) {
        self.order("reach", json!({"target": target, "as": "black_hole"})).await;
    }

    /// A target takes connections again.
    pub async fn take_connections(&self, target: &str) {
        self.order("reach", json!({"target": target, "as": "open"})).await;
    }

    /// Forgets bills and received requests.
    pub async fn forget(&self) {
        self.order("forget", json!({})).await;
    }

    /// Milliseconds of the machine's monotonic clock, by which bills tell times.
    ///
    /// # Panics
    /// When it does not say.
    pub async fn now_ms(&self) -> f64 {
        self.page("billed?target=nobody").await["now_ms"].as_f64().expect("a time")
    }

    /// What each request cost so far, in the order of their arrival.
    pub async fn bills(&self) -> Vec<Bill> {
        read(&self.page("billed").await, "billed")
    }

    /// As [`StandIn::bills`], once no request is under way.
    ///
    /// # Panics
    /// When one does not end in time.
    pub async fn settled(&self) -> Vec<Bill> {
        until("no request under way at the stand-in", PATIENCE, || async {
            let bills = self.bills().await;
            bills.iter().all(|bill| bill.outcome != "running").then_some(bills)
        })
        .await
    }

    /// Tokens of prompts and answers of these bills.
    pub fn sum<'a>(bills: impl IntoIterator<Item = &'a Bill>) -> (u64, u64) {
        bills.into_iter().fold((0, 0), |(input, output), bill| (input + bill.input, output + bill.output))
    }

    /// Requests that were received, in order.
    pub async fn seen(&self) -> Vec<Received> {
        read(&self.page("seen").await, "seen")
    }

    /// Requests that a target received, in order.
    pub async fn seen_by(&self, target: &str) -> Vec<Received> {
        self.seen().await.into_iter().filter(|request| request.target == target).collect()
    }

    async fn page(&self, page: &str) -> Value {
        self.ask(Method::GET, page, Value::Null).await
    }

    async fn order(&self, what: &str, order: Value) {
        self.ask(Method::POST, what, order).await;
    }

    /// Asks whichever target listens: each takes the orders of all.
    async fn ask(&self, method: Method, what: &str, order: Value) -> Value {
        for target in self.targets.iter().filter(|target| !target.tls) {
            let connection = Connection::open(target.address, Version::Http1);
            let Ok(Ok(mut connection)) = tokio::time::timeout(crate::wait::PATIENCE / 60, connection).await else {
                continue;
            };
            let host = target.address.to_string();
            let body = client::full(if order.is_null() { String::new() } else { order.to_string() });
            let request = client::request(method, &host, &format!("/stand-in/{what}"), &[], body);
            let answer = connection.send(request).await.expect("the stand-in answers its orders");
            assert_eq!(answer.status, 200, "{what} {order}: {}", answer.text());
            return serde_json::from_slice(&answer.body).expect("the stand-in answers with JSON");
        }
        panic!("no target takes orders; one without TLS that is reachable must: {}", self.process.log());
    }
}

fn read<T: serde::de::DeserializeOwned>(page: &Value, name: &str) -> T {
    serde_json::from_value(page[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}: {page}"))
}

/// The stand-in's program, which the example of model routes has too.
pub fn program() -> PathBuf {
    programs::repository().join("examples/models/provider.py")
}
