//! Clients made with Nacos's official Python SDK: `tests/apps/nacos/client.py` as a process that a test tells what to do.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{Process, Spec},
    programs,
    registry::{
        Login, Registry,
        open_api::{Listed, Registration},
    },
    wait::until,
};

/// How long the SDK may take for one order, its start on a busy machine included; ten thousand services take half of it.
const LIMIT: Duration = Duration::from_secs(90);

/// A running client. What it registered stays while it runs: a client that is dropped or killed loses its connection.
pub struct Sdk {
    process: Process,
    answered: usize,
    _folder: TempDir,
}

impl Sdk {
    /// A client of this registry in namespace `public`.
    pub fn start(registry: &Registry) -> Sdk {
        Sdk::at(registry.address(), "public", registry.login.as_ref())
    }

    /// A client of whatever listens at `server`.
    pub fn at(server: SocketAddr, namespace: &str, login: Option<&Login>) -> Sdk {
        let folder = TempDir::with_prefix("lanemesh-sdk-").expect("a temporary folder");
        let mut spec = python("client.py", server, namespace, folder.path().to_owned()).with_input();
        if let Some(login) = login {
            spec = spec.args(["--user", &login.user, "--password", &login.password]);
        }
        Sdk { process: spec.start(folder.path()), answered: 0, _folder: folder }
    }

    /// Registers, or changes what is registered; the server counts on this client's connection.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn register(&mut self, instance: &Registration) {
        let mut order = order("register", instance);
        order["weight"] = json!(instance.weight);
        order["enabled"] = json!(instance.enabled);
        order["metadata"] = json!(instance.metadata);
        self.done(order).await;
    }

    /// Deregisters.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn deregister(&mut self, instance: &Registration) {
        self.done(order("deregister", instance)).await;
    }

    /// Registers many services at once, `<prefix><number>` in group `DEFAULT_GROUP`, each with as many instances.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn fill(&mut self, prefix: &str, services: usize, instances: usize) {
        self.done(json!({"do": "fill", "prefix": prefix, "services": services, "instances": instances})).await;
    }

    /// Subscribes to a service in group `DEFAULT_GROUP`; [`Sdk::pushed`] tells what comes.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn subscribe(&mut self, service: &str) {
        self.done(json!({"do": "subscribe", "service": service})).await;
    }

    /// What the server pushed last of a service; nothing before the first push.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn pushed(&mut self, service: &str) -> Vec<Listed> {
        let answer = self.ask(json!({"do": "pushed", "service": service})).await;
        serde_json::from_value(answer["ok"].clone())
            .unwrap_or_else(|error| panic!("pushed {service}: {error}: {answer}"))
    }

    /// Publishes a document of the configuration.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn publish(&mut self, group: &str, document: &str, content: &str) {
        self.done(json!({"do": "publish", "group": group, "document": document, "content": content})).await;
    }

    /// A document of the configuration; the SDK says the empty text where there is none.
    ///
    /// # Panics
    /// When the SDK reports an error.
    pub async fn document(&mut self, group: &str, document: &str) -> String {
        let read = self.ask(json!({"do": "read", "group": group, "document": document})).await;
        read["ok"].as_str().unwrap_or_else(|| panic!("read {document}: {read}")).to_owned()
    }

    /// Any order that `client.py` knows; its answer.
    ///
    /// # Panics
    /// When no answer comes in time.
    pub async fn ask(&mut self, order: Value) -> Value {
        self.process.say(&order.to_string());
        let process = &self.process;
        let answered = self.answered;
        let line = until(&format!("answer of the SDK to {order}"), LIMIT, || async {
            assert!(!process.has_ended(), "the SDK ended: {}", process.log());
            let log = process.log();
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            whole.lines().filter(|line| line.starts_with('{')).nth(answered).map(ToOwned::to_owned)
        })
        .await;
        self.answered += 1;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    async fn done(&mut self, order: Value) {
        let answer = self.ask(order.clone()).await;
        assert_eq!(answer["ok"], json!(true), "{order}: {answer}");
    }

    /// `SIGKILL`: the server notices by the connection.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it without an end: its connection stays open.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }
}

fn order(what: &str, instance: &Registration) -> Value {
    json!({
        "do": what,
        "service": instance.service,
        "group": instance.group,
        "ip": instance.address.ip().to_string(),
        "port": instance.address.port(),
        "cluster": instance.cluster,
        "ephemeral": instance.ephemeral,
    })
}

/// A program of `tests/apps/nacos` with the options that all of them take. The SDK writes logs and a cache there.
pub fn python(program: &str, server: SocketAddr, namespace: &str, folder: PathBuf) -> Spec {
    Spec::new(program.trim_end_matches(".py"), programs::nacos_python())
        .arg(programs::app("nacos").join(program))
        .args(["--server", &server.to_string(), "--namespace", namespace])
        .arg("--folder")
        .arg(folder)
}
