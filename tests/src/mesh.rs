//! A mesh of real processes on loopback addresses: a controller with the file source and its own CA, and pods, each an
//! address with a sidecar. Applications are started by the test, on [`Mesh::application`].
//!
//! Everything ends with the [`Mesh`], also when the test is killed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use http::Method;
use tempfile::TempDir;

use crate::{
    addresses::Block,
    client::{self, Answer, Connection, Version},
    metrics::Metrics,
    peer::Authority,
    process::{Process, Spec},
    programs, raw,
    wait::{PATIENCE, until, until_true},
};

/// Port on which applications of pods listen, unless a pod says otherwise.
pub const APPLICATION_PORT: u16 = 8080;
/// Trust domain of test meshes.
pub const TRUST_DOMAIN: &str = "mesh.test";
/// Namespace of pods that name none.
pub const NAMESPACE: &str = "demo";

/// A pod to be started.
#[derive(Clone, Debug)]
pub struct PodSpec {
    name: String,
    service: Option<String>,
    account: String,
    port: u16,
    protocol: Option<String>,
    labels: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    meshed: Meshed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meshed {
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
            protocol: None,
            labels: Vec::new(),
            environment: Vec::new(),
            meshed: Meshed::Sidecar,
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

    /// A setting of its sidecar.
    pub fn setting(mut self, name: &str, value: impl Into<String>) -> PodSpec {
        self.environment.push((name.to_owned(), value.into()));
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
    spec: PodSpec,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its sidecar; `None` where the test plays it or there is none.
    pub sidecar: Option<Process>,
}

impl Pod {
    /// Where its application must listen.
    pub fn application(&self) -> SocketAddr {
        (self.address, self.spec.port).into()
    }

    /// Where its application sends its calls.
    pub fn outbound(&self) -> SocketAddr {
        (self.address, 4140).into()
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

    /// Waits until the sidecar is ready.
    pub async fn ready(&self) {
        let admin = self.admin();
        let what = format!("sidecar of {} ready", self.spec.name);
        until(&what, PATIENCE, || async move {
            let answer = client::get(admin, Version::Http1, "admin", "/ready", &[]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// What the sidecar counts.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn metrics(&self) -> Metrics {
        let answer = client::get(self.admin(), Version::Http1, "admin", "/metrics", &[]).await;
        Metrics::parse(&answer.expect("the sidecar answers /metrics").text())
    }
}

/// A mesh to be started.
pub struct Builder {
    pods: Vec<PodSpec>,
    resources: Vec<String>,
    state: Vec<(String, String)>,
    controller: Vec<String>,
}

impl Builder {
    /// One more pod.
    pub fn pod(mut self, pod: PodSpec) -> Builder {
        self.pods.push(pod);
        self
    }

    /// Resources, as a YAML document.
    pub fn resource(mut self, yaml: &str) -> Builder {
        self.resources.push(yaml.to_owned());
        self
    }

    /// A file in the controller's state directory before it starts: an own CA.
    pub fn state(mut self, file: &str, text: &str) -> Builder {
        self.state.push((file.to_owned(), text.to_owned()));
        self
    }

    /// A further argument of the controller.
    pub fn controller_argument(mut self, argument: &str) -> Builder {
        self.controller.push(argument.to_owned());
        self
    }

    /// Starts everything and waits until it is ready.
    ///
    /// # Panics
    /// When a part does not become ready.
    pub async fn start(self) -> Mesh {
        let block = Block::reserve();
        let folder = TempDir::with_prefix("lanemesh-test-").expect("a temporary folder");
        for place in ["state", "source", "logs"] {
            std::fs::create_dir(folder.path().join(place)).expect("a folder in the temporary folder");
        }
        for (file, text) in &self.state {
            write_private(&folder.path().join("state").join(file), text);
        }
        let pods: BTreeMap<String, Pod> = (2u8..)
            .zip(self.pods)
            .map(|(last, spec)| (spec.name.clone(), Pod { address: block.address(last), spec, sidecar: None }))
            .collect();
        let controller = controller_spec(block.address(1), folder.path(), &self.controller);
        let source = folder.path().join("source");
        std::fs::write(source.join("services.yaml"), service_list(&pods)).expect("the source folder is writable");
        if !self.resources.is_empty() {
            std::fs::write(source.join("resources.yaml"), self.resources.join("\n---\n")).expect("writable");
        }
        let controller = controller.start(&folder.path().join("logs"));
        let mut mesh = Mesh { pods, controller, block, folder };
        mesh.controller_ready().await;
        mesh.start_sidecars().await;
        mesh
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("the temporary folder is writable");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("own file");
}

fn controller_spec(address: Ipv4Addr, folder: &Path, arguments: &[String]) -> Spec {
    Spec::new("controller", programs::ours("mesh-controller"))
        .arg("--file")
        .arg(folder.join("source"))
        .arg("--state-directory")
        .arg(folder.join("state"))
        .args(["--listen".to_owned(), format!("{address}:8086"), "--admin".to_owned(), format!("{address}:8084")])
        .args(["--trust-domain", TRUST_DOMAIN])
        .args(arguments.iter().cloned())
}

/// The service list of the file source.
fn service_list(pods: &BTreeMap<String, Pod>) -> String {
    let mut services: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in pods.values() {
        if let Some(service) = &pod.spec.service {
            services.entry(service).or_default().push(pod);
        }
    }
    let mut yaml = String::from("apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n");
    if services.is_empty() {
        yaml = yaml.replace("services:\n", "services: []\n");
    }
    for (service, members) in services {
        let first = &members[0].spec;
        let protocol = first.protocol.as_deref().unwrap_or("detect");
        let port = first.port;
        let ports = format!("  ports: [{{port: {port}, protocol: {protocol}}}]\n");
        let _ = write!(yaml, "- name: {service}\n  namespace: {NAMESPACE}\n{ports}  endpoints:\n");
        for pod in members {
            yaml.push_str(&endpoint(pod));
        }
    }
    yaml
}

fn endpoint(pod: &Pod) -> String {
    let mut yaml = format!("  - address: {}:{}\n    pod: {}\n", pod.address, pod.spec.port, pod.spec.name);
    if pod.spec.meshed != Meshed::Plain {
        let _ = writeln!(yaml, "    identity: {{serviceAccount: {}}}", pod.spec.account);
    }
    if !pod.spec.labels.is_empty() {
        let labels: Vec<String> = pod.spec.labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let _ = writeln!(yaml, "    labels: {{{}}}", labels.join(", "));
    }
    yaml
}

/// A running mesh.
pub struct Mesh {
    pods: BTreeMap<String, Pod>,
    /// The controller's process.
    pub controller: Process,
    block: Block,
    folder: TempDir,
}

impl Mesh {
    /// A mesh without pods yet.
    pub fn builder() -> Builder {
        Builder { pods: Vec::new(), resources: Vec::new(), state: Vec::new(), controller: Vec::new() }
    }

    /// The pod of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods.get(name).unwrap_or_else(|| panic!("the test has no pod {name}"))
    }

    /// As [`Mesh::pod`], to be changed.
    ///
    /// # Panics
    /// When there is none.
    pub fn pod_mut(&mut self, name: &str) -> &mut Pod {
        self.pods.get_mut(name).unwrap_or_else(|| panic!("the test has no pod {name}"))
    }

    /// Where the application of a pod must listen.
    pub fn application(&self, name: &str) -> SocketAddr {
        self.pod(name).application()
    }

    /// An address for anything else of the test; `last` from 200 to 250.
    pub fn address(&self, last: u8) -> IpAddr {
        self.block.address(last).into()
    }

    /// State directory of the controller.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Folder of the file source.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// State directory of a pod's sidecar.
    pub fn sidecar_state(&self, pod: &str) -> PathBuf {
        self.folder.path().join(format!("pod-{pod}"))
    }

    /// Folder of the logs.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// gRPC address of the controller.
    pub fn controller_address(&self) -> SocketAddr {
        (self.block.address(1), 8086).into()
    }

    /// Admin address of the controller.
    pub fn controller_admin(&self) -> SocketAddr {
        (self.block.address(1), 8084).into()
    }

    /// The CA of this mesh.
    pub fn authority(&self) -> Authority {
        Authority::of_controller(&self.state())
    }

    /// Waits until the controller is ready.
    pub async fn controller_ready(&self) {
        let admin = self.controller_admin();
        until("controller ready", PATIENCE, || async move {
            let answer = client::get(admin, Version::Http1, "admin", "/ready", &[]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    async fn start_sidecars(&mut self) {
        let mut specs = Vec::new();
        for (name, pod) in self.pods.iter().filter(|(_, pod)| pod.spec.meshed == Meshed::Sidecar) {
            specs.push((name.clone(), self.sidecar_spec(pod).await));
        }
        let logs = self.logs();
        for (name, spec) in specs {
            self.pod_mut(&name).sidecar = Some(spec.start(&logs));
        }
        for pod in self.pods.values().filter(|pod| pod.sidecar.is_some()) {
            pod.ready().await;
        }
    }

    async fn sidecar_spec(&self, pod: &Pod) -> Spec {
        let name = &pod.spec.name;
        let state = self.sidecar_state(name);
        std::fs::create_dir_all(&state).expect("a folder in the temporary folder");
        let token = state.join("token");
        write_private(&token, &self.token(NAMESPACE, &pod.spec.account).await);
        let mut spec = Spec::new(format!("sidecar-{name}"), programs::ours("mesh-proxy"))
            .env("LANEMESH_NAMESPACE", NAMESPACE)
            .env("LANEMESH_POD", name)
            .env("LANEMESH_SERVICE_ACCOUNT", &pod.spec.account)
            .env("LANEMESH_TRUST_DOMAIN", TRUST_DOMAIN)
            .env("LANEMESH_CONTROLLER_ADDRESS", self.controller_address().to_string())
            .env("LANEMESH_TRUST_BUNDLE_FILE", self.state().join("trust-bundle.pem"))
            .env("LANEMESH_TOKEN_FILE", token)
            .env("LANEMESH_STATE_DIRECTORY", &state)
            .env("LANEMESH_OUTBOUND_LISTEN", pod.outbound().to_string())
            .env("LANEMESH_INBOUND_LISTEN", pod.inbound().to_string())
            .env("LANEMESH_ADMIN_LISTEN", pod.admin().to_string())
            .env("LANEMESH_APPLICATION_ADDRESS", pod.address.to_string());
        for (name, value) in &pod.spec.environment {
            spec = spec.env(name.clone(), value.clone());
        }
        spec
    }

    /// A token for a workload of this mesh.
    ///
    /// # Panics
    /// When `mesh-ctl token create` fails.
    pub async fn token(&self, namespace: &str, account: &str) -> String {
        let finished = self
            .ctl(["token", "create", "--namespace", namespace, "--service-account", account, "--state-directory"])
            .arg(self.state())
            .run(&TempDir::new().expect("a temporary folder").keep(), PATIENCE)
            .await;
        assert!(finished.status.success(), "mesh-ctl token create: {}", finished.output);
        finished.output.trim().to_owned()
    }

    /// `mesh-ctl` with these arguments.
    pub fn ctl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Spec {
        Spec::new("mesh-ctl", programs::ours("mesh-ctl")).args(arguments)
    }

    /// A GET of the console API.
    ///
    /// # Errors
    /// When the controller does not answer with JSON.
    pub async fn console(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let answer = client::get(self.controller_admin(), Version::Http1, "admin", path, &[]).await?;
        serde_json::from_slice(&answer.body).with_context(|| format!("{path}: {}", answer.text()))
    }

    /// Puts a document into the folder of the file source at once (atomic rename).
    pub fn write_source(&self, file: &str, yaml: &str) {
        let temporary = self.folder.path().join(format!(".{file}.new"));
        std::fs::write(&temporary, yaml).expect("the temporary folder is writable");
        std::fs::rename(&temporary, self.source().join(file)).expect("the same file system");
    }

    /// A GET through a pod's sidecar.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn get(&self, from: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        client::get(self.pod(from).outbound(), Version::Http1, host, path, headers).await
    }

    /// An open connection of a pod's application to its sidecar.
    ///
    /// # Errors
    /// When the sidecar does not take it.
    pub async fn connection(&self, from: &str, version: Version) -> anyhow::Result<Connection> {
        Connection::open(self.pod(from).outbound(), version).await
    }

    /// Waits until a call succeeds: policy and endpoints are asked for on demand.
    pub async fn reachable(&self, from: &str, host: &str) {
        let what = format!("{host} answers {from}");
        until(&what, PATIENCE, || async {
            let request = client::request(Method::GET, host, "/", &[], client::full(""));
            let mut connection = self.connection(from, Version::Http1).await.ok()?;
            let answer = connection.send(request).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Raw bytes from a pod's application to its sidecar.
    pub async fn raw(&self, from: &str, bytes: &[u8], enough: impl Fn(&[u8]) -> bool) -> raw::Received {
        raw::exchange(self.pod(from).outbound(), bytes, raw::LISTEN, enough).await
    }

    /// Waits until the log of a pod's sidecar contains `text`.
    pub async fn logged(&self, pod: &str, text: &str) {
        let what = format!("{text:?} in the log of {pod}");
        until_true(&what, PATIENCE, || self.pod(pod).log().contains(text)).await;
    }
}
