//! What an exchange with a model used: told by its targets, or estimated and marked so.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    limits::Rates,
    model::model_route::{Failure, ModelTarget, Reason, Usage, UsageSource},
    model_route::{
        estimate::Sample,
        request::Delivery,
        standing::{Standings, State},
        stream::Reported,
    },
};

use super::{quota::OfCaller, request::Asking};
use crate::{
    limits::Reserved,
    telemetry::{
        models::{Attempted, DrillKey, Ended, FallbackKey, ModelLabels},
        worker::Record,
    },
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
    /// Whether its answer was whole.
    pub(super) is_whole: bool,
    /// What it holds of the target's own limits.
    pub(super) reserved: Option<Reserved>,
    /// Whether it was asked at all.
    pub(super) made: Made,
    /// Why it failed, if it did.
    pub(super) failed: Option<Failure>,
    /// Whether the target rested when it had failed.
    pub(super) rested: bool,
    /// How the answer was to come.
    pub(super) delivery: Delivery,
    /// Time from its begin to the first event, if one came.
    pub(super) first_event: Option<Duration>,
    /// Time from its begin to its first token, or to its whole answer, if one came.
    pub(super) first_token: Option<Duration>,
    /// Time from its begin to its end.
    pub(super) took: Duration,
    /// What it used; known once it is settled.
    pub(super) used: Option<(Usage, UsageSource)>,
    /// What is told of it as of any exchange, if anybody wants it.
    pub(super) record: Option<Box<Record>>,
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
    pub(super) fn of_drill(target: Arc<ModelTarget>, failure: Failure, delivery: Delivery) -> Account {
        Account {
            target,
            usage: None,
            reported: Reported::default(),
            prompt: 0,
            tokens: 0,
            written: 0,
            is_whole: false,
            reserved: None,
            made: Made::Drill,
            failed: Some(failure),
            rested: false,
            delivery,
            first_event: None,
            first_token: None,
            took: Duration::ZERO,
            used: None,
            record: None,
        }
    }

    /// `<target>=<reason>`, where its failure was forced.
    fn drill(&self) -> Option<String> {
        let failure = self.failed.as_ref().filter(|_| self.made == Made::Drill)?;
        Some(format!("{}={}", self.target.name, failure.reason.as_str()))
    }

    /// Notes whether the target rests after its failure.
    pub(super) fn rests(&mut self, standings: &Standings, asked: &str, now: Duration) {
        let state = standings.state(&self.target, self.target.model_name(asked), now);
        self.rested = matches!(state, State::Resting { .. });
    }

    /// How it ended.
    pub(super) fn ended(&self) -> Ended {
        match &self.failed {
            Some(failure) => Ended::Failed(failure.reason),
            None if self.is_whole => Ended::Whole,
            None => Ended::GivenUp,
        }
    }

    fn attempted(&self, rates: Option<Rates>) -> Attempted {
        let of_stream = |time: Option<Duration>| time.filter(|_| self.delivery == Delivery::Stream);
        Attempted {
            usage: self.used,
            money: self.used.zip(rates).map_or(0, |((usage, _), rates)| rates.cost(&usage)),
            ended: self.ended(),
            rested: self.rested,
            served: self.first_token.is_some(),
            first_chunk: of_stream(self.first_event),
            first_token: of_stream(self.first_token),
            took: self.took,
        }
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
pub(super) fn settle(worker: &Worker, asking: &Asking, lane: &str, accounts: &mut [Account], caller: OfCaller) {
    let mut whole: Option<(Usage, u64)> = None;
    for account in accounts.iter_mut() {
        let target = Arc::clone(&account.target);
        if let (Made::Drill, Some(failure)) = (account.made, &account.failed) {
            count_drill(worker, &asking.route.name, &target, failure.reason);
            continue;
        }
        let model = target.model_name(asking.model());
        account.used = used(worker, asking, account);
        let rates = Rates::of(&asking.route.tokens.prices, model);
        let series = worker.sink.metrics.models.of(ModelLabels {
            route: &asking.route.name,
            model: asking.model(),
            target: &target.name,
            target_model: model,
            provider: target.provider.convention_name(),
            operation: asking.api().operation(),
            lane,
        });
        let attempted = account.attempted(rates);
        series.count(&attempted);
        if let Some((usage, source)) = account.used {
            learn(worker, (model, account), (usage, source));
            let (sum, money) = whole.get_or_insert((Usage::default(), 0));
            *sum = sum_of(sum, &usage);
            // Every target at its own price.
            *money = money.saturating_add(attempted.money);
        }
        match (account.reserved.take(), account.used) {
            (Some(reserved), Some((usage, _))) => reserved.settle(&usage, rates.as_ref()),
            (Some(reserved), None) => reserved.cancel(),
            (None, _) => {}
        }
    }
    fall_backs(worker, asking, accounts);
    caller.settle(whole);
}

/// What those used of whose answers the client has been given something.
pub(super) fn given(worker: &Worker, asking: &Asking, accounts: &[Account]) -> Usage {
    let given = accounts.iter().filter(|account| account.first_token.is_some());
    let used = given.filter_map(|account| used(worker, asking, account));
    used.fold(Usage::default(), |sum, (usage, _)| sum_of(&sum, &usage))
}

/// What both used; what targets tell is not ours to trust.
pub(super) fn sum_of(one: &Usage, other: &Usage) -> Usage {
    Usage {
        input: one.input.saturating_add(other.input),
        output: one.output.saturating_add(other.output),
        cached: one.cached.saturating_add(other.cached),
    }
}

fn fall_backs(worker: &Worker, asking: &Asking, accounts: &[Account]) {
    for (place, account) in accounts.iter().enumerate() {
        let Some(failure) = account.failed.as_ref().filter(|_| account.made == Made::Really) else { continue };
        worker.sink.metrics.models.fall_back(FallbackKey {
            route: asking.route.name.clone(),
            from: account.target.name.clone(),
            to: accounts.get(place + 1).map(|next| next.target.name.clone()).unwrap_or_default(),
            reason: failure.reason.as_str(),
            committed: if account.first_token.is_some() { "true" } else { "false" },
        });
    }
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
