//! The example of models, as its page tells a newcomer to run it.

use std::time::Duration;

use mesh_tests::{process::Spec, programs};
use tempfile::TempDir;

/// The example asks some 300 questions and starts a mesh and four programs.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test]
async fn application_without_key_is_answered_by_the_small_model_the_big_one_or_the_next_version() {
    let logs = TempDir::new().unwrap();
    let run = programs::repository().join("examples/models/run");
    let spec = Spec::new("models-example", run).env("DEMO_PYTHON", programs::models_python()).arg("--check");
    let finished = spec.run(logs.path(), LIMIT).await;
    assert!(finished.status.success(), "{}", finished.output);
    let passed = finished.output.lines().filter(|line| line.starts_with("pass  ")).count();
    assert_eq!(passed, 19, "{}", finished.output);
    assert!(finished.output.contains("nothing is left"), "{}", finished.output);
}
