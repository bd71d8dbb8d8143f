//! What the calls of this proxy to models used, for `mesh-ctl model usage`: read from the counters of the workers on the
//! control thread; the data path does nothing for it.

use std::{collections::BTreeMap, sync::Arc};

use mesh_core::model_route::usage::{Used, UsedOf};
use mesh_proto::{
    convert::usage::{TARGETS_MAX, to_wire},
    mesh::v1::ModelUsage,
};

use crate::telemetry::{models::ModelSeries, worker::WorkerMetrics};

/// The counters, and what of them was reported.
pub(super) struct UsageReports {
    workers: Vec<Arc<WorkerMetrics>>,
    told: BTreeMap<UsedOf, Used>,
}

impl UsageReports {
    /// Nothing is reported yet.
    pub(super) fn new(workers: Vec<Arc<WorkerMetrics>>) -> Self {
        UsageReports { workers, told: BTreeMap::new() }
    }

    /// What was used since the last report; `None` where nothing was. What is taken here must be sent.
    pub(super) fn report(&mut self) -> Option<ModelUsage> {
        let mut targets = Vec::new();
        for (of, used) in self.counted() {
            let told = self.told.entry(of.clone()).or_default();
            let grown = used.since(told);
            if grown == Used::default() || targets.len() >= TARGETS_MAX {
                continue;
            }
            *told = used;
            targets.push(to_wire(&of, &grown));
        }
        (!targets.is_empty()).then_some(ModelUsage { targets })
    }

    fn counted(&self) -> BTreeMap<UsedOf, Used> {
        let mut counted: BTreeMap<UsedOf, Used> = BTreeMap::new();
        for worker in &self.workers {
            for series in worker.models.series().iter() {
                counted.entry(used_of(series)).or_default().add(&used(series));
            }
        }
        counted
    }
}

fn used_of(series: &ModelSeries) -> UsedOf {
    let key = &series.key;
    UsedOf {
        route: key.route.clone(),
        model: key.model.clone(),
        target: key.target.clone(),
        target_model: key.target_model.clone(),
        lane: key.lane.clone(),
    }
}

fn used(series: &ModelSeries) -> Used {
    let [reported, estimated] = &series.tokens;
    let [input, output, cached] = [0, 1, 2].map(|kind| reported[kind].get().saturating_add(estimated[kind].get()));
    Used {
        served: series.served.get(),
        failed: series.failed.iter().map(|count| count.get()).sum(),
        input,
        output,
        cached,
        estimated: estimated[0].get().saturating_add(estimated[1].get()),
        money: series.money.get(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_core::model::model_route::{Reason, Usage, UsageSource};
    use mesh_proto::mesh::v1::TargetUsage;

    use super::*;
    use crate::telemetry::models::{Attempted, Ended, ModelLabels};

    fn key<'a>(target: &'a str, operation: &'static str) -> ModelLabels<'a> {
        ModelLabels {
            route: "chat.ai",
            model: "chat",
            target,
            target_model: "m",
            provider: "openai",
            operation,
            lane: "",
        }
    }

    fn attempted(usage: Option<(Usage, UsageSource)>, failed: Option<Reason>) -> Attempted {
        Attempted {
            usage,
            money: 5,
            ended: failed.map_or(Ended::Whole, Ended::Failed),
            rested: false,
            served: failed.is_none(),
            first_chunk: None,
            first_token: None,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn report_tells_what_all_workers_used_since_the_last_one_and_nothing_where_nothing_was() {
        let workers = [Arc::new(WorkerMetrics::new(0)), Arc::new(WorkerMetrics::new(1))];
        let mut reports = UsageReports::new(workers.to_vec());
        assert_eq!(reports.report(), None);
        let usage = Usage { input: 100, output: 10, cached: 40 };
        for worker in &workers {
            let chat = worker.models.of(key("a", "chat"));
            chat.count(&attempted(Some((usage, UsageSource::Reported)), None));
            chat.count(&attempted(Some((usage, UsageSource::Estimated)), Some(Reason::Stall)));
            worker.models.of(key("a", "embeddings")).count(&attempted(None, None));
            worker.models.of(key("b", "chat")).count(&attempted(None, Some(Reason::Rate)));
        }
        let row = |target: &str, [served, failed, input, output, cached, estimated, money]: [u64; 7]| TargetUsage {
            route: "chat.ai".to_owned(),
            model: "chat".to_owned(),
            target: target.to_owned(),
            target_model: "m".to_owned(),
            lane: String::new(),
            served,
            failed,
            input,
            output,
            cached,
            estimated,
            money,
        };
        let told = reports.report().unwrap().targets;
        assert_eq!(told, [row("a", [4, 2, 400, 40, 160, 220, 30]), row("b", [0, 2, 0, 0, 0, 0, 10])]);
        assert_eq!(reports.report(), None);
        workers[0].models.of(key("b", "chat")).count(&attempted(None, None));
        assert_eq!(reports.report().unwrap().targets, [row("b", [1, 0, 0, 0, 0, 0, 5])]);
    }

    #[test]
    fn report_is_bounded_and_what_found_no_place_comes_next() {
        // Each worker counts less than a report holds; together they count more.
        let workers = [Arc::new(WorkerMetrics::new(0)), Arc::new(WorkerMetrics::new(1))];
        for (worker, number) in (0..1_200).map(|number| (&workers[number % 2], number)) {
            worker.models.of(key(&format!("t{number}"), "chat")).count(&attempted(None, None));
        }
        let mut reports = UsageReports::new(workers.to_vec());
        let lengths: Vec<usize> = std::iter::from_fn(|| reports.report()).map(|report| report.targets.len()).collect();
        assert_eq!(lengths, [TARGETS_MAX, 200]);
    }
}
