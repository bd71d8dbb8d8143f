//! Lanemesh as a user runs it: a controller with the file source, one worker per sidecar, default telemetry (metrics on,
//! access log of failures only).

use mesh_tests::{
    mesh::Mesh,
    pod::{NAMESPACE, PodSpec},
};

use crate::{
    application,
    contenders::{Alive, Contender},
    measure::Measured,
};

/// The outbound sidecar alone, to an application outside the mesh.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn hop() -> anyhow::Result<Contender> {
    start("lanemesh hop", PodSpec::new("server").of("server").plain(), &["client"])
}

/// The outbound sidecar, mutual TLS, the inbound sidecar of the application.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair() -> anyhow::Result<Contender> {
    start("lanemesh pair", one_worker(PodSpec::new("server").of("server")), &["client", "server"])
}

fn one_worker(pod: PodSpec) -> PodSpec {
    pod.setting("LANEMESH_WORKERS", "1")
}

fn start(name: &'static str, server: PodSpec, way: &[&str]) -> anyhow::Result<Contender> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mesh = Mesh::builder().pod(one_worker(PodSpec::new("client"))).pod(server);
    let mesh = runtime.block_on(mesh.start());
    application::start(mesh.application("server"))?;
    runtime.block_on(mesh.reachable("client", &format!("server.{NAMESPACE}")));
    let processes = way.iter().filter_map(|pod| mesh.pod(pod).sidecar.as_ref());
    let proxies = processes.map(Measured::moved).collect::<Result<_, _>>()?;
    Ok(Contender {
        name,
        address: mesh.pod("client").outbound(),
        authority: format!("server.{NAMESPACE}"),
        proxies,
        _alive: Alive::Mesh { _mesh: Box::new(mesh) },
    })
}
