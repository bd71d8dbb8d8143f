//! A ring of hashes: every instance has points on it, more if it has more weight; a key belongs to the first point behind it
//! whose instance may be used. So an instance that comes or goes moves the keys of its own points alone. Bounded: one that
//! has much more than its share under way passes keys on.

use std::sync::Arc;

use super::{Offer, Reason, key::of_address, rendezvous};
use crate::{
    model::endpoint::Endpoint,
    pick::{Weights, mix, scale},
};

/// Points of an instance of the greatest weight.
const POINTS: usize = 160;
/// Most points of a ring where instances would have more than [`POINTS_MIN`]; 16 bytes each.
const RING_MAX: usize = 32_768;
/// Fewest points of an instance of the greatest weight: fewer would make shares uneven.
const POINTS_MIN: usize = 16;
/// Points that a key passes at most before it is placed without the ring.
const WALK_MAX: usize = 1_024;
/// An instance may have so many times its share of exchanges under way.
const BOUND: f64 = 1.25;
/// Instances whose exchanges are counted to know the mean.
const SAMPLE: usize = 32;

/// The ring of one set of instances.
#[derive(Debug)]
pub(super) struct Ring {
    /// In order of hashes.
    points: Vec<Point>,
    /// Points of each position.
    counts: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    hash: u64,
    position: u32,
    /// Number among the points of the same instance: one that is to have part of its weight has the first ones.
    rank: u32,
}

impl Ring {
    pub(super) fn new(members: &[Arc<Endpoint>]) -> Self {
        let most = members.iter().map(|member| member.weight).max().unwrap_or(0).max(1);
        let each = (RING_MAX / members.len().max(1)).clamp(POINTS_MIN, POINTS);
        let counts: Vec<u32> = members.iter().map(|member| count(member.weight, most, each)).collect();
        let mut points = Vec::with_capacity(counts.iter().map(|count| *count as usize).sum());
        for (position, member) in (0_u32..).zip(members) {
            let base = of_address(member.address);
            points.extend((0..counts[position as usize]).map(|rank| {
                let hash = mix(base ^ mix(u64::from(rank) + 1));
                Point { hash, position, rank }
            }));
        }
        points.sort_unstable_by_key(|point| (point.hash, point.position));
        Ring { points, counts }
    }

    pub(super) fn pick(&self, members: &[Arc<Endpoint>], key: u64, offer: &Offer<'_>) -> Option<(usize, Reason)> {
        let first = self.points.partition_point(|point| point.hash < key);
        let (behind, before) = self.points.split_at(first.min(self.points.len()));
        let mut load: Option<f64> = None;
        let mut busy = None;
        for (walked, point) in before.iter().chain(behind).take(WALK_MAX).enumerate() {
            let position = point.position as usize;
            if offer.candidates.binary_search(&position).is_err() || !self.has(members, point, offer) {
                continue;
            }
            let reason = if walked == 0 { Reason::Key } else { Reason::KeyPassedOn };
            let in_flight = (offer.in_flight)(position);
            // One exchange is within any bound.
            if in_flight == 0 {
                return Some((position, reason));
            }
            let per_weight = *load.get_or_insert_with(|| load_per_weight(offer));
            let share = per_weight * f64::from(offer.weights.of(position));
            if f64::from(in_flight) < (share * BOUND).ceil().max(1.0) {
                return Some((position, reason));
            }
            busy = busy.or(Some(position));
        }
        let found = busy.or_else(|| rendezvous(members, key, offer))?;
        Some((found, Reason::KeyPassedOn))
    }

    /// Whether a point counts, of an instance that may have part of its weight only.
    fn has(&self, members: &[Arc<Endpoint>], point: &Point, offer: &Offer<'_>) -> bool {
        let position = point.position as usize;
        let (now, whole) = (offer.weights.of(position), members[position].weight);
        if now == 0 {
            return false;
        }
        let counted = match offer.weights {
            Weights::Equal => return true,
            Weights::Each(_) | Weights::Warming { .. } => {
                (u64::from(self.counts[position]) * u64::from(now.min(whole))).div_ceil(u64::from(whole.max(1)))
            }
        };
        u64::from(point.rank) < counted
    }
}

fn count(weight: u32, most: u32, each: usize) -> u32 {
    let exact = u64::from(weight) * each as u64;
    let count = (exact + u64::from(most) / 2) / u64::from(most);
    u32::try_from(count).unwrap_or(u32::MAX).max(u32::from(weight > 0))
}

/// Exchanges under way for each unit of weight, the one that is to be placed included, by a sample.
fn load_per_weight(offer: &Offer<'_>) -> f64 {
    let candidates = offer.candidates;
    let start = scale(offer.random[1], candidates.len() as u64).unwrap_or(0) as usize;
    let sample = candidates.iter().cycle().skip(start).take(candidates.len().min(SAMPLE));
    let (mut under_way, mut weight) = (1.0, 0.0);
    for position in sample {
        under_way += f64::from((offer.in_flight)(*position));
        weight += f64::from(offer.weights.of(*position));
    }
    if weight > 0.0 { under_way / weight } else { 0.0 }
}
