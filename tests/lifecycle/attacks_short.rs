//! Attacks on sidecars that have few descriptors or little memory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_tests::{process::Spec, programs, wait::pace};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use crate::{
    attacked::{ATTACKED, Attacked},
    callers::HOST,
};

/// Descriptors of a sidecar that has few.
const DESCRIPTORS: &str = "256";
/// Memory of a sidecar's control group, MiB.
const GROUP: u64 = 96;
/// Slow uploads at the same time.
const UPLOADS: usize = 2_000;
/// Length of an upload that never ends, bytes.
const UPLOAD: usize = 10_000_000;
/// Bytes that each upload says at once, and again after each pause.
const PIECE: usize = 4_000;
const DROP: usize = 16;
const PAUSE: Duration = Duration::from_secs(1);
/// Pieces of each upload.
const PIECES: usize = 12;

#[tokio::test]
async fn sidecar_with_few_descriptors_bears_thousands_of_slow_clients() {
    let limited = |_: &str| ["prlimit", &format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")].map(str::to_owned).to_vec();
    let attacked = Attacked::start(&[], limited).await;
    let outbound = attacked.mesh.pod("a").outbound();
    let attack = Spec::new("slowhttptest", programs::system("slowhttptest"))
        .args(["-H", "-c", "4000", "-r", "400", "-l", "12", "-i", "5", "-p", "20"])
        .args(["-d".to_owned(), outbound.to_string(), "-u".to_owned(), format!("http://{HOST}/")]);
    let logs = attacked.mesh.logs();
    let run = async { drop(attack.run(&logs, Duration::from_secs(90)).await) };
    attacked.bears("few descriptors", 256, run).await;
    assert!(attacked.shed("a", "idle_connection").await > 0.0, "nobody had to go: {:?}", attacked.shed_all("a").await);
    // What is reserved is still there: the admin port, and the streams of the controller.
    let (status, _) = attacked.mesh.pod("a").fetch("/ready").await.unwrap();
    assert_eq!(status, 200);
}

/// Part of the good requests that may be refused while memory is short. None is what is wanted; some still come in the moment
/// in which the first uploads have taken it and none of them was given up yet.
const LOST: f64 = 0.01;

/// A control group of version 1 with a limit of memory; removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Group {
        let place = Path::new("/sys/fs/cgroup/memory").join(format!("lanemesh-test-{}-{name}", std::process::id()));
        fs::create_dir(&place).unwrap_or_else(|error| panic!("{}: {error} (needs root)", place.display()));
        let limit = (GROUP * 1024 * 1024).to_string();
        fs::write(place.join("memory.limit_in_bytes"), limit).expect("the kernel takes a limit");
        Group(place)
    }

    /// Words under which a program runs in it.
    fn words(&self) -> Vec<String> {
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        ["sh".to_owned(), "-c".to_owned(), script].to_vec()
    }

    /// Most memory that it had, MiB: what its processes asked for and what the kernel keeps for them.
    fn most(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.max_usage_in_bytes")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or_default() / 1024 / 1024
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process ends with the mesh, which is dropped before.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Says the head and the first piece of an upload, and then hardly anything any more.
async fn upload(to: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(to).await else { return };
    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {UPLOAD}\r\n\r\n");
    let first = [head.as_bytes(), &vec![b'x'; PIECE]].concat();
    if stream.write_all(&first).await.is_err() {
        return;
    }
    for _ in 0..PIECES {
        pace(PAUSE).await;
        if stream.write_all(&[b'x'; DROP]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn sidecar_with_little_memory_outlives_thousands_of_slow_uploads_and_refuses_hardly_anybody() {
    let groups = ATTACKED.map(|pod| (pod, Group::new(pod)));
    let limited = |name: &str| {
        let group = groups.iter().find(|(pod, _)| *pod == name);
        group.map(|(_, group)| group.words()).unwrap_or_default()
    };
    let attacked = Attacked::start(&[], limited).await;
    let outbound = attacked.mesh.pod("a").outbound();
    let attack = async {
        let mut uploads: JoinSet<()> = (0..UPLOADS).map(|_| upload(outbound)).collect();
        while uploads.join_next().await.is_some() {}
    };
    attacked.bears_nearly("little memory", (GROUP, LOST), attack).await;
    for (pod, group) in &groups {
        eprintln!("{pod}: {} MiB of {GROUP}, shed {:?}", group.most(), attacked.shed_all(pod).await);
    }
    drop(attacked);
}
