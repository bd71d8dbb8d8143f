//! What access log and spans are told of a call to a model and of its attempts.

use std::time::Duration;

use mesh_core::{
    model::model_route::{Api, Failure, Reason, Usage, UsageSource},
    outcome::{Level, Outcome},
};

use super::{
    account::{Account, sum_of},
    answer,
    request::Asking,
};
use crate::{
    datapath::report::Exchange,
    telemetry::model_call::{AskedTarget, ModelCall, Part},
    worker::Worker,
};

/// How a call came out, seen from its client.
pub(super) struct Came {
    /// Time before the target that served was asked; `None` = none served.
    pub(super) overhead: Option<Duration>,
    /// What the client was told instead of an answer, or behind the part of one.
    pub(super) error: Option<Reason>,
}

/// Notes what is told of a call whose attempts these were, if anybody wants to know.
pub(super) fn call(record: &mut Exchange, asking: &Asking, accounts: &[Account], came: Came) {
    if !record.is_told() {
        return;
    }
    let served = accounts.iter().rev().find(|account| account.first_token.is_some());
    record.model = Some(Box::new(ModelCall {
        operation: asking.api().operation(),
        model: asking.model().to_owned(),
        asked: served.or(accounts.last()).map(|account| asked(account, asking)),
        usage: accounts.iter().filter_map(|account| account.used).reduce(with),
        first_token: served.and_then(|account| account.first_token),
        part: Part::Call {
            reasons: accounts.iter().filter_map(|account| account.ended().reason()).collect(),
            error: came.error,
            overhead: came.overhead,
        },
    }));
}

/// Notes what is told of a call of which nobody was asked; `model` is empty where it could not be read.
pub(super) fn refused(record: &mut Exchange, (api, model): (Api, &str), failure: &Failure) {
    if !record.is_told() {
        return;
    }
    record.model = Some(Box::new(ModelCall {
        operation: api.operation(),
        model: model.to_owned(),
        asked: None,
        usage: None,
        first_token: None,
        part: Part::Call { reasons: Vec::new(), error: Some(failure.reason), overhead: None },
    }));
}

/// Tells of the attempts what their own exchanges could not know: a good answer may carry an error, and an exchange that was
/// broken off does not know why.
pub(super) fn attempts(worker: &Worker, asking: &Asking, accounts: Vec<Account>) {
    let sink = &worker.sink;
    for (number, mut account) in (1..).zip(accounts) {
        let Some(mut record) = account.record.take() else { continue };
        if let Some(failure) = &account.failed
            && (record.outcome.level() == Level::Debug || record.outcome == Outcome::ClientGone)
        {
            record.outcome = answer::outcome(failure);
            // What a target says of a failure may quote what it was asked.
            record.detail = Some(format!("{}, as if answered {}", failure.reason.as_str(), failure.status));
        }
        record.model = Some(Box::new(ModelCall {
            operation: asking.api().operation(),
            model: asking.model().to_owned(),
            asked: Some(asked(&account, asking)),
            usage: account.used,
            first_token: account.first_token,
            part: Part::Attempt { number, ended: account.ended() },
        }));
        if record.trace.is_some() || record.probe.is_some() || sink.access_log.wants(record.outcome) {
            sink.record(record);
        }
    }
}

fn asked(account: &Account, asking: &Asking) -> AskedTarget {
    let target = &account.target;
    AskedTarget {
        target: target.name.clone(),
        model: target.model_name(asking.model()).to_owned(),
        provider: target.provider,
    }
}

fn with(one: (Usage, UsageSource), other: (Usage, UsageSource)) -> (Usage, UsageSource) {
    (sum_of(&one.0, &other.0), one.1.with(other.1))
}
