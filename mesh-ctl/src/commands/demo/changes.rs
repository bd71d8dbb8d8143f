//! Configuration changes while traffic flows: each is applied through the console and awaited at every proxy.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use mesh_core::names;
use tokio::time::{Instant, sleep};

use super::{mesh::Mesh, topology::NAMESPACE};
use crate::{cluster::Controller, commands::proxy::standings, exit::Failure};

/// Longest wait until every proxy has acknowledged a change.
const IN_FORCE_WAIT: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Changes the policy of service b and waits until every proxy has it in force.
///
/// # Errors
/// When the controller refuses it, or a proxy does not take it in time.
pub(crate) async fn apply(mesh: &mut Mesh, number: usize) -> anyhow::Result<()> {
    let controller = Controller::at(mesh.topology.console());
    let before = applied(&controller).await?;
    let yaml = format!(
        "apiVersion: {}\nkind: TrafficPolicy\nmetadata:\n  name: b\n  namespace: {NAMESPACE}\nspec:\n  service: b\n  \
         timeouts:\n    idle: {}s\n",
        names::API_VERSION,
        3_600 + number
    );
    let answer = controller.send("/api/v1/apply", yaml.into_bytes()).await.map_err(Failure::into_error)?;
    let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).trim().to_owned();
    ensure!(answer.status == StatusCode::OK, "the controller answered {}: {said}", answer.status);
    let deadline = Instant::now() + IN_FORCE_WAIT;
    loop {
        let now = standings(&controller).await.map_err(Failure::into_error)?;
        let behind: Vec<&str> = now
            .iter()
            .filter(|proxy| !proxy.is_current() || before.get(&proxy.pod) == Some(&proxy.current))
            .map(|proxy| proxy.pod.as_str())
            .collect();
        if behind.is_empty() && now.len() >= mesh.topology.pods.len() {
            return Ok(());
        }
        let connected = now.len();
        let late = || format!("not in force at {behind:?} of {connected} proxies after {} s", IN_FORCE_WAIT.as_secs());
        ensure!(Instant::now() < deadline, late());
        sleep(LOOK).await;
    }
}

/// Revision that each proxy was sent last, by pod.
async fn applied(controller: &Controller) -> anyhow::Result<BTreeMap<String, String>> {
    let standings = standings(controller).await.map_err(Failure::into_error);
    let standings = standings.context("cannot ask for the state of proxies")?;
    Ok(standings.into_iter().map(|proxy| (proxy.pod, proxy.current)).collect())
}
