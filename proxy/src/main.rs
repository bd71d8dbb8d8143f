//! The command line of the sidecar.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mesh_proxy::{
    admin::LogFilter,
    await_ready,
    config::{Role, parse, variables},
    net::sys::Counted,
    redirect::{self, Rules},
    runtime,
    telemetry::metrics,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

/// What this process asks for is counted against its memory budget.
#[global_allocator]
static MEMORY: Counted = Counted;

/// Exit code for settings that are not allowed.
const BAD_SETTINGS: u8 = 2;

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
    /// Wait until the sidecar beside this process is ready (post-start hook).
    Await {
        /// How long to wait: 500ms, 30s, 2m.
        #[arg(long, default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },
    /// Order the sidecar beside this process to drain, and wait until nothing comes in any more (preStop hook).
    Drain {
        /// How long to wait: 30s, 2m.
        #[arg(long, default_value = "1h", value_parser = duration)]
        timeout: Duration,
    },
    /// Write the rules that capture connections in this network namespace, and exit (init container, virtual machine).
    Redirect(Rules),
    /// List every setting with its unit, default and meaning.
    Settings {
        /// As the reference page.
        #[arg(long)]
        markdown: bool,
    },
    /// List every metric with its kind, labels and meaning.
    Metrics {
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
        Some(Command::Await { timeout }) => {
            let admin = parse::admin_listen(std::env::vars())?;
            await_ready::until_ready(admin, timeout)?;
        }
        Some(Command::Drain { timeout }) => {
            let admin = parse::admin_listen(std::env::vars())?;
            await_ready::drain(admin, timeout)?;
        }
        Some(Command::Redirect(rules)) => print(&redirect::run(&rules)?)?,
        Some(Command::Metrics { markdown }) => {
            print(&if markdown { metrics::reference() } else { metrics::table() })?;
        }
        Some(Command::Settings { markdown }) => {
            print(&if markdown { variables::reference() } else { variables::table() })?;
        }
        None => {
            let settings = match parse::settings(arguments.role, std::env::vars()) {
                Ok(settings) => settings,
                Err(invalid) => {
                    eprintln!("mesh-proxy: {invalid}");
                    return Ok(ExitCode::from(BAD_SETTINGS));
                }
            };
            let log = open_log(&settings.log)?;
            runtime::run(settings, log)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The log on standard error, with a filter that the admin interface can change.
fn open_log(filter: &str) -> anyhow::Result<LogFilter> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(lines).try_init().context("cannot open the log")?;
    Ok(handle)
}

fn duration(text: &str) -> Result<Duration, String> {
    parse::duration(text).ok_or_else(|| "expected a duration such as 500ms, 30s or 2m".to_owned())
}

/// Unlike `print!` it does not panic when the reader has gone.
fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
