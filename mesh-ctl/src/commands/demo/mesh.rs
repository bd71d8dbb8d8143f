//! A running demo: its files, its processes, and what can be done to them.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use http::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use super::{
    guard::{Start, Stop},
    leftovers::{self, Block, make_folder},
    namespaces,
    processes::{Processes, tail},
    programs::Programs,
    topology::{self, NAMESPACE, PORT, Place, Pod, Topology},
};
use crate::{
    cluster,
    commands::{files::File, token},
};

/// User and group of the proxies in namespaces; the one whose connections are not captured.
pub(crate) const PROXY_USER: u32 = 2_102;
/// User and group of the applications in namespaces (nobody).
const APPLICATION_USER: u32 = 65_534;
/// What a proxy is told of the time between the order to stop and its end: as long as the guard waits.
const PROXY_GRACE: &str = "3s";
/// Longest wait for a process to become ready.
const READY_WAIT: Duration = Duration::from_secs(20);
/// Time between two looks at a readiness port.
const READY_LOOK: Duration = Duration::from_millis(20);
/// Longest wait for the answer of one look.
const LOOK_WAIT: Duration = Duration::from_secs(2);
/// Life of the demo's tokens; a demo that runs longer renews its certificates with the same.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Name of the controller among the demo's processes.
pub(crate) const CONTROLLER: &str = "controller";

/// What the file source has besides the services.
pub(crate) enum Resources {
    /// The demo's lane group with its lane.
    OfDemo,
    /// These files.
    Given(Vec<File>),
}

/// Whether the gateway takes labels of lanes that come from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    Believed,
    Strangers,
}

/// A running demo.
pub(crate) struct Mesh {
    /// Names and addresses.
    pub(crate) topology: Topology,
    /// Everything that runs.
    pub(crate) processes: Processes,
    /// Services whose applications somebody else starts.
    pub(crate) without_application: Vec<&'static str>,
    /// Settings of Nacos servers that the controller reads.
    pub(crate) nacos: Option<PathBuf>,
    programs: Programs,
    block: Block,
    outside: Outside,
}

impl Mesh {
    /// Starts the guard; nothing else runs yet.
    ///
    /// # Errors
    /// When files cannot be written or the guard does not start.
    pub(crate) fn new(
        topology: Topology,
        resources: &Resources,
        block: Block,
        programs: &Programs,
    ) -> anyhow::Result<Mesh> {
        let programs = match topology.place {
            Place::Loopback => programs.clone(),
            Place::Namespaces => programs.copy_to(&block.folder)?,
        };
        for folder in ["source", "controller", "logs"] {
            make_folder(&block.folder.join(folder), 0o700)?;
        }
        write_source(&block.folder, "services.yaml", &topology.services())?;
        let outside = match resources {
            Resources::OfDemo => {
                write_source(&block.folder, "lanes.yaml", &topology::lanes())?;
                Outside::Believed
            }
            Resources::Given(files) => {
                for (number, file) in files.iter().enumerate() {
                    write_source(&block.folder, &format!("given-{number:03}.yaml"), &file.text)?;
                }
                Outside::Strangers
            }
        };
        let processes = Processes::new(&block)?;
        Ok(Mesh { topology, processes, without_application: Vec::new(), nacos: None, programs, block, outside })
    }

    /// Starts controller, proxies and applications, and waits until each is ready.
    ///
    /// # Errors
    /// Names what is not ready, with the end of its log.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        self.start_controller().await?;
        let pods = Arc::clone(&self.topology.pods);
        for pod in pods.iter() {
            self.start_proxy(pod).await?;
            self.start_application(pod).await?;
        }
        for pod in pods.iter() {
            self.proxy_ready(pod).await?;
        }
        Ok(())
    }

    /// Makes the pods' network namespaces, with their capture rules, and moves into the host's.
    ///
    /// # Errors
    /// Names the command that failed.
    pub(crate) async fn make_namespaces(&mut self) -> anyhow::Result<()> {
        namespaces::make(&self.topology, &mut self.processes).await?;
        namespaces::capture(&self.topology, &self.programs).await
    }

    /// Starts the controller and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) async fn start_controller(&mut self) -> anyhow::Result<()> {
        let folder = &self.block.folder;
        let mut arguments = vec![
            "--file".to_owned(),
            text(&folder.join("source"))?,
            "--state-directory".to_owned(),
            text(&folder.join("controller"))?,
            "--listen".to_owned(),
            self.topology.controller().to_string(),
            "--admin".to_owned(),
            self.topology.console().to_string(),
        ];
        if let Some(nacos) = &self.nacos {
            let settings = std::path::absolute(nacos).context("cannot find the current folder")?;
            arguments.extend(["--nacos".to_owned(), text(&settings)?]);
        }
        let start = self.process(CONTROLLER, "host", None, &self.programs.controller, arguments, BTreeMap::new())?;
        self.processes.start(start).await?;
        self.ready(CONTROLLER, self.topology.console()).await
    }

    /// Starts the proxy of a pod; does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn start_proxy(&mut self, pod: &Pod) -> anyhow::Result<()> {
        let environment = self.proxy_environment(pod)?;
        let role = if pod.has_application() { "sidecar" } else { "gateway" };
        let arguments = vec!["--role".to_owned(), role.to_owned()];
        let program = &self.programs.proxy;
        let start = self.process(&pod.proxy(), &pod.name, Some(PROXY_USER), program, arguments, environment)?;
        self.processes.start(start).await
    }

    /// Waits until the proxy of a pod is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) async fn proxy_ready(&mut self, pod: &Pod) -> anyhow::Result<()> {
        self.ready(&pod.proxy(), self.topology.admin(pod)).await
    }

    async fn start_application(&mut self, pod: &Pod) -> anyhow::Result<()> {
        if !pod.has_application() || self.without_application.contains(&pod.service) {
            return Ok(());
        }
        let mut arguments = vec![
            "--listen".to_owned(),
            self.topology.application(pod).to_string(),
            "--name".to_owned(),
            pod.service.to_owned(),
            "--version".to_owned(),
            pod.version.clone(),
        ];
        if let Some(next) = pod.next {
            arguments.extend(["--next".to_owned(), format!("http://{next}:{}/", PORT)]);
            arguments.extend(["--via".to_owned(), self.next_hop(pod, next).to_string()]);
        }
        let program = &self.programs.application;
        let user = Some(APPLICATION_USER);
        let start = self.process(&pod.application(), &pod.name, user, program, arguments, BTreeMap::new())?;
        self.processes.start(start).await
    }

    /// Where an application connects to for the next service: the outbound listener, or where capture takes over, the
    /// address of the service.
    fn next_hop(&self, pod: &Pod, next: &str) -> SocketAddr {
        match self.topology.place {
            Place::Loopback => self.topology.outbound(pod),
            Place::Namespaces => self.topology.service(next),
        }
    }

    fn proxy_environment(&self, pod: &Pod) -> anyhow::Result<BTreeMap<String, String>> {
        let state = self.block.folder.join(format!("proxy-{}", pod.name));
        let controller = self.block.folder.join("controller");
        make_folder(&state, 0o700)?;
        let token = state.join("token");
        let bundle = state.join("trust-bundle.pem");
        if !token.exists() {
            let signed = token::sign(&controller, NAMESPACE, pod.service, TOKEN_LIFE)?;
            write_private(&token, signed.as_bytes())?;
            fs::copy(controller.join("trust-bundle.pem"), &bundle)
                .context("cannot copy the controller's trust bundle")?;
        }
        if self.topology.place == Place::Namespaces {
            for path in [&state, &token, &bundle] {
                chown(path, Some(PROXY_USER), Some(PROXY_USER)).context("cannot give a file to the proxy's user")?;
            }
        }
        let topology = &self.topology;
        let mut environment = BTreeMap::from([
            ("LANEMESH_TERMINATION_GRACE", PROXY_GRACE.to_owned()),
            ("LANEMESH_NAMESPACE", NAMESPACE.to_owned()),
            ("LANEMESH_POD", pod.name.clone()),
            ("LANEMESH_SERVICE_ACCOUNT", pod.service.to_owned()),
            ("LANEMESH_CONTROLLER_ADDRESS", topology.controller().to_string()),
            ("LANEMESH_TRUST_BUNDLE_FILE", text(&bundle)?),
            ("LANEMESH_TOKEN_FILE", text(&token)?),
            ("LANEMESH_STATE_DIRECTORY", text(&state)?),
            ("LANEMESH_OUTBOUND_LISTEN", topology.outbound(pod).to_string()),
            ("LANEMESH_INBOUND_LISTEN", topology.inbound(pod).to_string()),
            ("LANEMESH_ADMIN_LISTEN", topology.admin(pod).to_string()),
        ]);
        if topology.place == Place::Loopback {
            environment.insert("LANEMESH_APPLICATION_ADDRESS", topology.address(pod).to_string());
        }
        if !pod.has_application() && self.outside == Outside::Believed {
            // The demo's own client is the outside here; a gateway to the world would not believe it.
            environment.insert("LANEMESH_OUTSIDE_LANES", "trust".to_owned());
        }
        Ok(environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn process(
        &self,
        name: &str,
        pod: &str,
        user: Option<u32>,
        program: &Path,
        arguments: Vec<String>,
        mut environment: BTreeMap<String, String>,
    ) -> anyhow::Result<Start> {
        let log = self.log(name);
        for passed_on in ["PATH", "TMPDIR"] {
            if let Ok(value) = std::env::var(passed_on) {
                environment.insert(passed_on.to_owned(), value);
            }
        }
        let start = match self.topology.place {
            Place::Loopback => {
                Start { name: name.to_owned(), program: program.to_owned(), arguments, environment, log }
            }
            Place::Namespaces => {
                let namespace = leftovers::namespace(self.block.number, pod);
                let mut words = vec!["netns".to_owned(), "exec".to_owned(), namespace];
                if let Some(user) = user {
                    words.extend(["setpriv", "--clear-groups", "--no-new-privs", "--reuid"].map(str::to_owned));
                    words.extend([user.to_string(), "--regid".to_owned(), user.to_string()]);
                }
                words.push(text(program)?);
                words.extend(arguments);
                Start { name: name.to_owned(), program: "ip".into(), arguments: words, environment, log }
            }
        };
        Ok(start)
    }

    async fn ready(&mut self, name: &str, admin: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WAIT;
        let mut last = "no answer yet".to_owned();
        while Instant::now() < deadline {
            if let Some(how) = self.processes.fallen().get(name) {
                bail!("{name} ended ({how}); the end of its log:\n{}", tail(&self.log(name)));
            }
            match timeout(LOOK_WAIT, cluster::admin(admin, "/ready")).await {
                Ok(Ok(answer)) if answer.status == StatusCode::OK => return Ok(()),
                Ok(Ok(answer)) => last = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body).trim()),
                Ok(Err(error)) => last = format!("{error:#}"),
                Err(_) => last = "no answer in time".to_owned(),
            }
            tokio::select! {
                () = sleep(READY_LOOK) => {}
                gone = self.processes.watch() => gone?,
            }
        }
        let seconds = READY_WAIT.as_secs();
        bail!("{name} is not ready after {seconds} s ({last}); the end of its log:\n{}", tail(&self.log(name)))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.block.folder.join(format!("logs/{name}.log"))
    }

    /// Trust bundle of the demo's CA, PEM.
    pub(crate) fn trust_bundle(&self) -> PathBuf {
        self.block.folder.join("controller/trust-bundle.pem")
    }

    /// Ends everything in order: the gateway, the other proxies, applications, the controller. Gives what is still there.
    ///
    /// # Errors
    /// When something does not end.
    pub(crate) async fn stop(mut self, keep: Option<&Path>) -> anyhow::Result<Vec<String>> {
        let pods = Arc::clone(&self.topology.pods);
        let (gateway, others) = pods.split_at(1);
        let proxies = |pods: &[Pod]| pods.iter().map(Pod::proxy).collect::<Vec<_>>();
        let applications: Vec<String> = others.iter().map(Pod::application).collect();
        let controller = vec![CONTROLLER.to_owned()];
        for names in [proxies(gateway), proxies(others), applications, controller] {
            self.processes.stop(&names, Stop::Terminate).await?;
        }
        self.abandon(keep).await
    }

    /// Ends everything at once, whatever state it is in. Gives what is still there.
    ///
    /// # Errors
    /// When the guard does not end.
    pub(crate) async fn abandon(self, keep: Option<&Path>) -> anyhow::Result<Vec<String>> {
        self.processes.end().await?;
        let left = leftovers::remaining(&self.block.record, self.block.number)?;
        if let Some(keep) = keep {
            copy_readable(&self.block.folder, keep)?;
        }
        leftovers::remove(&self.block).await?;
        Ok(left)
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

fn write_source(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let file = folder.join("source").join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(content));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Copies logs and the source; keys and tokens stay behind.
fn copy_readable(from: &Path, to: &Path) -> anyhow::Result<()> {
    for folder in ["logs", "source"] {
        let target = to.join(folder);
        fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        for entry in fs::read_dir(from.join(folder))? {
            let entry = entry?;
            let copy = target.join(entry.file_name());
            fs::copy(entry.path(), &copy).with_context(|| format!("cannot write {}", copy.display()))?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}
