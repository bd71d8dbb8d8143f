//! What an open stream holds in the sidecar: resident memory with many that wait for their next event, less that without.

use std::thread;

use super::{
    client::{self, Way},
    provider::{Behaviour, Provider},
    world::World,
};
use crate::rounds::SETTLED;

/// Streams that are held open.
pub(super) const STREAMS: usize = 1_000;
/// Tokens of a stream that would be held to its end.
const TOKENS: u64 = 1_000;
/// How long the sidecar has to give back what only the beginning of a stream needed.
const REST: std::time::Duration = std::time::Duration::from_secs(2);

/// What was measured of one way.
#[derive(Default)]
pub(super) struct Figures {
    /// Bytes per stream, by round.
    pub(super) each: Vec<f64>,
    /// Resident bytes of the sidecar with all of them, by round.
    pub(super) all: Vec<f64>,
}

/// Measures one way once, on a sidecar of its own, so that nothing is left of others.
///
/// # Errors
/// When a stream cannot be opened.
pub(super) fn measure(provider: &Provider, way: fn(&World) -> Way, figures: &mut Figures) -> anyhow::Result<()> {
    let world = World::start(provider, &[], &[])?;
    let (sidecar, way) = (world.sidecar()?, way(&world));
    thread::sleep(SETTLED);
    // What the first stream of all needs is none of the others'.
    drop(client::hold(&way, &way.request(Behaviour::Held, TOKENS))?);
    let before = sidecar.memory()?.resident;
    let request = way.request(Behaviour::Held, TOKENS);
    let streams = (0..STREAMS).map(|_| client::hold(&way, &request)).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(REST);
    let after = sidecar.memory()?.resident;
    drop(streams);
    figures.each.push((after as f64 - before as f64) / STREAMS as f64);
    figures.all.push(after as f64);
    Ok(())
}
