//! Kind `Lane`: instances that receive chosen requests along the whole call chain.

mod condition;

use std::{collections::BTreeMap, time::Duration};

use super::node::{Node, Object};
use crate::model::lane::{Curve, KeySource, LaneName, LaneState, Match, OnMissing, OnUnhealthy, Ramp, Share};

/// What a lane says.
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
    pub share: Option<Share>,
    /// Rules that the group may give defaults for; what is absent comes from there.
    pub rules: OwnRules,
    /// End of the lane's life after its creation.
    pub ttl: Option<Duration>,
    /// Order among lanes at an entry: greater first.
    pub priority: u32,
    /// Stage of the lane's life.
    pub state: LaneState,
    /// Unix milliseconds since when it is in this stage.
    pub state_since: Option<u64>,
    /// Stages it was in before, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<Past>,
    /// Conditions under which the lane drains by itself.
    pub guard: Option<Guard>,
    /// Unix milliseconds at which the resource was made (`metadata.creationTimestamp`, else see [`Lane::made_at`]).
    pub created: Option<u64>,
}

impl Lane {
    /// Says when the resource was made, where it does not say so itself (a file's own time, say): ttl and ramp count from
    /// there. Without any moment a ramp is over and a ttl never ends.
    pub fn made_at(&mut self, moment: u64) {
        if self.created.is_some() {
            return;
        }
        self.created = Some(moment);
        if let Some(ramp) = self.share.as_mut().and_then(|share| share.ramp.as_mut()).filter(|ramp| ramp.start == 0) {
            ramp.start = moment;
        }
    }
}

/// Most past stages that a lane keeps.
pub const HISTORY_MAX: usize = 20;

/// A past stage of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The stage.
    pub state: LaneState,
    /// Unix milliseconds at which it ended.
    pub until: u64,
    /// Why it ended, for people.
    pub reason: String,
}

/// When a lane drains by itself: at least one limit, judged over a window with enough requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// Time that is looked at; default 1 min.
    pub window: Duration,
    /// Fewer requests of the lane in the window judge nothing; default 50.
    pub min_requests: u64,
    /// Greatest share of failed requests beyond baseline's, 0 to 1.
    pub max_error_ratio: Option<f64>,
    /// Greatest multiple of baseline's 99th percentile of latency, 1 to 1,000.
    pub max_latency_factor: Option<f64>,
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
    /// Shares are decided by user, who stays in the lane while they grow; otherwise for each trace anew.
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

/// Fields that a lane and the defaults of its group have in common.
pub(super) const RULE_FIELDS: &[&str] = &["mode", "onMissing", "onUnhealthy", "minHealthy", "sticky"];
/// Fields of the specification besides [`RULE_FIELDS`].
const FIELDS: &[&str] = &[
    "group",
    "name",
    "selector",
    "parent",
    "match",
    "percentage",
    "ramp",
    "ttl",
    "priority",
    "state",
    "stateSince",
    "history",
    "guard",
];
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
/// Bounds of a guard's window.
const GUARD_WINDOW_MIN: Duration = Duration::from_secs(5);
const GUARD_WINDOW_MAX: Duration = Duration::from_secs(3_600);
/// Greatest priority.
const PRIORITY_MAX: u64 = 1_000_000;

/// Reads the specification of the lane whose resource is called `name`.
pub(super) fn read(spec: &Node<'_>, name: LaneName, created: Option<u64>) -> Option<Lane> {
    let spec = spec.object(&[FIELDS, RULE_FIELDS].concat())?;
    let group = spec.required("group").and_then(|node| node.parsed_saying());
    let lane = Lane {
        name: spec.get("name").and_then(|node| node.parsed_saying()).unwrap_or(name.clone()),
        selector: spec.get("selector").map(|node| selector(&node)).unwrap_or_default(),
        parent: spec.get("parent").and_then(|node| node.parsed_saying()),
        rule: spec.get("match").and_then(|node| rule(&node)),
        share: share(&spec, created),
        rules: own_rules(&spec),
        ttl: spec.get("ttl").and_then(|node| node.duration()),
        priority: spec.get("priority").and_then(|node| node.integer(0..=PRIORITY_MAX)).unwrap_or(0) as u32,
        state: spec.get("state").and_then(|node| node.choice(STATES)).unwrap_or_default(),
        state_since: spec.get("stateSince").and_then(|node| node.timestamp()),
        history: spec.get("history").map(|node| history(&node)).unwrap_or_default(),
        guard: spec.get("guard").and_then(|node| guard(&node)),
        created,
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

/// `percentage` and `ramp`: a ramp stands in for the value, and uses its keys.
fn share(spec: &Object<'_>, created: Option<u64>) -> Option<Share> {
    let written = spec.get("percentage").and_then(|node| percentage(&node));
    let ramp = spec.get("ramp").and_then(|node| ramp(&node, created));
    match (written, ramp) {
        (Some((value, keys)), ramp) => Some(Share { value, keys, ramp }),
        (None, Some(ramp)) => Some(Share { value: ramp.to, keys: Vec::new(), ramp: Some(ramp) }),
        (None, None) => None,
    }
}

fn percentage(node: &Node<'_>) -> Option<(u32, Vec<KeySource>)> {
    let object = node.object(&["value", "key"])?;
    let value = object.required("value").and_then(|node| hundredths(&node));
    let keys = object.list("key").iter().filter_map(key_source).collect();
    Some((value?, keys))
}

fn key_source(node: &Node<'_>) -> Option<KeySource> {
    let key = node.text()?;
    let source = match key.split_once(':').filter(|(_, name)| !name.is_empty()) {
        Some(("header", name)) => Some(KeySource::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) => Some(KeySource::Cookie(name.to_owned())),
        Some(("claim", name)) => Some(KeySource::Claim(name.to_owned())),
        Some(("query", name)) => Some(KeySource::Query(name.to_owned())),
        Some(_) => None,
        None => [("sourceIP", KeySource::SourceIp), ("traceId", KeySource::TraceId)]
            .into_iter()
            .find_map(|(word, source)| (word == key).then_some(source)),
    };
    if source.is_none() {
        let allowed = "header:<name>, cookie:<name>, claim:<name>, query:<name>, sourceIP or traceId";
        node.problem(format!("{key:?} is no key: expected {allowed}"));
    }
    source
}

/// A percentage in steps of 0.01, as hundredths.
fn hundredths(node: &Node<'_>) -> Option<u32> {
    let value = node.number(0.0..=100.0)? * 100.0;
    if (value - value.round()).abs() > 1e-6 {
        node.problem("has more than two decimal places; steps are 0.01".to_owned());
    }
    Some(value.round() as u32)
}

fn ramp(node: &Node<'_>, created: Option<u64>) -> Option<Ramp> {
    let object = node.object(&["from", "to", "over", "curve", "startTime"])?;
    let share = |key| object.required(key).and_then(|node| hundredths(&node));
    let (from, to) = (share("from"), share("to"));
    let over = object.required("over").and_then(|node| node.duration());
    if over.is_some_and(|over| over.is_zero()) {
        object.problem("over", "must be longer than 0".to_owned());
    }
    let curve = object.get("curve").and_then(|node| node.choice(CURVES)).unwrap_or_default();
    let start = object.get("startTime").map_or(created, |node| node.timestamp()).unwrap_or(0);
    Some(Ramp { from: from?, to: to?, over: over?, start, curve })
}

fn history(node: &Node<'_>) -> Vec<Past> {
    let nodes = node.list();
    if nodes.len() > HISTORY_MAX {
        node.problem(format!("has {} elements; at most {HISTORY_MAX} are kept", nodes.len()));
    }
    let past = |node: &Node<'_>| {
        let object = node.object(&["state", "until", "reason"])?;
        let state = object.required("state").and_then(|node| node.choice(STATES));
        let until = object.required("until").and_then(|node| node.timestamp());
        let reason = object.get("reason").and_then(|node| node.text()).unwrap_or_default();
        Some(Past { state: state?, until: until?, reason })
    };
    nodes.iter().filter_map(past).collect()
}

fn guard(node: &Node<'_>) -> Option<Guard> {
    let object = node.object(&["window", "minRequests", "maxErrorRatio", "maxLatencyFactor"])?;
    let guard = Guard {
        window: object.get("window").and_then(|node| node.duration()).unwrap_or(Duration::from_secs(60)),
        min_requests: object.get("minRequests").and_then(|node| node.integer(1..=1_000_000)).unwrap_or(50),
        max_error_ratio: object.get("maxErrorRatio").and_then(|node| node.number(0.0..=1.0)),
        max_latency_factor: object.get("maxLatencyFactor").and_then(|node| node.number(1.0..=1_000.0)),
    };
    if !(GUARD_WINDOW_MIN..=GUARD_WINDOW_MAX).contains(&guard.window) {
        object.problem("window", "must be from 5s to 1h".to_owned());
    }
    if object.get("maxErrorRatio").is_none() && object.get("maxLatencyFactor").is_none() {
        node.problem("limits nothing; give maxErrorRatio, maxLatencyFactor or both".to_owned());
    }
    Some(guard)
}
