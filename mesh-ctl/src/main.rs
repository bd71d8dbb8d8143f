//! `mesh-ctl`: how people see and steer the mesh.
//!
//! Two stages: `args` turns the command line into types, `commands` carries out one of them. What a command returns
//! becomes the exit code here and nowhere else.

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod cluster;
mod commands;
mod exit;
mod output;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::not_well("cannot start", error).report(),
    };
    match runtime.block_on(commands::run(args)) {
        Ok(code) => code.into(),
        Err(failure) => failure.report(),
    }
}
