//! Metrics of calls to language models, over all workers.

use std::{collections::BTreeMap, fmt, sync::Arc};

use mesh_core::model::model_route::Reason;
use prometheus_client::encoding::NoLabelSet;

use super::{Labels, Output, Sources};
use crate::telemetry::{
    metrics::{self as m, Metric},
    models::{Distribution, DrillKey, FallbackKey, ModelKey, ModelSeries, TIME_BOUNDS, TOKEN_BOUNDS},
};

/// Labels of tokens, in the order of [`ModelSeries::tokens`].
const TYPES: [&str; 3] = ["input", "output", "cached"];
const SOURCES: [&str; 2] = ["reported", "estimated"];

#[derive(Clone, Default)]
struct Sum {
    classes: [u64; 15],
    sum: u64,
}

impl Sum {
    fn add(&mut self, distribution: &Distribution) {
        for (sum, count) in self.classes.iter_mut().zip(&distribution.classes) {
            *sum += count.get();
        }
        self.sum += distribution.sum.get();
    }
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
        let mut by_key: BTreeMap<ModelKey, Vec<Arc<ModelSeries>>> = BTreeMap::new();
        for series in self.workers.iter().flat_map(|worker| worker.models.series().to_vec()) {
            by_key.entry(series.key.clone()).or_default().push(series);
        }
        let total = |all: &[Arc<ModelSeries>], count: &dyn Fn(&ModelSeries) -> u64| -> f64 {
            all.iter().map(|series| count(series)).sum::<u64>() as f64
        };
        let attempts = by_key.iter().flat_map(|(key, all)| {
            let served = [("success", total(all, &|series| series.served.get()))];
            let failed = Reason::ALL
                .iter()
                .enumerate()
                .map(move |(place, reason)| (reason.as_str(), total(all, &|series| series.failed[place].get())));
            let happened = served.into_iter().chain(failed).filter(|(_, count)| *count > 0.0);
            happened.map(|(reason, count)| (super::with(labels(key), "reason", reason), count)).collect::<Vec<_>>()
        });
        out.family(m::MODEL_ATTEMPTS, attempts)?;
        let tokens = by_key.iter().flat_map(|(key, all)| {
            let mut values = Vec::new();
            for (source, name) in SOURCES.iter().enumerate() {
                for (kind, of) in TYPES.iter().enumerate() {
                    let count = total(all, &|series| series.tokens[source][kind].get());
                    let labels = super::with(super::with(labels(key), "gen_ai_token_type", of), "source", name);
                    values.extend((count > 0.0).then_some((labels, count)));
                }
            }
            values
        });
        out.family(m::MODEL_TOKENS, tokens)?;
        let money = by_key.iter().map(|(key, all)| (labels(key), total(all, &|series| series.money.get()) / 1e6));
        out.family(m::MODEL_MONEY, money)?;
        let usage = by_key.iter().flat_map(|(key, all)| {
            let part = |name, of: fn(&ModelSeries) -> &Distribution| {
                (super::with(labels(key), "gen_ai_token_type", name), sum(all, of))
            };
            [part("input", |series| &series.input), part("output", |series| &series.output)]
        });
        distribution(out, m::GEN_AI_TOKEN_USAGE, (&TOKEN_BOUNDS, 1.0), usage)?;
        let times = (&TIME_BOUNDS, 1_000.0);
        let first = by_key.iter().map(|(key, all)| (labels(key), sum(all, |series| &series.first_token)));
        distribution(out, m::GEN_AI_FIRST_TOKEN, times, first)?;
        let took = by_key.iter().map(|(key, all)| (labels(key), sum(all, |series| &series.duration)));
        distribution(out, m::GEN_AI_DURATION, times, took)?;
        let mut overhead = Sum::default();
        self.workers.iter().for_each(|worker| overhead.add(&worker.models.overhead));
        distribution(out, m::MODEL_OVERHEAD, times, [(Vec::new(), overhead)])?;
        self.fallbacks(out)
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
        out.family(m::MODEL_DRILLS, drills.iter().map(|(key, count)| (drill_labels(key), *count as f64)))
    }
}

fn drill_labels(DrillKey { route, target, reason }: &DrillKey) -> Labels<'_> {
    vec![("route", route), ("target", target), ("reason", reason)]
}

fn fallback<'a>((key, count): (&'a FallbackKey, &u64)) -> (Labels<'a>, f64) {
    let FallbackKey { route, from, to, reason, committed } = key;
    let labels: Labels<'a> =
        vec![("route", route), ("from", from), ("to", to), ("reason", reason), ("committed", committed)];
    (labels, *count as f64)
}

fn sum(all: &[Arc<ModelSeries>], of: fn(&ModelSeries) -> &Distribution) -> Sum {
    let mut sum = Sum::default();
    all.iter().for_each(|series| sum.add(of(series)));
    sum
}

/// Writes a family of distributions whose bounds are `unit` times what is shown.
fn distribution<'l>(
    out: &mut Output<'_, '_>,
    metric: Metric,
    (bounds, unit): (&[u64; 14], f64),
    values: impl IntoIterator<Item = (Labels<'l>, Sum)>,
) -> fmt::Result {
    let mut family = out.descriptor(metric)?;
    for (labels, sum) in values {
        let bounds = bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(sum.classes).collect();
        let count = sum.classes.iter().sum();
        let total = sum.sum as f64 / unit;
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(total, count, &buckets, None)?;
    }
    Ok(())
}
