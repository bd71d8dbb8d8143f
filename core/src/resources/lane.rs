//! Kind `Lane`: instances that receive chosen requests along the whole call chain.

mod condition;

use std::{collections::BTreeMap, time::Duration};

pub use condition::{Condition, Operator, Subject};

use super::node::{Node, Object};
use crate::model::lane::{LaneName, LaneState, OnMissing, OnUnhealthy};

/// What a lane says. Match, percentage, ramp, mode, ttl and priority are kept for the part that stains.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Group it belongs to.
    pub group: LaneName,
    /// Name within the group; the resource's name unless written.
    pub name: LaneName,
    /// Labels that make an instance a member, besides the group's lane keys; empty = these alone.
    pub selector: BTreeMap<String, String>,
    /// Next level; `None` = as the name implies, or baseline.
    pub parent: Option<LaneName>,
    /// Requests that are stained, if any rule is written.
    pub rule: Option<Match>,
    /// Share of the remaining requests.
    pub percentage: Option<Percentage>,
    /// Movement of the share over time.
    pub ramp: Option<Ramp>,
    /// Rules that the group may give defaults for; what is absent comes from there.
    pub rules: OwnRules,
    /// End of the lane's life after its creation.
    pub ttl: Option<Duration>,
    /// Order among lanes at an entry: greater first.
    pub priority: u64,
    /// Stage of the lane's life.
    pub state: LaneState,
}

/// Rules with every default filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a request outside the lane's members may do.
    pub mode: Mode,
    /// Where a level has no member.
    pub on_missing: OnMissing,
    /// Where a level has too few usable members.
    pub on_unhealthy: OnUnhealthy,
    /// Fewer usable members than this make a level unhealthy.
    pub min_healthy: u32,
    /// Users stay in their lane while percentages grow.
    pub sticky: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            mode: Mode::Permissive,
            on_missing: OnMissing::default(),
            on_unhealthy: OnUnhealthy::default(),
            min_healthy: 1,
            sticky: true,
        }
    }
}

/// Rules as a lane writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRules {
    mode: Option<Mode>,
    on_missing: Option<OnMissing>,
    on_unhealthy: Option<OnUnhealthy>,
    min_healthy: Option<u32>,
    sticky: Option<bool>,
}

impl OwnRules {
    /// These rules, filled up from the group's defaults. A strict lane has no fallback unless it says so itself.
    pub fn over(&self, defaults: &Rules) -> Rules {
        let mode = self.mode.unwrap_or(defaults.mode);
        let (missing, unhealthy) = match mode {
            Mode::Permissive => (defaults.on_missing, defaults.on_unhealthy),
            Mode::Strict => (OnMissing::Reject, OnUnhealthy::Reject),
        };
        Rules {
            mode,
            on_missing: self.on_missing.unwrap_or(missing),
            on_unhealthy: self.on_unhealthy.unwrap_or(unhealthy),
            min_healthy: self.min_healthy.unwrap_or(defaults.min_healthy),
            sticky: self.sticky.unwrap_or(defaults.sticky),
        }
    }
}

/// Whether a lane's requests may leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Other levels serve where the lane has no instance.
    Permissive,
    /// Only the lane's instances serve.
    Strict,
}

/// Requests that are stained.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// Those for which one condition holds.
    Any(Vec<Condition>),
    /// Those for which every condition holds.
    All(Vec<Condition>),
}

/// Share of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percentage {
    /// Hundredths of a percent, 0 to 10,000.
    pub value: u32,
    /// Where the user's key is looked for, in order: `header:x`, `cookie:x`, `claim:x`, `query:x`, `sourceIP`, `traceId`.
    pub key: Vec<String>,
}

/// Movement of a share over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// Share at the start, hundredths of a percent.
    pub from: u32,
    /// Share at the end, hundredths of a percent.
    pub to: u32,
    /// How long it takes.
    pub over: Duration,
    /// Shape.
    pub curve: Curve,
}

/// Shape of a ramp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Curve {
    /// Even.
    #[default]
    Linear,
    /// Slow at first.
    Exponential,
}

/// Fields that a lane and the defaults of its group have in common.
pub(super) const RULE_FIELDS: &[&str] = &["mode", "onMissing", "onUnhealthy", "minHealthy", "sticky"];
/// Fields of the specification besides [`RULE_FIELDS`].
const FIELDS: &[&str] =
    &["group", "name", "selector", "parent", "match", "percentage", "ramp", "ttl", "priority", "state"];
const MODES: &[(&str, Mode)] = &[("permissive", Mode::Permissive), ("strict", Mode::Strict)];
const ON_MISSING: &[(&str, OnMissing)] = &[("fallback", OnMissing::Fallback), ("reject", OnMissing::Reject)];
const ON_UNHEALTHY: &[(&str, OnUnhealthy)] =
    &[("fallback", OnUnhealthy::Fallback), ("stay", OnUnhealthy::Stay), ("reject", OnUnhealthy::Reject)];
const STATES: &[(&str, LaneState)] = &[
    ("draft", LaneState::Draft),
    ("active", LaneState::Active),
    ("draining", LaneState::Draining),
    ("closed", LaneState::Closed),
    ("promoted", LaneState::Promoted),
];
const CURVES: &[(&str, Curve)] = &[("linear", Curve::Linear), ("exponential", Curve::Exponential)];
/// Most members that `minHealthy` may ask for.
const MIN_HEALTHY_MAX: u64 = 10_000;
/// Greatest priority.
const PRIORITY_MAX: u64 = 1_000_000;

/// Reads the specification of the lane whose resource is called `name`.
pub(super) fn read(spec: &Node<'_>, name: LaneName) -> Option<Lane> {
    let spec = spec.object(&[FIELDS, RULE_FIELDS].concat())?;
    let group = spec.required("group").and_then(|node| node.parsed_saying());
    let lane = Lane {
        name: spec.get("name").and_then(|node| node.parsed_saying()).unwrap_or(name.clone()),
        selector: spec.get("selector").map(|node| selector(&node)).unwrap_or_default(),
        parent: spec.get("parent").and_then(|node| node.parsed_saying()),
        rule: spec.get("match").and_then(|node| rule(&node)),
        percentage: spec.get("percentage").and_then(|node| percentage(&node)),
        ramp: spec.get("ramp").and_then(|node| ramp(&node)),
        rules: own_rules(&spec),
        ttl: spec.get("ttl").and_then(|node| node.duration()),
        priority: spec.get("priority").and_then(|node| node.integer(0..=PRIORITY_MAX)).unwrap_or(0),
        state: spec.get("state").and_then(|node| node.choice(STATES)).unwrap_or_default(),
        group: group.unwrap_or(name),
    };
    Some(lane)
}

/// The rules of an object over some defaults.
pub(super) fn rules(object: &Object<'_>, defaults: &Rules) -> Rules {
    own_rules(object).over(defaults)
}

fn own_rules(object: &Object<'_>) -> OwnRules {
    let min_healthy = object.get("minHealthy").and_then(|node| node.integer(0..=MIN_HEALTHY_MAX));
    OwnRules {
        mode: object.get("mode").and_then(|node| node.choice(MODES)),
        on_missing: object.get("onMissing").and_then(|node| node.choice(ON_MISSING)),
        on_unhealthy: object.get("onUnhealthy").and_then(|node| node.choice(ON_UNHEALTHY)),
        min_healthy: min_healthy.map(|value| value as u32),
        sticky: object.get("sticky").and_then(|node| node.boolean()),
    }
}

/// `labels` and `metadata`; an instance has one set of both, so that they are one here.
fn selector(node: &Node<'_>) -> BTreeMap<String, String> {
    let Some(object) = node.object(&["labels", "metadata"]) else { return BTreeMap::new() };
    let of = |key| object.get(key).map(|node| node.texts_by_key()).unwrap_or_default();
    let (mut labels, metadata) = (of("labels"), of("metadata"));
    labels.extend(metadata);
    if labels.is_empty() {
        node.problem("selects nothing; give labels or metadata, or leave the selector out".to_owned());
    }
    labels
}

fn rule(node: &Node<'_>) -> Option<Match> {
    let object = node.object(&["any", "all"])?;
    let conditions = |node: Node<'_>| node.list().iter().filter_map(condition::read).collect::<Vec<_>>();
    match (object.get("any"), object.get("all")) {
        (Some(any), None) => Some(Match::Any(conditions(any))),
        (None, Some(all)) => Some(Match::All(conditions(all))),
        (Some(_), Some(_)) | (None, None) => {
            node.problem("needs either any or all, a list of conditions".to_owned());
            None
        }
    }
}

fn percentage(node: &Node<'_>) -> Option<Percentage> {
    let object = node.object(&["value", "key"])?;
    let value = object.required("value").and_then(|node| hundredths(&node));
    let key = object.list("key").iter().filter_map(percentage_key).collect();
    Some(Percentage { value: value?, key })
}

fn percentage_key(node: &Node<'_>) -> Option<String> {
    let key = node.text()?;
    let named = ["header:", "cookie:", "claim:", "query:"];
    let good = matches!(key.as_str(), "sourceIP" | "traceId")
        || named.iter().any(|prefix| key.strip_prefix(prefix).is_some_and(|name| !name.is_empty()));
    if !good {
        let allowed = "header:<name>, cookie:<name>, claim:<name>, query:<name>, sourceIP or traceId";
        node.problem(format!("{key:?} is no key: expected {allowed}"));
    }
    Some(key)
}

/// A percentage in steps of 0.01, as hundredths.
fn hundredths(node: &Node<'_>) -> Option<u32> {
    let value = node.number(0.0..=100.0)? * 100.0;
    if (value - value.round()).abs() > 1e-6 {
        node.problem("has more than two decimal places; steps are 0.01".to_owned());
    }
    Some(value.round() as u32)
}

fn ramp(node: &Node<'_>) -> Option<Ramp> {
    let object = node.object(&["from", "to", "over", "curve"])?;
    let share = |key| object.required(key).and_then(|node| hundredths(&node));
    let (from, to) = (share("from"), share("to"));
    let over = object.required("over").and_then(|node| node.duration());
    let curve = object.get("curve").and_then(|node| node.choice(CURVES)).unwrap_or_default();
    Some(Ramp { from: from?, to: to?, over: over?, curve })
}
