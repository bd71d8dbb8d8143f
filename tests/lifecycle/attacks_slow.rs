//! Slow clients in great number (slowhttptest): heads and bodies that come in drops, answers that are hardly taken, ranges.

use std::time::Duration;

use mesh_tests::{length, process::Spec, programs};

use crate::{attacked::Attacked, callers::HOST};

/// Connections of an attack.
const CONNECTIONS: &str = "4000";
/// Connections that it opens each second.
const RATE: &str = "400";
/// What a sidecar may take, MiB: a slow connection holds some KiB, and one that takes its answer slowly what waits for it,
/// which the budget bounds.
const MEMORY: u64 = 512;
/// Budget of the sidecars, bytes.
const BUDGET: &str = "268435456";

/// One kind of attack, through the listener for calls of the application, for so long.
async fn is_borne(kind: &str, path: &str, further: &[&str]) {
    let attacked = Attacked::start(&[("LANEMESH_MEMORY_BUDGET", BUDGET)], |_| Vec::new()).await;
    let seconds: u64 = length::of(20, 45);
    let outbound = attacked.mesh.pod("a").outbound();
    let attack = Spec::new(format!("slowhttptest{kind}"), programs::system("slowhttptest"))
        .args([kind, "-c", CONNECTIONS, "-r", RATE, "-l", &seconds.to_string(), "-i", "5", "-p", "20"])
        .args(["-d".to_owned(), outbound.to_string(), "-u".to_owned(), format!("http://{HOST}{path}")])
        .args(further.iter().copied());
    let logs = attacked.mesh.logs();
    let limit = Duration::from_secs(2 * seconds + 60);
    attacked.bears(kind, MEMORY, async { drop(attack.run(&logs, limit).await) }).await;
    for pod in crate::attacked::ATTACKED {
        eprintln!("{kind}: {pod} shed {:?}", attacked.shed_all(pod).await);
    }
}

#[tokio::test]
async fn heads_that_come_in_drops_are_borne_full_length() {
    is_borne("-H", "/", &[]).await;
}

#[tokio::test]
async fn bodies_that_come_in_drops_are_borne_full_length() {
    is_borne("-B", "/", &["-s", "8192", "-x", "10"]).await;
}

#[tokio::test]
async fn requests_for_many_ranges_are_borne_full_length() {
    is_borne("-R", "/", &["-a", "10", "-b", "3000", "-t", "HEAD"]).await;
}

#[tokio::test]
async fn answers_that_are_hardly_taken_are_borne_full_length() {
    is_borne("-X", "/big", &["-w", "512", "-y", "1024", "-n", "5", "-z", "32"]).await;
}
