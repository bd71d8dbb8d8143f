//! Kind `ModelRoute`: virtual models with prioritised targets. What is wrong within one route is found here, what is wrong
//! between it and the rest in `compile`.

mod attempts;
mod checks;
mod endpoint;
mod target;
mod tokens;

use std::{net::IpAddr, str::FromStr, sync::Arc, time::Duration};

pub(super) use tokens::{key_header, store as limit_store};

use super::{
    node::{Node, Object},
    wording::shortened,
};
use crate::model::model_route::{
    Api, BODY_LIMIT, BODY_MAX, Drill, NamePattern, NotADriller, NotAName, TokenLimits, VirtualModel, Word,
};

/// What a model route says.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRoute {
    /// Hosts at which applications call it.
    pub hosts: Vec<String>,
    /// Virtual models, their targets as written.
    pub models: Vec<VirtualModel>,
    /// What callers may use.
    pub tokens: TokenLimits,
    /// Who may force failures.
    pub drill: Drill,
    /// Longest request that is held, bytes.
    pub body_limit: usize,
}

/// Reads the specification.
pub(super) fn read(spec: &Node<'_>, namespace: &str) -> Option<ModelRoute> {
    let spec = spec.object(&["hosts", "models", "tokens", "drill", "bodyLimit", "guard", "template"])?;
    for reserved in ["guard", "template"] {
        if spec.get(reserved).is_some() {
            spec.problem(reserved, "not supported yet; leave it out".to_owned());
        }
    }
    let hosts = spec.required_list("hosts").iter().filter_map(host).collect();
    let written = spec.required_list("models");
    let models: Vec<VirtualModel> = written.iter().filter_map(|node| model(node, namespace)).collect();
    let tokens = spec.get("tokens").map(|node| tokens::read(&node)).unwrap_or_default();
    let drill = spec.get("drill").map(|node| drill(&node)).unwrap_or_default();
    let body_limit = spec.get("bodyLimit").and_then(|node| bytes(&node)).unwrap_or(BODY_LIMIT);
    let is_complete = models.len() == written.len();
    let route = ModelRoute { hosts, models, tokens, drill, body_limit };
    if is_complete {
        checks::route(&spec, &route);
    }
    Some(route)
}

fn host(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if text.contains([':', '/']) {
        node.problem(format!("{:?} is no host name: neither scheme nor port nor path stands in it", shortened(&text)));
        return None;
    }
    if IpAddr::from_str(&text).is_ok() {
        node.problem(format!("{text:?} is an address; a model route is called by name"));
        return None;
    }
    node.dns_name()
}

/// Who may force failures.
fn drill(node: &Node<'_>) -> Drill {
    let Some(object) = node.object(&["allow"]) else { return Drill::default() };
    let driller = |node: &Node<'_>| {
        let text = node.text()?;
        text.parse().map_err(|error: NotADriller| node.problem(format!("{:?} {error}", shortened(&text)))).ok()
    };
    Drill { allow: object.required_list("allow").iter().filter_map(driller).collect() }
}

/// A number of bytes, or `512Ki`, `8Mi`.
fn bytes(node: &Node<'_>) -> Option<usize> {
    let Some(text) = node.as_text() else { return node.integer(0..=BODY_MAX as u64).map(|bytes| bytes as usize) };
    let units = [("Ki", 1024), ("Mi", 1024 * 1024)];
    let written = units.into_iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
    let bytes = written.and_then(|(count, size)| count.parse::<usize>().ok()?.checked_mul(size));
    let bytes = bytes.filter(|bytes| *bytes <= BODY_MAX);
    if bytes.is_none() {
        node.problem(format!("{:?} is no length up to 64Mi, e.g. 512Ki, 8Mi", shortened(text)));
    }
    bytes
}

/// A virtual model, if each of its targets could be read.
fn model(node: &Node<'_>, namespace: &str) -> Option<VirtualModel> {
    let fields = ["name", "apis", "targets", "timers", "retry", "hedge", "escalate", "onExhausted", "midStream"];
    let object = node.object(&fields)?;
    let name = object.required("name").and_then(|node| pattern(&node));
    let written = object.required_list("targets");
    let targets: Vec<_> = written.iter().filter_map(|node| target::read(node, namespace)).map(Arc::new).collect();
    let timers = attempts::timers(&object);
    let retry = attempts::retry(&object, &timers);
    let apis: Vec<Api> = object.list("apis").iter().filter_map(|node| node.choice(Api::WORDS)).collect();
    let is_complete = targets.len() == written.len() && !targets.is_empty();
    let model = VirtualModel {
        name: name?,
        targets,
        timers,
        retry,
        hedge: object.get("hedge").and_then(|node| attempts::hedge(&node)).unwrap_or_default(),
        escalate: object.get("escalate").map(|node| attempts::escalate(&node)).unwrap_or_default(),
        on_exhausted: object.get("onExhausted").and_then(|node| attempts::on_exhausted(&node)).unwrap_or_default(),
        mid_stream: object.get("midStream").and_then(|node| node.choice(Word::WORDS)).unwrap_or_default(),
    };
    if !is_complete {
        return None;
    }
    checks::model(&object, &model, &apis);
    Some(model)
}

/// A name of models with `*` at its end, or without.
fn pattern(node: &Node<'_>) -> Option<NamePattern> {
    let text = node.text()?;
    text.parse().map_err(|error: NotAName| node.problem(format!("{:?} {error}", shortened(&text)))).ok()
}

/// A time span that is longer than 0.
fn positive(object: &Object<'_>, key: &str) -> Option<Duration> {
    let duration = object.get(key)?.duration()?;
    if duration.is_zero() {
        object.problem(key, "may not be 0; leave it out for the default".to_owned());
    }
    Some(duration)
}
