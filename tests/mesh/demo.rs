//! The first command of a user: `examples/demo/run`, on loopback and in network namespaces, and what is left of it when it
//! is killed.

use std::{path::Path, time::Duration};

use mesh_tests::{
    process::{Finished, Spec},
    programs,
    wait::{PATIENCE, until_true},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// The whole scenario, with release binaries that `tests/run` has built.
const LIMIT: Duration = Duration::from_secs(240);
/// Demos use fixed addresses: one at a time.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

fn demo(arguments: &[&str]) -> Spec {
    Spec::new("demo", programs::repository().join("examples/demo/run")).args(arguments.iter().copied())
}

async fn run(arguments: &[&str]) -> Finished {
    let logs = TempDir::new().unwrap();
    demo(arguments).run(logs.path(), LIMIT).await
}

/// Namespaces that exist now.
fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("lmt")).collect();
    names.sort();
    names
}

/// Descendants of a demo, wherever they were moved to: processes whose environment or arguments name its folder.
fn processes_naming(folder: &Path) -> usize {
    let folder = folder.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|entry| {
            ["cmdline", "environ"].iter().any(|file| {
                let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(&folder)
            })
        })
        .count()
}

#[tokio::test]
async fn demo_check_passes_on_loopback() {
    let _alone = ALONE.lock().await;
    let finished = run(&["--check"]).await;
    assert!(finished.status.success(), "{}", finished.output);
}

#[tokio::test]
async fn demo_check_passes_in_network_namespaces_and_leaves_none() {
    let _alone = ALONE.lock().await;
    let before = namespaces();
    let finished = run(&["--netns", "--check"]).await;
    assert!(finished.status.success(), "{}", finished.output);
    assert_eq!(namespaces(), before, "namespaces are left");
}

#[tokio::test]
async fn killed_demo_leaves_nothing_and_a_second_one_starts() {
    let _alone = ALONE.lock().await;
    for arguments in [&["--duration", "120s"][..], &["--netns", "--duration", "120s"][..]] {
        let before = namespaces();
        let logs = TempDir::new().unwrap();
        let folder = logs.path();
        let mut killed = demo(arguments).env("TMPDIR", folder).env("XDG_RUNTIME_DIR", folder).start(folder);
        until_true("the demo runs", LIMIT, || processes_naming(folder) > 10).await;
        killed.kill();
        until_true("its processes end", PATIENCE, || processes_naming(folder) == 0).await;
        let check: Vec<&str> = arguments.iter().copied().filter(|word| *word == "--netns").chain(["--check"]).collect();
        let finished = run(&check).await;
        assert!(finished.status.success(), "second start {check:?}: {}", finished.output);
        assert_eq!(namespaces(), before, "namespaces are left");
    }
}
