//! Network namespaces of a test: one for each pod, joined by a bridge in a namespace of its own, so that nothing of the
//! host's network is touched. Names carry the test's process id; what a killed test left is removed by the next.

use std::{
    fs::File,
    future::Future,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::programs;

/// First letters of every namespace of the tests.
const PREFIX: &str = "lmt";
/// The network of a test: addresses are `10.99.0.<n>`, the bridge is 1.
const NETWORK: [u8; 3] = [10, 99, 0];

/// A bridge and the namespaces joined to it; removed when dropped.
pub struct Network {
    prefix: String,
    spaces: Vec<String>,
}

impl Network {
    /// Makes the bridge.
    ///
    /// # Panics
    /// Without root, or when the kernel refuses.
    pub fn new() -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let prefix = name(&COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        let network = Network { spaces: vec![format!("{prefix}-hub")], prefix };
        let hub = network.hub().to_owned();
        ip(&["netns", "add", &hub]);
        inside(&hub, &["link", "set", "lo", "up"]);
        inside(&hub, &["link", "add", "br0", "type", "bridge"]);
        inside(&hub, &["addr", "add", &format!("{}/24", address(1)), "dev", "br0"]);
        inside(&hub, &["link", "set", "br0", "up"]);
        network
    }

    /// Namespace of the bridge, where the controller runs.
    pub fn hub(&self) -> &str {
        &self.spaces[0]
    }

    /// Address of the hub.
    pub fn hub_address(&self) -> Ipv4Addr {
        address(1)
    }

    /// A namespace with this last octet of its address, joined to the bridge.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn join(&mut self, last: u8) -> (String, Ipv4Addr) {
        let space = format!("{}-{last}", self.prefix);
        let hub = self.hub().to_owned();
        let link = format!("veth{last}");
        ip(&["netns", "add", &space]);
        self.spaces.push(space.clone());
        inside(&hub, &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space]);
        inside(&hub, &["link", "set", &link, "master", "br0", "up"]);
        inside(&space, &["addr", "add", &format!("{}/24", address(last)), "dev", "eth0"]);
        inside(&space, &["link", "set", "eth0", "up"]);
        inside(&space, &["link", "set", "lo", "up"]);
        inside(&space, &["route", "add", "default", "via", &address(1).to_string()]);
        (space, address(last))
    }
}

impl Default for Network {
    fn default() -> Self {
        Network::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.spaces.iter().for_each(|space| remove(space));
    }
}

/// Work of the test in a network namespace: a thread and runtime of its own, all of whose sockets are there. Ends when
/// dropped.
pub struct Inside {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// Runs `work` in the namespace `space` until it ends by itself or this is dropped.
    ///
    /// # Panics
    /// In the thread, without root or where there is no such namespace.
    pub fn run<W, F>(space: &str, work: W) -> Inside
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let place = format!("/run/netns/{space}");
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let file = File::open(&place).unwrap_or_else(|error| panic!("{place}: {error}"));
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = work() => (),
                    // An error says the same: nobody wants it any more.
                    _ = stopped => (),
                }
            });
        });
        Inside { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // It may have ended by itself; what it panicked with stands in the test's output.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Name for a namespace of this test run. One that a test makes by itself is swept as those of a [`Network`] are.
pub fn name(within: &str) -> String {
    format!("{PREFIX}{}-{within}", std::process::id())
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(NETWORK[0], NETWORK[1], NETWORK[2], last)
}

/// Removes what tests left that no longer run.
fn sweep() {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}

fn remove(space: &str) {
    // It may be gone already; the next test sweeps what stays.
    let _ = Command::new(programs::system("ip")).args(["netns", "delete", space]).output();
}

fn inside(space: &str, arguments: &[&str]) {
    ip(&[&["-netns", space], arguments].concat());
}

fn ip(arguments: &[&str]) {
    let done = Command::new(programs::system("ip")).args(arguments).output().expect("ip can be run");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "ip {}: {said} (network namespaces need root)", arguments.join(" "));
}
