//! Chooses the level of instances that serves a request: lane → parents → baseline.

use std::borrow::Cow;

use super::{Carried, Choice, Level, Reason, Usable, explain::Step, explain::StepVerdict};
use crate::model::{
    lane::{CHAIN_MAX, Lane, LaneGroup, LaneName, LaneRef, LaneState, OnMissing, OnUnhealthy},
    service::Service,
};

/// Chooses the level for a request at this hop, in the fixed order of the lanes' specification, section 4: enabled and
/// weight > 0, not draining, then lane → parents → baseline, by members registered and members usable. Each level's own
/// lane says what happens where it is missing or unhealthy. `groups` are those of the snapshot, all of them.
pub fn choose<'a>(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
) -> Choice<'a> {
    walk(carried, groups, service, usable, &mut |_| ())
}

/// As [`choose`]; tells `visit` of every level looked at, in order.
pub(super) fn walk<'a>(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
    visit: &mut dyn FnMut(Step),
) -> Choice<'a> {
    let Some(carried) = carried else {
        return baseline(groups, service, usable, Reason::Unlabelled, visit);
    };
    let Some((group, wanted)) = resolve(carried, groups, service.key().label()) else {
        return baseline(groups, service, usable, Reason::OutsideGroup, visit);
    };
    if ignored(wanted) {
        visit(Step::level(lane_of(group, wanted), 0, 0, StepVerdict::Closed));
        return baseline(groups, service, usable, Reason::LaneClosed, visit);
    }
    let mut reason = Reason::Matched;
    let mut level = Some(wanted);
    for _ in 0..=CHAIN_MAX {
        let Some(lane) = level else { break };
        match at_level(group, lane, service, usable, visit) {
            AtLevel::Settled(choice) => return with_reason(choice, reason),
            AtLevel::Next(why) => reason = if reason == Reason::Matched { why } else { reason },
            AtLevel::Skip => (),
        }
        level = group.parent_of(lane);
    }
    baseline(groups, service, usable, reason, visit)
}

/// The lane that a label names at this service: of the first group that has the service as member and knows the lane.
fn resolve<'g>(carried: &Carried, groups: &'g [LaneGroup], label: &str) -> Option<(&'g LaneGroup, &'g Lane)> {
    groups
        .iter()
        .filter(|group| carried.group.as_ref().is_none_or(|name| name == &group.name))
        .filter(|group| group.members.contains(label))
        .find_map(|group| group.lane(&carried.lane).map(|lane| (group, lane)))
}

fn ignored(lane: &Lane) -> bool {
    match lane.state {
        LaneState::Closed | LaneState::Promoted => true,
        LaneState::Draft | LaneState::Active | LaneState::Draining => false,
    }
}

fn lane_of(group: &LaneGroup, lane: &Lane) -> LaneRef {
    let (group, lane): (LaneName, LaneName) = (group.name.clone(), lane.name.clone());
    LaneRef { group, lane }
}

enum AtLevel<'a> {
    Settled(Choice<'a>),
    Next(Reason),
    Skip,
}

fn at_level<'a>(
    group: &LaneGroup,
    lane: &Lane,
    service: &'a Service,
    usable: Usable<'_>,
    visit: &mut dyn FnMut(Step),
) -> AtLevel<'a> {
    let name = lane_of(group, lane);
    if ignored(lane) {
        visit(Step::level(name, 0, 0, StepVerdict::Closed));
        return AtLevel::Skip;
    }
    let members = service.in_lane(&name);
    if members.is_empty() {
        visit(Step::level(name.clone(), 0, 0, StepVerdict::Missing));
        return match lane.on_missing {
            OnMissing::Fallback => AtLevel::Next(Reason::Missing),
            OnMissing::Reject => AtLevel::Settled(Choice::RejectMissing(name)),
        };
    }
    let able = filter(Cow::Borrowed(members), usable);
    // With `minHealthy: 0` a level without a usable member is still unhealthy: there is nothing to pick.
    let healthy = able.len() >= lane.min_healthy.max(1) as usize;
    let verdict = if healthy { StepVerdict::Serves } else { StepVerdict::Unhealthy };
    visit(Step::level(name.clone(), members.len(), able.len(), verdict));
    let serve = |candidates, reason| Choice::Use { level: Level::Lane(name.clone()), reason, candidates };
    match (healthy, lane.on_unhealthy) {
        (true, _) => AtLevel::Settled(serve(able, Reason::Matched)),
        (false, OnUnhealthy::Fallback) => AtLevel::Next(Reason::Unhealthy),
        (false, OnUnhealthy::Stay) => AtLevel::Settled(serve(all_if_empty(able, members), Reason::Unhealthy)),
        (false, OnUnhealthy::Reject) => AtLevel::Settled(Choice::RejectUnhealthy(name)),
    }
}

/// A parent that serves does so for the reason why the wanted lane did not.
fn with_reason(choice: Choice<'_>, first: Reason) -> Choice<'_> {
    match choice {
        Choice::Use { level, reason, candidates } => {
            let reason = if first == Reason::Matched { reason } else { first };
            Choice::Use { level, reason, candidates }
        }
        Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => choice,
    }
}

fn baseline<'a>(
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
    reason: Reason,
    visit: &mut dyn FnMut(Step),
) -> Choice<'a> {
    let members = service.baseline(groups);
    let total = members.len();
    let able = filter(members, usable);
    let verdict = match (total, able.len()) {
        (0, _) => StepVerdict::Missing,
        (_, 0) => StepVerdict::Unhealthy,
        _ => StepVerdict::Serves,
    };
    visit(Step { level: Level::Baseline, members: total, usable: able.len(), verdict });
    // Below baseline there is nothing: an instance that seems unusable is better than none.
    let candidates = if able.is_empty() && total > 0 { service.baseline(groups) } else { able };
    Choice::Use { level: Level::Baseline, reason, candidates }
}

fn filter<'a>(members: Cow<'a, [usize]>, usable: Usable<'_>) -> Cow<'a, [usize]> {
    match usable {
        Usable::All => members,
        Usable::Where(allows) if members.iter().all(|position| allows(*position)) => members,
        Usable::Where(allows) => members.iter().copied().filter(|position| allows(*position)).collect(),
    }
}

fn all_if_empty<'a>(able: Cow<'a, [usize]>, members: &'a [usize]) -> Cow<'a, [usize]> {
    if able.is_empty() { Cow::Borrowed(members) } else { able }
}
