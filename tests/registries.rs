//! `mesh-registries COMMAND…`: starts real registries, each in the clear, with a login, and behind TLS, and runs a command
//! that finds them by its environment: the suite of the controller's own client of Nacos (`controller/tests/nacos`). Ends
//! with the command's exit code.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Context as _;
use mesh_tests::{
    peer::Authority,
    programs,
    registry::{Registry, Server, secured::Secured},
};
use tokio::process::Command;

/// Password of the user `nacos` where there is a login.
const PASSWORD: &str = "open-sesame-1";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: mesh-registries COMMAND...")?;
    let arguments: Vec<OsString> = words.collect();
    let authority = Authority::new("registry");
    let trusted = tempfile::NamedTempFile::new()?;
    std::fs::write(trusted.path(), &authority.certificate)?;
    let (mut places, mut running, mut fronts) = (Vec::new(), Vec::new(), Vec::new());
    for server in [Server::Rnacos, Server::Nacos31] {
        let open = Registry::start(server).await;
        let closed = Registry::start_with_login(server, PASSWORD).await;
        let secured = Secured::start(&open, &authority).await;
        places.push(format!("{},+{}", open.address(), closed.address()));
        places.push(format!("{};ca={}", secured.address(), trusted.path().display()));
        running.extend([open, closed]);
        fronts.push(secured);
    }
    let status = Command::new(program)
        .args(arguments)
        .env("MESH_TEST_NACOS", places.join(","))
        .env("MESH_TEST_RNACOS", programs::rnacos())
        .env("MESH_TEST_NACOS_LOGIN", format!("nacos:{PASSWORD}"))
        .kill_on_drop(true)
        .status()
        .await?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
