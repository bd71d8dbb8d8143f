//! Instructions that the sidecar executes for an event, as an ordinary exchange and through the model route, counted by
//! callgrind: what no other work on the machine can change. What the kernel does is in none of the figures.

use std::{path::Path, thread};

use super::{
    client::{self, Way},
    provider::{Behaviour, Provider},
    world::World,
};
use crate::{instructions, rounds::SETTLED};

/// Streams at the same time.
const STREAMS: usize = 8;
/// What the model route may add to an event that comes alone, instructions: what is reached, so that it stays.
const ALONE_LIMIT: f64 = 9_000.0;
/// The same where many come at once.
const PACKED_LIMIT: f64 = 7_500.0;

/// How events come, tokens of a shorter and of a longer stream, and what may be added to each. The difference of the two
/// streams is that of their events alone, without beginning and end.
const CASES: [(&str, Behaviour, [u64; 2], f64); 2] = [
    ("an event that comes alone", Behaviour::Paced, [50, 150], ALONE_LIMIT),
    ("an event among many", Behaviour::Packed, [1_000, 5_000], PACKED_LIMIT),
];

/// Counts, prints, and returns what is missed. `program` is callgrind, which leaves its files in `folder`.
///
/// # Errors
/// When the mesh does not start, a stream is not whole, or callgrind cannot be asked.
pub(crate) fn run(folder: &Path, program: &[String]) -> anyhow::Result<Vec<String>> {
    let provider = Provider::start()?;
    let world = World::start(&provider, &[], program)?;
    let pid = world.pid()?;
    thread::sleep(SETTLED);
    let mut missed = Vec::new();
    println!("\n{:<40} {:>10} {:>10} {:>10}", "instructions per event", "ordinary", "model", "added");
    for (name, behaviour, tokens, limit) in CASES {
        let mut each = Vec::new();
        for way in [world.relay(), world.model()] {
            read(&way, behaviour, tokens[0])?;
            let mut counted = Vec::new();
            for tokens in tokens {
                let reason = format!("{name}, {}, {tokens}", way.name);
                instructions::ask(pid, "zero")?;
                read(&way, behaviour, tokens)?;
                instructions::ask(pid, &format!("dump {reason}"))?;
                counted.push(instructions::counted(folder, pid, &reason)? as f64);
            }
            each.push((counted[1] - counted[0]) / ((tokens[1] - tokens[0]) * STREAMS as u64) as f64);
        }
        let added = each[1] - each[0];
        println!("{name:<40} {:>10.0} {:>10.0} {added:>10.0}", each[0], each[1]);
        if added > limit {
            missed.push(format!("{name}: {added:.0} instructions added; at most {limit} allowed"));
        }
    }
    Ok(missed)
}

/// Reads streams to their ends, all at the same time.
fn read(way: &Way, behaviour: Behaviour, tokens: u64) -> anyhow::Result<()> {
    let one = || {
        let way = way.clone();
        thread::spawn(move || {
            let request = way.request(behaviour, tokens);
            client::ask(&mut way.connect()?, &request, usize::try_from(tokens)?).map(drop)
        })
    };
    let all: Vec<_> = (0..STREAMS).map(|_| one()).collect();
    all.into_iter().try_for_each(|stream| stream.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?)
}
