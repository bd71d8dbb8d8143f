//! The part `zones` of a traffic policy.

use std::collections::BTreeMap;

use super::measures::percent;
use crate::{
    model::policy::{ZoneFailover, ZoneMatch, ZoneShares, Zones},
    resources::{
        http_route::{CONDITION, conditions},
        node::{Node, Object},
        wording::shortened,
    },
};

/// Most entries of each list.
const ENTRIES_MAX: usize = 64;
/// Longest name of a zone, bytes.
const NAME_MAX: usize = 128;

/// Reads `zones`.
pub(super) fn read(node: &Node<'_>) -> Zones {
    let default = Zones::default();
    let Some(object) = node.object(&["preferSame", "threshold", "failover", "distribute", "matches"]) else {
        return default;
    };
    let prefer_same = object.get("preferSame").and_then(|node| node.boolean()).unwrap_or_default();
    let threshold = object.get("threshold").and_then(|node| percent(&node, 1..=100));
    for key in ["threshold", "failover"] {
        if object.get(key).is_some() && !prefer_same {
            object.problem(key, "has no meaning without preferSame: true".to_owned());
        }
    }
    if object.get("distribute").is_some() && prefer_same {
        object.problem("distribute", "and preferSame: true exclude each other: shares are fixed, or follow".to_owned());
    }
    for key in ["failover", "distribute", "matches"] {
        let entries = object.get(key).map_or(0, |_| object.list(key).len());
        if entries > ENTRIES_MAX {
            object.problem(key, format!("{entries} entries; at most {ENTRIES_MAX} are allowed"));
        }
    }
    Zones {
        prefer_same,
        threshold: threshold.unwrap_or(default.threshold),
        failover: failover(&object),
        distribute: distribute(&object),
        matches: object.list("matches").iter().filter_map(zone_match).collect(),
    }
}

fn failover(zones: &Object<'_>) -> Vec<ZoneFailover> {
    let mut found: Vec<ZoneFailover> = Vec::new();
    for node in zones.list("failover") {
        let Some(object) = node.object(&["from", "to"]) else { continue };
        let (from, to) = (object.required("from").and_then(zone), object.required("to").and_then(zone));
        let (Some(from), Some(to)) = (from, to) else { continue };
        let entry = ZoneFailover { from, to };
        if entry.from == entry.to {
            object.problem("to", "is the zone itself".to_owned());
        }
        if found.contains(&entry) {
            node.problem("stands here twice".to_owned());
        }
        found.push(entry);
    }
    found
}

fn distribute(zones: &Object<'_>) -> Vec<ZoneShares> {
    let mut found: Vec<ZoneShares> = Vec::new();
    for node in zones.list("distribute") {
        let Some(object) = node.object(&["from", "to"]) else { continue };
        let (from, to) = (object.required("from").and_then(zone), object.required("to"));
        let to = to.and_then(|node| shares(&node));
        let (Some(from), Some(to)) = (from, to) else { continue };
        if found.iter().any(|other| other.from == from) {
            object.problem("from", format!("{from} has shares already"));
        }
        found.push(ZoneShares { from, to });
    }
    found
}

/// `{zone: percent}`, 100 together.
fn shares(node: &Node<'_>) -> Option<BTreeMap<String, u32>> {
    let mut found = BTreeMap::new();
    for key in node.mapping()?.keys() {
        let Some(name) = key.as_str() else {
            node.problem("the name of a zone is no text; put it in quotes".to_owned());
            continue;
        };
        if !is_zone(name) {
            node.problem(not_a_zone(name));
        }
        match node.child(name) {
            Some(share) => found.extend(percent(&share, 0..=100).map(|share| (name.to_owned(), share))),
            None => node.problem(format!("{name} has no share")),
        }
    }
    let total: u32 = found.values().sum();
    if total != 100 {
        node.problem(format!("shares add up to {total}, not to 100 percent"));
    }
    Some(found)
}

fn zone_match(node: &Node<'_>) -> Option<ZoneMatch> {
    let object = node.object(&[CONDITION, &["zone"]].concat())?;
    let zone = object.required("zone").and_then(zone);
    if !CONDITION.iter().any(|key| object.get(key).is_some()) {
        node.problem(format!("no condition says which requests (allowed: {})", CONDITION.join(", ")));
    }
    Some(ZoneMatch { request: conditions(&object), zone: zone? })
}

/// Reads the name of a zone.
pub(in crate::resources) fn zone(node: Node<'_>) -> Option<String> {
    let text = node.filled_text()?;
    if !is_zone(&text) {
        node.problem(not_a_zone(&text));
    }
    Some(text)
}

fn is_zone(text: &str) -> bool {
    let is_fit = |character: char| character.is_alphanumeric() || "-_./:".contains(character);
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(is_fit)
}

fn not_a_zone(text: &str) -> String {
    format!("{:?} is no name of a zone: 1 to {NAME_MAX} letters, digits and - _ . / :", shortened(text))
}
