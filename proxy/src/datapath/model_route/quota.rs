//! What callers and targets may use: reserved before a target is asked, settled with what was used.

use mesh_core::{
    limits::{self, Ask, Caller, Exhausted, Key, Quota, Rates},
    model::model_route::{Api, Failure, ModelTarget, Reason, Usage},
    model_route::failure,
};

use super::request::Asking;
use crate::{limits::Reserved, worker::Worker};

/// Fields of an answer by which a client learns how its limits stand.
pub(super) type Told = Vec<(&'static str, String)>;

/// What an exchange holds of its caller's limits.
pub(super) struct OfCaller {
    reserved: Option<Reserved>,
    /// How they stand.
    pub(super) told: Told,
}

/// Reserves for the caller of an exchange.
///
/// # Errors
/// What the client is told where a limit is used up.
pub(super) fn of_caller(worker: &Worker, asking: &Asking, lane: Option<&str>) -> Result<OfCaller, (Failure, Told)> {
    let tokens = &asking.route.tokens;
    if tokens.limits.is_empty() {
        return Ok(OfCaller { reserved: None, told: Vec::new() });
    }
    let own = worker.shared.tls.load();
    let identity = own.as_ref().map(|material| material.identity.to_string());
    let caller = Caller {
        identity: identity.as_deref(),
        namespace: own.as_ref().map(|material| material.identity.namespace()),
        lane,
    };
    let key = Key::of_caller(&asking.route.name, &tokens.key, &caller, |name| asking.field(name));
    let ask = asking.virtual_model.targets.first().map_or_else(Ask::default, |target| ask(worker, asking, target));
    let limits = &worker.shared.limits;
    let dialect = asking.api().dialect();
    match limits.reserve(&Quota::of_callers(&asking.route), &key, &ask) {
        Ok(reserved) => {
            let told = limits::fields(dialect, &reserved.standings(), limits.now());
            Ok(OfCaller { reserved: Some(reserved), told })
        }
        Err(exhausted) => {
            let told = limits::fields(dialect, &exhausted.all, limits.now());
            Err((failure_of(&exhausted), told))
        }
    }
}

impl OfCaller {
    /// Counts what was used, and what that cost; `None` = no target was asked, or none used anything.
    pub(super) fn settle(self, used: Option<(Usage, u64)>) {
        match (self.reserved, used) {
            (Some(reserved), Some((usage, money))) => reserved.settle_at(&usage, money),
            (Some(reserved), None) => reserved.cancel(),
            (None, _) => {}
        }
    }
}

/// Reserves for a target, by the limits that it has itself.
///
/// # Errors
/// Why it is passed over.
pub(super) fn of_target(worker: &Worker, asking: &Asking, target: &ModelTarget) -> Result<Option<Reserved>, Failure> {
    if target.limits.is_empty() {
        return Ok(None);
    }
    let quota = Quota::of_target(&asking.route, target);
    let key = Key::of_target(&asking.route.name, &target.name);
    let reserved = worker.shared.limits.reserve(&quota, &key, &ask(worker, asking, target));
    reserved.map(Some).map_err(|exhausted| failure_of(&exhausted))
}

/// What a target is expected to use.
fn ask(worker: &Worker, asking: &Asking, target: &ModelTarget) -> Ask {
    let model = target.model_name(asking.model());
    let estimates = worker.providers.estimates.borrow();
    let output = match asking.api() {
        Api::Embeddings => 0,
        Api::ChatCompletions | Api::Responses | Api::Completions | Api::Messages | Api::GenerateContent => {
            estimates.estimate_output(model, asking.max_output()).saturating_mul(u64::from(asking.choices()))
        }
    };
    Ask {
        input: estimates.estimate_input(model, asking.length()),
        output,
        rates: Rates::of(&asking.route.tokens.prices, model),
    }
}

fn failure_of(exhausted: &Exhausted) -> Failure {
    Failure {
        status: 429,
        message: exhausted.to_string(),
        code: Some("rate_limit_exceeded".to_owned()),
        retry_after: exhausted.retry_after(),
        ..failure::without_answer(Reason::Rate)
    }
}
