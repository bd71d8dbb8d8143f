//! One after the other: smooth weighted round robin, in which a heavy instance has its turns spread out. Also where all
//! weigh the same: a plain circle would be shared by all sets of candidates, and let each set skip some of its own.
//! Callers begin at different places, lest all of them call the same instance first.

use std::sync::Arc;

use crate::{
    model::endpoint::Endpoint,
    pick::{mix, scale},
};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// How far each position is ahead (what it is owed, in weight).
    owed: Vec<i64>,
}

impl Turns {
    pub(super) fn new(members: &[Arc<Endpoint>], random: u64) -> Self {
        let begin = |(position, member): (u64, &Arc<Endpoint>)| {
            let drawn = scale(mix(random ^ mix(position + 1)), u64::from(member.weight));
            i64::try_from(drawn.unwrap_or(0)).unwrap_or(0)
        };
        Turns { owed: (0_u64..).zip(members).map(begin).collect() }
    }

    /// For other instances; those that stay are owed what they were.
    pub(super) fn renewed(self, before: &[Arc<Endpoint>], members: &[Arc<Endpoint>]) -> Self {
        let owed = |member: &Arc<Endpoint>| {
            let earlier = before.binary_search_by_key(&member.address, |endpoint| endpoint.address).ok();
            earlier.and_then(|position| self.owed.get(position)).copied().unwrap_or(0)
        };
        Turns { owed: members.iter().map(owed).collect() }
    }

    pub(super) fn next(&mut self, candidates: &[usize], weight: &dyn Fn(usize) -> u32) -> Option<usize> {
        let (mut total, mut best) = (0_i64, None);
        for position in candidates {
            let weight = i64::from(weight(*position));
            let Some(owed) = self.owed.get_mut(*position).filter(|_| weight > 0) else { continue };
            total += weight;
            *owed += weight;
            if best.is_none_or(|(most, _)| *owed > most) {
                best = Some((*owed, *position));
            }
        }
        let (_, position) = best?;
        self.owed[position] -= total;
        Some(position)
    }
}
