//! Which instance of a level takes an exchange: power of two choices over peak-EWMA load, by weight.

use std::time::Duration;

use crate::model::endpoint::WEIGHT_ONE;

/// Smoothed latency of one endpoint as one worker saw it (peak EWMA: rises at once, decays slowly).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// `None` until something was measured.
    estimate_nanos: Option<f64>,
    updated: Duration,
    /// Exchanges that wait for their answers.
    waiting: u32,
    /// Since when they have, without any of them being answered.
    silent_since: Duration,
}

/// Whether an exchange that waits no more was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The head of its answer came.
    Yes,
    /// It failed, or its client left.
    No,
}

/// Round trip assumed while the first exchanges of an endpoint are under way.
pub const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(30);
/// Time over which an old peak loses most of its weight.
pub const DECAY: Duration = Duration::from_secs(10);

impl PeakEwma {
    /// Nothing measured yet, at `now` (time since the worker started).
    pub fn new(now: Duration) -> Self {
        PeakEwma { estimate_nanos: None, updated: now, waiting: 0, silent_since: now }
    }

    /// An exchange begins to wait for its answer.
    pub fn ask(&mut self, now: Duration) {
        if self.waiting == 0 {
            self.silent_since = now;
        }
        self.waiting += 1;
    }

    /// An exchange waits no more: it was answered, or ended without an answer.
    pub fn answer(&mut self, now: Duration, answered: Answered) {
        self.waiting = self.waiting.saturating_sub(1);
        match answered {
            Answered::Yes => self.silent_since = self.silent_since.max(now),
            Answered::No => {}
        }
    }

    /// Takes in one measured round trip.
    pub fn observe(&mut self, now: Duration, round_trip: Duration) {
        let measured = round_trip.as_nanos() as f64;
        let old = self.share_of_old(now);
        self.estimate_nanos = Some(match self.estimate_nanos {
            Some(estimate) if measured <= estimate => estimate * old + measured * (1.0 - old),
            Some(_) | None => measured,
        });
        self.updated = self.updated.max(now);
    }

    /// Cost of one more exchange: estimate × (in flight ÷ weight + 1), with `weight` as in `Endpoint::weight`. An idle
    /// endpoint costs its latency whatever its weight, so that weights decide shares and load decides within them. One
    /// that was never measured costs nothing while it is idle: a newcomer is tried at once, by one exchange at a time,
    /// and an estimate that nothing has confirmed for long fades, so that what was slow once is tried again. One that has
    /// been silent while exchanges wait costs at least as much as that silence: it is avoided before the first of them is
    /// answered late, or never.
    pub fn cost(&self, now: Duration, in_flight: u32, weight: u32) -> f64 {
        let share = f64::from(weight.max(1)) / f64::from(WEIGHT_ONE);
        let estimate = match (self.estimate_nanos, in_flight) {
            (Some(estimate), _) => estimate * self.share_of_old(now),
            (None, 0) => 0.0,
            (None, _) => DEFAULT_ROUND_TRIP.as_nanos() as f64,
        };
        let silence = if self.waiting > 0 { now.saturating_sub(self.silent_since).as_nanos() as f64 } else { 0.0 };
        estimate.max(silence).max(1.0) * (f64::from(in_flight) / share + 1.0)
    }

    fn share_of_old(&self, now: Duration) -> f64 {
        // e^-x as (1 + x/64)^-64, within 1 % where it matters: the true one is all that would need libm, which adds
        // half a MiB of resident memory to a proxy.
        const STEPS: i32 = 64;
        let passed = now.saturating_sub(self.updated).as_secs_f64() / DECAY.as_secs_f64();
        (1.0 + passed / f64::from(STEPS)).powi(-STEPS)
    }
}

/// Weights of candidates.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// All the same.
    Equal,
    /// The weight of each position; 0 is never picked.
    Each(&'a dyn Fn(usize) -> u32),
    /// As `Each`, and some positions warm up: these are picked by weight alone. Being idle, as who has little weight is,
    /// would else gain them more than that, and being measured seldom more or less.
    Warming {
        /// The weight of each position; 0 is never picked.
        weight: &'a dyn Fn(usize) -> u32,
        /// Whether a position warms up.
        is_new: &'a dyn Fn(usize) -> bool,
    },
}

impl Weights<'_> {
    /// The weight of a position.
    pub fn of(self, position: usize) -> u32 {
        match self {
            Weights::Equal => WEIGHT_ONE,
            Weights::Each(weight) | Weights::Warming { weight, .. } => weight(position),
        }
    }
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
        return (weights.of(*only) > 0).then_some(*only);
    }
    let first = match weights {
        Weights::Equal => scale(random[0], candidates.len() as u64)? as usize,
        Weights::Each(weight) | Weights::Warming { weight, .. } => draw(candidates, weight, random[0])?,
    };
    let mut second = scale(random[1], candidates.len() as u64 - 1)? as usize;
    if second >= first {
        second += 1;
    }
    let (first, second) = (candidates[first], candidates[second]);
    let (weight_first, weight_second) = (weights.of(first), weights.of(second));
    if weight_second == 0 {
        return Some(first);
    }
    if let Weights::Warming { is_new, .. } = weights
        && (is_new(first) || is_new(second))
    {
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

/// Index into `candidates`, drawn by weight.
pub(crate) fn draw(candidates: &[usize], weight: &dyn Fn(usize) -> u32, random: u64) -> Option<usize> {
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
pub(crate) fn scale(random: u64, bound: u64) -> Option<u64> {
    let wide = u128::from(random) * u128::from(bound);
    (bound > 0).then_some((wide >> 64) as u64)
}

/// Finalizer of SplitMix64: every bit of the result depends on every bit of the draw.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRAWS: u64 = 40_000;

    fn shares(weights: &[u32], cost: &dyn Fn(usize, u64) -> f64) -> Vec<f64> {
        let candidates: Vec<usize> = (0..weights.len()).collect();
        let mut counts = vec![0_u64; weights.len()];
        for round in 0..DRAWS {
            let random = [mix(round * 2 + 1), mix(mix(round * 2 + 2))];
            let weight = |position: usize| weights[position];
            let each = Weights::Each(&weight);
            let picked = two_choices(&candidates, each, random, &|position| cost(position, round)).unwrap();
            counts[picked] += 1;
        }
        counts.iter().map(|count| *count as f64 / DRAWS as f64).collect()
    }

    fn assert_shares(weights: &[u32], cost: &dyn Fn(usize, u64) -> f64) {
        let total: u32 = weights.iter().sum();
        for (share, weight) in shares(weights, cost).iter().zip(weights) {
            let expected = f64::from(*weight) / f64::from(total);
            assert!((share - expected).abs() < 0.01, "{weights:?}: {share} instead of {expected}");
        }
    }

    #[test]
    fn shares_follow_weights_while_costs_are_alike() {
        for weights in [&[1, 1][..], &[9_000, 1_000], &[10_000, 10_000, 5_000], &[1, 2, 3, 4], &[0, 5, 5]] {
            assert_shares(weights, &|_, _| 1.0);
            assert_shares(weights, &|position, round| {
                1.0 + (mix(round ^ (position as u64) << 32) % 100) as f64 / 1_000.0
            });
        }
    }

    #[test]
    fn an_expensive_endpoint_is_avoided() {
        let shares = shares(&[1, 1, 1, 1], &|position, _| if position == 0 { 100.0 } else { 1.0 });
        assert!(shares[0] < 0.01, "{shares:?}");
        let shares = self::shares(&[9, 1], &|position, _| if position == 0 { 100.0 } else { 1.0 });
        assert!(shares[0] < 0.05, "{shares:?}");
    }

    #[test]
    fn nothing_is_picked_where_no_candidate_has_weight() {
        assert_eq!(two_choices(&[], Weights::Equal, [1, 2], &|_| 1.0), None);
        assert_eq!(two_choices(&[3], Weights::Each(&|_| 0), [1, 2], &|_| 1.0), None);
        assert_eq!(two_choices(&[3, 4], Weights::Each(&|_| 0), [1, 2], &|_| 1.0), None);
    }

    proptest! {
        #[test]
        fn a_candidate_of_positive_weight_is_picked(
            weights in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u32>()], 0..20),
            random in any::<[u64; 2]>(),
            costs in prop::collection::vec(prop_oneof![0.0..1e9_f64, Just(f64::NAN)], 20),
        ) {
            let candidates: Vec<usize> = (0..weights.len()).collect();
            let weight = |position: usize| weights[position];
            let picked = two_choices(&candidates, Weights::Each(&weight), random, &|position| costs[position]);
            match picked {
                Some(position) => prop_assert!(weights[position] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
            let equal = two_choices(&candidates, Weights::Equal, random, &|position| costs[position]);
            prop_assert_eq!(equal.is_some(), !candidates.is_empty());
        }
    }

    #[test]
    fn estimate_rises_at_once_and_falls_slowly() {
        let mut load = PeakEwma::new(Duration::ZERO);
        load.observe(Duration::ZERO, Duration::from_millis(200));
        let peak = load.cost(Duration::ZERO, 0, WEIGHT_ONE);
        assert_eq!(peak, 200e6);
        load.observe(Duration::from_secs(1), Duration::from_millis(10));
        let later = load.cost(Duration::from_secs(1), 0, WEIGHT_ONE);
        assert!(later > 150e6 && later < peak, "{later}");
        assert!(load.cost(Duration::from_secs(61), 0, WEIGHT_ONE) < 1e6);
    }

    #[test]
    fn silence_while_exchanges_wait_costs_what_it_lasts_until_somebody_is_answered() {
        let millis = Duration::from_millis;
        let mut load = PeakEwma::new(Duration::ZERO);
        load.observe(Duration::ZERO, millis(1));
        let cost = |load: &PeakEwma, at| load.cost(millis(at), 0, WEIGHT_ONE);
        load.ask(millis(10));
        load.ask(millis(12));
        assert_eq!(cost(&load, 510), 500e6);
        load.answer(millis(511), Answered::Yes);
        // The other one waits still, but the instance speaks.
        assert!(cost(&load, 511) <= 1e6);
        assert_eq!(cost(&load, 531), 20e6);
        load.answer(millis(532), Answered::No);
        assert!(cost(&load, 10_000) <= 1e6);
        // What waited before does not count for who asks later.
        load.ask(millis(10_000));
        assert!(cost(&load, 10_000) <= 1e6);
    }

    #[test]
    fn newcomer_is_tried_at_once_but_not_flooded() {
        let newcomer = PeakEwma::new(Duration::ZERO);
        let mut known = newcomer;
        known.observe(Duration::ZERO, Duration::from_millis(1));
        let cost = |load: &PeakEwma, in_flight| load.cost(Duration::ZERO, in_flight, WEIGHT_ONE);
        assert!(cost(&newcomer, 0) < cost(&known, 0));
        assert!(cost(&newcomer, 1) > cost(&known, 5));
    }

    #[test]
    fn load_counts_relative_to_weight() {
        let mut load = PeakEwma::new(Duration::ZERO);
        load.observe(Duration::ZERO, Duration::from_millis(1));
        let cost = |in_flight, weight| load.cost(Duration::ZERO, in_flight, weight);
        assert_eq!(cost(0, 1_000), cost(0, WEIGHT_ONE));
        assert!((cost(1, 1_000) / cost(10, WEIGHT_ONE) - 1.0).abs() < 1e-9);
    }
}
