//! What data workers count of calls to language models, by route, model, target and lane. Names follow OpenTelemetry's
//! conventions for generative AI where they have one. No prompt or answer is ever looked at here.
//!
//! Counting an attempt allocates nothing once its labels are known, and an event of a stream counts nothing at all.

pub mod distribution;
mod labels;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{
    model::model_route::{Reason, Usage, UsageSource},
    model_route::standing::Standings,
};
use tokio::time::Instant;

use self::distribution::{Distribution, FIRST_TOKEN, OPERATION, OVERHEAD, PER_TOKEN, TOKENS};
pub use self::labels::{DrillKey, FallbackKey, ModelKey, ModelLabels};
use super::worker::Count;

/// Series per worker; calls of further combinations are counted in one of the target `other`.
const SERIES_MAX: usize = 1_024;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its answer was whole.
    Whole,
    /// It was given up: another was faster, or the client left.
    GivenUp,
    /// It failed.
    Failed(Reason),
}

impl Ended {
    /// Every end, in the order of [`Ended::place`].
    pub fn all() -> impl Iterator<Item = Ended> {
        [Ended::Whole, Ended::GivenUp].into_iter().chain(Reason::ALL.into_iter().map(Ended::Failed))
    }

    /// `error.type` of it; empty = none.
    pub fn error_type(self) -> &'static str {
        match self {
            Ended::Whole => "",
            Ended::GivenUp => "cancelled",
            Ended::Failed(reason) => reason.as_str(),
        }
    }

    /// Why it failed, if it did.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Ended::Whole | Ended::GivenUp => None,
            Ended::Failed(reason) => Some(reason),
        }
    }

    fn place(self) -> usize {
        match self {
            Ended::Whole => 0,
            Ended::GivenUp => 1,
            Ended::Failed(reason) => 2 + place(reason),
        }
    }
}

/// Place of a reason in [`Reason::ALL`].
fn place(reason: Reason) -> usize {
    Reason::ALL.iter().position(|known| *known == reason).unwrap_or_default()
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
    /// Of those, after how many the target rested; as above.
    pub rested: [Count; Reason::ALL.len()],
    /// Tokens: read, written, read from the cache; reported and estimated.
    pub tokens: [[Count; 3]; 2],
    /// Money in millionths of its unit.
    pub money: Count,
    /// Tokens read by attempts.
    pub input: Distribution,
    /// Tokens written by attempts.
    pub output: Distribution,
    /// Times from the begin of an attempt to the first event of its stream.
    pub first_chunk: Distribution,
    /// Times from the begin of an attempt to the first token of its stream.
    pub first_token: Distribution,
    /// Times between the tokens behind the first, mean of each whole stream.
    pub per_token: Distribution,
    /// Times from the begin of an attempt to its end, by how it ended. Made when first needed: most of them never are.
    took: [OnceLock<Distribution>; 2 + Reason::ALL.len()],
}

/// What one attempt came to.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// What was used, and who says so.
    pub usage: Option<(Usage, UsageSource)>,
    /// Price of it, in millionths.
    pub money: u64,
    /// How it ended.
    pub ended: Ended,
    /// Whether the target rested then.
    pub rested: bool,
    /// Whether it had shown a token, or its whole answer.
    pub served: bool,
    /// Time to the first event of a stream, if one came.
    pub first_chunk: Option<Duration>,
    /// Time to the first token of a stream, if one came.
    pub first_token: Option<Duration>,
    /// Time to its end.
    pub took: Duration,
}

impl Attempted {
    /// Mean time of each token behind the first, of a stream that is whole.
    fn per_token(&self) -> Option<Duration> {
        let (first_token, (usage, _)) = (self.first_token?, self.usage?);
        let further = u32::try_from(usage.output.saturating_sub(1)).ok().filter(|further| *further > 0)?;
        (self.ended == Ended::Whole).then(|| self.took.saturating_sub(first_token) / further)
    }
}

impl ModelSeries {
    fn new(key: ModelKey) -> Self {
        ModelSeries {
            key,
            served: Count::default(),
            failed: Default::default(),
            rested: Default::default(),
            tokens: Default::default(),
            money: Count::default(),
            input: Distribution::new(&TOKENS),
            output: Distribution::new(&TOKENS),
            first_chunk: Distribution::new(&OPERATION),
            first_token: Distribution::new(&FIRST_TOKEN),
            per_token: Distribution::new(&PER_TOKEN),
            took: Default::default(),
        }
    }

    /// Times of attempts that ended so, if any did.
    pub fn took(&self, ended: Ended) -> Option<&Distribution> {
        self.took[ended.place()].get()
    }

    /// Counts an attempt. Only the owning worker may call it.
    pub fn count(&self, attempted: &Attempted) {
        match attempted.ended.reason() {
            Some(reason) => {
                self.failed[place(reason)].add(1);
                self.rested[place(reason)].add(u64::from(attempted.rested));
            }
            // Given up before it showed anything, it is neither.
            None => self.served.add(u64::from(attempted.served)),
        }
        let took = self.took[attempted.ended.place()].get_or_init(|| Distribution::new(&OPERATION));
        took.add_time(attempted.took);
        if let Some(first_chunk) = attempted.first_chunk {
            self.first_chunk.add_time(first_chunk);
        }
        if let Some(first_token) = attempted.first_token.filter(|_| attempted.ended.reason().is_none()) {
            self.first_token.add_time(first_token);
        }
        if let Some(per_token) = attempted.per_token() {
            self.per_token.add_time(per_token);
        }
        if let Some((usage, source)) = attempted.usage {
            let tokens = &self.tokens[source as usize];
            for (count, amount) in tokens.iter().zip([usage.input, usage.output, usage.cached]) {
                count.add(amount);
            }
            self.input.add(usage.input);
            self.output.add(usage.output);
        }
        self.money.add(attempted.money);
    }
}

/// Requests that were passed on without being held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnheldKey {
    /// Route.
    pub route: String,
    /// Why.
    pub why: &'static str,
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
#[derive(Debug)]
pub struct ModelMetrics {
    learned: ArcSwapOption<Learned>,
    series: ArcSwap<Vec<Arc<ModelSeries>>>,
    fallbacks: Tally<FallbackKey>,
    drills: Tally<DrillKey>,
    unheld: Tally<UnheldKey>,
    /// Times before the target that served was asked.
    pub overhead: Distribution,
}

impl Default for ModelMetrics {
    fn default() -> Self {
        ModelMetrics {
            learned: ArcSwapOption::default(),
            series: ArcSwap::default(),
            fallbacks: Tally::default(),
            drills: Tally::default(),
            unheld: Tally::default(),
            overhead: Distribution::new(&OVERHEAD),
        }
    }
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
    pub fn of(&self, labels: ModelLabels<'_>) -> Arc<ModelSeries> {
        let known = self.series.load();
        if let Some(series) = known.iter().find(|series| labels.are(&series.key)) {
            return Arc::clone(series);
        }
        if known.len() + 1 >= SERIES_MAX && labels.route != ModelLabels::OTHER.route {
            return self.of(ModelLabels::OTHER);
        }
        let added = Arc::new(ModelSeries::new(labels.owned()));
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

    /// Every request that was not held, for rendering.
    pub fn unheld_requests(&self) -> Arc<Vec<Arc<(UnheldKey, Count)>>> {
        self.unheld.0.load_full()
    }

    /// Counts a request that is passed on without being held. Only the owning worker may call it.
    pub fn unheld(&self, route: &str, why: &'static str) {
        self.unheld.add(UnheldKey { route: route.to_owned(), why });
    }

    /// Counts the time before the target that served was asked. Only the owning worker may call it.
    pub fn waited(&self, overhead: Duration) {
        self.overhead.add_time(overhead);
    }
}
