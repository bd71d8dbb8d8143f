//! The program: reads the command line, then serves until SIGTERM or SIGINT, or does one command and ends.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::Context;
use clap::Parser;
use mesh_controller::{
    config::{Arguments, Command, Settings, TokenArguments},
    runtime,
    sign::{files, tokens::Tokens},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Token(token)) => print_token(&arguments.settings, &token),
        None => run(arguments.settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error, the exit code alone has to tell.
            drop(writeln!(std::io::stderr(), "mesh-controller: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log).context("--log")?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    threads.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let running = runtime::start(settings).await?;
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
            () = running.ended() => anyhow::bail!("a part of the controller ended by itself; the log says why"),
        }
        running.stop().await;
        Ok(())
    })
}

fn print_token(settings: &Settings, token: &TokenArguments) -> anyhow::Result<()> {
    let paths = settings.paths()?;
    files::directory(&settings.state_directory()?)?;
    let tokens = Tokens::open_or_create(&paths.token_key, &settings.trust_domain)?;
    let signed = tokens.sign(&token.grant(&settings.trust_domain)?, SystemTime::now())?;
    writeln!(std::io::stdout(), "{signed}").context("standard output")
}
