//! A mesh of real processes: a controller with the file source and its own CA, and pods, each an address with a sidecar.
//! Pods are loopback addresses, or network namespaces with transparent capture ([`Builder::captured`]). Applications are
//! started by the test, on [`Mesh::application`].
//!
//! Everything ends with the [`Mesh`], also when the test is killed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use http::Method;
use tempfile::TempDir;

use crate::{
    addresses::Block,
    client::{self, Answer, Connection, Version},
    netns::Network,
    peer::Authority,
    pod::{self, Meshed, NAMESPACE, Pod, PodSpec, TRUST_DOMAIN},
    process::{Process, Spec},
    programs, raw,
    wait::{PATIENCE, until, until_true},
};

/// User as whom captured sidecars run: its own traffic is not captured.
const PROXY_USER: u32 = 2_102;

/// Where pods live.
enum Place {
    Loopback(Block),
    Namespaces(Network),
}

impl Place {
    fn pod(&mut self, last: u8) -> (Option<String>, Ipv4Addr) {
        match self {
            Place::Loopback(block) => (None, block.address(last)),
            Place::Namespaces(network) => {
                let (space, address) = network.join(last);
                (Some(space), address)
            }
        }
    }

    fn controller(&self) -> (Option<&str>, Ipv4Addr, Ipv4Addr) {
        match self {
            Place::Loopback(block) => (None, block.address(1), block.address(1)),
            Place::Namespaces(network) => (Some(network.hub()), network.hub_address(), Ipv4Addr::LOCALHOST),
        }
    }
}

/// A mesh to be started.
pub struct Builder {
    pods: Vec<PodSpec>,
    resources: Vec<String>,
    state: Vec<(String, String)>,
    controller: Vec<String>,
    captured: bool,
    held: Option<Block>,
}

impl Builder {
    /// Keeps a block of addresses that the test needed before the mesh; see [`Mesh::held`].
    pub fn hold(mut self, block: Block) -> Builder {
        self.held = Some(block);
        self
    }

    /// One network namespace per pod, and capture by `mesh-proxy redirect`. Needs root.
    pub fn captured(mut self) -> Builder {
        self.captured = true;
        self
    }

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

    /// An authority of the test's own: the controller signs with `own.pem` and `own.key` of its state directory.
    pub fn authority(self, authority: &Authority) -> Builder {
        self.state("own.pem", &authority.certificate)
            .state("own.key", &authority.key)
            .state("trust-bundle.pem", &authority.certificate)
            .controller_argument("--issuer-certificate={state}/own.pem")
            .controller_argument("--issuer-key={state}/own.key")
            .controller_argument("--trust-bundle={state}/trust-bundle.pem")
    }

    /// The controller reads registries by these settings, a YAML document as docs/nacos.md has it.
    pub fn nacos(self, settings: &str) -> Builder {
        self.state("nacos.yaml", settings).controller_argument("--nacos={state}/nacos.yaml")
    }

    /// A further argument of the controller; `{state}` in it is its state directory.
    pub fn controller_argument(mut self, argument: &str) -> Builder {
        self.controller.push(argument.to_owned());
        self
    }

    /// Starts everything and waits until it is ready.
    ///
    /// # Panics
    /// When a part does not become ready.
    pub async fn start(self) -> Mesh {
        let mut place =
            if self.captured { Place::Namespaces(Network::new()) } else { Place::Loopback(Block::reserve()) };
        let folder = make_folder();
        for (file, text) in &self.state {
            write_private(&folder.path().join("state").join(file), text);
        }
        let mut pods = BTreeMap::new();
        for (last, spec) in (2u8..).zip(self.pods) {
            let (namespace, address) = place.pod(last);
            pods.insert(spec.name.clone(), Pod { address, namespace, spec, sidecar: None });
        }
        let source = folder.path().join("source");
        std::fs::write(source.join("services.yaml"), service_list(&pods)).expect("the source folder is writable");
        if !self.resources.is_empty() {
            std::fs::write(source.join("resources.yaml"), self.resources.join("\n---\n")).expect("writable");
        }
        let controller = controller_spec(&place, folder.path(), &self.controller);
        let controller = controller.start(&folder.path().join("logs"));
        let mut mesh = Mesh { pods, controller, place, held: self.held, folder };
        mesh.controller_ready().await;
        mesh.start_sidecars().await;
        mesh
    }
}

/// A temporary folder that the user of captured sidecars can read.
fn make_folder() -> TempDir {
    let folder = TempDir::with_prefix("lanemesh-test-").expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("own folder");
    for place in ["state", "source", "logs"] {
        std::fs::create_dir(folder.path().join(place)).expect("a folder in the temporary folder");
    }
    folder
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the temporary folder is writable");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("own file");
}

fn controller_spec(place: &Place, folder: &Path, arguments: &[String]) -> Spec {
    let (namespace, address, admin) = place.controller();
    let state = folder.join("state");
    let argument = |argument: &String| argument.replace("{state}", &state.display().to_string());
    let spec = Spec::new("controller", programs::ours("mesh-controller"))
        .arg("--file")
        .arg(folder.join("source"))
        .arg("--state-directory")
        .arg(&state)
        .args(["--listen".to_owned(), format!("{address}:8086"), "--admin".to_owned(), format!("{admin}:8084")])
        .args(["--trust-domain", TRUST_DOMAIN])
        .args(arguments.iter().map(argument));
    match namespace {
        Some(namespace) => spec.in_namespace(namespace),
        None => spec,
    }
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
        let port = first.service_port;
        let ports = format!("  ports: [{{port: {port}, protocol: {protocol}}}]\n");
        let _ = write!(yaml, "- name: {service}\n  namespace: {NAMESPACE}\n{ports}  endpoints:\n");
        for pod in members {
            yaml.push_str(&endpoint(pod));
        }
    }
    yaml
}

fn endpoint(pod: &Pod) -> String {
    let PodSpec { name, port, service_port, .. } = &pod.spec;
    let mut yaml = format!("  - address: {}:{port}\n    port: {service_port}\n    pod: {name}\n", pod.address);
    if pod.spec.meshed != Meshed::Plain {
        let _ = writeln!(yaml, "    identity: {{serviceAccount: {}}}", pod.spec.account);
    }
    if let Some(zone) = &pod.spec.zone {
        let _ = writeln!(yaml, "    zone: {zone}");
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
    place: Place,
    held: Option<Block>,
    folder: TempDir,
}

impl Mesh {
    /// A mesh without pods yet.
    pub fn builder() -> Builder {
        Builder {
            pods: Vec::new(),
            resources: Vec::new(),
            state: Vec::new(),
            controller: Vec::new(),
            captured: false,
            held: None,
        }
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

    /// An address for anything else of the test on loopback; `last` from 200 to 250.
    ///
    /// # Panics
    /// Where pods are namespaces.
    pub fn address(&self, last: u8) -> IpAddr {
        match &self.place {
            Place::Loopback(block) => block.address(last).into(),
            Place::Namespaces(_) => panic!("this mesh has no loopback addresses"),
        }
    }

    /// First address of the block given to [`Builder::hold`].
    ///
    /// # Panics
    /// When none was given.
    pub fn held(&self) -> IpAddr {
        self.held.as_ref().expect("the test held a block").address(1).into()
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
        (self.place.controller().1, 8086).into()
    }

    /// Admin address of the controller.
    pub fn controller_admin(&self) -> SocketAddr {
        (self.place.controller().2, 8084).into()
    }

    /// The CA of this mesh.
    pub fn authority(&self) -> Authority {
        Authority::of_controller(&self.state())
    }

    /// Waits until the controller is ready.
    pub async fn controller_ready(&self) {
        until("controller ready", PATIENCE, || async {
            assert!(!self.controller.has_ended(), "the controller ended");
            let (status, _) = self.controller_page("/ready").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// A page of the controller's admin port: status and text.
    ///
    /// # Errors
    /// When nothing answers.
    pub async fn controller_page(&self, path: &str) -> anyhow::Result<(u16, String)> {
        pod::fetch(self.place.controller().0, self.controller_admin(), path).await
    }

    async fn start_sidecars(&mut self) {
        let mut specs = Vec::new();
        for (name, pod) in self.pods.iter().filter(|(_, pod)| pod.spec.meshed == Meshed::Sidecar) {
            specs.push((name.clone(), self.sidecar_spec(pod).await));
        }
        let logs = self.logs();
        for (name, spec) in specs {
            self.capture(self.pod(&name)).await;
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
        let mut spec = Spec::new(format!("sidecar-{name}"), self.proxy_program())
            .env("LANEMESH_NAMESPACE", NAMESPACE)
            .env("LANEMESH_POD", name)
            .env("LANEMESH_SERVICE_ACCOUNT", &pod.spec.account)
            .env("LANEMESH_TRUST_DOMAIN", TRUST_DOMAIN)
            .env("LANEMESH_CONTROLLER_ADDRESS", self.controller_address().to_string())
            .env("LANEMESH_TRUST_BUNDLE_FILE", self.state().join("trust-bundle.pem"))
            .env("LANEMESH_TOKEN_FILE", &token)
            .env("LANEMESH_STATE_DIRECTORY", &state);
        match &pod.namespace {
            Some(namespace) => {
                let bundle = state.join("trust-bundle.pem");
                std::fs::copy(self.state().join("trust-bundle.pem"), &bundle).expect("the controller wrote it");
                for file in [&state, &token, &bundle] {
                    std::os::unix::fs::chown(file, Some(PROXY_USER), Some(PROXY_USER)).expect("root may");
                }
                spec = spec.env("LANEMESH_TRUST_BUNDLE_FILE", bundle).in_namespace(namespace).as_user(PROXY_USER);
            }
            None => {
                spec = spec
                    .env("LANEMESH_OUTBOUND_LISTEN", pod.outbound().to_string())
                    .env("LANEMESH_INBOUND_LISTEN", pod.inbound().to_string())
                    .env("LANEMESH_ADMIN_LISTEN", pod.admin().to_string())
                    .env("LANEMESH_APPLICATION_ADDRESS", pod.application().ip().to_string());
            }
        }
        for (name, value) in &pod.spec.environment {
            spec = spec.env(name.clone(), value.replace("{address}", &pod.address.to_string()));
        }
        spec.args(pod.spec.gateway.then_some("--role=gateway")).under(&pod.spec.under)
    }

    /// Has the connections of a pod captured, as an init container does it.
    async fn capture(&self, pod: &Pod) {
        if pod.namespace.is_none() {
            return;
        }
        let redirect = pod.program("redirect", self.proxy_program()).args(["redirect", "--proxy-uid"]);
        let finished = redirect.arg(PROXY_USER.to_string()).run(&self.logs(), PATIENCE).await;
        assert!(finished.status.success(), "mesh-proxy redirect: {}", finished.output);
    }

    /// The proxy where its own user can run it: the folder of the build may be closed to others.
    fn proxy_program(&self) -> PathBuf {
        let program = programs::ours("mesh-proxy");
        let copy = self.folder.path().join("mesh-proxy");
        if !copy.exists() && std::fs::hard_link(&program, &copy).is_err() {
            std::fs::copy(&program, &copy).expect("the temporary folder is writable");
        }
        copy
    }

    /// A token for a workload of this mesh.
    ///
    /// # Panics
    /// When `mesh-ctl token create` fails.
    pub async fn token(&self, namespace: &str, account: &str) -> String {
        let folder = TempDir::new().expect("a temporary folder");
        let finished = self
            .ctl(["token", "create", "--namespace", namespace, "--service-account", account, "--state-directory"])
            .arg(self.state())
            .run(folder.path(), PATIENCE)
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
        let (_, text) = self.controller_page(path).await?;
        serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
    }

    /// Replaces a file of the controller's state directory at once (atomic rename).
    pub fn write_state(&self, file: &str, text: &str) {
        let temporary = self.folder.path().join(format!(".{file}.new"));
        write_private(&temporary, text);
        std::fs::rename(&temporary, self.state().join(file)).expect("the same file system");
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
