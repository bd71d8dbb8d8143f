//! A command of the user's inside a running demo: it finds the mesh by its environment.

use std::ffi::{OsStr, OsString};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{mesh::Mesh, topology::Topology};
use crate::exit::Exit;

/// Address at which requests from outside enter, `IP:port`.
const ENTRY: &str = "DEMO_ENTRY";
/// This program.
const MESH_CTL: &str = "DEMO_MESH_CTL";
/// One line for each pod with an application: its name, and the addresses `IP:port` of its application, of its proxy for the
/// application's calls, and of its proxy's admin port.
const PODS: &str = "DEMO_PODS";
/// Address of the controller's console, which every command of `mesh-ctl` reads.
const CONSOLE: &str = "LANEMESH_CONTROLLER_ADMIN";

/// Runs it to its end.
///
/// # Errors
/// When it cannot be started, or a part of the mesh ends meanwhile.
pub(crate) async fn run(mesh: &mut Mesh, program: &OsStr, arguments: &[OsString]) -> anyhow::Result<Exit> {
    let mut child = Command::new(program)
        .args(arguments)
        .env(ENTRY, mesh.topology.entry().to_string())
        .env(MESH_CTL, std::env::current_exe().context("cannot find the path of mesh-ctl")?)
        .env(PODS, pods(&mesh.topology))
        .env(CONSOLE, format!("http://{}", mesh.topology.console()))
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.context("cannot wait for the command")?;
                return Ok(if status.success() { Exit::Well } else { Exit::NotWell });
            }
            gone = mesh.processes.watch() => {
                gone?;
                if let Some((name, how)) = mesh.processes.fallen().first_key_value() {
                    bail!("{name} has ended: {how}");
                }
            }
        }
    }
}

fn pods(topology: &Topology) -> String {
    let with_application = topology.pods.iter().filter(|pod| pod.has_application());
    let line = |pod| {
        let (application, outbound) = (topology.application(pod), topology.outbound(pod));
        format!("{} {application} {outbound} {}\n", pod.name, topology.admin(pod))
    };
    with_application.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::topology::Place;

    #[test]
    fn command_is_told_where_each_pod_with_an_application_is() {
        let told = pods(&Topology::of_demo(Place::Loopback, 3));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 6, "{told}");
        assert_eq!(lines[0], "a 127.1.3.2:8080 127.1.3.2:4140 127.1.3.2:4191");
    }
}
