//! Instructions that the pair executes for a request, with and without lanes, counted by callgrind: what no other work on
//! the machine can change. Only those of the programs themselves; what the kernel does for them is in none of the figures.

use std::{path::Path, process::Command, thread};

use anyhow::{Context, ensure};
use mesh_tests::{
    mesh::{Builder, Mesh},
    programs,
};

use crate::{
    contenders::lanemesh,
    load::{Target, Together},
    rounds::SETTLED,
};

/// Requests under way at the same time.
const CONNECTIONS: usize = 16;
/// Requests per connection before counting, so that pools, tables and caches are filled.
const WARM_UP_TURNS: usize = 40;
/// Requests per connection that are counted.
const TURNS: usize = 60;
/// How often each case is counted; the least counts, because a connection that happens to be opened meanwhile, with its
/// handshake, is not what is asked for.
const COUNTS: usize = 2;
/// Body of answers, bytes.
const BODY: usize = 1024;

/// What is counted: the mesh, and the labels of its load.
struct Case {
    name: &'static str,
    labels: &'static [&'static str],
    /// Most instructions per request, against the pair without lanes.
    limit: f64,
}

/// For the load of the CPU target, in which every second request has a label: what is reached, so that it stays. The
/// programs execute three to four tenths of what a request costs, the kernel the rest: 8 to 10 % here are 3 % of CPU.
const MIXED_LIMIT: f64 = 1.15;
/// The same at an entry.
const ENTRY_LIMIT: f64 = 1.2;
/// For requests without label, where lanes exist.
const UNLABELLED_LIMIT: f64 = 1.05;
/// Shown, not judged.
const NO_LIMIT: f64 = f64::INFINITY;

/// Counts every case; returns what is missed. Files of callgrind stay in `folder`.
///
/// # Errors
/// When a mesh does not start, answers badly, or callgrind cannot be asked.
pub(crate) fn run(folder: &Path) -> anyhow::Result<Vec<String>> {
    let case = |name, labels, limit| Case { name, labels, limit };
    let program = callgrind(folder);
    let mut figures = Vec::new();
    let mut count = |mesh: Builder, cases: &[Case]| -> anyhow::Result<()> {
        let mesh = lanemesh::run(mesh)?;
        thread::sleep(SETTLED);
        for case in cases {
            let each = per_request(&mesh, folder, case).with_context(|| format!("counting {}", case.name))?;
            figures.push((case.name, each, case.limit));
        }
        Ok(())
    };
    count(lanemesh::without_lanes(&program), &[case("pair", &[], NO_LIMIT)])?;
    let labels = |position: usize| -> &'static [&'static str] { &lanemesh::LABELS[position..=position] };
    count(
        lanemesh::with_lanes(&program),
        &[
            case("20 lanes, no label", labels(0), UNLABELLED_LIMIT),
            case("20 lanes, label of depth 1", labels(1), NO_LIMIT),
            case("20 lanes, label of depth 4", labels(7), NO_LIMIT),
            case("20 lanes, every second labelled", lanemesh::LABELS, MIXED_LIMIT),
        ],
    )?;
    count(
        lanemesh::at_entry(&program),
        &[
            case("20 lanes, entry, no label", labels(0), NO_LIMIT),
            case("20 lanes, entry, every second labelled", lanemesh::LABELS, ENTRY_LIMIT),
        ],
    )?;
    let base = figures.first().map(|(_, each, _)| *each).context("nothing was counted")?;
    let mut missed = Vec::new();
    println!("{:<40} {:>10} {:>10} {:>10} {:>7}", "instructions per request", "client", "server", "both", "= pair");
    for (name, [client, server], limit) in figures {
        let ratio = (client + server) / (base[0] + base[1]);
        println!("{name:<40} {client:>10.0} {server:>10.0} {:>10.0} {ratio:>7.3}", client + server);
        if ratio > limit {
            missed.push(format!("{name}: {ratio:.3} × the instructions of the pair; at most {limit} allowed"));
        }
    }
    Ok(missed)
}

/// The words that run a program under callgrind, with its files in `folder`.
pub(crate) fn callgrind(folder: &Path) -> Vec<String> {
    let file = format!("--callgrind-out-file={}/callgrind.%p", folder.display());
    ["valgrind", "-q", "--tool=callgrind", &file].map(str::to_owned).to_vec()
}

/// Of each sidecar on the way.
fn per_request(mesh: &Mesh, folder: &Path, case: &Case) -> anyhow::Result<[f64; 2]> {
    let (address, authority) = (mesh.pod("client").outbound(), lanemesh::authority());
    let mut load = Together::open(&Target { address, authority, body: BODY, labels: case.labels }, CONNECTIONS)?;
    load.send(WARM_UP_TURNS)?;
    let pids: Vec<u32> =
        lanemesh::WAY.iter().filter_map(|pod| mesh.pod(pod).sidecar.as_ref()).map(|sidecar| sidecar.pid()).collect();
    let mut least = [f64::INFINITY; 2];
    for count in 1..=COUNTS {
        for pid in &pids {
            ask(*pid, "zero")?;
        }
        load.send(TURNS)?;
        let reason = format!("{} ({count})", case.name);
        for (pid, least) in pids.iter().zip(&mut least) {
            ask(*pid, &format!("dump {reason}"))?;
            let each = counted(folder, *pid, &reason)? as f64 / (TURNS * CONNECTIONS) as f64;
            *least = least.min(each);
        }
    }
    Ok(least)
}

/// Gives an order to the callgrind of a process.
///
/// # Errors
/// When it does not take it.
pub(crate) fn ask(pid: u32, order: &str) -> anyhow::Result<()> {
    let done = Command::new(programs::system("vgdb")).arg(format!("--pid={pid}")).arg(order).output()?;
    ensure!(done.status.success(), "vgdb {order}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// The total of the dump that was made for this reason.
///
/// # Errors
/// When there is none.
pub(crate) fn counted(folder: &Path, pid: u32, reason: &str) -> anyhow::Result<u64> {
    let own = format!("callgrind.{pid}.");
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(&own) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path())?;
        if text.lines().any(|line| line.starts_with("desc: Trigger:") && line.ends_with(reason)) {
            let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
            return total.context("no total in a dump of callgrind")?.trim().parse().context("total of callgrind");
        }
    }
    anyhow::bail!("callgrind wrote no dump {reason:?}")
}
