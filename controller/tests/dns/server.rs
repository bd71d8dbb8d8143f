//! A Knot DNS server of one test: on a loopback port of its own, with the zone `example` and the zone `broken`, which has no
//! records until it is mended: until then the server fails for it.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use tempfile::TempDir;

/// A server with its folder.
pub(crate) struct NameServer {
    folder: TempDir,
    address: SocketAddr,
    process: Option<Child>,
    /// Kept open: a server whose log nobody takes would end.
    log: Option<BufReader<ChildStderr>>,
    serial: u32,
}

impl NameServer {
    /// Starts a server with these records (`<name> <ttl> <type> <data>`).
    pub(crate) fn start(records: &[&str]) -> NameServer {
        let folder = TempDir::new().expect("a folder for the server");
        let address = free_address();
        let place = folder.path().display();
        let zone = |name: &str| {
            format!("  - domain: {name}\n    file: {place}/{name}\n    zonefile-sync: -1\n    journal-content: none\n")
        };
        let listen = format!("{}@{}", address.ip(), address.port());
        let configuration = format!(
            "server:\n    rundir: {place}\n    listen: {listen}\nlog:\n  - target: stderr\n    any: info\n\
             database:\n    storage: {place}\nzone:\n{}{}",
            zone("example"),
            zone("broken"),
        );
        let mut server = NameServer { folder, address, process: None, log: None, serial: 0 };
        std::fs::write(server.path("conf"), configuration).expect("its configuration");
        server.write("example", records);
        server.start_again();
        server
    }

    /// Where it listens, over UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the records of `example`; returns when the server answers with them.
    pub(crate) fn change(&mut self, records: &[&str]) {
        self.write("example", records);
        self.reload("example");
    }

    /// Replaces the records of `example` for the next start.
    pub(crate) fn change_while_stopped(&mut self, records: &[&str]) {
        self.write("example", records);
    }

    /// Gives `broken` these records.
    pub(crate) fn mend(&mut self, records: &[&str]) {
        self.write("broken", records);
        self.reload("broken");
    }

    /// Ends the server at once.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the server is ours to end");
            process.wait().expect("it ends");
        }
    }

    /// Starts the server after [`NameServer::stop`]; returns when it answers.
    pub(crate) fn start_again(&mut self) {
        let mut process = Command::new("knotd")
            .arg("-c")
            .arg(self.path("conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("knotd is installed (tests/run installs it)");
        let mut log = BufReader::new(process.stderr.take().expect("its log"));
        let mut said = String::new();
        while log.read_line(&mut said).expect("its log is text") > 0 {
            if said.contains("control, binding to") {
                (self.process, self.log) = (Some(process), Some(log));
                return;
            }
        }
        let ended = process.wait();
        panic!("the server did not start ({ended:?}):\n{said}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, zone: &str, records: &[&str]) {
        self.serial += 1;
        let text = format!(
            "$ORIGIN {zone}.\n@ 1 SOA ns hostmaster {} 60 60 600 1\n@ 60 NS ns\nns 60 A 127.0.0.1\n{}\n",
            self.serial,
            records.join("\n"),
        );
        std::fs::write(self.path(zone), text).expect("a zone is written");
    }

    fn reload(&self, zone: &str) {
        let reloaded =
            Command::new("knotc").arg("-c").arg(self.path("conf")).args(["-b", "zone-reload", zone]).output();
        let reloaded = reloaded.expect("knotc is installed with knotd");
        assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nobody has, over UDP and TCP. The loopback address is this server's own: on `127.0.0.1` a connection of
/// anybody could take the port before the server does, and again while the server is stopped.
fn free_address() -> SocketAddr {
    static SERVERS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, high | 0x80, low, SERVERS.fetch_add(1, Ordering::Relaxed));
    let udp = UdpSocket::bind((address, 0)).expect("a free port");
    let found = udp.local_addr().expect("its number");
    TcpListener::bind(found).expect("the same port over TCP");
    found
}
