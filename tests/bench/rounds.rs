//! The measuring: every contender in turn, round after round, so that what disturbs the machine disturbs all alike.

use std::{thread, time::Duration};

use anyhow::Context;

use crate::{
    Start,
    contenders::{Contender, Place},
    load::{self, Busy, Target},
    measure::Memory,
};

/// Connections of the closed loop.
pub(crate) const BUSY_CONNECTIONS: usize = 64;
/// Connections of the paced load.
pub(crate) const PACED_CONNECTIONS: u32 = 8;
/// Requests per second of the paced load: a small part of what any contender can do.
pub(crate) const PACED_RATE: u32 = 2_000;
/// How long after its start a sidecar of ours is asked for its memory: it gives back what only the start needed 3 s after
/// it is ready.
pub(crate) const SETTLED: Duration = Duration::from_secs(5);
/// Idle connections opened to learn what one costs.
const IDLE_CONNECTIONS: usize = 500;

/// How long and how often.
pub(crate) struct Plan {
    /// Rounds over all contenders.
    pub(crate) rounds: usize,
    /// Sizes of answers asked for in the closed loop, in bytes.
    pub(crate) bodies: &'static [usize],
    warm_up: Duration,
    busy: Duration,
    paced: Duration,
}

impl Plan {
    /// The short plan takes about a minute, the other about eight.
    pub(crate) fn new(short: bool, rounds: Option<usize>) -> Self {
        let milliseconds = Duration::from_millis;
        let (default, bodies, warm_up, busy, paced): (_, &[usize], _, _, _) = if short {
            (3, &[1024], milliseconds(300), milliseconds(1_000), milliseconds(1_000))
        } else {
            (7, &[1024, 128], milliseconds(500), milliseconds(2_000), milliseconds(2_500))
        };
        Self { rounds: rounds.unwrap_or(default), bodies, warm_up, busy, paced }
    }
}

/// What was measured of one contender.
#[derive(Default)]
pub(crate) struct Figures {
    /// Its name.
    pub(crate) name: &'static str,
    /// By size of answer, in the plan's order.
    pub(crate) busy: Vec<BusyFigures>,
    /// 50th percentile of the paced load in microseconds, by round.
    pub(crate) p50: Vec<f64>,
    /// 99th percentile of the paced load in microseconds, by round.
    pub(crate) p99: Vec<f64>,
    /// Memory of each proxy that has settled, after one exchange.
    pub(crate) idle: Vec<Memory>,
    /// Memory of each proxy under the closed loop, last round.
    pub(crate) loaded: Vec<Memory>,
    /// Bytes per idle plain connection, over all proxies on the way.
    pub(crate) connection: f64,
}

/// Closed loop at one size of answer.
#[derive(Default)]
pub(crate) struct BusyFigures {
    /// CPU microseconds of all proxies per request, by round.
    pub(crate) cpu: Vec<f64>,
    /// Requests per second, by round.
    pub(crate) rate: Vec<f64>,
}

/// Measures `chosen` by `plan`.
///
/// # Errors
/// When a contender does not start or answers badly.
pub(crate) fn run(place: &Place, chosen: &[&(&'static str, Start)], plan: &Plan) -> anyhow::Result<Vec<Figures>> {
    let mut figures = Vec::new();
    for &&(name, start) in chosen {
        figures.push(alone(place, name, start)?);
    }
    let mut contenders = Vec::new();
    for (name, start) in chosen {
        contenders.push(start(place).with_context(|| format!("{name} does not start"))?);
    }
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for turn in 0..contenders.len() {
            // Each round begins with another, so that nobody always follows the same one.
            let index = (turn + round) % contenders.len();
            let contender = &contenders[index];
            measure(contender, plan, &mut figures[index]).with_context(|| format!("measuring {}", contender.name))?;
        }
    }
    Ok(figures)
}

/// Memory of a contender that has done next to nothing yet, then with idle connections.
fn alone(place: &Place, name: &'static str, start: Start) -> anyhow::Result<Figures> {
    let contender = start(place).with_context(|| format!("{name} does not start"))?;
    let target = target(&contender, 1024);
    if name.starts_with("lanemesh") {
        thread::sleep(SETTLED);
    }
    load::once(&target).with_context(|| format!("{name} does not answer"))?;
    let idle = contender.memory()?;
    let connections = load::idle(&target, IDLE_CONNECTIONS).with_context(|| format!("{name}: idle connections"))?;
    let held = contender.memory()?;
    drop(connections);
    let resident = |memory: &[Memory]| memory.iter().map(|proxy| proxy.resident).sum::<u64>() as f64;
    let connection = (resident(&held) - resident(&idle)) / IDLE_CONNECTIONS as f64;
    Ok(Figures { name, idle, connection, ..Figures::default() })
}

fn target(contender: &Contender, body: usize) -> Target {
    let (authority, labels) = (contender.authority.clone(), contender.labels);
    Target { address: contender.address, authority, body, labels }
}

fn measure(contender: &Contender, plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    figures.busy.resize_with(plan.bodies.len(), BusyFigures::default);
    for (&body, found) in plan.bodies.iter().zip(&mut figures.busy) {
        let busy = Busy::start(&target(contender, body), BUSY_CONNECTIONS)?;
        thread::sleep(plan.warm_up);
        let (cpu, answered) = (contender.cpu()?, busy.answered());
        thread::sleep(plan.busy);
        let (cpu, answered) = (contender.cpu()? - cpu, busy.answered() - answered);
        figures.loaded = contender.memory()?;
        busy.stop()?;
        anyhow::ensure!(answered > 0, "no answer in {:?}", plan.busy);
        found.cpu.push(cpu.as_secs_f64() * 1e6 / answered as f64);
        found.rate.push(answered as f64 / plan.busy.as_secs_f64());
    }
    let latencies = load::paced(&target(contender, plan.bodies[0]), PACED_CONNECTIONS, PACED_RATE, plan.paced)?;
    figures.p50.push(percentile(&latencies, 50));
    figures.p99.push(percentile(&latencies, 99));
    Ok(())
}

/// Of sorted values, in microseconds.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, |value| value.as_secs_f64() * 1e6)
}
