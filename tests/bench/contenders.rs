//! Those who are compared: how each is started, on which address it takes requests, and what is like and unlike.

pub(crate) mod bare;
pub(crate) mod envoy;
pub(crate) mod lanemesh;
pub(crate) mod nginx;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use mesh_tests::{
    mesh::Mesh,
    process::{Process, Spec},
    programs,
};

use crate::measure::{Measured, Memory, PROXY_CORE};

/// How long a process may take until it listens.
const START_WAIT: Duration = Duration::from_secs(20);
/// How long a process may take to end after SIGTERM until it is killed.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// How often a start or an end is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// One way from the load to the application.
pub(crate) struct Contender {
    /// Name in tables and results.
    pub(crate) name: &'static str,
    /// Where requests enter.
    pub(crate) address: SocketAddr,
    /// Host header by which the contender knows the application.
    pub(crate) authority: String,
    /// Labels of lanes that its requests carry in turn; the empty one is none.
    pub(crate) labels: &'static [&'static str],
    proxies: Vec<Measured>,
    _alive: Alive,
}

/// What must live as long as the contender.
enum Alive {
    Programs { _running: Vec<Running> },
    Mesh { _mesh: Box<Mesh> },
}

impl Contender {
    /// Other people's proxies, first hop first.
    fn programs(name: &'static str, address: SocketAddr, running: Vec<Running>) -> Self {
        let proxies = running.iter().map(|running| Measured::new(&running.0)).collect();
        let authority = "application.bench".to_owned();
        Contender { name, address, authority, labels: &[], proxies, _alive: Alive::Programs { _running: running } }
    }

    /// CPU time of all proxies on the way.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.proxies.iter().map(Measured::cpu).sum()
    }

    /// Memory of each proxy on the way.
    pub(crate) fn memory(&self) -> anyhow::Result<Vec<Memory>> {
        self.proxies.iter().map(Measured::memory).collect()
    }
}

/// A proxy that listens. Ended by SIGTERM, so that nginx ends its worker too.
struct Running(Process);

impl Running {
    /// Starts `program` on the proxies' core and waits until it listens on `address`.
    ///
    /// # Errors
    /// When it ends or does not listen in time; quotes its log.
    fn start(
        place: &Place,
        name: &str,
        program: &Path,
        arguments: &[&str],
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let spec = Spec::new(name, programs::system("taskset")).args(["-c", PROXY_CORE]).arg(program);
        let mut running = Running(spec.args(arguments.iter().copied()).start(&place.folder));
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if !running.0.is_running() || begin.elapsed() > START_WAIT {
                bail!("{name} does not listen; its log:\n{}", running.0.log());
            }
            thread::sleep(LOOK);
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.signal("TERM");
        }
        let begin = Instant::now();
        while self.0.is_running() && begin.elapsed() < STOP_WAIT {
            thread::sleep(LOOK);
        }
    }
}

/// What starting a contender needs.
pub(crate) struct Place {
    /// Folder of this run: configurations, logs, certificates.
    pub(crate) folder: PathBuf,
    /// The Envoy binary, if it was named.
    pub(crate) envoy: Option<PathBuf>,
    /// The application.
    pub(crate) application: SocketAddr,
}

impl Place {
    /// Writes a file into the folder of this run and returns its path as text.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
        Ok(text_of(&path))
    }

    /// Path of a file in the folder of this run, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        text_of(&self.folder.join(name))
    }
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// A loopback address nobody listens on at the moment.
///
/// # Errors
/// When no port is free.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?)
}
