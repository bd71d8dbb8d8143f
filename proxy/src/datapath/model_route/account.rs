//! What an exchange with a model used: told by its targets, or estimated and marked so.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    model::model_route::{Failure, ModelTarget, Reason, Usage, UsageSource},
    model_route::{estimate::Sample, limits::Rates, stream::Reported},
};

use super::{quota::OfCaller, request::Asking};
use crate::{
    limits::Reserved,
    telemetry::models::{Attempted, DrillKey, FallbackKey, ModelKey},
    worker::Worker,
};

/// What an attempt came to, for accounts.
#[derive(Debug)]
pub(super) struct Account {
    /// Who was asked.
    pub(super) target: Arc<ModelTarget>,
    /// Bytes of the prompt that it was sent.
    pub(super) prompt: u64,
    /// What it said was used, in all.
    pub(super) usage: Option<Usage>,
    /// What it said of it so far.
    pub(super) reported: Reported,
    /// Events with tokens that came.
    pub(super) tokens: u64,
    /// Bytes of what it wrote.
    pub(super) written: u64,
    /// What it holds of the target's own limits.
    pub(super) reserved: Option<Reserved>,
    /// Whether it was asked at all.
    pub(super) made: Made,
    /// Why it failed, if it did.
    pub(super) failed: Option<Failure>,
    /// Time from its begin to its first token, if one came.
    pub(super) first_token: Option<Duration>,
    /// Time from its begin to its end.
    pub(super) took: Duration,
}

/// Whether a target was asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It was.
    Really,
    /// Its failure was forced by the caller.
    Drill,
}

impl Account {
    /// Of a target that was not asked, because its failure is forced.
    pub(super) fn of_drill(target: Arc<ModelTarget>, failure: Failure) -> Account {
        Account {
            target,
            usage: None,
            reported: Reported::default(),
            prompt: 0,
            tokens: 0,
            written: 0,
            reserved: None,
            made: Made::Drill,
            failed: Some(failure),
            first_token: None,
            took: Duration::ZERO,
        }
    }

    /// `<target>=<reason>`, where its failure was forced.
    fn drill(&self) -> Option<String> {
        let failure = self.failed.as_ref().filter(|_| self.made == Made::Drill)?;
        Some(format!("{}={}", self.target.name, failure.reason.as_str()))
    }
}

/// Which failures were forced, for who forced them; `None` = none.
pub(super) fn drills(accounts: &[Account]) -> Option<String> {
    let drills: Vec<String> = accounts.iter().filter_map(Account::drill).collect();
    (!drills.is_empty()).then(|| drills.join(", "))
}

/// Counts a failure that was forced.
pub(super) fn count_drill(worker: &Worker, route: &str, target: &ModelTarget, reason: Reason) {
    let (route, target, reason) = (route.to_owned(), target.name.clone(), reason.as_str());
    worker.sink.metrics.models.drill(DrillKey { route, target, reason });
}

/// Counts every attempt of an exchange, in the order in which they ended, and settles what was reserved.
pub(super) fn settle(worker: &Worker, asking: &Asking, lane: Option<String>, accounts: Vec<Account>, caller: OfCaller) {
    let lane = lane.unwrap_or_default();
    let metrics = &worker.sink.metrics.models;
    let mut whole: Option<(Usage, Option<Rates>)> = None;
    let names: Vec<String> = accounts.iter().map(|account| account.target.name.clone()).collect();
    for (place, account) in accounts.into_iter().enumerate() {
        let target = &account.target;
        if let (Made::Drill, Some(failure)) = (account.made, &account.failed) {
            count_drill(worker, &asking.route.name, target, failure.reason);
            continue;
        }
        let model = target.model_name(asking.model());
        let (usage, rates) = (used(worker, asking, &account), Rates::of(&asking.route.tokens.prices, model));
        let series = metrics.of(ModelKey {
            route: asking.route.name.clone(),
            model: asking.model().to_owned(),
            target: target.name.clone(),
            target_model: model.to_owned(),
            provider: target.provider.as_str(),
            operation: asking.api().operation(),
            lane: lane.clone(),
        });
        series.count(&Attempted {
            usage,
            money: usage.zip(rates).map_or(0, |((usage, _), rates)| rates.cost(&usage)),
            failed: account.failed.as_ref().map(|failure| failure.reason),
            first_token: account.first_token,
            took: account.took,
        });
        if let Some(failure) = &account.failed {
            metrics.fall_back(FallbackKey {
                route: asking.route.name.clone(),
                from: target.name.clone(),
                to: names.get(place + 1).cloned().unwrap_or_default(),
                reason: failure.reason.as_str(),
                committed: if account.first_token.is_some() { "true" } else { "false" },
            });
        }
        if let Some((usage, source)) = usage {
            learn(worker, (model, &account), (usage, source));
            let (sum, of) = whole.get_or_insert((Usage::default(), rates));
            // What targets tell is not ours to trust.
            sum.input = sum.input.saturating_add(usage.input);
            sum.output = sum.output.saturating_add(usage.output);
            sum.cached = sum.cached.saturating_add(usage.cached);
            *of = rates;
        }
        match (account.reserved, usage) {
            (Some(reserved), Some((usage, _))) => reserved.settle(&usage, rates.as_ref()),
            (Some(reserved), None) => reserved.cancel(),
            (None, _) => {}
        }
    }
    caller.settle(whole);
}

/// What those used of whose answers the client has been given something.
pub(super) fn given(worker: &Worker, asking: &Asking, accounts: &[Account]) -> Usage {
    let given = accounts.iter().filter(|account| account.first_token.is_some());
    given.filter_map(|account| used(worker, asking, account)).fold(Usage::default(), |sum, (usage, _)| Usage {
        input: sum.input.saturating_add(usage.input),
        output: sum.output.saturating_add(usage.output),
        cached: sum.cached.saturating_add(usage.cached),
    })
}

/// Counts the time before the target that served was asked.
pub(super) fn waited(worker: &Worker, overhead: Duration) {
    worker.sink.metrics.models.waited(overhead);
}

fn learn(worker: &Worker, (model, account): (&str, &Account), told: (Usage, UsageSource)) {
    match told {
        (usage, UsageSource::Reported) => {
            let sample = Sample {
                input_bytes: account.prompt,
                input: usage.input,
                output_bytes: account.written,
                output: usage.output,
            };
            worker.providers.estimates.borrow_mut().learn(model, sample);
        }
        (_, UsageSource::Estimated) => {}
    }
}

/// What an attempt used. One that failed before it wrote anything, and says nothing of it, used nothing.
fn used(worker: &Worker, asking: &Asking, account: &Account) -> Option<(Usage, UsageSource)> {
    if let Some(usage) = account.usage {
        return Some((usage, UsageSource::Reported));
    }
    let (estimates, reported) = (worker.providers.estimates.borrow(), account.reported);
    if account.failed.is_some() && account.tokens == 0 {
        // Some tell what they read before they write anything.
        let output = reported.output.unwrap_or(0);
        let usage = |input| Usage { input, output, cached: reported.cached.unwrap_or(0) };
        return reported.input.map(|input| (usage(input), UsageSource::Reported));
    }
    let model = account.target.model_name(asking.model());
    // Targets mostly send a token per event.
    let written =
        || account.tokens.max(u64::from(account.tokens == 0) * estimates.estimate_written(model, account.written));
    let usage = Usage {
        input: reported.input.unwrap_or_else(|| estimates.estimate_input(model, account.prompt)),
        output: reported.output.unwrap_or_else(written),
        cached: reported.cached.unwrap_or(0),
    };
    Some((usage, UsageSource::Estimated))
}
