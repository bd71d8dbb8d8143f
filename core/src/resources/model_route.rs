//! Kind `ModelRoute`: virtual models with prioritised targets. Read strictly here; what it does joins with the part that
//! carries calls to language models.

use std::time::Duration;

use super::node::Node;

/// What a model route says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRoute {
    /// Virtual models, as callers name them.
    pub models: Vec<String>,
    /// Targets by priority.
    pub targets: Vec<Target>,
    /// Why the next target is tried.
    pub failover: Vec<String>,
    /// Time limits.
    pub timers: Timers,
    /// Tokens per minute and caller, if limited.
    pub tokens_per_minute: Option<u64>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name, for metrics and logs.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Model as the target names it; the virtual model's name unless written.
    pub model: Option<String>,
    /// Lower is tried first.
    pub priority: u64,
}

/// Time limits of a model route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// Until the first token.
    pub first_token: Option<Duration>,
    /// Between tokens.
    pub between_tokens: Option<Duration>,
    /// Whole answer.
    pub total: Option<Duration>,
}

/// Greatest priority number.
const PRIORITY_MAX: u64 = 1_000;

/// Reads the specification.
pub(super) fn read(spec: &Node<'_>) -> Option<ModelRoute> {
    let spec = spec.object(&["models", "targets", "failover", "timers", "tokensPerMinute"])?;
    Some(ModelRoute {
        models: spec.required_list("models").iter().filter_map(Node::filled_text).collect(),
        targets: spec.required_list("targets").iter().filter_map(target).collect(),
        failover: spec.get("failover").map(|node| node.texts()).unwrap_or_default(),
        timers: spec.get("timers").map(|node| timers(&node)).unwrap_or_default(),
        tokens_per_minute: spec.get("tokensPerMinute").and_then(|node| node.integer(1..=u64::MAX)),
    })
}

fn target(node: &Node<'_>) -> Option<Target> {
    let object = node.object(&["name", "url", "model", "priority"])?;
    let (name, url) = (object.required("name"), object.required("url"));
    let (name, url) = (name.and_then(|node| node.filled_text()), url.and_then(|node| node.filled_text()));
    let model = object.get("model").and_then(|node| node.filled_text());
    let priority = object.get("priority").and_then(|node| node.integer(0..=PRIORITY_MAX)).unwrap_or(0);
    Some(Target { name: name?, url: url?, model, priority })
}

fn timers(node: &Node<'_>) -> Timers {
    let Some(object) = node.object(&["firstToken", "betweenTokens", "total"]) else { return Timers::default() };
    let read = |key| object.get(key).and_then(|node| node.duration());
    Timers { first_token: read("firstToken"), between_tokens: read("betweenTokens"), total: read("total") }
}
