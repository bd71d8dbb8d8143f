//! Metrics of calls to language models, over all workers.

use std::{collections::BTreeMap, fmt, sync::Arc};

use mesh_core::{
    model::model_route::{ModelTarget, Reason, UsageSource, VirtualModel},
    model_route::{explain::Stand, standing::State},
};
use prometheus_client::encoding::NoLabelSet;

use super::{Labels, Output, Sources};
use crate::telemetry::{
    metrics::{self as m, Metric},
    models::{
        DrillKey, Ended, FallbackKey, Learned, ModelKey, ModelSeries, UnheldKey,
        distribution::{Bounds, Distribution},
    },
};

/// Labels of tokens, in the order of [`ModelSeries::tokens`].
const TYPES: [&str; 3] = ["input", "output", "cached"];

type ByKey = BTreeMap<ModelKey, Vec<Arc<ModelSeries>>>;
/// One of the distributions of a series.
type Of = fn(&ModelSeries) -> &Distribution;

/// A distribution over all workers.
struct Sum {
    bounds: &'static Bounds,
    classes: Vec<u64>,
    sum: u64,
}

impl Sum {
    /// Of all that there are; `None` = there is none.
    fn of<'d>(all: impl Iterator<Item = &'d Distribution>) -> Option<Sum> {
        let mut sum: Option<Sum> = None;
        for one in all {
            let (bounds, length) = (one.bounds, one.classes.len());
            let sum = sum.get_or_insert_with(|| Sum { bounds, classes: vec![0; length], sum: 0 });
            super::add(&mut sum.classes, &one.classes);
            sum.sum += one.sum.get();
        }
        sum
    }
}

fn total(all: &[Arc<ModelSeries>], count: impl Fn(&ModelSeries) -> u64) -> f64 {
    all.iter().map(|series| count(series)).sum::<u64>() as f64
}

fn labels(key: &ModelKey) -> Labels<'_> {
    vec![
        ("route", &key.route),
        ("target", &key.target),
        ("lane", &key.lane),
        ("gen_ai_operation_name", key.operation),
        ("gen_ai_provider_name", key.provider),
        ("gen_ai_request_model", &key.model),
        ("gen_ai_response_model", &key.target_model),
    ]
}

impl Sources {
    pub(super) fn models(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let mut by_key = ByKey::new();
        for series in self.workers.iter().flat_map(|worker| worker.models.series().to_vec()) {
            by_key.entry(series.key.clone()).or_default().push(series);
        }
        amounts(out, &by_key)?;
        times(out, &by_key)?;
        let overhead = Sum::of(self.workers.iter().map(|worker| &worker.models.overhead));
        distributions(out, m::MODEL_OVERHEAD, overhead.map(|overhead| (Vec::new(), overhead)))?;
        self.fallbacks(out)?;
        rests(out, &by_key)?;
        self.targets(out)
    }

    fn fallbacks(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let mut sums: BTreeMap<FallbackKey, u64> = BTreeMap::new();
        for one in self.workers.iter().flat_map(|worker| worker.models.fallbacks().to_vec()) {
            *sums.entry(one.0.clone()).or_default() += one.1.get();
        }
        out.family(m::MODEL_FALLBACKS, sums.iter().map(fallback))?;
        let mut drills: BTreeMap<DrillKey, u64> = BTreeMap::new();
        for one in self.workers.iter().flat_map(|worker| worker.models.drills().to_vec()) {
            *drills.entry(one.0.clone()).or_default() += one.1.get();
        }
        out.family(m::MODEL_DRILLS, drills.iter().map(|(key, count)| (drill_labels(key), *count as f64)))?;
        let mut unheld: BTreeMap<UnheldKey, u64> = BTreeMap::new();
        for one in self.workers.iter().flat_map(|worker| worker.models.unheld_requests().to_vec()) {
            *unheld.entry(one.0.clone()).or_default() += one.1.get();
        }
        let unheld = unheld.iter().map(|(key, count)| (unheld_labels(key), *count as f64));
        out.family(m::MODEL_UNHELD, unheld)
    }

    /// How targets of the routes in force stand; of several workers the worst counts.
    fn targets(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let snapshot = self.shared.load();
        let learned: Vec<Arc<Learned>> = self.workers.iter().filter_map(|worker| worker.models.learned()).collect();
        let stand = |route: &str, model: &VirtualModel, target: &ModelTarget| {
            let of = |one: &Arc<Learned>| Stand::of_any(&one.standings, route, (model, target), one.now());
            learned.iter().map(of).fold(Stand::FRESH, Stand::worse)
        };
        let mut stands = Vec::new();
        for route in snapshot.model_routes.iter() {
            for (model, target) in
                route.models.iter().flat_map(|model| model.targets.iter().map(move |one| (model, one)))
            {
                let labels: Labels<'_> = vec![("route", &route.name), ("target", &target.name)];
                stands.push((labels, stand(&route.name, model, target)));
            }
        }
        let resting = stands.iter().filter_map(|(labels, stand)| match stand.state {
            State::Ready | State::Trial => None,
            State::Resting { reason, .. } => Some((super::with(labels.clone(), "reason", reason.as_str()), 1.0)),
        });
        out.family(m::MODEL_RESTING, resting)?;
        out.family(m::MODEL_SHARE, stands.iter().map(|(labels, stand)| (labels.clone(), stand.share)))
    }
}

fn amounts(out: &mut Output<'_, '_>, by_key: &ByKey) -> fmt::Result {
    let attempts = by_key.iter().flat_map(|(key, all)| {
        let served = [("success", total(all, |series| series.served.get()))];
        let failed = Reason::ALL
            .iter()
            .enumerate()
            .map(move |(place, reason)| (reason.as_str(), total(all, |series| series.failed[place].get())));
        let happened = served.into_iter().chain(failed).filter(|(_, count)| *count > 0.0);
        happened.map(|(reason, count)| (super::with(labels(key), "reason", reason), count)).collect::<Vec<_>>()
    });
    out.family(m::MODEL_ATTEMPTS, attempts)?;
    let tokens = by_key.iter().flat_map(|(key, all)| {
        let mut values = Vec::new();
        for source in UsageSource::ALL {
            for (kind, of) in TYPES.iter().enumerate() {
                let count = total(all, |series| series.tokens[source as usize][kind].get());
                let labels = super::with(labels(key), "gen_ai_token_type", of);
                let labels = super::with(labels, "source", source.as_str());
                values.extend((count > 0.0).then_some((labels, count)));
            }
        }
        values
    });
    out.family(m::MODEL_TOKENS, tokens)?;
    let money = by_key.iter().map(|(key, all)| (labels(key), total(all, |series| series.money.get()) / 1e6));
    out.family(m::MODEL_MONEY, money)?;
    let usage = by_key.iter().flat_map(|(key, all)| {
        let part = |name, of: Of| {
            let sum = Sum::of(all.iter().map(|series| of(series)))?;
            Some((super::with(labels(key), "gen_ai_token_type", name), sum))
        };
        [part("input", |series| &series.input), part("output", |series| &series.output)].into_iter().flatten()
    });
    distributions(out, m::GEN_AI_TOKEN_USAGE, usage)
}

fn times(out: &mut Output<'_, '_>, by_key: &ByKey) -> fmt::Result {
    let parts: [(Metric, Of); 3] = [
        (m::GEN_AI_FIRST_CHUNK, |series| &series.first_chunk),
        (m::GEN_AI_FIRST_TOKEN, |series| &series.first_token),
        (m::GEN_AI_PER_TOKEN, |series| &series.per_token),
    ];
    for (metric, of) in parts {
        let sums = by_key.iter().filter_map(|(key, all)| {
            let sum = Sum::of(all.iter().map(|series| of(series)))?;
            Some((labels(key), sum))
        });
        distributions(out, metric, sums)?;
    }
    let took = by_key.iter().flat_map(|(key, all)| {
        Ended::all().filter_map(move |ended| {
            let sum = Sum::of(all.iter().filter_map(|series| series.took(ended)))?;
            Some((super::with(labels(key), "error_type", ended.error_type()), sum))
        })
    });
    distributions(out, m::GEN_AI_DURATION, took)
}

fn rests(out: &mut Output<'_, '_>, by_key: &ByKey) -> fmt::Result {
    let mut sums: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for (key, series) in by_key.iter().flat_map(|(key, all)| all.iter().map(move |series| (key, series))) {
        for (reason, count) in Reason::ALL.iter().zip(&series.rested).filter(|(_, count)| count.get() > 0) {
            *sums.entry((&key.route, &key.target, reason.as_str())).or_default() += count.get();
        }
    }
    let rests = sums.into_iter().map(|((route, target, reason), count)| {
        (vec![("route", route), ("target", target), ("reason", reason)], count as f64)
    });
    out.family(m::MODEL_RESTS, rests)
}

fn drill_labels(DrillKey { route, target, reason }: &DrillKey) -> Labels<'_> {
    vec![("route", route), ("target", target), ("reason", reason)]
}

fn unheld_labels(UnheldKey { route, why }: &UnheldKey) -> Labels<'_> {
    vec![("route", route), ("why", why)]
}

fn fallback<'a>((key, count): (&'a FallbackKey, &u64)) -> (Labels<'a>, f64) {
    let FallbackKey { route, from, to, reason, committed } = key;
    let labels: Labels<'a> =
        vec![("route", route), ("from", from), ("to", to), ("reason", reason), ("committed", committed)];
    (labels, *count as f64)
}

/// Writes a family of distributions.
fn distributions<'l>(
    out: &mut Output<'_, '_>,
    metric: Metric,
    values: impl IntoIterator<Item = (Labels<'l>, Sum)>,
) -> fmt::Result {
    let mut family = out.descriptor(metric)?;
    for (labels, Sum { bounds, classes, sum }) in values {
        let upper = bounds.upper.iter().map(|bound| *bound as f64 / bounds.unit).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = upper.zip(classes.iter().copied()).collect();
        let total = sum as f64 / bounds.unit;
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(total, classes.iter().sum(), &buckets, None)?;
    }
    Ok(())
}
