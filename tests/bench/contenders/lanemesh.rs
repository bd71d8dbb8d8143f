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
    let server = PodSpec::new("server").of("server").plain();
    start("lanemesh hop", Mesh::builder().pod(server).pod(one_worker(PodSpec::new("client"))), &["client"])
}

/// The outbound sidecar, mutual TLS, the inbound sidecar of the application.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair() -> anyhow::Result<Contender> {
    start("lanemesh pair", without_lanes(&[]), WAY)
}

/// Pods on the way of a request through a pair.
pub(crate) const WAY: &[&str] = &["client", "server"];

/// Labels in turn: every second request has none, the others want a lane at each depth of its chain of parents. No lane
/// has an instance here, so that each label walks its whole chain and the same instance serves all.
pub(crate) const LABELS: &[&str] =
    &["", "team0", "", "team1.web", "", "team2.web.alice", "", "bench/team3.web.alice.fix"];
/// Lanes of the group: of each team one per depth.
const TEAMS: usize = 5;
const DEPTHS: [&str; 4] = ["", ".web", ".web.alice", ".web.alice.fix"];

/// As [`pair`], with 20 lanes that have rules, shares and parents; lanes are decided elsewhere.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair_with_lanes() -> anyhow::Result<Contender> {
    let pair = start("lanemesh pair, 20 lanes", with_lanes(&[]), WAY)?;
    Ok(Contender { labels: LABELS, ..pair })
}

/// As [`pair_with_lanes`], where the server is an entry: its sidecar looks at all rules and shares for each request that
/// carries no label.
///
/// # Errors
/// When the application or a part of the mesh does not start.
pub(crate) fn pair_at_entry() -> anyhow::Result<Contender> {
    let pair = start("lanemesh pair, 20 lanes, entry", at_entry(&[]), WAY)?;
    Ok(Contender { labels: LABELS, ..pair })
}

/// The mesh of [`pair`], its sidecars under a program where one is named; see [`PodSpec::under`].
pub(crate) fn without_lanes(program: &[String]) -> Builder {
    let server = one_worker(PodSpec::new("server").of("server")).under(program);
    Mesh::builder().pod(server).pod(one_worker(PodSpec::new("client")).under(program))
}

/// The mesh of [`pair_with_lanes`].
pub(crate) fn with_lanes(program: &[String]) -> Builder {
    without_lanes(program).pod(PodSpec::new("gate").of("gate").plain()).resource(&lanes("gate"))
}

/// The mesh of [`pair_at_entry`].
pub(crate) fn at_entry(program: &[String]) -> Builder {
    without_lanes(program).resource(&lanes("server"))
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

fn one_worker(pod: PodSpec) -> PodSpec {
    pod.setting("LANEMESH_WORKERS", "1")
}

/// Name by which the load asks for the application.
pub(crate) fn authority() -> String {
    format!("server.{NAMESPACE}")
}

/// Starts a mesh and its application, until requests arrive.
///
/// # Errors
/// When the application does not start.
pub(crate) fn run(mesh: Builder) -> anyhow::Result<Mesh> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mesh = runtime.block_on(mesh.start());
    application::start(mesh.application("server"))?;
    runtime.block_on(mesh.reachable("client", &authority()));
    Ok(mesh)
}

fn start(name: &'static str, mesh: Builder, way: &[&str]) -> anyhow::Result<Contender> {
    let mesh = run(mesh)?;
    let processes = way.iter().filter_map(|pod| mesh.pod(pod).sidecar.as_ref());
    let proxies = processes.map(Measured::moved).collect::<Result<_, _>>()?;
    Ok(Contender {
        name,
        address: mesh.pod("client").outbound(),
        authority: authority(),
        labels: &[],
        proxies,
        _alive: Alive::Mesh { _mesh: Box::new(mesh) },
    })
}
