//! The benchmark: what an exchange costs through nginx, Envoy, a bare relay and Lanemesh, measured side by side.
//!
//! Start it by `tests/bench/run`, which installs the others and puts this process (load and application) on one core;
//! the proxies run on the other. Rounds alternate between the contenders, and figures are medians over the rounds.

mod application;
mod certificates;
mod contenders;
mod instructions;
mod load;
mod measure;
mod rounds;
mod summary;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use crate::{
    contenders::{Contender, Place, bare, envoy, lanemesh, nginx, nginx::AccessLog},
    rounds::Plan,
};

/// Compares CPU per request, latency and memory of proxies.
#[derive(Parser)]
struct Settings {
    /// About a minute instead of about eight.
    #[arg(long)]
    short: bool,
    /// Fail unless the targets of Lanemesh are met.
    #[arg(long)]
    assert: bool,
    /// Only contenders whose name contains one of these words.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Number of rounds; default by length.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Count the instructions of the pair with and without lanes instead, under callgrind: the same on every run, however
    /// busy the machine is.
    #[arg(long)]
    instructions: bool,
    /// The Envoy binary.
    #[arg(long, required_unless_present = "instructions")]
    envoy: Option<PathBuf>,
    /// Folder for configurations and logs of this run.
    #[arg(long)]
    folder: PathBuf,
}

/// Starts one contender.
type Start = fn(&Place) -> anyhow::Result<Contender>;

/// All contenders by name, in the order of the tables.
const CONTENDERS: &[(&str, Start)] = &[
    ("nginx hop", |place| nginx::hop(place, AccessLog::Off)),
    ("nginx hop, access log", |place| nginx::hop(place, AccessLog::On)),
    ("bare hop", bare::hop),
    ("lanemesh hop", |_| lanemesh::hop()),
    ("nginx pair", |place| nginx::pair(place, AccessLog::Off)),
    ("nginx pair, access log", |place| nginx::pair(place, AccessLog::On)),
    ("envoy pair", envoy::pair),
    ("bare pair", bare::pair),
    ("lanemesh pair", |_| lanemesh::pair()),
    ("lanemesh pair, 20 lanes", |_| lanemesh::pair_with_lanes()),
    ("lanemesh pair, 20 lanes, entry", |_| lanemesh::pair_at_entry()),
];

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    if settings.instructions {
        let missed = instructions::run(&settings.folder)?;
        return judge(&missed, settings.assert);
    }
    certificates::write(&settings.folder)?;
    let application = application::start(contenders::free_address()?)?;
    let envoy = settings.envoy.context("no Envoy named")?;
    let place = Place { folder: settings.folder, envoy, application };

    let wanted = |name: &str| settings.only.is_empty() || settings.only.iter().any(|word| name.contains(word));
    let chosen: Vec<_> = CONTENDERS.iter().filter(|(name, _)| wanted(name)).collect();
    let plan = Plan::new(settings.short, settings.rounds);
    let figures = rounds::run(&place, &chosen, &plan)?;

    summary::print(&figures, &plan);
    if let Some(path) = settings.json {
        std::fs::write(&path, summary::json(&figures, &plan)).context("cannot write the results")?;
    }
    judge(&summary::missed(&figures), settings.assert)
}

fn judge(missed: &[String], must_meet: bool) -> anyhow::Result<()> {
    for line in missed {
        println!("missed: {line}");
    }
    anyhow::ensure!(!must_meet || missed.is_empty(), "{} targets missed", missed.len());
    Ok(())
}
