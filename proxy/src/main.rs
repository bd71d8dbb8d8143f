//! The command line of the sidecar.

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mesh_proxy::config::{Role, parse, variables};

/// The sidecar of Lanemesh. Without subcommand it runs until SIGTERM; its settings come from the environment
/// (`mesh-proxy settings` lists them).
#[derive(Parser)]
#[command(name = "mesh-proxy", version, after_help = "Exit codes: 0 in order, 1 failure, 2 bad settings or arguments.")]
struct Arguments {
    /// What this process is for.
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List every setting with its unit, default and meaning.
    Settings {
        /// As the reference page.
        #[arg(long)]
        markdown: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mesh-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Some(Command::Settings { markdown }) => {
            print(&if markdown { variables::reference() } else { variables::table() })?;
        }
        None => {
            let _settings = parse::settings(arguments.role, std::env::vars())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Unlike `print!` it does not panic when the reader has gone.
fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
