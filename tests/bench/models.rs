//! What calls to models cost: streams through a model route, which reads and counts every event, beside the same streams
//! through the same sidecar as ordinary exchanges, which it only passes on.

mod chat;
mod client;
mod events;
mod failover;
mod first_byte;
pub(crate) mod instructions;
mod memory;
mod paced;
mod pacer;
mod provider;
mod summary;
mod world;

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use self::{
    client::Way,
    failover::{Fault, Faults},
    provider::Provider,
    world::World,
};
use crate::{
    contenders::{Place, nginx},
    measure::Measured,
};

/// How long and how often.
struct Plan {
    rounds: usize,
    /// Rounds of what needs a sidecar of its own.
    memory_rounds: usize,
    warm_up: Duration,
    busy: Duration,
    paced: Duration,
    /// Long prompts per round.
    prompts: usize,
    /// Targets that fail in each way.
    faults: usize,
}

impl Plan {
    /// The short plan takes about a minute and a half, the other about five.
    fn new(short: bool, rounds: Option<usize>) -> Plan {
        let milliseconds = Duration::from_millis;
        let plan = if short {
            Plan {
                rounds: 3,
                memory_rounds: 1,
                warm_up: milliseconds(300),
                busy: milliseconds(1_000),
                paced: milliseconds(2_000),
                prompts: 30,
                faults: 15,
            }
        } else {
            Plan {
                rounds: 7,
                memory_rounds: 3,
                warm_up: milliseconds(500),
                busy: milliseconds(2_000),
                paced: milliseconds(4_000),
                prompts: 60,
                faults: 40,
            }
        };
        Plan { rounds: rounds.unwrap_or(plan.rounds), ..plan }
    }
}

/// What was measured of one way.
struct Figures {
    name: &'static str,
    events: events::Figures,
    paced: paced::Figures,
    memory: memory::Figures,
    /// Of an answer to a long prompt, sorted.
    first_byte: Vec<Duration>,
}

/// What was measured.
pub(crate) struct Report {
    rounds: usize,
    ways: Vec<Figures>,
    /// From the request to the first byte of an answer, sorted, by how the first target fails.
    failover: Vec<(Fault, Vec<Duration>)>,
}

impl Report {
    /// Prints the tables.
    pub(crate) fn print(&self) {
        summary::print(self);
    }

    /// The figures, for machines.
    pub(crate) fn json(&self) -> Value {
        summary::json(self)
    }

    /// Every target that is missed, as a sentence.
    pub(crate) fn missed(&self) -> Vec<String> {
        summary::missed(self)
    }
}

/// A way, and the proxy on it.
struct Measurable {
    way: Way,
    proxy: Option<Measured>,
    _running: Option<nginx::Streaming>,
}

/// Measures everything.
///
/// # Errors
/// When a part does not start, or a stream is not what it has to be.
pub(crate) fn run(place: &Place, short: bool, rounds: Option<usize>) -> anyhow::Result<Report> {
    let plan = Plan::new(short, rounds);
    let provider = Provider::start()?;
    eprintln!("models: memory of open streams");
    let (mut relayed, mut modelled) = (memory::Figures::default(), memory::Figures::default());
    for _ in 0..plan.memory_rounds {
        memory::measure(&provider, World::relay, &mut relayed).context("memory of ordinary exchanges")?;
        memory::measure(&provider, World::model, &mut modelled).context("memory of exchanges with models")?;
    }
    let world = World::start(&provider, &[], &[])?;
    let ways = ways(place, &world)?;
    let mut found: Vec<Figures> = ways.iter().map(|of| Figures::of(of.way.name)).collect();
    for round in 0..plan.rounds {
        eprintln!("models: round {} of {}", round + 1, plan.rounds);
        for turn in 0..ways.len() {
            // Each round begins with another, so that nobody always follows the same one.
            let index = (turn + round) % ways.len();
            measure(&ways[index], &plan, &mut found[index])
                .with_context(|| format!("measuring {}", ways[index].way.name))?;
        }
    }
    for (figures, memory) in found.iter_mut().rev().zip([modelled, relayed]) {
        figures.memory = memory;
    }
    drop((ways, world));
    eprintln!("models: targets that fail");
    let mut failover = Faults::new(&provider, plan.faults)?.measure(&provider).context("measuring failover")?;
    failover.iter_mut().for_each(|(_, delays)| delays.sort_unstable());
    found.iter_mut().for_each(|figures| figures.first_byte.sort_unstable());
    Ok(Report { rounds: plan.rounds, ways: found, failover })
}

/// Without a proxy, through nginx, and twice through the sidecar; these two stand last.
fn ways(place: &Place, world: &World) -> anyhow::Result<Vec<Measurable>> {
    let nginx = nginx::streaming(place, world.provider)?;
    let through_nginx = Way { name: "nginx, not buffering", address: nginx.address, authority: "bench".to_owned() };
    Ok(vec![
        Measurable { way: world.direct(), proxy: None, _running: None },
        Measurable { way: through_nginx, proxy: Some(nginx.measured()), _running: Some(nginx) },
        Measurable { way: world.relay(), proxy: Some(world.sidecar()?), _running: None },
        Measurable { way: world.model(), proxy: Some(world.sidecar()?), _running: None },
    ])
}

fn measure(of: &Measurable, plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    if let Some(proxy) = &of.proxy {
        events::measure(&of.way, proxy, (plan.warm_up, plan.busy), &mut figures.events)?;
    }
    paced::measure(&of.way, of.proxy.as_ref(), plan.paced, &mut figures.paced)?;
    first_byte::measure(&of.way, plan.prompts, &mut figures.first_byte)
}

impl Figures {
    fn of(name: &'static str) -> Figures {
        let (events, paced, memory) = Default::default();
        Figures { name, events, paced, memory, first_byte: Vec::new() }
    }
}

/// Of sorted values, in microseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    crate::rounds::percentile(sorted, percent)
}
