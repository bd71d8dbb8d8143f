//! The admission webhook that will put sidecars into pods. Not built yet: this program says so and stops, so that
//! nobody installs a webhook which silently injects nothing.

use std::{io::Write, process::ExitCode};

use clap::Parser;

/// Exit code of a program that was asked for what it cannot do.
const NOT_AVAILABLE: u8 = 2;

/// The part of Lanemesh that will put sidecars into pods by a mutating admission webhook.
#[derive(Parser)]
#[command(name = "mesh-injector", version)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    let said = writeln!(
        std::io::stderr(),
        "mesh-injector {} cannot inject sidecars yet: the webhook is not part of this version. \
         Start mesh-proxy beside your application by hand; `mesh-ctl demo` shows how.",
        env!("CARGO_PKG_VERSION")
    );
    // Where nobody reads standard error, the exit code alone has to tell.
    drop(said);
    ExitCode::from(NOT_AVAILABLE)
}
