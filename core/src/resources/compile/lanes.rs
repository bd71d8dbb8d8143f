//! Lane groups with their lanes, and which lanes an instance belongs to.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::{
    lane::entry::{BUCKETS, greatest},
    model::lane::{Baseline, CHAIN_MAX, KeySource, Lane, LaneGroup, LaneName, LaneRef, LaneState, Share},
    resources::{Resource, Spec, lane, lane_group, world::WorldWorkload},
};

/// Groups as the data path uses them, and as written.
#[derive(Default)]
pub(super) struct Groups<'r> {
    /// In order of name.
    pub(super) groups: Vec<LaneGroup>,
    written: BTreeMap<LaneName, Written<'r>>,
}

/// A group as written, with its lanes.
struct Written<'r> {
    group: &'r lane_group::LaneGroup,
    lanes: BTreeMap<LaneName, (&'r Resource, &'r lane::Lane)>,
}

pub(super) fn build<'r>(resources: &'r [&'r Resource], findings: &mut Findings) -> Groups<'r> {
    let mut written = groups(resources, findings);
    for resource in resources.iter().copied() {
        let Spec::Lane(lane) = &resource.spec else { continue };
        let known: Vec<&str> = written.keys().map(LaneName::as_str).collect();
        let known = known.join(", ");
        let Some(group) = written.get_mut(&lane.group) else {
            let message = format!("there is no LaneGroup {:?}; there are: {known}", lane.group.as_str());
            findings.add(resource, "spec.group", message);
            continue;
        };
        match group.lanes.get(&lane.name) {
            Some((other, _)) => {
                let place = other.origin.place("metadata.name");
                let message = format!("lane {} of group {} is already defined at {place}", lane.name, lane.group);
                findings.add(resource, "spec.name", message);
            }
            None => {
                group.lanes.insert(lane.name.clone(), (resource, lane));
            }
        }
    }
    let groups: Vec<LaneGroup> = written.values().map(model).collect();
    for (group, written) in groups.iter().zip(written.values()) {
        check_parents(group, written, findings);
        check_shares(group, written, findings);
        check_keys(written, findings);
    }
    Groups { groups, written }
}

fn groups<'r>(resources: &'r [&'r Resource], findings: &mut Findings) -> BTreeMap<LaneName, Written<'r>> {
    let mut found: BTreeMap<LaneName, Written<'r>> = BTreeMap::new();
    let mut places: BTreeMap<&LaneName, String> = BTreeMap::new();
    for resource in resources.iter().copied() {
        let Spec::LaneGroup(group) = &resource.spec else { continue };
        if let Some(place) = places.get(&group.name) {
            let message =
                format!("a group of this name is already defined at {place}; groups are the mesh's, not a namespace's");
            findings.add(resource, "metadata.name", message);
            continue;
        }
        places.insert(&group.name, resource.origin.place("metadata.name"));
        found.insert(group.name.clone(), Written { group, lanes: BTreeMap::new() });
    }
    found
}

fn model(written: &Written<'_>) -> LaneGroup {
    let group = written.group;
    let lane = |(_, lane): &(&Resource, &lane::Lane)| {
        let rules = lane.rules.over(&group.defaults);
        Lane {
            name: lane.name.clone(),
            parent: lane.parent.clone(),
            state: lane.state,
            on_missing: rules.on_missing,
            on_unhealthy: rules.on_unhealthy,
            min_healthy: rules.min_healthy,
            priority: lane.priority,
            rule: lane.rule.clone(),
            share: lane.share.clone().map(|share| keyed(share, &rules)),
            created: lane.created.unwrap_or(0),
            state_since: lane.state_since,
            ends: ends(lane),
        }
    };
    LaneGroup {
        name: group.name.clone(),
        revision: 0,
        entries: group.entries.iter().cloned().collect::<BTreeSet<_>>(),
        members: group.services.clone(),
        carrier: group.carrier.clone(),
        baseline: group.baseline,
        salt: group.salted_by.clone(),
        trusted: None,
        propagation: group.propagation.clone(),
        zone_first: group.zone_first,
        max_request_age: group.max_request_age,
        lanes: written.lanes.values().map(lane).collect(),
    }
}

/// A share that is not sticky is decided for each trace anew, or for each request that somebody in front gave an id.
fn keyed(share: Share, rules: &lane::Rules) -> Share {
    if rules.sticky {
        return share;
    }
    Share { keys: vec![KeySource::TraceId, KeySource::Header("x-request-id".to_owned())], ..share }
}

/// Keys say by which user a share is decided; without `sticky` none is.
fn check_keys(written: &Written<'_>, findings: &mut Findings) {
    for (resource, lane) in written.lanes.values() {
        let names_users = lane.share.as_ref().is_some_and(|share| !share.keys.is_empty());
        if names_users && !lane.rules.over(&written.group.defaults).sticky {
            let message = "names users, but with sticky: false (here or in the group's defaults) each trace is decided \
                           anew; leave the key out, or say sticky: true";
            findings.add(resource, "spec.percentage.key", message.to_owned());
        }
    }
}

/// When a lane's time is over.
fn ends(lane: &lane::Lane) -> Option<u64> {
    let ttl = u64::try_from(lane.ttl?.as_millis()).unwrap_or(u64::MAX);
    Some(lane.created?.saturating_add(ttl))
}

/// FNV-1a over the contents, so that replicas which read the same source agree without speaking to each other.
fn revision(group: &LaneGroup) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let text = serde_json::to_vec(group).expect("a lane group is made of texts and numbers");
    text.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

fn check_parents(group: &LaneGroup, written: &Written<'_>, findings: &mut Findings) {
    for lane in &group.lanes {
        let Some((resource, _)) = written.lanes.get(&lane.name) else { continue };
        if let Some(parent) = lane.parent.as_ref().filter(|parent| group.lane(parent).is_none()) {
            let known: Vec<&str> = group.lanes.iter().map(|lane| lane.name.as_str()).collect();
            let message =
                format!("group {} has no lane {:?}; it has: {}", group.name, parent.as_str(), known.join(", "));
            findings.add(resource, "spec.parent", message);
        }
        if let Some(message) = bad_chain(group, lane) {
            findings.add(resource, "spec.parent", message);
        }
    }
}

/// Shares, each at its greatest, must fit into the whole: a lane could not have its share otherwise. Reported at the lane
/// that was made last, since it is the one that does not fit.
fn check_shares(group: &LaneGroup, written: &Written<'_>, findings: &mut Findings) {
    let takes = |lane: &&Lane| match lane.state {
        LaneState::Draft | LaneState::Active | LaneState::Draining => true,
        LaneState::Closed | LaneState::Promoted => false,
    };
    let of_lane = |lane: &'_ Lane| Some((lane.created, lane.name.clone(), greatest(lane.share.as_ref()?)));
    let mut shares: Vec<_> = group.lanes.iter().filter(takes).filter_map(of_lane).collect();
    shares.sort();
    let sum: u64 = shares.iter().map(|(_, _, share)| u64::from(*share)).sum();
    let Some((_, last, _)) = shares.last().filter(|_| sum > u64::from(BUCKETS)) else { return };
    let Some((resource, lane)) = written.lanes.get(last) else { return };
    let percent = |share: u64| format!("{}.{:02} %", share / 100, share % 100);
    let each: Vec<String> =
        shares.iter().map(|(_, name, share)| format!("{name} {}", percent(u64::from(*share)))).collect();
    let path =
        if lane.share.as_ref().is_some_and(|share| share.ramp.is_some()) { "spec.ramp" } else { "spec.percentage" };
    let message = format!(
        "the shares of group {} add up to {} (each lane at its greatest: {}); at most 100 % can be given away",
        group.name,
        percent(sum),
        each.join(", "),
    );
    findings.add(resource, path, message);
}

/// What is wrong with the chain of parents that begins at `lane`: a cycle through it, or too many parents. A cycle that
/// it only leads into is reported where it is.
fn bad_chain(group: &LaneGroup, lane: &Lane) -> Option<String> {
    let mut chain = vec![lane.name.as_str()];
    let mut next = group.parent_of(lane);
    while let Some(parent) = next {
        chain.push(parent.name.as_str());
        if parent.name == lane.name {
            return Some(format!("the chain of parents is a cycle: {}", chain.join(" → ")));
        }
        if chain[..chain.len() - 1].contains(&parent.name.as_str()) {
            return None;
        }
        if chain.len() > CHAIN_MAX + 1 {
            return Some(format!("the chain of parents is longer than {CHAIN_MAX}: {} → …", chain.join(" → ")));
        }
        next = group.parent_of(parent);
    }
    None
}

impl Groups<'_> {
    /// The groups, with trust worked out for the workloads of the mesh: whoever is named, gateways and entries, since
    /// these decide, and the members, since these carry labels on.
    pub(super) fn finish(self, workloads: &BTreeMap<String, WorldWorkload>) -> Vec<LaneGroup> {
        let finish = |(mut group, written): (LaneGroup, &Written<'_>)| {
            let trust = &written.group.trust;
            if !(trust.gateways.is_empty() && trust.identities.is_empty()) {
                let decides = |label: &String| trust.gateways.contains(label) || group.entries.contains(label);
                let takes_part = |label: &String| group.members.contains(label) || decides(label);
                let carries = |workload: &&WorldWorkload| workload.services.iter().any(takes_part);
                let carriers = workloads.values().filter(carries).filter_map(|workload| workload.identity.clone());
                group.trusted = Some(carriers.chain(trust.identities.iter().cloned()).collect());
            }
            group.revision = revision(&group);
            group
        };
        self.groups.into_iter().zip(self.written.values()).map(finish).collect()
    }

    /// Lanes that an instance of the service `label` with these labels belongs to. In a group whose baseline is
    /// `untagged`, a lane key's value that names no lane is a mark too, and keeps the instance out of baseline.
    pub(super) fn lanes_of(&self, label: &str, labels: &BTreeMap<String, String>) -> Vec<LaneRef> {
        let mut found = Vec::new();
        for (group, written) in self.groups.iter().zip(self.written.values()) {
            if !group.members.contains(label) {
                continue;
            }
            let tag = written.group.lane_keys.iter().find_map(|key| labels.get(key));
            let is_member = |lane: &lane::Lane| {
                let selected = |(key, value): (&String, &String)| labels.get(key) == Some(value);
                let selects = !lane.selector.is_empty() && lane.selector.iter().all(selected);
                selects || tag.is_some_and(|tag| tag == lane.name.as_str())
            };
            let members = written.lanes.values().filter(|(_, lane)| is_member(lane)).map(|(_, lane)| lane.name.clone());
            let reference = |lane| LaneRef { group: group.name.clone(), lane };
            found.extend(members.map(reference));
            let unknown = tag.and_then(|tag| tag.parse().ok()).filter(|tag| !written.lanes.contains_key(tag));
            found.extend(unknown.filter(|_| group.baseline == Baseline::Untagged).map(reference));
        }
        found
    }
}
