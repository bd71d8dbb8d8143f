//! Model routes ↔ model. Targets stand in `target`, what may be used in `tokens`.

mod target;
mod tokens;

use std::{sync::Arc, time::Duration};

use mesh_core::{
    model::model_route::{
        BODY_LIMIT, BODY_MAX, Drill, Escalate, Hedge, ModelRetry, ModelRoute, ModelTimers, VirtualModel, Word,
    },
    schema::Schema,
};

pub(super) use self::tokens::{store_from_wire, store_to_wire};
use super::{Invalid, optional_duration, required, wire_duration};
use crate::mesh::v1::{self as wire, hedge::After};

pub(super) fn to_wire(route: &ModelRoute) -> wire::ModelRoute {
    wire::ModelRoute {
        name: route.name.clone(),
        hosts: route.hosts.clone(),
        models: route.models.iter().map(|model| model_to_wire(model)).collect(),
        tokens: Some(tokens::to_wire(&route.tokens)),
        drill: route.drill.allow.iter().map(ToString::to_string).collect(),
        body_limit: Some(route.body_limit as u64),
    }
}

pub(super) fn from_wire(route: wire::ModelRoute) -> Result<ModelRoute, Invalid> {
    if route.hosts.is_empty() {
        return Err(Invalid::Missing { field: "model_route.hosts" });
    }
    let models = route.models.into_iter().map(|model| model_from_wire(model).map(Arc::new));
    let driller = |text: String| text.parse().map_err(|error| Invalid::value("model_route.drill", error));
    let drillers = route.drill.into_iter().map(driller);
    let limit = route.body_limit.map(|bytes| usize::try_from(bytes).unwrap_or(BODY_MAX));
    Ok(ModelRoute {
        name: route.name,
        hosts: route.hosts,
        models: models.collect::<Result<_, _>>()?,
        tokens: tokens::from_wire(route.tokens.unwrap_or_default())?,
        drill: Drill { allow: drillers.collect::<Result<_, _>>()? },
        body_limit: limit.unwrap_or(BODY_LIMIT).min(BODY_MAX),
    })
}

fn model_to_wire(model: &VirtualModel) -> wire::VirtualModel {
    wire::VirtualModel {
        name: model.name.to_string(),
        targets: model.targets.iter().map(|target| target::to_wire(target)).collect(),
        timers: Some(timers_to_wire(&model.timers)),
        retry: Some(wire::ModelRetry {
            attempts: model.retry.attempts,
            only_within: Some(wire_duration(model.retry.only_within)),
            budget_percent: model.retry.budget_percent,
            on: model.retry.on.iter().map(|reason| reason.word().to_owned()).collect(),
        }),
        hedge: match model.hedge {
            Hedge::Off => None,
            Hedge::AfterP95 => Some(After::P95(true)),
            Hedge::After(time) => Some(After::Time(wire_duration(time))),
        }
        .map(|after| wire::Hedge { after: Some(after) }),
        escalate: Some(wire::Escalate {
            on_length: model.escalate.on_length,
            refusals: model.escalate.refusals.clone(),
            json: model.escalate.json.clone().map(|members| wire::JsonAnswer { members }),
            schema: model.escalate.schema.as_ref().map(|schema| schema.source().to_string()).unwrap_or_default(),
        }),
        on_exhausted: model.on_exhausted.word().to_owned(),
        mid_stream: model.mid_stream.word().to_owned(),
    }
}

fn model_from_wire(model: wire::VirtualModel) -> Result<VirtualModel, Invalid> {
    if model.targets.is_empty() {
        return Err(Invalid::Missing { field: "virtual_model.targets" });
    }
    let targets = model.targets.into_iter().map(|target| target::from_wire(target).map(Arc::new));
    let escalate = model.escalate.unwrap_or_default();
    Ok(VirtualModel {
        name: model.name.parse().map_err(|error| Invalid::value("virtual_model.name", error))?,
        targets: targets.collect::<Result<_, _>>()?,
        timers: timers_from_wire(model.timers.unwrap_or_default())?,
        retry: retry_from_wire(model.retry)?,
        hedge: hedge_from_wire(model.hedge)?,
        escalate: Escalate {
            on_length: escalate.on_length,
            refusals: escalate.refusals,
            json: escalate.json.map(|json| json.members),
            schema: filled(escalate.schema).map(|text| schema(&text)).transpose()?,
        },
        on_exhausted: word("virtual_model.on_exhausted", &model.on_exhausted)?,
        mid_stream: word("virtual_model.mid_stream", &model.mid_stream)?,
    })
}

fn retry_from_wire(retry: Option<wire::ModelRetry>) -> Result<ModelRetry, Invalid> {
    let retry = required("virtual_model.retry", retry)?;
    let only_within = required("model_retry.only_within", retry.only_within)?;
    Ok(ModelRetry {
        attempts: retry.attempts.max(1),
        only_within: super::duration("model_retry.only_within", only_within)?,
        budget_percent: retry.budget_percent,
        on: retry.on.iter().map(|reason| word("model_retry.on", reason)).collect::<Result<_, _>>()?,
    })
}

fn hedge_from_wire(hedge: Option<wire::Hedge>) -> Result<Hedge, Invalid> {
    let Some(hedge) = hedge else { return Ok(Hedge::Off) };
    Ok(match required("hedge.after", hedge.after)? {
        After::P95(_) => Hedge::AfterP95,
        After::Time(time) => Hedge::After(super::duration("hedge.time", time)?),
    })
}

fn timers_to_wire(timers: &ModelTimers) -> wire::ModelTimers {
    wire::ModelTimers {
        connect: Some(wire_duration(timers.connect)),
        headers: Some(wire_duration(timers.headers)),
        first_token: Some(wire_duration(timers.first_token)),
        idle: Some(wire_duration(timers.idle)),
        total: Some(wire_duration(timers.total)),
        min_remaining: Some(wire_duration(timers.min_remaining)),
        headers_whole: Some(wire_duration(timers.headers_whole)),
    }
}

fn timers_from_wire(timers: wire::ModelTimers) -> Result<ModelTimers, Invalid> {
    let default = ModelTimers::default();
    let read = |field, wire, default: Duration| optional_duration(field, wire).map(|read| read.unwrap_or(default));
    Ok(ModelTimers {
        connect: read("model_timers.connect", timers.connect, default.connect)?,
        headers: read("model_timers.headers", timers.headers, default.headers)?,
        first_token: read("model_timers.first_token", timers.first_token, default.first_token)?,
        idle: read("model_timers.idle", timers.idle, default.idle)?,
        total: read("model_timers.total", timers.total, default.total)?,
        headers_whole: read("model_timers.headers_whole", timers.headers_whole, default.headers_whole)?,
        min_remaining: read("model_timers.min_remaining", timers.min_remaining, default.min_remaining)?,
    })
}

fn schema(text: &str) -> Result<Schema, Invalid> {
    serde_json::from_str(text).map_err(|error| Invalid::value("escalate.schema", error))
}

/// What a word stands for; a word that is not known, perhaps a newer one, refuses the message.
pub(super) fn word<T: Word>(field: &'static str, word: &str) -> Result<T, Invalid> {
    T::of_word(word).ok_or_else(|| Invalid::value(field, format!("{word:?} is not known")))
}

/// A text that is absent when it is empty.
fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
