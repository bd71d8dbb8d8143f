//! Model routes as the console shows them: as configured, with what was not written filled in. Where keys are is shown, keys
//! are not known here.

use std::time::Duration;

use http::StatusCode;
use mesh_core::{
    model::model_route::{
        Can, Capabilities, Counted, Credential, Hedge, KeyPart, Limit, LimitStore, ModelEndpoint, ModelRoute,
        ModelTarget, Price, Security, TokenLimits, VirtualModel, Word,
    },
    model_route::{
        choice::Unable,
        explain::{self, Known, Question},
        translate,
        usage::{Used, UsedOf},
    },
    resources::World,
};
use serde_json::{Value, json};

use crate::publish::usage::Usage;

/// Millionths are shown as whole units.
const MILLION: f64 = 1_000_000.0;

/// Every model route.
pub(super) fn routes(world: &World) -> Vec<Value> {
    world.model_routes.iter().map(|route| shown(route)).collect()
}

/// Whom a request would ask that is described by the query, as far as the route alone says it.
pub(super) fn explain(world: &World, query: Option<&str>) -> Result<Value, (StatusCode, String)> {
    let question = Question::read(query.unwrap_or_default());
    let question = question.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let (route, model) = explain::find(&world.model_routes, question.host.as_deref(), &question.model)
        .map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))?;
    let bars = |_: usize, target: &ModelTarget| {
        let cannot = question.api.is_some_and(|api| translate::toward(api, target.provider.dialect()).is_none());
        cannot.then_some(Unable::Api)
    };
    let rows = explain::explain(model, &[], &question.want(), &bars);
    Ok(explain::answer(&question, (route, model), &rows, Known::Nothing))
}

/// What was used of models, by caller, route, model, target and lane: in all, or with `since=SECONDS` within that time.
///
/// # Errors
/// What is wrong with the query.
pub(super) fn usage(usage: &Usage, query: Option<&str>) -> Result<Value, String> {
    let reading = match query {
        None | Some("") => usage.all(),
        Some(query) => {
            let seconds = query.strip_prefix("since=").and_then(|seconds| seconds.parse().ok());
            let length = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
            usage.within(length.ok_or("since is a whole number of seconds; nothing else can be asked")?)
        }
    };
    let row = |(caller, of, used): &(String, UsedOf, Used)| {
        json!({
            "identity": caller,
            "route": of.route,
            "model": of.model,
            "target": of.target,
            "targetModel": of.target_model,
            "lane": of.lane,
            "served": used.served,
            "failed": used.failed,
            "input": used.input,
            "output": used.output,
            "cached": used.cached,
            "estimated": used.estimated,
            "money": used.money as f64 / MILLION,
        })
    };
    Ok(json!({ "since": reading.since, "items": reading.rows.iter().map(row).collect::<Vec<_>>() }))
}

fn shown(route: &ModelRoute) -> Value {
    let (name, namespace) = route.name.rsplit_once('.').unwrap_or((&route.name, ""));
    json!({
        "namespace": namespace,
        "name": name,
        "hosts": route.hosts,
        "models": route.models.iter().map(|of| model(of)).collect::<Vec<_>>(),
        "tokens": tokens(&route.tokens),
    })
}

fn model(model: &VirtualModel) -> Value {
    let (timers, retry) = (&model.timers, &model.retry);
    json!({
        "name": model.name.to_string(),
        "targets": model.targets.iter().map(|of| target(of)).collect::<Vec<_>>(),
        "timers": {
            "connect": timers.connect.as_secs_f64(),
            "headers": timers.headers.as_secs_f64(),
            "headersWhole": timers.headers_whole.as_secs_f64(),
            "firstToken": timers.first_token.as_secs_f64(),
            "idle": timers.idle.as_secs_f64(),
            "total": timers.total.as_secs_f64(),
            "minRemaining": timers.min_remaining.as_secs_f64(),
        },
        "retry": {
            "attempts": retry.attempts,
            "onlyWithin": retry.only_within.as_secs_f64(),
            "budget": format!("{}%", retry.budget_percent),
            "on": retry.on.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
        },
        "hedge": hedge(model.hedge),
        "escalate": {
            "onLength": model.escalate.on_length,
            "refusals": model.escalate.refusals,
            "json": model.escalate.json,
            "schema": model.escalate.schema,
        },
        "onExhausted": model.on_exhausted.word(),
        "midStream": model.mid_stream.word(),
    })
}

fn hedge(hedge: Hedge) -> String {
    match hedge {
        Hedge::Off => "off".to_owned(),
        Hedge::AfterP95 => "after p95".to_owned(),
        Hedge::After(time) => format!("after {time:?}"),
    }
}

fn target(target: &ModelTarget) -> Value {
    json!({
        "name": target.name,
        "provider": target.provider.as_str(),
        "endpoint": endpoint(&target.endpoint),
        "model": target.model,
        "credential": target.credential.as_ref().map(credential),
        "priority": target.priority,
        "weight": target.weight,
        "lane": target.lane,
        "contextWindow": target.context_window,
        "capabilities": capabilities(&target.capabilities),
        "limits": limits(&target.limits),
    })
}

fn endpoint(endpoint: &ModelEndpoint) -> Value {
    match endpoint {
        ModelEndpoint::Service { authority, prefix } => json!({ "service": authority, "prefix": prefix }),
        ModelEndpoint::External { security, host, port, prefix, proxy } => {
            let (scheme, roots) = match security {
                Security::None => ("http", None),
                Security::SystemRoots => ("https", None),
                Security::Roots(file) => ("https", Some(file)),
            };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            json!({ "url": format!("{scheme}://{host}:{port}{prefix}"), "roots": roots, "proxy": proxy })
        }
    }
}

fn credential(credential: &Credential) -> Value {
    match credential {
        Credential::File(path) => json!({ "file": path }),
        Credential::Secret { name, key } => json!({ "secret": { "name": name, "key": key } }),
    }
}

fn capabilities(capabilities: &Capabilities) -> Value {
    let can = |can: Can| can == Can::Yes;
    json!({
        "tools": can(capabilities.tools),
        "json": can(capabilities.json),
        "vision": can(capabilities.vision),
        "prefill": can(capabilities.prefill),
        "longContext": can(capabilities.long_context),
        "refusedContent": can(capabilities.refused_content),
        "usage": capabilities.usage.word(),
    })
}

fn tokens(tokens: &TokenLimits) -> Value {
    let part = |part: &KeyPart| match part {
        KeyPart::Identity => "identity".to_owned(),
        KeyPart::Namespace => "namespace".to_owned(),
        KeyPart::Lane => "lane".to_owned(),
        KeyPart::Header(name) => format!("header:{name}"),
    };
    let money = |millionths: u64| millionths as f64 / MILLION;
    let price = |price: &Price| {
        json!({
            "model": price.model.to_string(),
            "input": money(price.input),
            "cached": money(price.cached),
            "output": money(price.output),
        })
    };
    json!({
        "limits": limits(&tokens.limits),
        "key": tokens.key.iter().map(part).collect::<Vec<_>>(),
        "store": match &tokens.store {
            LimitStore::Local => json!("local"),
            LimitStore::Redis { url, password } => {
                json!({ "redis": { "url": url, "password": password.as_ref().map(credential) } })
            }
        },
        "onStoreDown": tokens.on_store_down.word(),
        "prices": tokens.prices.iter().map(price).collect::<Vec<_>>(),
    })
}

fn limits(limits: &[Limit]) -> Vec<Value> {
    let shown = |limit: &Limit| {
        let amount = match limit.of {
            Counted::Money => json!(limit.amount as f64 / MILLION),
            Counted::Input | Counted::Output | Counted::Total | Counted::Requests | Counted::Concurrent => {
                json!(limit.amount)
            }
        };
        let window = (limit.window > Duration::ZERO).then_some(limit.window.as_secs_f64());
        json!({ "of": limit.of.word(), "amount": amount, "window": window, "mode": limit.mode.word() })
    };
    limits.iter().map(shown).collect()
}
