//! Kind `LaneGroup`: services through which lanes run, how the label travels, and which instances are baseline.

use std::time::Duration;

use super::{
    lane::{self, Rules},
    node::{Node, Object},
    reference::service_label,
};
use crate::{
    identity::Identity,
    model::lane::{Baseline, Carrier, LINGER_MAX, LaneName, MAX_REQUEST_AGE, Members, Propagation, Stale},
    names,
};

/// What a lane group says.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneGroup {
    /// Name of the group.
    pub name: LaneName,
    /// Services (`<name>.<namespace>`) where a lane is decided.
    pub entries: Vec<String>,
    /// Services that take part.
    pub services: Members,
    /// How the label travels.
    pub carrier: Carrier,
    /// Labels of instances whose value is the name of a lane, in order of preference.
    pub lane_keys: Vec<String>,
    /// Which instances are baseline.
    pub baseline: Baseline,
    /// Salt of percentages; the group's name unless written.
    pub salted_by: String,
    /// Who may set a label.
    pub trust: Trust,
    /// Where else than in header and baggage the label is looked for.
    pub propagation: Propagation,
    /// Whether the caller's zone comes before the lane.
    pub zone_first: bool,
    /// Greatest age of a request, for which a draining lane's label is honoured.
    pub max_request_age: Duration,
    /// Rules of lanes that say nothing else.
    pub defaults: Rules,
}

/// Who may set a label on a request that enters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Gateways, `<name>.<namespace>`.
    pub gateways: Vec<String>,
    /// Identities.
    pub identities: Vec<Identity>,
}

/// Labels that mark an instance unless the group says otherwise.
const LANE_KEYS: &[&str] = &[names::LANE_LABEL, "lane", "version", "alicloud.service.tag", "dubbo.tag"];

/// Words for [`Baseline`].
const BASELINES: &[(&str, Baseline)] =
    &[("untagged", Baseline::Untagged), ("notInActiveLane", Baseline::NotInActiveLane)];

/// Words for [`Stale`].
const STALE: &[(&str, Stale)] = &[("honour", Stale::Honour), ("ignore", Stale::Ignore)];

/// Fields of the specification.
const FIELDS: &[&str] = &[
    "entries",
    "services",
    "carrier",
    "laneKeys",
    "baseline",
    "saltedBy",
    "trust",
    "propagation",
    "zoneFirst",
    "maxRequestAge",
    "defaults",
];

/// Reads the specification of the group called `name`.
pub(super) fn read(spec: &Node<'_>, namespace: &str, name: LaneName) -> Option<LaneGroup> {
    let spec = spec.object(FIELDS)?;
    let labels = |key| spec.list(key).iter().filter_map(|node| service_label(node, namespace)).collect();
    let lane_keys = match spec.get("laneKeys") {
        Some(node) => node.texts(),
        None => LANE_KEYS.iter().map(|key| (*key).to_owned()).collect(),
    };
    Some(LaneGroup {
        entries: labels("entries"),
        services: members(&spec, namespace),
        carrier: spec.get("carrier").map(|node| carrier(&node)).unwrap_or_default(),
        lane_keys,
        baseline: spec.get("baseline").and_then(|node| node.choice(BASELINES)).unwrap_or_default(),
        salted_by: spec.get("saltedBy").and_then(|node| node.filled_text()).unwrap_or_else(|| name.to_string()),
        trust: spec.get("trust").map(|node| trust(&node, namespace)).unwrap_or_default(),
        propagation: spec.get("propagation").map(|node| propagation(&node)).unwrap_or_default(),
        zone_first: spec.get("zoneFirst").and_then(|node| node.boolean()).unwrap_or_default(),
        max_request_age: spec.get("maxRequestAge").and_then(|node| node.duration()).unwrap_or(MAX_REQUEST_AGE),
        defaults: spec.get("defaults").map(|node| defaults(&node)).unwrap_or_default(),
        name,
    })
}

fn members(spec: &Object<'_>, namespace: &str) -> Members {
    let mut nodes = spec.required_list("services");
    let is_all = |node: &Node<'_>| node.is_text("*");
    if nodes.iter().any(is_all) {
        nodes.retain(|node| !is_all(node));
        if let Some(other) = nodes.first() {
            other.problem("\"*\" means every service and stands alone".to_owned());
        }
        return Members::All;
    }
    Members::Named(nodes.iter().filter_map(|node| service_label(node, namespace)).collect())
}

fn carrier(node: &Node<'_>) -> Carrier {
    let Some(object) = node.object(&["header", "baggageKey", "aliases"]) else { return Carrier::default() };
    let default = Carrier::default();
    Carrier {
        header: object.get("header").and_then(|node| field_name(&node)).unwrap_or(default.header),
        baggage_key: object.get("baggageKey").and_then(|node| field_name(&node)).unwrap_or(default.baggage_key),
        aliases: object.list("aliases").iter().filter_map(field_name).collect(),
    }
}

/// A header name in lower case that may carry a label: none that means something else.
fn field_name(node: &Node<'_>) -> Option<String> {
    const TAKEN: &[&str] = &[
        names::BAGGAGE_HEADER,
        "host",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "cookie",
        "authorization",
        "traceparent",
        "tracestate",
    ];
    let name = node.field_name()?;
    if TAKEN.contains(&name.as_str()) || name.starts_with("l5d-") {
        node.problem(format!("{name:?} has a meaning of its own and cannot carry a lane"));
    }
    Some(name)
}

fn trust(node: &Node<'_>, namespace: &str) -> Trust {
    let Some(object) = node.object(&["gateways", "identities"]) else { return Trust::default() };
    Trust {
        gateways: object.list("gateways").iter().filter_map(|node| service_label(node, namespace)).collect(),
        identities: object.list("identities").iter().filter_map(Node::parsed_saying).collect(),
    }
}

fn propagation(node: &Node<'_>) -> Propagation {
    let fields = ["traceHeaders", "linger", "tracestate", "rederive", "unanimity", "stale"];
    let (default, object) = (Propagation::default(), node.object(&fields));
    let Some(object) = object else { return default };
    let boolean = |key| object.get(key).and_then(|node| node.boolean());
    let linger = object.get("linger").and_then(|node| node.duration()).unwrap_or(default.linger);
    if linger > LINGER_MAX {
        object.problem("linger", format!("is longer than {} s", LINGER_MAX.as_secs()));
    }
    Propagation {
        trace_headers: object.list("traceHeaders").iter().filter_map(Node::field_name).collect(),
        linger,
        tracestate: boolean("tracestate").unwrap_or(default.tracestate),
        rederive: boolean("rederive").unwrap_or(default.rederive),
        unanimity: boolean("unanimity").unwrap_or(default.unanimity),
        stale: object.get("stale").and_then(|node| node.choice(STALE)).unwrap_or_default(),
    }
}

fn defaults(node: &Node<'_>) -> Rules {
    node.object(lane::RULE_FIELDS).map(|object| lane::rules(&object, &Rules::default())).unwrap_or_default()
}
