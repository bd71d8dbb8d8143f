//! A command of the user's inside a running demo: it finds the mesh by its environment.

use std::ffi::{OsStr, OsString};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::mesh::Mesh;
use crate::exit::Exit;

/// Address at which requests from outside enter, `IP:port`.
const ENTRY: &str = "DEMO_ENTRY";
/// This program.
const MESH_CTL: &str = "DEMO_MESH_CTL";
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
