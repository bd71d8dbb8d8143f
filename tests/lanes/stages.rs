//! Changes of a lane's stage through the console, and when every proxy has them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_tests::{
    client,
    mesh::Mesh,
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

/// Revision that each proxy was sent, where as many as are expected are connected and all of them serve it.
async fn served(mesh: &Mesh, proxies: usize) -> Option<BTreeMap<String, String>> {
    let table = mesh.console("/api/v1/proxies").await.ok()?;
    let rows = table["items"].as_array()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = rows.len() == proxies && rows.iter().all(|row| row["appliedRevision"] == row["currentRevision"]);
    all.then(|| rows.iter().map(|row| (text(&row["pod"]), text(&row["currentRevision"]))).collect())
}

/// Carries out `verb` on a lane (`group/lane`) and waits until all of so many proxies serve what came of it. How long that
/// took, from the order on.
pub(crate) async fn change(mesh: &Mesh, proxies: usize, lane: &str, verb: &str) -> Duration {
    let before = until("every proxy is up to date", PATIENCE, || served(mesh, proxies)).await;
    let console = mesh.controller_admin();
    let order = json!({ "lane": lane, "verb": verb, "reason": "test" }).to_string();
    let begun = Instant::now();
    let answer = client::post(console, &console.to_string(), "/api/v1/lane", order).await.expect("the console answers");
    assert_eq!(answer.status, 200, "{verb}: {}", answer.text());
    until("every proxy has the change", PATIENCE, || async {
        let now = served(mesh, proxies).await?;
        now.iter().all(|(pod, revision)| before.get(pod) != Some(revision)).then_some(())
    })
    .await;
    begun.elapsed()
}

/// What the console shows of a lane of the first group.
pub(crate) async fn shown(mesh: &Mesh, lane: &str) -> Option<Value> {
    let groups = mesh.console("/api/v1/lanes").await.ok()?;
    let lanes = groups["items"][0]["lanes"].as_array()?;
    lanes.iter().find(|found| found["name"] == lane).cloned()
}
