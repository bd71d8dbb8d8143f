//! The examples of lanes, and of a queue, as their pages tell a newcomer to run them: each starts its mesh, sends its
//! requests and checks who served them.

use std::time::Duration;

use mesh_tests::{process::Spec, programs};
use tempfile::TempDir;

use crate::demo::ALONE;

/// The longest example asks 1,000 users six times.
const LIMIT: Duration = Duration::from_secs(240);

async fn holds(example: &str, checks: usize) {
    let _alone = ALONE.lock().await;
    let logs = TempDir::new().unwrap();
    let run = programs::repository().join("examples").join(example).join("run");
    let name = example.replace('/', "-");
    let spec = Spec::new(name, run).env("DEMO_PYTHON", programs::python()).arg("--check");
    let finished = spec.run(logs.path(), LIMIT).await;
    assert!(finished.status.success(), "{}", finished.output);
    let passed = finished.output.lines().filter(|line| line.starts_with("pass  ")).count();
    assert_eq!(passed, checks, "{}", finished.output);
    assert!(finished.output.contains("nothing is left"), "{}", finished.output);
}

#[tokio::test]
async fn canary_by_header_holds() {
    holds("lanes/canary-by-header", 6).await;
}

#[tokio::test]
async fn canary_by_percentage_holds() {
    holds("lanes/canary-by-percentage", 9).await;
}

#[tokio::test]
async fn developer_environments_hold() {
    holds("lanes/developer-environments", 8).await;
}

#[tokio::test]
async fn tenant_cells_hold() {
    holds("lanes/tenant-cells", 6).await;
}

/// Asserted at the consumers: by which of them each order was done, and who served the call that it made.
#[tokio::test]
async fn queue_keeps_the_lane_and_is_taken_over_by_baseline_while_no_lane_consumer_lives() {
    holds("queue", 10).await;
}
