//! What data workers count of calls to language models, by route, model, target and lane. Names follow OpenTelemetry's
//! conventions for generative AI where they have one. No prompt or answer is ever looked at here.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{
    model::model_route::{Reason, Usage, UsageSource},
    model_route::standing::Standings,
};
use tokio::time::Instant;

use super::worker::Count;

/// Series per worker; calls of further combinations are counted in one of the target `other`.
const SERIES_MAX: usize = 1_024;
/// Upper bounds of times, milliseconds; one more class takes what is longer.
pub const TIME_BOUNDS: [u64; 14] = [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920];
/// Upper bounds of counts of tokens; one more class takes what is more.
pub const TOKEN_BOUNDS: [u64; 14] =
    [1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];

/// A distribution over 14 bounds.
#[derive(Debug, Default)]
pub struct Distribution {
    /// Counts by class.
    pub classes: [Count; 15],
    /// Sum of all values, in the unit of the bounds.
    pub sum: Count,
}

impl Distribution {
    fn add(&self, bounds: &[u64; 14], value: u64) {
        let class = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.classes[class].add(1);
        self.sum.add(value);
    }
}

/// Labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelKey {
    /// `<name>.<namespace>` of the route.
    pub route: String,
    /// Virtual model as the caller named it.
    pub model: String,
    /// Target.
    pub target: String,
    /// Its own name of the model.
    pub target_model: String,
    /// Its provider.
    pub provider: &'static str,
    /// Operation (`chat`, `embeddings`, …).
    pub operation: &'static str,
    /// Lane of the request; empty = none.
    pub lane: String,
}

/// Counters of one combination.
#[derive(Debug)]
pub struct ModelSeries {
    /// Labels.
    pub key: ModelKey,
    /// Attempts that served.
    pub served: Count,
    /// Attempts that failed, in the order of [`Reason::ALL`].
    pub failed: [Count; Reason::ALL.len()],
    /// Tokens: read, written, read from the cache; reported and estimated.
    pub tokens: [[Count; 3]; 2],
    /// Money in millionths of its unit.
    pub money: Count,
    /// Tokens read by attempts.
    pub input: Distribution,
    /// Tokens written by attempts.
    pub output: Distribution,
    /// Milliseconds from the begin of an attempt to its first token.
    pub first_token: Distribution,
    /// Milliseconds from the begin of an attempt to its end.
    pub duration: Distribution,
}

/// What one attempt came to.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// What was used, and who says so.
    pub usage: Option<(Usage, UsageSource)>,
    /// Price of it, in millionths.
    pub money: u64,
    /// Why it failed, if it did.
    pub failed: Option<Reason>,
    /// Time to its first token, if one came.
    pub first_token: Option<Duration>,
    /// Time to its end.
    pub took: Duration,
}

impl ModelSeries {
    fn new(key: ModelKey) -> Self {
        ModelSeries {
            key,
            served: Count::default(),
            failed: Default::default(),
            tokens: Default::default(),
            money: Count::default(),
            input: Distribution::default(),
            output: Distribution::default(),
            first_token: Distribution::default(),
            duration: Distribution::default(),
        }
    }

    /// Counts an attempt.
    pub fn count(&self, attempted: &Attempted) {
        match attempted.failed.and_then(|reason| Reason::ALL.iter().position(|known| *known == reason)) {
            Some(position) => self.failed[position].add(1),
            None if attempted.first_token.is_some() => self.served.add(1),
            // Given up before it showed anything: another was faster, or the client left.
            None => {}
        }
        self.duration.add(&TIME_BOUNDS, milliseconds(attempted.took));
        if let Some(first_token) = attempted.first_token {
            self.first_token.add(&TIME_BOUNDS, milliseconds(first_token));
        }
        if let Some((usage, source)) = attempted.usage {
            let tokens = &self.tokens[source as usize];
            for (count, amount) in tokens.iter().zip([usage.input, usage.output, usage.cached]) {
                count.add(amount);
            }
            self.input.add(&TOKEN_BOUNDS, usage.input);
            self.output.add(&TOKEN_BOUNDS, usage.output);
        }
        self.money.add(attempted.money);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A request that another target served than the first that was asked, or that ended behind its first token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FallbackKey {
    /// Route.
    pub route: String,
    /// Target that failed.
    pub from: String,
    /// Target that was asked next; empty = nobody was.
    pub to: String,
    /// Why.
    pub reason: &'static str,
    /// Whether the client had some of the answer already.
    pub committed: &'static str,
}

/// A failure that a caller forced for a drill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrillKey {
    /// Route.
    pub route: String,
    /// Target that was not asked.
    pub target: String,
    /// What is said of it.
    pub reason: &'static str,
}

/// Counts by key; of keys beyond [`SERIES_MAX`] nothing is counted.
#[derive(Debug)]
struct Tally<K>(ArcSwap<Vec<Arc<(K, Count)>>>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally(ArcSwap::default())
    }
}

impl<K: PartialEq> Tally<K> {
    /// Only the owning worker may call it.
    fn add(&self, key: K) {
        let known = self.0.load();
        if let Some(found) = known.iter().find(|one| one.0 == key) {
            return found.1.add(1);
        }
        if known.len() < SERIES_MAX {
            let added = Arc::new((key, Count::default()));
            added.1.add(1);
            self.0.store(Arc::new(known.iter().cloned().chain([added]).collect()));
        }
    }
}

/// What a worker had learned of targets at its last tick.
#[derive(Debug)]
pub struct Learned {
    /// Who rests, who is slow.
    pub standings: Standings,
    /// Where the worker's clock began.
    pub started: Instant,
}

impl Learned {
    /// The worker's clock, for states that end with time.
    pub fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }
}

/// Calls to models as one worker counts them, and what it shows of targets.
#[derive(Debug, Default)]
pub struct ModelMetrics {
    learned: ArcSwapOption<Learned>,
    series: ArcSwap<Vec<Arc<ModelSeries>>>,
    fallbacks: Tally<FallbackKey>,
    drills: Tally<DrillKey>,
    /// Milliseconds before the target that served was asked.
    pub overhead: Distribution,
}

impl ModelMetrics {
    /// What the worker has learned of targets; `None` = nothing yet.
    pub fn learned(&self) -> Option<Arc<Learned>> {
        self.learned.load_full()
    }

    /// Shows what the worker has learned. Only the owning worker may call it.
    pub fn show(&self, learned: Learned) {
        self.learned.store(Some(Arc::new(learned)));
    }

    /// Every series, for rendering.
    pub fn series(&self) -> Arc<Vec<Arc<ModelSeries>>> {
        self.series.load_full()
    }

    /// Every fallback, for rendering.
    pub fn fallbacks(&self) -> Arc<Vec<Arc<(FallbackKey, Count)>>> {
        self.fallbacks.0.load_full()
    }

    /// Every forced failure, for rendering.
    pub fn drills(&self) -> Arc<Vec<Arc<(DrillKey, Count)>>> {
        self.drills.0.load_full()
    }

    /// The counters of a combination, added if it is new. Only the owning worker may call it.
    pub fn of(&self, key: ModelKey) -> Arc<ModelSeries> {
        let known = self.series.load();
        if let Some(series) = known.iter().find(|series| series.key == key) {
            return Arc::clone(series);
        }
        if known.len() + 1 >= SERIES_MAX && key.target != "other" {
            let other = || "other".to_owned();
            let key = ModelKey {
                route: other(),
                model: other(),
                target: other(),
                target_model: other(),
                provider: "other",
                operation: "other",
                lane: String::new(),
            };
            return self.of(key);
        }
        let added = Arc::new(ModelSeries::new(key));
        self.series.store(Arc::new(known.iter().cloned().chain([Arc::clone(&added)]).collect()));
        added
    }

    /// Counts a fallback. Only the owning worker may call it.
    pub fn fall_back(&self, key: FallbackKey) {
        self.fallbacks.add(key);
    }

    /// Counts a failure that was forced. Only the owning worker may call it.
    pub fn drill(&self, key: DrillKey) {
        self.drills.add(key);
    }

    /// Counts the time before the target that served was asked. Only the owning worker may call it.
    pub fn waited(&self, overhead: Duration) {
        self.overhead.add(&TIME_BOUNDS, milliseconds(overhead));
    }
}
