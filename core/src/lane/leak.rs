//! Whether a request that reached an instance of a lane has no business there: plain traffic must never be served by it.

use super::Carried;
use crate::{
    model::lane::{CHAIN_MAX, LaneGroup, LaneRef, LaneState, Members},
    snapshot::Workload,
};

/// The lane into which a request leaked, seen at the instance that got it: the instance belongs to lanes that requests are
/// served in, and the label names none of them and none that falls back to one of them. `None` for what is in order, and
/// at instances of baseline.
pub fn leak(carried: Option<&Carried>, groups: &[LaneGroup], workload: &Workload) -> Option<LaneRef> {
    let mut own = workload.lanes.iter().filter(|lane| is_served(lane, groups, workload));
    let first = own.next()?;
    let leads_to = |lane: &LaneRef| carried.is_some_and(|carried| leads_to(carried, lane, groups));
    if leads_to(first) || own.any(leads_to) { None } else { Some(first.clone()) }
}

/// Whether requests are served in this lane by the workload's services.
fn is_served(own: &LaneRef, groups: &[LaneGroup], workload: &Workload) -> bool {
    let Some(group) = groups.iter().find(|group| group.name == own.group) else { return false };
    let is_member = match &group.members {
        Members::All => true,
        members @ Members::Named(_) => workload.services.iter().any(|service| members.contains(service)),
    };
    let is_in_use = group.lane(&own.lane).is_some_and(|lane| match lane.state {
        LaneState::Draft | LaneState::Active | LaneState::Draining => true,
        LaneState::Closed | LaneState::Promoted => false,
    });
    is_member && is_in_use
}

/// Whether a label's chain of levels has the lane.
fn leads_to(carried: &Carried, own: &LaneRef, groups: &[LaneGroup]) -> bool {
    let named =
        |group: &&LaneGroup| group.name == own.group && carried.group.as_ref().is_none_or(|it| *it == own.group);
    let Some(group) = groups.iter().find(named) else { return false };
    let mut level = group.lane(&carried.lane);
    for _ in 0..=CHAIN_MAX {
        let Some(lane) = level else { return false };
        if lane.name == own.lane {
            return true;
        }
        level = group.parent_of(lane);
    }
    false
}
