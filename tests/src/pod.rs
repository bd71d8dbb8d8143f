//! A pod of a test mesh: an address, an application that the test starts, and a sidecar.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    client::{self, Version},
    metrics::Metrics,
    process::{Process, Spec},
    programs,
    wait::{PATIENCE, until},
};

/// Port on which applications of pods listen, unless a pod says otherwise.
pub const APPLICATION_PORT: u16 = 8080;
/// Port of services, so that `http://b/` reaches one, unless a pod says otherwise.
pub const SERVICE_PORT: u16 = 80;
/// Trust domain of test meshes.
pub const TRUST_DOMAIN: &str = "mesh.test";
/// Namespace of pods that name none.
pub const NAMESPACE: &str = "demo";

/// Distance of the last octet of an application that listens elsewhere.
const ELSEWHERE: u8 = 100;

/// A pod to be started.
#[derive(Clone, Debug)]
pub struct PodSpec {
    pub(crate) name: String,
    pub(crate) service: Option<String>,
    pub(crate) account: String,
    pub(crate) port: u16,
    pub(crate) service_port: u16,
    pub(crate) protocol: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) zone: Option<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) gateway: bool,
    pub(crate) meshed: Meshed,
    pub(crate) elsewhere: bool,
    pub(crate) under: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meshed {
    Sidecar,
    /// Registered as having a sidecar, which the test plays itself.
    Fake,
    Plain,
}

impl PodSpec {
    /// A pod that is an instance of no service; its account has its name.
    pub fn new(name: &str) -> PodSpec {
        PodSpec {
            name: name.to_owned(),
            service: None,
            account: name.to_owned(),
            port: APPLICATION_PORT,
            service_port: SERVICE_PORT,
            protocol: None,
            labels: Vec::new(),
            zone: None,
            environment: Vec::new(),
            gateway: false,
            meshed: Meshed::Sidecar,
            elsewhere: false,
            under: Vec::new(),
        }
    }

    /// An instance of this service.
    pub fn of(mut self, service: &str) -> PodSpec {
        self.service = Some(service.to_owned());
        self
    }

    /// Runs as this service account.
    pub fn account(mut self, account: &str) -> PodSpec {
        self.account = account.to_owned();
        self
    }

    /// Its application listens on this port, which is the service's too.
    pub fn port(mut self, port: u16) -> PodSpec {
        self.port = port;
        self.service_port = port;
        self
    }

    /// Protocol of the port as written in the service list; default `detect`.
    pub fn protocol(mut self, protocol: &str) -> PodSpec {
        self.protocol = Some(protocol.to_owned());
        self
    }

    /// A label of the instance.
    pub fn label(mut self, key: &str, value: &str) -> PodSpec {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Zone in which it is.
    pub fn zone(mut self, zone: &str) -> PodSpec {
        self.zone = Some(zone.to_owned());
        self
    }

    /// Its proxy is a gateway: what comes to its outbound address is from outside.
    pub fn gateway(mut self) -> PodSpec {
        self.gateway = true;
        self
    }

    /// A setting of its sidecar; `{address}` in it is the pod's.
    pub fn setting(mut self, name: &str, value: impl Into<String>) -> PodSpec {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Its sidecar runs under a program of the system, a profiler for example: its name, and its own arguments.
    pub fn under(mut self, words: &[String]) -> PodSpec {
        self.under = words.to_vec();
        self
    }

    /// Its application listens on another address than the one that callers know, so that a forwarder can stand there.
    pub fn application_elsewhere(mut self) -> PodSpec {
        self.elsewhere = true;
        self
    }

    /// No sidecar, and registered without one.
    pub fn plain(mut self) -> PodSpec {
        self.meshed = Meshed::Plain;
        self
    }

    /// Registered as having a sidecar, but none is started: the test plays it.
    pub fn fake_sidecar(mut self) -> PodSpec {
        self.meshed = Meshed::Fake;
        self
    }
}

/// A running pod.
pub struct Pod {
    pub(crate) spec: PodSpec,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network namespace; `None` on loopback.
    pub namespace: Option<String>,
    /// Its sidecar; `None` where the test plays it or there is none.
    pub sidecar: Option<Process>,
}

impl Pod {
    /// Where its application must listen.
    pub fn application(&self) -> SocketAddr {
        let [a, b, c, last] = self.address.octets();
        let last = if self.spec.elsewhere { last + ELSEWHERE } else { last };
        (Ipv4Addr::new(a, b, c, last), self.spec.port).into()
    }

    /// Where callers find it: what the controller knows.
    pub fn registered(&self) -> SocketAddr {
        (self.address, self.spec.port).into()
    }

    /// Where its application sends its calls, unless they are captured.
    pub fn outbound(&self) -> SocketAddr {
        let address = if self.namespace.is_some() { Ipv4Addr::LOCALHOST } else { self.address };
        (address, 4140).into()
    }

    /// Where peers reach it.
    pub fn inbound(&self) -> SocketAddr {
        (self.address, 4143).into()
    }

    /// Admin port of its sidecar.
    pub fn admin(&self) -> SocketAddr {
        (self.address, 4191).into()
    }

    /// Name by which peers ask for it in TLS.
    pub fn server_name(&self) -> String {
        crate::peer::dns_name(TRUST_DOMAIN, NAMESPACE, &self.spec.account)
    }

    /// The sidecar's process.
    ///
    /// # Panics
    /// When the pod has none.
    pub fn proxy(&mut self) -> &mut Process {
        self.sidecar.as_mut().expect("the pod has a sidecar")
    }

    /// Log of the sidecar.
    pub fn log(&self) -> String {
        self.sidecar.as_ref().map(Process::log).unwrap_or_default()
    }

    /// A program to be run beside the pod's application.
    pub fn program(&self, name: &str, program: impl Into<std::path::PathBuf>) -> Spec {
        let spec = Spec::new(format!("{}-{name}", self.spec.name), program);
        match &self.namespace {
            Some(namespace) => spec.in_namespace(namespace),
            None => spec,
        }
    }

    /// Whether something listens on this TCP port in the pod's namespace; asks no one, so that nothing is disturbed.
    pub fn listens(&self, port: u16) -> bool {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = std::process::Command::new(programs::system("ip"));
                command.args(["netns", "exec", namespace, "ss"]);
                command
            }
            None => std::process::Command::new(programs::system("ss")),
        };
        command.args(["--no-header", "--listening", "--tcp", "--numeric", &format!("sport = :{port}")]);
        command.output().is_ok_and(|output| !output.stdout.is_empty())
    }

    /// A page of the admin port: status and text.
    ///
    /// # Errors
    /// When nothing answers.
    pub async fn fetch(&self, path: &str) -> anyhow::Result<(u16, String)> {
        fetch(self.namespace.as_deref(), self.admin(), path).await
    }

    /// Waits until the sidecar is ready.
    pub async fn ready(&self) {
        let what = format!("sidecar of {} ready", self.spec.name);
        until(&what, PATIENCE, || async {
            assert!(!self.sidecar.as_ref().is_some_and(Process::has_ended), "the sidecar of {} ended", self.spec.name);
            let (status, _) = self.fetch("/ready").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// What the sidecar counts.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn metrics(&self) -> Metrics {
        let (status, text) = self.fetch("/metrics").await.expect("the sidecar answers /metrics");
        assert_eq!(status, 200, "/metrics of {}: {text}", self.spec.name);
        Metrics::parse(&text)
    }
}

/// A page over HTTP/1.1, from inside a network namespace where one is named.
///
/// # Errors
/// When nothing answers.
pub async fn fetch(namespace: Option<&str>, to: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let Some(namespace) = namespace else {
        let answer = client::get(to, Version::Http1, &to.to_string(), path, &[]).await?;
        return Ok((answer.status, answer.text()));
    };
    let output = tokio::process::Command::new(programs::system("ip"))
        .args(["netns", "exec", namespace, "curl", "--silent", "--max-time", "5", "--write-out", "\n%{http_code}"])
        .arg(format!("http://{to}{path}"))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), output).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').context("curl printed no status")?;
    let status = status.trim().parse().context("status")?;
    anyhow::ensure!(status != 0, "nothing answers at {to}");
    Ok((status, body.to_owned()))
}
