//! What an exchange with a model used: told by its targets, or estimated and marked so.

use std::time::Duration;

use mesh_core::{
    lane::Carried,
    model::model_route::{Reason, Usage, UsageSource},
    model_route::limits::Rates,
};

use super::{drive::Account, request::Asking};
use crate::{
    telemetry::models::{Attempted, FallbackKey, ModelKey},
    worker::Worker,
};

/// Bytes of a request that are one token, where no target told.
const BYTES_PER_TOKEN: u64 = 4;

/// Counts every attempt of an exchange, in the order in which they ended.
pub(super) fn settle(worker: &Worker, asking: &Asking, carried: Option<&Carried>, accounts: &[Account]) {
    let metrics = &worker.sink.metrics.models;
    for (place, account) in accounts.iter().enumerate() {
        let target = &account.target;
        let usage = used(asking, account);
        let model = target.model_name(asking.model());
        let rates = Rates::of(&asking.route.tokens.prices, model);
        let series = metrics.of(ModelKey {
            route: asking.route.name.clone(),
            model: asking.model().to_owned(),
            target: target.name.clone(),
            target_model: model.to_owned(),
            provider: target.provider.as_str(),
            operation: asking.api().operation(),
            lane: carried.map(ToString::to_string).unwrap_or_default(),
        });
        series.count(&Attempted {
            usage,
            money: usage.zip(rates).map_or(0, |((usage, _), rates)| rates.cost(&usage)),
            failed: account.failed.as_ref().map(|failure| failure.reason),
            first_token: account.first_token,
            took: account.took,
        });
        if let Some(failure) = &account.failed {
            let to = accounts.get(place + 1).map(|next| next.target.name.clone()).unwrap_or_default();
            metrics.fall_back(FallbackKey {
                route: asking.route.name.clone(),
                from: target.name.clone(),
                to,
                reason: failure.reason.as_str(),
                committed: if account.first_token.is_some() { "true" } else { "false" },
            });
        }
    }
}

/// Counts the time before the target that served was asked.
pub(super) fn waited(worker: &Worker, overhead: Duration) {
    worker.sink.metrics.models.waited(overhead);
}

/// What an attempt used. One that failed before it wrote anything, and says nothing of it, used nothing.
fn used(asking: &Asking, account: &Account) -> Option<(Usage, UsageSource)> {
    if let Some(usage) = account.usage {
        return Some((usage, UsageSource::Reported));
    }
    let refused = account.failed.as_ref().is_some_and(|failure| failure.reason != Reason::Stall);
    if refused && account.tokens == 0 {
        return None;
    }
    let reported = account.reported;
    let usage = Usage {
        input: reported.input.unwrap_or(asking.length() / BYTES_PER_TOKEN),
        output: reported.output.unwrap_or(account.tokens),
        cached: reported.cached.unwrap_or(0),
    };
    Some((usage, UsageSource::Estimated))
}
