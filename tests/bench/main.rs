//! The benchmark: what an exchange costs through nginx, Envoy, a bare relay and Lanemesh, and what a call to a model costs
//! more than an ordinary one, measured side by side.
//!
//! Start it by `tests/bench/run`, which installs the others and puts this process (load and application) on one core;
//! the proxies run on the other. Rounds alternate between the contenders, and figures are medians over the rounds.

mod application;
mod certificates;
mod contenders;
mod instructions;
mod load;
mod measure;
mod models;
mod rounds;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use crate::{
    contenders::{Contender, Place, bare, envoy, lanemesh, nginx, nginx::AccessLog},
    rounds::Plan,
};

/// Compares CPU per request, latency and memory of proxies.
#[derive(Parser)]
struct Settings {
    /// Only this part; default all, or the proxies where some are named.
    part: Option<Part>,
    /// About two minutes and a half instead of about thirteen.
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
    /// Count the instructions of the pair with and without lanes, and of events of models, instead, under callgrind: the
    /// same on every run, however busy the machine is.
    #[arg(long)]
    instructions: bool,
    /// The Envoy binary.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Folder for configurations and logs of this run.
    #[arg(long)]
    folder: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests through Lanemesh and other proxies.
    Proxies,
    /// Calls to models.
    Models,
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
    let part = settings.part.or((!settings.only.is_empty()).then_some(Part::Proxies));
    if settings.instructions {
        return judge(&instructions(&settings.folder, part)?, settings.assert);
    }
    certificates::write(&settings.folder)?;
    let application = application::start(contenders::free_address()?)?;
    let place = Place { folder: settings.folder.clone(), envoy: settings.envoy.clone(), application };
    let (mut results, mut missed) = (json!({}), Vec::new());
    if part != Some(Part::Models) {
        proxies(&settings, &place, &mut results, &mut missed)?;
    }
    if part != Some(Part::Proxies) {
        let report = models::run(&place, settings.short, settings.rounds)?;
        report.print();
        results["models"] = report.json();
        missed.extend(report.missed());
    }
    if let Some(path) = &settings.json {
        std::fs::write(path, results.to_string()).context("cannot write the results")?;
    }
    judge(&missed, settings.assert)
}

/// Counts instructions; returns what is missed.
fn instructions(folder: &Path, part: Option<Part>) -> anyhow::Result<Vec<String>> {
    let mut missed = Vec::new();
    if part != Some(Part::Models) {
        missed.extend(instructions::run(folder)?);
    }
    if part != Some(Part::Proxies) {
        missed.extend(models::instructions::run(folder, &instructions::callgrind(folder))?);
    }
    Ok(missed)
}

/// Measures requests through the proxies.
fn proxies(settings: &Settings, place: &Place, results: &mut Value, missed: &mut Vec<String>) -> anyhow::Result<()> {
    let wanted = |name: &str| settings.only.is_empty() || settings.only.iter().any(|word| name.contains(word));
    let chosen: Vec<_> = CONTENDERS.iter().filter(|(name, _)| wanted(name)).collect();
    let plan = Plan::new(settings.short, settings.rounds);
    let figures = rounds::run(place, &chosen, &plan)?;

    summary::print(&figures, &plan);
    *results = summary::json(&figures, &plan);
    missed.extend(summary::missed(&figures));
    Ok(())
}

fn judge(missed: &[String], must_meet: bool) -> anyhow::Result<()> {
    for line in missed {
        println!("missed: {line}");
    }
    anyhow::ensure!(!must_meet || missed.is_empty(), "{} targets missed", missed.len());
    Ok(())
}
