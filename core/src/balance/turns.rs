//! One after the other: in a circle where all weigh the same, else smooth weighted round robin, in which a heavy instance
//! has its turns spread out. Callers begin at different places, lest all of them call the same instance first.

use std::sync::Arc;

use crate::{
    model::endpoint::Endpoint,
    pick::{Weights, mix, scale},
};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// How many turns there were, where all weigh the same.
    circle: usize,
    /// How far each position is ahead (what it is owed, in weight).
    owed: Vec<i64>,
}

impl Turns {
    pub(super) fn new(members: &[Arc<Endpoint>], random: u64) -> Self {
        let begin = |(position, member): (u64, &Arc<Endpoint>)| {
            let drawn = scale(mix(random ^ mix(position + 1)), u64::from(member.weight));
            i64::try_from(drawn.unwrap_or(0)).unwrap_or(0)
        };
        Turns { circle: (random >> 32) as usize, owed: (0_u64..).zip(members).map(begin).collect() }
    }

    /// For other instances; those that stay are owed what they were.
    pub(super) fn renewed(self, before: &[Arc<Endpoint>], members: &[Arc<Endpoint>]) -> Self {
        let owed = |member: &Arc<Endpoint>| {
            let earlier = before.binary_search_by_key(&member.address, |endpoint| endpoint.address).ok();
            earlier.and_then(|position| self.owed.get(position)).copied().unwrap_or(0)
        };
        Turns { circle: self.circle, owed: members.iter().map(owed).collect() }
    }

    pub(super) fn next(&mut self, candidates: &[usize], weights: Weights<'_>) -> Option<usize> {
        match weights {
            Weights::Equal => {
                self.circle = self.circle.wrapping_add(1);
                candidates.get(self.circle.checked_rem(candidates.len())?).copied()
            }
            Weights::Each(weight) | Weights::Warming { weight, .. } => self.weighted(candidates, weight),
        }
    }

    fn weighted(&mut self, candidates: &[usize], weight: &dyn Fn(usize) -> u32) -> Option<usize> {
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
