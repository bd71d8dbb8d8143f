//! The capture rules at work in network namespaces of their own, with nftables and with iptables.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use mesh_tests::{netns, programs};

const PROXY_USER: &str = "2102";

/// Answers on every address given with the port it was reached at. Prints a line when it listens.
const SERVER: &str = "
import selectors, socket, sys
wait = selectors.DefaultSelector()
for address in sys.argv[1:]:
    host, port = address.rsplit(':', 1)
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family)
    wait.register(listener, selectors.EVENT_READ)
print('listening', flush=True)
while True:
    for key, _ in wait.select():
        connection, _ = key.fileobj.accept()
        connection.sendall(str(key.fileobj.getsockname()[1]).encode())
        connection.close()
";

/// Prints what a server answers. Everything is loaded before the user changes: python3 may be closed to others.
const CLIENT: &str = "
import encodings.idna, os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=5) as connection:
    print(connection.recv(16).decode())
";

/// Two namespaces joined by a cable; gone when dropped.
struct Pair {
    pod: String,
    peer: String,
    servers: Vec<Child>,
}

impl Pair {
    fn new(name: &str) -> Self {
        let [pod, peer] = ["pod", "peer"].map(|side| netns::name(&format!("{name}-{side}")));
        let pair = Pair { pod, peer, servers: Vec::new() };
        let (pod, peer) = (&pair.pod, &pair.peer);
        ip(&format!("netns add {pod}"));
        ip(&format!("netns add {peer}"));
        ip(&format!("-n {pod} link add eth0 type veth peer name eth0 netns {peer}"));
        for (namespace, last) in [(pod, 1), (peer, 2)] {
            ip(&format!("-n {namespace} address add 10.77.0.{last}/24 dev eth0"));
            ip(&format!("-n {namespace} address add fd77::{last}/64 dev eth0 nodad"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        pair
    }

    fn serve(&mut self, namespace: Namespace, addresses: &[&str]) {
        let mut command = self.inside(namespace, programs::system("python3"));
        let mut server =
            command.args(["-c", SERVER]).args(addresses).stdout(Stdio::piped()).spawn().expect("python3 can be run");
        let mut line = String::new();
        let output = server.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("the server prints a line");
        assert_eq!(line, "listening\n");
        self.servers.push(server);
    }

    fn inside(&self, namespace: Namespace, program: PathBuf) -> Command {
        let mut command = Command::new(programs::system("ip"));
        let name = match namespace {
            Namespace::Pod => &self.pod,
            Namespace::Peer => &self.peer,
        };
        command.args(["netns", "exec", name]).arg(program);
        command
    }

    /// Port of the listener that a connection reached; the error where none.
    fn reached(&self, from: Namespace, user: &str, host: &str, port: u16) -> String {
        let mut command = self.inside(from, programs::system("python3"));
        let output = command.args(["-c", CLIENT, user, host, &port.to_string()]).output().expect("python3 can be run");
        if output.status.success() {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        } else {
            String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned()
        }
    }

    fn redirect(&self, arguments: &[&str]) {
        let mut command = self.inside(Namespace::Pod, programs::ours("mesh-proxy"));
        let output = command.arg("redirect").args(arguments).output().expect("the proxy runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for namespace in [&self.pod, &self.peer] {
            let _ = Command::new(programs::system("ip")).args(["netns", "delete", namespace]).status();
        }
    }
}

#[derive(Clone, Copy)]
enum Namespace {
    Pod,
    Peer,
}

fn ip(arguments: &str) {
    let output = Command::new(programs::system("ip")).args(arguments.split(' ')).output().expect("ip can be run");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn connections_are_captured_as_the_rules_say(name: &str, tool: &str) {
    let mut pair = Pair::new(name);
    let own = ["127.0.0.1:4140", "::1:4140", "0.0.0.0:4143", ":::4143", "0.0.0.0:4191", "0.0.0.0:22", "0.0.0.0:80"];
    pair.serve(Namespace::Pod, &own.map(|address| address.replace(":::", "::0:")).each_ref().map(String::as_str));
    pair.serve(Namespace::Peer, &["10.77.0.2:80", "fd77::2:80", "10.77.0.2:5432", "10.77.0.2:81"]);
    let rules =
        ["--proxy-uid", PROXY_USER, "--skip-inbound-ports", "22", "--skip-outbound-ports", "5432", "--tool", tool];
    pair.redirect(&rules);
    pair.redirect(&rules);

    for (from, user, host, port, expected) in [
        (Namespace::Peer, "0", "10.77.0.1", 80, "4143"),
        (Namespace::Peer, "0", "fd77::1", 80, "4143"),
        (Namespace::Peer, "0", "10.77.0.1", 4143, "4143"),
        (Namespace::Peer, "0", "10.77.0.1", 4191, "4191"),
        (Namespace::Peer, "0", "10.77.0.1", 22, "22"),
        (Namespace::Pod, "1000", "10.77.0.2", 80, "4140"),
        (Namespace::Pod, "0", "fd77::2", 80, "4140"),
        (Namespace::Pod, "1000", "10.77.0.2", 5432, "5432"),
        (Namespace::Pod, PROXY_USER, "10.77.0.2", 80, "80"),
        (Namespace::Pod, PROXY_USER, "fd77::2", 80, "80"),
        (Namespace::Pod, "1000", "127.0.0.1", 80, "80"),
        (Namespace::Pod, "1000", "10.77.0.1", 80, "80"),
    ] {
        assert_eq!(pair.reached(from, user, host, port), expected, "{tool}: user {user} to {host}:{port}");
    }

    pair.redirect(&["--proxy-uid", PROXY_USER, "--skip-outbound-networks", "10.77.0.0/24", "--tool", tool]);
    assert_eq!(pair.reached(Namespace::Pod, "1000", "10.77.0.2", 81), "81");
    assert_eq!(pair.reached(Namespace::Pod, "1000", "fd77::2", 80), "4140");

    pair.redirect(&["--remove", "--tool", tool]);
    pair.redirect(&["--remove", "--tool", tool]);
    assert_eq!(pair.reached(Namespace::Peer, "0", "10.77.0.1", 80), "80");
    assert_eq!(pair.reached(Namespace::Pod, "1000", "10.77.0.2", 80), "80");
}

#[test]
fn nftables_captures_what_it_should_and_nothing_else() {
    connections_are_captured_as_the_rules_say("nft", "nft");
}

#[test]
fn iptables_captures_what_it_should_and_nothing_else() {
    connections_are_captured_as_the_rules_say("ipt", "iptables");
}

#[test]
fn dry_run_prints_the_rules_and_writes_none() {
    let pair = Pair::new("dry");
    let mut command = pair.inside(Namespace::Pod, programs::ours("mesh-proxy"));
    let output = command.args(["redirect", "--proxy-uid", PROXY_USER, "--dry-run"]).output().expect("the proxy runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && printed.contains("table inet lanemesh"), "{printed}");
    let rules = pair
        .inside(Namespace::Pod, programs::system("nft"))
        .args(["list", "ruleset"])
        .output()
        .expect("nft can be run");
    assert!(rules.stdout.is_empty(), "{}", String::from_utf8_lossy(&rules.stdout));
}
