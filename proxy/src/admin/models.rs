//! `/models`: every target of every model route, and how it stands; `/models/explain`: whom a request would ask, and why.
//! Of a credential it says whether it can be read, never what it is.

use std::{path::Path, sync::Arc, time::Duration};

use http::StatusCode;
use mesh_core::{
    limits::{Ask, Caller, Key, Look, Quota, Rates},
    model::model_route::{Credential, ModelRoute, ModelTarget, VirtualModel},
    model_route::{
        choice::Unable,
        explain::{self, Known, Question, Stand},
        translate,
    },
};
use serde_json::{Value, json};

use super::lanes::Told;
use crate::{
    providers::Credentials,
    telemetry::{metrics::render::Sources, models::Learned},
};

/// The page: one entry per target, in the order of routes, models and targets. Of several workers the worst state counts.
pub(super) fn page(sources: &Sources, secrets: &Path) -> Value {
    let snapshot = sources.shared.load();
    let learned = learned(sources);
    let credentials = Credentials::new(secrets.to_owned());
    let mut items = Vec::new();
    for route in snapshot.model_routes.iter() {
        for model in &route.models {
            for target in &model.targets {
                let of = |one: &Arc<Learned>| Stand::of_any(&one.standings, &route.name, (model, target), one.now());
                let stand = learned.iter().map(of).fold(Stand::FRESH, Stand::worse);
                let mut item = explain::listed((route, model), target, Some(&stand));
                item["credential"] = json!(target.credential.as_ref().map(|key| readable(&credentials, key)));
                items.push(item);
            }
        }
    }
    json!({ "items": items, "workers": sources.workers.len() })
}

/// Whom a request would ask that is described by the query.
pub(super) fn explain(sources: &Sources, secrets: &Path, query: Option<&str>) -> Told {
    let problem = |status: StatusCode, detail: String| (status, json!({ "status": status.as_u16(), "detail": detail }));
    let question = match Question::read(query.unwrap_or_default()) {
        Ok(question) => question,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let snapshot = sources.shared.load();
    let (route, model) = match explain::find(&snapshot.model_routes, question.host.as_deref(), &question.model) {
        Ok(found) => found,
        Err(error) => return problem(StatusCode::NOT_FOUND, error.to_string()),
    };
    let learned = learned(sources);
    let stand = |target: &Arc<ModelTarget>| {
        let of = |one: &Arc<Learned>| Stand::of(&one.standings, &route.name, target, &question.model, one.now());
        learned.iter().map(of).fold(Stand::FRESH, Stand::worse)
    };
    let stands: Vec<Stand> = model.targets.iter().map(stand).collect();
    let credentials = Credentials::new(secrets.to_owned());
    let bars = |_: usize, target: &ModelTarget| {
        if question.api.is_some_and(|api| translate::toward(api, target.provider.dialect()).is_none()) {
            return Some(Unable::Api);
        }
        let is_missing = credentials.key(target.credential.as_ref()?, Duration::ZERO).is_err();
        is_missing.then_some(Unable::Credential)
    };
    let rows = explain::explain(model, &stands, &question.want(), &bars);
    let mut told = explain::answer(&question, (route, model), &rows, Known::Workers(sources.workers.len()));
    told["limits"] = limits(sources, &question, (route, model));
    (StatusCode::OK, told)
}

/// What limits would say: those of callers to a request without the headers by which they tell callers apart, and those of
/// each target.
fn limits(sources: &Sources, question: &Question, (route, model): (&ModelRoute, &VirtualModel)) -> Value {
    let limits = &sources.shared.limits;
    let own = sources.shared.tls.load();
    let identity = own.as_ref().map(|material| material.identity.to_string());
    let lane = question.lane.as_ref().map(|carried| carried.full_name(&sources.shared.load().lanes));
    let caller = Caller {
        identity: identity.as_deref(),
        namespace: own.as_ref().map(|material| material.identity.namespace()),
        lane: lane.as_deref(),
    };
    let ask = |target: &ModelTarget| Ask {
        input: question.tokens,
        output: 0,
        rates: Rates::of(&route.tokens.prices, target.model_name(&question.model)),
    };
    let key = Key::of_caller(&route.name, &route.tokens.key, &caller, |_| None);
    let of_caller = model.targets.first().map_or_else(Ask::default, |target| ask(target));
    let looks = limits.ledger().look(&Quota::of_callers(route), &key, &of_caller, limits.now());
    let mut shown: Vec<Value> = looks.iter().map(|look| look.shown(None)).collect();
    for target in &model.targets {
        let key = Key::of_target(&route.name, &target.name);
        let looks = limits.ledger().look(&Quota::of_target(route, target), &key, &ask(target), limits.now());
        shown.extend(looks.iter().map(|look: &Look| look.shown(Some(&target.name))));
    }
    Value::Array(shown)
}

fn learned(sources: &Sources) -> Vec<Arc<Learned>> {
    sources.workers.iter().filter_map(|worker| worker.models.learned()).collect()
}

fn readable(credentials: &Credentials, credential: &Credential) -> String {
    match credentials.key(credential, Duration::ZERO) {
        Ok(_) => "readable".to_owned(),
        Err(error) => error.to_string(),
    }
}
