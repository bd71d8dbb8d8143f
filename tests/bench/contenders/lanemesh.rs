//! Lanemesh as a user runs it: a controller with the file source, one worker per sidecar, default telemetry (metrics on,
//! access log of failures only).

use mesh_tests::{
    mesh::{Builder, Mesh},
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
    start("lanemesh hop", Mesh::builder().pod(PodSpec::new("server").of("server").plain()), &["client"])
}

/// The outbound sidecar, mutual TLS, the inbound sidecar of the application.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair() -> anyhow::Result<Contender> {
    start("lanemesh pair", server(), &["client", "server"])
}

/// Labels in turn: every second request has none, the others want a lane at each depth of its chain of parents. No lane
/// has an instance here, so that each label walks its whole chain and the same instance serves all.
const LABELS: &[&str] = &["", "team0", "", "team1.web", "", "team2.web.alice", "", "bench/team3.web.alice.fix"];
/// Lanes of the group: of each team one per depth.
const TEAMS: usize = 5;
const DEPTHS: [&str; 4] = ["", ".web", ".web.alice", ".web.alice.fix"];

/// As [`pair`], with 20 lanes that have rules, shares and parents; lanes are decided elsewhere.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair_with_lanes() -> anyhow::Result<Contender> {
    let builder = server().pod(PodSpec::new("gate").of("gate").plain()).resource(&lanes("gate"));
    let pair = start("lanemesh pair, 20 lanes", builder, &["client", "server"])?;
    Ok(Contender { labels: LABELS, ..pair })
}

/// As [`pair_with_lanes`], where the server is an entry: its sidecar looks at all rules and shares for each request that
/// carries no label.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair_at_entry() -> anyhow::Result<Contender> {
    let pair = start("lanemesh pair, 20 lanes, entry", server().resource(&lanes("server")), &["client", "server"])?;
    Ok(Contender { labels: LABELS, ..pair })
}

/// The group and its 20 lanes; none takes the load, whose user is its `user-agent`.
fn lanes(entry: &str) -> String {
    let mut yaml = format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: bench, namespace: {NAMESPACE}}}\nspec:\n  \
         entries: [{entry}]\n  services: [\"*\"]\n"
    );
    for lane in (0..TEAMS).flat_map(|team| DEPTHS.map(|depth| format!("team{team}{depth}"))) {
        yaml.push_str(&format!(
            "---\napiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: {lane}, namespace: {NAMESPACE}}}\n\
             spec:\n  group: bench\n  match:\n    any:\n    \
             - {{on: header, name: x-env, operator: equal, value: {lane}}}\n    \
             - {{on: cookie, name: tester, operator: in, values: [{lane}, all]}}\n    \
             - {{on: path, operator: prefix, value: /preview/{lane}/}}\n  \
             percentage: {{value: 0.1, key: [\"cookie:user\", \"header:user-agent\"]}}\n"
        ));
    }
    yaml
}

fn server() -> Builder {
    Mesh::builder().pod(one_worker(PodSpec::new("server").of("server")))
}

fn one_worker(pod: PodSpec) -> PodSpec {
    pod.setting("LANEMESH_WORKERS", "1")
}

fn start(name: &'static str, mesh: Builder, way: &[&str]) -> anyhow::Result<Contender> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mesh = runtime.block_on(mesh.pod(one_worker(PodSpec::new("client"))).start());
    application::start(mesh.application("server"))?;
    runtime.block_on(mesh.reachable("client", &format!("server.{NAMESPACE}")));
    let processes = way.iter().filter_map(|pod| mesh.pod(pod).sidecar.as_ref());
    let proxies = processes.map(Measured::moved).collect::<Result<_, _>>()?;
    Ok(Contender {
        name,
        address: mesh.pod("client").outbound(),
        authority: format!("server.{NAMESPACE}"),
        labels: &[],
        proxies,
        _alive: Alive::Mesh { _mesh: Box::new(mesh) },
    })
}
