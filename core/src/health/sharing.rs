//! Shared probing: which of a service's callers probe an instance, and what all of them make of what those found out.

use std::{cmp::Ordering, net::SocketAddr};

use super::ProbeResult;
use crate::{
    balance::{hash, of_address},
    pick::mix,
};

/// Somebody who could probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prober<N> {
    /// Decides, with the instance, who probes: of the same name also after a restart, so that nothing moves by it.
    pub seed: u64,
    /// Who it is.
    pub number: N,
}

impl<N> Prober<N> {
    /// One of this name.
    pub fn named(name: &str, number: N) -> Self {
        Prober { seed: hash(name.as_bytes()), number }
    }
}

/// Those `count` of `candidates` who probe the instance, the same whoever works it out and in whatever order they are told
/// (rendezvous hashing): a prober that comes takes over only what it gets, one that goes hands over only what it had. Fewer
/// where there are no more.
pub fn probers<N: Copy + Ord>(
    instance: SocketAddr,
    candidates: impl IntoIterator<Item = Prober<N>>,
    count: usize,
) -> Vec<N> {
    let place = of_address(instance);
    let mut best: Vec<(u64, N)> = Vec::with_capacity(count.saturating_add(1).min(COUNT_MAX));
    for candidate in candidates {
        let weighed = (mix(place ^ candidate.seed), candidate.number);
        let at = best.partition_point(|one| *one > weighed);
        if at < count {
            best.insert(at, weighed);
            best.truncate(count);
        }
    }
    best.into_iter().map(|(_, number)| number).collect()
}

/// Room that is taken at once for a list of probers.
const COUNT_MAX: usize = 128;

/// What those who probe an instance say together, of whom some may not know yet: what most say, and what was said before
/// where nobody knows or they are divided; `None` = nobody has known yet. One whose own way to the instance is broken does
/// not take it from everybody.
pub fn verdict(before: Option<ProbeResult>, said: impl IntoIterator<Item = ProbeResult>) -> Option<ProbeResult> {
    let (mut passing, mut failing) = (0_usize, 0_usize);
    for one in said {
        match one {
            ProbeResult::Succeeded => passing += 1,
            ProbeResult::Failed => failing += 1,
        }
    }
    match passing.cmp(&failing) {
        Ordering::Less => Some(ProbeResult::Failed),
        Ordering::Equal => before.or((passing > 0).then_some(ProbeResult::Succeeded)),
        Ordering::Greater => Some(ProbeResult::Succeeded),
    }
}

#[cfg(test)]
mod tests;
