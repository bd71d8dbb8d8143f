//! The example of Nacos, as its page tells a newcomer to run it.

use std::time::Duration;

use mesh_tests::{process::Spec, programs};
use tempfile::TempDir;

/// The example asks 100 times and starts seven programs.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn services_that_register_themselves_are_called_over_mutual_tls_in_their_lanes() {
    let logs = TempDir::new().unwrap();
    let run = programs::repository().join("examples/nacos/run");
    let spec = Spec::new("nacos-example", run)
        .env("DEMO_PYTHON", programs::nacos_python())
        .env("DEMO_RNACOS", programs::rnacos())
        .arg("--check");
    let finished = spec.run(logs.path(), LIMIT).await;
    assert!(finished.status.success(), "{}", finished.output);
    let passed = finished.output.lines().filter(|line| line.starts_with("pass  ")).count();
    assert_eq!(passed, 6, "{}", finished.output);
    assert!(finished.output.contains("nothing is left"), "{}", finished.output);
}
