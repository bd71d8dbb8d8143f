//! Which of the instances that may be used takes an exchange, by the algorithm of the service's policy. Pure: load, weights
//! and chance are passed in; what is kept between exchanges (whose turn it is, ring, table) belongs to one worker and one
//! service, and is made once for each set of instances. A pick allocates nothing.
//!
//! Which instances may be used, and how much of its weight a new one has, is decided elsewhere.

mod key;
mod ring;
mod table;
mod turns;

use std::sync::Arc;

pub(crate) use self::key::of_address;
pub use self::key::{Key, hash, key};
use self::{ring::Ring, table::Table, turns::Turns};
use crate::{
    model::{endpoint::Endpoint, policy::LoadBalancing},
    pick::{Weights, draw, mix, scale, two_choices},
};

/// What an exchange is placed by.
pub struct Offer<'a> {
    /// Positions that may be used, in ascending order.
    pub candidates: &'a [usize],
    /// Weights of positions, those of new instances reduced; at most what the instances have.
    pub weights: Weights<'a>,
    /// What one more exchange would cost at a position (peak EWMA).
    pub cost: &'a dyn Fn(usize) -> f64,
    /// Exchanges under way at a position.
    pub in_flight: &'a dyn Fn(usize) -> u32,
    /// Hash of the key of the request, where it has one.
    pub key: Option<u64>,
    /// Two independent uniform draws.
    pub random: [u64; 2],
}

/// Why an instance was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is no other.
    Only,
    /// It was the cheaper of two.
    Cheaper,
    /// It was the less busy of two.
    LessBusy,
    /// It was its turn.
    Turn,
    /// By chance.
    Chance,
    /// The key of the request leads to it.
    Key,
    /// The key leads to one that cannot be used, is too busy or too new, and then to it.
    KeyPassedOn,
    /// By chance, since the request has no key.
    NoKey,
}

/// Of a service, what one worker keeps between exchanges.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: Option<Turns>,
    ring: Option<Ring>,
    table: Option<Table>,
}

impl Balancer {
    /// Picks among `offer.candidates`, positions in `members`, which are all instances of the service; they must be those of
    /// the last call unless [`Balancer::renew`] was called. `None` when no candidate has a positive weight.
    pub fn pick(
        &mut self,
        how: &LoadBalancing,
        members: &[Arc<Endpoint>],
        offer: &Offer<'_>,
    ) -> Option<(usize, Reason)> {
        if let [only] = offer.candidates {
            return (offer.weights.of(*only) > 0).then_some((*only, Reason::Only));
        }
        match (how, offer.key) {
            (LoadBalancing::PeakEwma, _) => {
                let found = two_choices(offer.candidates, offer.weights, offer.random, offer.cost)?;
                Some((found, Reason::Cheaper))
            }
            (LoadBalancing::LeastRequest, _) => {
                let found = two_choices(offer.candidates, offer.weights, offer.random, &|at| busy(offer, at))?;
                Some((found, Reason::LessBusy))
            }
            (LoadBalancing::RoundRobin, _) => {
                let turns = self.turns.get_or_insert_with(|| Turns::new(members, offer.random[0]));
                // On the scale of what they are owed from the beginning.
                let alike = |position: usize| members[position].weight.max(1);
                let weight: &dyn Fn(usize) -> u32 = match offer.weights {
                    Weights::Equal => &alike,
                    Weights::Each(weight) | Weights::Warming { weight, .. } => weight,
                };
                turns.next(offer.candidates, weight).map(|found| (found, Reason::Turn))
            }
            (LoadBalancing::Random, _) => chance(offer).map(|found| (found, Reason::Chance)),
            (LoadBalancing::RingHash { .. } | LoadBalancing::Maglev { .. }, None) => {
                chance(offer).map(|found| (found, Reason::NoKey))
            }
            (LoadBalancing::RingHash { .. }, Some(key)) => {
                self.ring.get_or_insert_with(|| Ring::new(members)).pick(members, key, offer)
            }
            (LoadBalancing::Maglev { .. }, Some(key)) => {
                self.table.get_or_insert_with(|| Table::new(members)).pick(members, key, offer)
            }
        }
    }

    /// The instances of the service are others now. Whose turn it is among those that stay is kept.
    pub fn renew(&mut self, before: &[Arc<Endpoint>], members: &[Arc<Endpoint>]) {
        // Rings and tables are made of addresses and weights alone: what else changes leaves them as they are.
        let is_same =
            |(one, other): (&Arc<Endpoint>, &Arc<Endpoint>)| one.address == other.address && one.weight == other.weight;
        if before.len() != members.len() || !before.iter().zip(members).all(is_same) {
            (self.ring, self.table) = (None, None);
        }
        self.turns = self.turns.take().map(|turns| turns.renewed(before, members));
    }
}

/// Exchanges that a position would have, for its weight.
fn busy(offer: &Offer<'_>, position: usize) -> f64 {
    let weight = offer.weights.of(position).max(1);
    f64::from((offer.in_flight)(position)) / f64::from(weight) + f64::MIN_POSITIVE
}

/// One by weight.
fn chance(offer: &Offer<'_>) -> Option<usize> {
    let at = match offer.weights {
        Weights::Equal => scale(offer.random[0], offer.candidates.len() as u64)? as usize,
        Weights::Each(weight) | Weights::Warming { weight, .. } => draw(offer.candidates, weight, offer.random[0])?,
    };
    Some(offer.candidates[at])
}

/// The candidate whose address and the key together make the greatest number: for keys that neither ring nor table leads
/// anywhere. Each candidate that goes moves its own keys alone.
fn rendezvous(members: &[Arc<Endpoint>], key: u64, offer: &Offer<'_>) -> Option<usize> {
    let usable = offer.candidates.iter().copied().filter(|position| offer.weights.of(*position) > 0);
    usable.max_by_key(|position| mix(key ^ key::of_address(members[*position].address)))
}

#[cfg(test)]
mod tests;
