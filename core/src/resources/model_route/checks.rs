//! What is wrong between the parts of one route: what can never work is refused before it stays silent.

use std::{collections::BTreeSet, time::Duration};

use super::ModelRoute;
use crate::{
    model::model_route::{
        Api, Can, Counted, Escalate, Hedge, Limit, MidStream, ModelTarget, NamePattern, Reason, VirtualModel, Word,
    },
    model_route::translate::toward,
    resources::node::Object,
};

/// Checks a model whose targets could all be read; `apis` are those that callers use, as far as they were written.
pub(super) fn model(object: &Object<'_>, model: &VirtualModel, apis: &[Api]) {
    weights(object, model);
    twins(object, model);
    fallback(object, model);
    second_target(object, model);
    times(object, model);
    served(object, model, apis);
    if model.mid_stream == MidStream::Continue {
        resumed(object, model, apis);
    }
}

fn weights(object: &Object<'_>, model: &VirtualModel) {
    if model.targets.iter().all(|target| target.weight == 0) {
        object.problem("targets", "every weight is 0: nobody serves this model".to_owned());
    }
}

/// Two targets that are one: the second fails as the first does.
fn twins(object: &Object<'_>, model: &VirtualModel) {
    let what = |target: &ModelTarget| {
        (target.endpoint.clone(), target.model.clone(), target.credential.clone(), target.lane.clone())
    };
    for (at, target) in model.targets.iter().enumerate() {
        if let Some(other) = model.targets[..at].iter().find(|other| what(other) == what(target)) {
            let message =
                format!("has endpoint, model, credential and lane of {}: falling back to it helps nobody", other.name);
            object.problem(&format!("targets[{at}]"), message);
        }
    }
}

/// Targets that serve requests of no lane.
fn plain(model: &VirtualModel) -> usize {
    model.targets.iter().filter(|target| target.lane.is_none() && target.weight > 0).count()
}

/// A route that never falls back is refused, unless it says so itself.
fn fallback(object: &Object<'_>, model: &VirtualModel) {
    let wants_one = model.retry.attempts == 1;
    match plain(model) {
        0 if model.targets.iter().any(|target| target.weight > 0) => {
            let message = "each belongs to a lane: nobody serves requests without one";
            object.problem("targets", message.to_owned());
        }
        1 if !wants_one => {
            let message = "requests without lane have one target and could never fall back: \
                           add another one, or say retry.attempts: 1";
            object.problem("targets", message.to_owned());
        }
        0 | 1 => {}
        _ if wants_one => {
            let message =
                "with one attempt no target is ever a fallback: at least 2 are needed where there are several targets";
            object.problem("retry.attempts", message.to_owned());
        }
        _ => {}
    }
}

/// What asks a second target needs one.
fn second_target(object: &Object<'_>, model: &VirtualModel) {
    if model.retry.attempts > 1 {
        return;
    }
    let message = "needs a second target and retry.attempts of at least 2";
    if model.hedge != Hedge::Off {
        object.problem("hedge", message.to_owned());
    }
    if model.escalate != Escalate::default() {
        object.problem("escalate", message.to_owned());
    }
}

/// APIs whose broken streams another target can go on with.
const RESUMED: [Api; 2] = [Api::ChatCompletions, Api::Messages];

/// A stream that is to be gone on with needs who does so.
fn resumed(object: &Object<'_>, model: &VirtualModel, apis: &[Api]) {
    let called = |api: &&Api| apis.is_empty() || apis.contains(api);
    let can = |target: &&std::sync::Arc<ModelTarget>| {
        let speaks = |api: &Api| toward(*api, target.provider.dialect()).is_some();
        target.capabilities.prefill == Can::Yes && target.weight > 0 && RESUMED.iter().filter(called).any(speaks)
    };
    let message = if !RESUMED.iter().any(|api| called(&api)) {
        "continue is for chatCompletions and messages, of which callers use none (apis)"
    } else if model.retry.attempts == 1 || model.targets.len() == 1 {
        "continue needs a second target and retry.attempts of at least 2"
    } else if !model.targets.iter().any(|target| can(&target)) {
        "continue needs a target that goes on from the beginning of an answer (capabilities.prefill: true)"
    } else {
        return;
    };
    object.problem("midStream", message.to_owned());
}

/// Times that contradict each other, besides those longer than `total`.
fn times(object: &Object<'_>, model: &VirtualModel) {
    let (timers, retry) = (&model.timers, &model.retry);
    // Of a stream whichever ends first says that its target is given up.
    let silent = timers.first_token.min(timers.headers);
    if retry.attempts > 1 {
        let on_silence = [Reason::TimeoutFirstToken, Reason::TimeoutHeaders];
        too_late(object, model, ("firstToken", silent), &on_silence);
        too_late(object, model, ("connect", timers.connect), &[Reason::Connect]);
    }
    if let Hedge::After(after) = model.hedge
        && after >= silent
    {
        object.problem("hedge", format!("the first target is given up before that, after {silent:?}"));
    }
}

/// A target that is given up when no other may be tried any more.
fn too_late(object: &Object<'_>, model: &VirtualModel, (timer, given_up): (&str, Duration), reasons: &[Reason]) {
    let only_within = model.retry.only_within;
    if given_up < only_within || !reasons.iter().any(|reason| model.retry.on.contains(reason)) {
        return;
    }
    let written = object.get("retry").and_then(|retry| retry.child("onlyWithin"));
    let path = if written.is_some() { "retry.onlyWithin".to_owned() } else { format!("timers.{timer}") };
    let message = format!(
        "a target is given up after {given_up:?} (timers.{timer}), but after {only_within:?} (retry.onlyWithin) no other is tried"
    );
    object.problem(&path, message);
}

/// Every target must serve what callers call.
fn served(object: &Object<'_>, model: &VirtualModel, apis: &[Api]) {
    for (at, target) in model.targets.iter().enumerate() {
        for api in apis.iter().filter(|api| toward(**api, target.provider.dialect()).is_none()) {
            let message = format!(
                "{} does not serve {}, which callers use (apis), and there is no translation",
                target.provider.as_str(),
                api.word()
            );
            object.problem(&format!("targets[{at}].provider"), message);
        }
    }
}

/// Checks a route whose models could all be read.
pub(super) fn route(spec: &Object<'_>, route: &ModelRoute) {
    let mut hosts = BTreeSet::new();
    for (at, host) in route.hosts.iter().enumerate().filter(|(_, host)| !hosts.insert(host.as_str())) {
        spec.problem(&format!("hosts[{at}]"), format!("{host} stands here twice"));
    }
    let (mut names, mut targets) = (Vec::new(), BTreeSet::new());
    for (at, model) in route.models.iter().enumerate() {
        if names.contains(&&model.name) {
            spec.problem(&format!("models[{at}].name"), format!("{} is a model of this route already", model.name));
        }
        names.push(&model.name);
        for (position, target) in model.targets.iter().enumerate() {
            if !targets.insert(target.name.as_str()) {
                let message = format!("{} is a target of this route already", target.name);
                spec.problem(&format!("models[{at}].targets[{position}].name"), message);
            }
        }
    }
    prices(spec, route);
}

fn is_money(limit: &Limit) -> bool {
    limit.of == Counted::Money
}

/// Money is limited only where every target has a price: what costs nothing is written as 0.
fn prices(spec: &Object<'_>, route: &ModelRoute) {
    let of_all = route.tokens.limits.iter().position(is_money);
    if let Some(at) = of_all.filter(|_| route.tokens.prices.is_empty()) {
        spec.problem(&format!("tokens.limits[{at}].of"), "money cannot be counted without tokens.prices".to_owned());
        return;
    }
    for (at, model) in route.models.iter().enumerate() {
        for (position, target) in model.targets.iter().enumerate() {
            let own = target.limits.iter().any(is_money);
            let asked = target.model.clone().map_or_else(|| model.name.clone(), NamePattern::Exact);
            let has_price = route.tokens.prices.iter().any(|price| price.model.covers(&asked));
            if (own || of_all.is_some()) && !has_price {
                let message = format!("money is limited, and no entry of tokens.prices fits {asked}");
                spec.problem(&format!("models[{at}].targets[{position}].model"), message);
            }
        }
    }
}
