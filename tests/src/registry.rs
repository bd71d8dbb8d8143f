//! Real registries for tests: rnacos and Nacos's Java server as processes of their own, on loopback addresses.
//!
//! Start with [`Registry::start`], or [`Registry::shared`] where a test only adds services of its own. Other people's
//! clients are in [`open_api`] (plain HTTP) and [`sdk`] (the official Python SDK); [`secured`] puts TLS in front.
//! A server ends with its [`Registry`], also when the test is killed; what a killed test left on disk the next removes.

pub mod open_api;
pub mod ports;
pub mod replay;
pub mod sdk;
pub mod secured;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{net::TcpStream, sync::OnceCell, time::timeout};

use crate::{
    addresses::Block,
    process::{Process, Spec},
    programs,
    registry::{open_api::OpenApi, ports::Ports},
    wait::until,
};

/// How long a server may take to become ready: the Java one needs some 10 s of a core, which other tests want too.
const READY: Duration = Duration::from_secs(120);
/// How long until a user that was just made is known to the Java server, which looks every 15 s.
const KNOWN: Duration = Duration::from_secs(60);
/// How long until rnacos has handed a document to the system; it does so within a second.
const WRITTEN: Duration = Duration::from_secs(30);
/// How long rnacos may take to write down its member; if it does at all, it does at once.
const NOTED: Duration = Duration::from_secs(1);
/// How many servers are started to find one that did. About every third does not where the machine is busy.
const LASTING_TRIES: usize = 20;
/// Where rnacos says whether it leads its cluster.
const RNACOS_STATE: &str = "/nacos/v1/raft/metrics";
/// First letters of the folders of the servers; the test's process id follows.
const FOLDER: &str = "lanemesh-registry-";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// rnacos 0.8.8: ready at once, small, and not Nacos in all it does.
    Rnacos,
    /// Nacos 3.1 in Java: the judge.
    Nacos31,
}

/// What a server that starts again finds on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// What it left.
    Kept,
    /// Nothing.
    Empty,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name of the user.
    pub user: String,
    /// Password.
    pub password: String,
}

/// A running registry.
pub struct Registry {
    /// Which one it is.
    pub server: Server,
    /// Whom it lets in; `None`: everybody.
    pub login: Option<Login>,
    process: Process,
    ports: Ports,
    block: Block,
    folder: Folder,
}

impl Registry {
    /// Starts a server that lets in everybody and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(server: Server) -> Registry {
        Registry::begin(server, None).await
    }

    /// As [`Registry::start`], for one user only. The user of the Java server is always `nacos`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with_login(server: Server, password: &str) -> Registry {
        let login = Login { user: "nacos".to_owned(), password: password.to_owned() };
        let registry = Registry::begin(server, Some(login)).await;
        registry.make_user().await;
        registry
    }

    /// The server of this kind that all tests of this process have in common, started by the first that asks. A test uses
    /// names of its own there, and neither kills nor freezes it.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn shared(server: Server) -> &'static Registry {
        static RNACOS: OnceCell<Registry> = OnceCell::const_new();
        static NACOS31: OnceCell<Registry> = OnceCell::const_new();
        let cell = match server {
            Server::Rnacos => &RNACOS,
            Server::Nacos31 => &NACOS31,
        };
        cell.get_or_init(|| Registry::start(server)).await
    }

    async fn begin(server: Server, login: Option<Login>) -> Registry {
        let (ports, block, folder) = (Ports::reserve(), Block::reserve(), Folder::make());
        let spec = match server {
            Server::Rnacos => rnacos(block.address(1), &ports, &folder.data(), login.as_ref()),
            Server::Nacos31 => nacos(block.address(1), &ports, &folder.data(), login.as_ref()),
        };
        let process = spec.start(&folder.path);
        let registry = Registry { server, login, process, ports, block, folder };
        registry.ready().await;
        registry
    }

    /// Where its HTTP API listens; gRPC is 1,000 ports higher.
    pub fn address(&self) -> SocketAddr {
        (self.block.address(1), self.ports.http()).into()
    }

    /// Where its gRPC API listens.
    pub fn grpc_address(&self) -> SocketAddr {
        (self.block.address(1), self.ports.grpc()).into()
    }

    /// Plain HTTP of an ordinary client, logged in where the server wants that.
    ///
    /// # Panics
    /// When the server does not let its own user in.
    pub async fn open_api(&self) -> OpenApi {
        match &self.login {
            None => OpenApi::anonymous(self.address()),
            Some(login) => OpenApi::login(self.address(), login).await.expect("the server knows its user"),
        }
    }

    /// Everything that it has said.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Resident memory, KiB.
    pub fn resident(&self) -> u64 {
        self.process.resident()
    }

    /// As [`Registry::start`], of a server that takes writes again when it is killed and finds what it left. rnacos
    /// sometimes never writes down that it is the member of its own cluster; one that did not is replaced.
    ///
    /// # Panics
    /// When none does.
    pub async fn start_lasting(server: Server) -> Registry {
        for _ in 0..LASTING_TRIES {
            let registry = Registry::start(server).await;
            let (index, member) =
                (registry.folder.data().join("index"), format!(":{}", registry.grpc_address().port()));
            let noted = || std::future::ready(contains(&index, &member).then_some(()));
            let lasts = match server {
                Server::Nacos31 => true,
                Server::Rnacos => timeout(NOTED, until("rnacos's member", READY, noted)).await.is_ok(),
            };
            if lasts {
                return registry;
            }
        }
        panic!("{server:?} does not write down its own member in {LASTING_TRIES} starts");
    }

    /// Waits until a document with this text is in its files: rnacos answers before it has handed its log to the system,
    /// and what a kill finds in between is lost. The Java server commits first.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn written(&self, text: &str) {
        match self.server {
            Server::Rnacos => {}
            Server::Nacos31 => return,
        }
        let data = self.folder.data();
        until("document in the server's files", WRITTEN, || std::future::ready(holds(&data, text).then_some(()))).await;
    }

    /// `SIGKILL`; returns when it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it once more, killed or not, with what it left or with nothing, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_again(&mut self, data: Data) {
        self.process.kill();
        match data {
            Data::Kept => {}
            Data::Empty => self.folder.empty(),
        }
        self.process.start_again();
        self.ready().await;
        if data == Data::Empty && self.login.is_some() {
            self.make_user().await;
        }
    }

    /// Stops it without an end (`SIGSTOP`): connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on after [`Registry::freeze`].
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    async fn ready(&self) {
        let path = match (self.server, &self.login) {
            // Not `/health`, which says yes before there is a leader that takes writes.
            (Server::Rnacos, None) => RNACOS_STATE,
            (Server::Rnacos, Some(_)) => "/health",
            (Server::Nacos31, _) => "/nacos/v3/admin/core/state/readiness",
        };
        let what = format!("{:?} ready", self.server);
        let anybody = OpenApi::anonymous(self.address());
        until(&what, READY, || async {
            assert!(!self.process.has_ended(), "{:?} ended: {}", self.server, self.process.log());
            let answer = anybody.get(path).await.ok()?;
            TcpStream::connect(self.grpc_address()).await.ok()?;
            let leads = path != RNACOS_STATE || answer.text().contains("\"state\":\"Leader\"");
            (answer.status == 200 && leads).then_some(())
        })
        .await;
    }

    /// Makes the user where the server does not by itself, and waits until it is known.
    async fn make_user(&self) {
        let Some(login) = &self.login else { return };
        let anybody = OpenApi::anonymous(self.address());
        if self.server == Server::Nacos31 {
            let made = anybody.make_administrator(&login.password).await;
            made.expect("the first user of an empty server can be made");
        }
        until("user of the registry known", KNOWN, || async {
            OpenApi::login(self.address(), login).await.ok()?;
            Some(())
        })
        .await;
    }
}

/// How rnacos starts. By default an instance's metadata is pinned for ever at its first registration, and the console's
/// port is outside of what is reserved.
fn rnacos(address: Ipv4Addr, ports: &Ports, data: &Path, login: Option<&Login>) -> Spec {
    let mut spec = Spec::new("rnacos", programs::rnacos())
        .in_directory(data)
        .env("RNACOS_DATA_DIR", data)
        .env("RNACOS_SDK_HOST", address.to_string())
        .env("RNACOS_CONSOLE_HOST", address.to_string())
        .env("RNACOS_HTTP_PORT", ports.http().to_string())
        .env("RNACOS_GRPC_PORT", ports.grpc().to_string())
        .env("RNACOS_HTTP_CONSOLE_PORT", ports.console().to_string())
        .env("RNACOS_RAFT_NODE_ADDR", format!("{address}:{}", ports.grpc()))
        .env("RNACOS_HTTP_WORKERS", "1")
        .env("RNACOS_NAMING_INSTANCE_METADATA_PERSISTENCE_ENABLE", "false")
        .env("RNACOS_ENABLE_OPEN_API_AUTH", login.is_some().to_string())
        .env("RUST_LOG", "warn");
    if let Some(login) = login {
        spec = spec.env("RNACOS_INIT_ADMIN_USERNAME", &login.user).env("RNACOS_INIT_ADMIN_PASSWORD", &login.password);
    }
    spec
}

/// How Nacos starts; what all servers of the tests have in common is in its `application.properties`. Its gRPC ports listen
/// on every interface, which cannot be told otherwise.
fn nacos(address: Ipv4Addr, ports: &Ports, data: &Path, login: Option<&Login>) -> Spec {
    let property = |name: &str, value: &str| format!("-D{name}={value}");
    let home = data.display().to_string();
    let protected = login.is_some().to_string();
    Spec::new("nacos", programs::system("java"))
        .in_directory(data)
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(property("nacos.standalone", "true"))
        .arg(property("nacos.home", &home))
        .arg(property("user.home", &home))
        .arg(property("server.address", &address.to_string()))
        .arg(property("nacos.server.ip", &address.to_string()))
        .arg(property("nacos.server.main.port", &ports.http().to_string()))
        .arg(property("nacos.core.auth.enabled", &protected))
        .arg(property("nacos.core.auth.admin.enabled", &protected))
        .arg(property("nacos.core.auth.console.enabled", &protected))
        .arg("-jar")
        .arg(programs::nacos_server())
}

/// Folder of one server: its log, and `data` that it writes.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let own = format!("{FOLDER}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder { path: std::env::temp_dir().join(own) };
        std::fs::create_dir_all(folder.data()).expect("the folder for temporary files is writable");
        folder
    }

    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    fn empty(&self) {
        std::fs::remove_dir_all(self.data()).expect("own folder");
        std::fs::create_dir(self.data()).expect("own folder");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is removed by the next test.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Whether some file in this folder, or in one below it, holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| match entry.path() {
        below if below.is_dir() => holds(&below, text),
        file => contains(&file, text),
    })
}

fn contains(file: &Path, text: &str) -> bool {
    std::fs::read(file).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// Removes the folders of tests that no longer run.
fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().into_string().unwrap_or_default();
        let owner = name.strip_prefix(FOLDER).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another test may be sweeping too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
