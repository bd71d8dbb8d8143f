//! Which instance of a level takes an exchange: power of two choices over peak-EWMA load, by weight.

use std::time::Duration;

use crate::model::endpoint::WEIGHT_ONE;

/// Smoothed latency of one endpoint as one worker saw it (peak EWMA: rises at once, decays slowly).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    estimate_nanos: f64,
    updated: Duration,
}

/// Round trip assumed before anything was measured.
pub const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(30);
/// Time over which an old peak loses most of its weight.
pub const DECAY: Duration = Duration::from_secs(10);

impl PeakEwma {
    /// A fresh estimate at `now` (time since the worker started).
    pub fn new(now: Duration) -> Self {
        PeakEwma { estimate_nanos: DEFAULT_ROUND_TRIP.as_nanos() as f64, updated: now }
    }

    /// Takes in one measured round trip.
    pub fn observe(&mut self, now: Duration, round_trip: Duration) {
        let measured = round_trip.as_nanos() as f64;
        if measured > self.estimate_nanos {
            self.estimate_nanos = measured;
        } else {
            let old = self.share_of_old(now);
            self.estimate_nanos = self.estimate_nanos * old + measured * (1.0 - old);
        }
        self.updated = self.updated.max(now);
    }

    /// Cost of one more exchange: estimate × (in flight ÷ weight + 1), with `weight` as in `Endpoint::weight`. An idle
    /// endpoint costs its latency whatever its weight, so that weights decide shares and load decides within them.
    pub fn cost(&self, now: Duration, in_flight: u32, weight: u32) -> f64 {
        let share = f64::from(weight.max(1)) / f64::from(WEIGHT_ONE);
        // An estimate that nothing has confirmed for long fades, so that an endpoint which was slow once is tried again.
        let faded = self.estimate_nanos * self.share_of_old(now);
        faded.max(1.0) * (f64::from(in_flight) / share + 1.0)
    }

    fn share_of_old(&self, now: Duration) -> f64 {
        (-now.saturating_sub(self.updated).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// Weights of candidates.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// All the same.
    Equal,
    /// The weight of each position; 0 is never picked.
    Each(&'a dyn Fn(usize) -> u32),
}

/// Picks one of `candidates` (positions). The first choice is drawn by weight, the second evenly among the others; the
/// cheaper one is taken, but a lighter second one only in proportion to its weight unless it is less than half as
/// costly. So equal costs give shares exactly by weight, and equal weights give plain power of two choices.
/// `random` are two independent uniform draws; `cost` is asked for two positions at most. `None` when no candidate has a
/// positive weight.
pub fn two_choices(
    candidates: &[usize],
    weights: Weights<'_>,
    random: [u64; 2],
    cost: &dyn Fn(usize) -> f64,
) -> Option<usize> {
    if let [only] = candidates {
        return (weight_of(weights, *only) > 0).then_some(*only);
    }
    let first = match weights {
        Weights::Equal => scale(random[0], candidates.len() as u64)? as usize,
        Weights::Each(weight) => draw(candidates, weight, random[0])?,
    };
    let mut second = scale(random[1], candidates.len() as u64 - 1)? as usize;
    if second >= first {
        second += 1;
    }
    let (first, second) = (candidates[first], candidates[second]);
    let (weight_first, weight_second) = (weight_of(weights, first), weight_of(weights, second));
    if weight_second == 0 {
        return Some(first);
    }
    let (cost_first, cost_second) = (cost(first), cost(second));
    if cost_second.total_cmp(&cost_first).is_ge() {
        return Some(first);
    }
    let by_weight = f64::from(weight_second) / f64::from(weight_first);
    let by_cost = 1.0 - 2.0 * cost_second / cost_first;
    // The high bits of the second draw chose the position; mixed, its low bits are as good as another draw.
    let chance = mix(random[1]) as f64 / u64::MAX as f64;
    Some(if chance < by_weight.max(by_cost) { second } else { first })
}

fn weight_of(weights: Weights<'_>, position: usize) -> u32 {
    match weights {
        Weights::Equal => WEIGHT_ONE,
        Weights::Each(weight) => weight(position),
    }
}

/// Index into `candidates`, drawn by weight.
fn draw(candidates: &[usize], weight: &dyn Fn(usize) -> u32, random: u64) -> Option<usize> {
    let total = candidates.iter().map(|position| u64::from(weight(*position))).sum();
    let mut left = scale(random, total)?;
    for (index, position) in candidates.iter().enumerate() {
        match left.checked_sub(u64::from(weight(*position))) {
            Some(rest) => left = rest,
            None => return Some(index),
        }
    }
    None
}

/// A uniform draw over `0..bound`.
fn scale(random: u64, bound: u64) -> Option<u64> {
    let wide = u128::from(random) * u128::from(bound);
    (bound > 0).then_some((wide >> 64) as u64)
}

/// Finalizer of SplitMix64: every bit of the result depends on every bit of the draw.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
