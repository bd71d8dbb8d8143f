//! A mesh with a route to models: one sidecar with one worker that serves the same provider as targets of the route and as
//! an ordinary service.

use std::net::SocketAddr;

use mesh_tests::{
    client::{self, Version},
    mesh::Mesh,
    pod::{NAMESPACE, PodSpec},
    process::Process,
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

use super::{
    client::Way,
    provider::{Behaviour, Provider},
};
use crate::measure::Measured;

/// Host of the virtual models.
const HOST: &str = "models.bench";
/// Service that is the provider.
const SERVICE: &str = "server";
/// Pod of the application that calls.
const CALLER: &str = "client";

/// A virtual model whose first target fails; a second one serves.
pub(super) struct Failing {
    /// Its name.
    pub(super) name: String,
    /// Where its first target is.
    pub(super) first: SocketAddr,
    /// What that does, if it listens.
    pub(super) behaviour: Behaviour,
    /// Its timers, as the resource has them.
    pub(super) timers: Value,
}

/// The running mesh.
pub(super) struct World {
    mesh: Mesh,
    /// Where the provider listens.
    pub(super) provider: SocketAddr,
}

impl World {
    /// Starts it, the sidecar under `program` where one is named, and waits until the route is in force.
    ///
    /// # Errors
    /// When the provider cannot listen.
    pub(super) fn start(provider: &Provider, failing: &[Failing], program: &[String]) -> anyhow::Result<World> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = PodSpec::new(SERVICE).of(SERVICE).plain();
        let caller = PodSpec::new(CALLER).setting("LANEMESH_WORKERS", "1").under(program);
        let mesh = runtime.block_on(Mesh::builder().pod(server).pod(caller).start());
        let address = provider.listen(mesh.application(SERVICE))?;
        let world = World { mesh, provider: address };
        world.mesh.write_source("models.yaml", &route(failing).to_string());
        runtime.block_on(async {
            world.mesh.reachable(CALLER, &service()).await;
            world.in_force().await;
        });
        Ok(world)
    }

    async fn in_force(&self) {
        until("the model route is in force", PATIENCE, || async {
            let outbound = self.mesh.pod(CALLER).outbound();
            let answer = client::get(outbound, Version::Http1, HOST, "/v1/models", &[]).await.ok()?;
            (answer.status == 200 && answer.text().contains("\"short\"")).then_some(())
        })
        .await;
    }

    /// The sidecar, moved to the proxies' core.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(super) fn sidecar(&self) -> anyhow::Result<Measured> {
        let sidecar = self.mesh.pod(CALLER).sidecar.as_ref();
        Measured::moved(sidecar.ok_or_else(|| anyhow::anyhow!("the caller has no sidecar"))?)
    }

    /// Process of the sidecar.
    ///
    /// # Errors
    /// When it has none.
    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        let sidecar = self.mesh.pod(CALLER).sidecar.as_ref();
        sidecar.map(Process::pid).ok_or_else(|| anyhow::anyhow!("the caller has no sidecar"))
    }

    /// Without a proxy.
    pub(super) fn direct(&self) -> Way {
        Way { name: "direct", address: self.provider, authority: service() }
    }

    /// Through the sidecar, as an ordinary exchange.
    pub(super) fn relay(&self) -> Way {
        Way { name: "ordinary exchange", address: self.mesh.pod(CALLER).outbound(), authority: service() }
    }

    /// Through the sidecar and the model route.
    pub(super) fn model(&self) -> Way {
        Way { name: "model route", authority: HOST.to_owned(), ..self.relay() }
    }
}

fn service() -> String {
    format!("{SERVICE}.{NAMESPACE}")
}

/// The resource; JSON is YAML.
fn route(failing: &[Failing]) -> Value {
    let serving = Behaviour::SERVING.into_iter().map(|behaviour| {
        let name = behaviour.model();
        json!({"name": name, "targets": [target(name, name), other(name)]})
    });
    let failing = failing.iter().map(|model| {
        let Failing { name, first, behaviour, timers } = model;
        let first = json!({
            "name": format!("{name}-first"),
            "provider": "openai-compatible",
            "endpoint": format!("http://{first}"),
            "model": behaviour.model(),
        });
        json!({"name": name, "timers": timers, "targets": [first, other(name)]})
    });
    json!({
        "apiVersion": "lanemesh.io/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "models", "namespace": NAMESPACE},
        "spec": {"hosts": [HOST], "models": serving.chain(failing).collect::<Vec<_>>()},
    })
}

fn target(name: &str, model: &str) -> Value {
    let endpoint = json!({"service": format!("{}:80", service())});
    json!({"name": name, "provider": "openai-compatible", "endpoint": endpoint, "model": model})
}

/// Whoever is asked second, and serves.
fn other(name: &str) -> Value {
    // A target that were the same as the first one would be refused.
    let model = if name == Behaviour::Short.model() { Behaviour::Packed } else { Behaviour::Short };
    let mut other = target(&second(name), model.model());
    other["priority"] = json!(1);
    other
}

/// Name of the second target of a model.
pub(super) fn second(name: &str) -> String {
    format!("{name}-second")
}
