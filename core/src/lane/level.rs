//! Chooses the level of instances that serves a request: lane → parents → baseline.

use std::borrow::Cow;

use super::{Carried, Choice, Level, Reason, Usable, explain::Step, explain::StepVerdict};
use crate::model::{
    lane::{CHAIN_MAX, Lane, LaneGroup, LaneName, LaneRef, LaneState, OnMissing, OnUnhealthy},
    service::Service,
};

/// Chooses the level for a request at this hop, in the fixed order of the lanes' specification, section 4: enabled and
/// weight > 0, not draining, then lane → parents → baseline, by members registered and members usable. Each level's own
/// lane says what happens where it is missing or unhealthy. `groups` are those of the snapshot, all of them. What follows
/// among the candidates (zone, warm-up, load) is the pick's.
pub fn choose<'a>(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
) -> Choice<'a> {
    walk(carried, groups, service, usable, &mut Steps::Unwanted)
}

/// Who wants to know of every level looked at, in order; the data path does not, and pays nothing for it.
pub(super) enum Steps {
    Unwanted,
    Wanted(Vec<Step>),
}

impl Steps {
    fn add(&mut self, step: impl FnOnce() -> Step) {
        match self {
            Steps::Unwanted => {}
            Steps::Wanted(steps) => steps.push(step()),
        }
    }
}

/// As [`choose`]; tells of every level looked at.
pub(super) fn walk<'a>(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
    steps: &mut Steps,
) -> Choice<'a> {
    let Some(carried) = carried else {
        return baseline(groups, service, usable, Reason::Unlabelled, steps);
    };
    let Some((group, wanted)) = resolve(carried, groups, service.key().label()) else {
        return baseline(groups, service, usable, Reason::OutsideGroup, steps);
    };
    if ignored(wanted) {
        steps.add(|| Step::level(lane_of(group, wanted), 0, 0, StepVerdict::Closed));
        return baseline(groups, service, usable, Reason::LaneClosed, steps);
    }
    if matches!(steps, Steps::Unwanted) && service.lanes().next().is_none() && falls_through(group) {
        return baseline(groups, service, usable, Reason::Missing, steps);
    }
    descend((groups, group), Some(wanted), Reason::Matched, service, usable, steps)
}

/// Whether, where no lane of the group has an instance, every request is baseline's: so it is at most services of a chain,
/// and no level needs to be looked at.
fn falls_through(group: &LaneGroup) -> bool {
    group.lanes.iter().all(|lane| match lane.on_missing {
        OnMissing::Fallback => true,
        OnMissing::Reject => false,
    })
}

/// From this lane on down to baseline; `reason` is why no level above serves ([`Reason::Matched`] at the top).
fn descend<'a>(
    (groups, group): (&[LaneGroup], &LaneGroup),
    top: Option<&Lane>,
    mut reason: Reason,
    service: &'a Service,
    usable: Usable<'_>,
    steps: &mut Steps,
) -> Choice<'a> {
    let mut level = top;
    for _ in 0..=CHAIN_MAX {
        let Some(lane) = level else { break };
        match at_level(group, lane, service, usable, steps) {
            AtLevel::Settled(choice) => return with_reason(choice, reason),
            AtLevel::Next(why) => reason = if reason == Reason::Matched { why } else { reason },
            AtLevel::Skip => (),
        }
        level = group.parent_of(lane);
    }
    baseline(groups, service, usable, reason, steps)
}

/// As [`choose`] for a caller that keeps to its own zone, `is_near` saying who is in it: where the group of the lane says
/// `zoneFirst`, and the level that would serve has nobody there, the next level below that has, if one has. Only levels that
/// requests leave when they are unhealthy (`onUnhealthy: fallback`) are passed over.
pub fn choose_near<'a>(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
    is_near: &dyn Fn(usize) -> bool,
) -> Choice<'a> {
    let first = choose(carried, groups, service, usable);
    let Choice::Use { level: Level::Lane(lane), candidates, .. } = &first else { return first };
    let Some(group) = groups.iter().find(|group| group.name == lane.group && group.zone_first) else { return first };
    let has_near = |candidates: &[usize]| candidates.iter().any(|position| is_near(*position));
    if has_near(candidates) {
        return first;
    }
    let mut passed = group.lane(&lane.lane);
    for _ in 0..=CHAIN_MAX {
        let may_be_left = |lane: &&Lane| match lane.on_unhealthy {
            OnUnhealthy::Fallback => true,
            OnUnhealthy::Stay | OnUnhealthy::Reject => false,
        };
        let Some(lane) = passed.filter(may_be_left) else { break };
        let next = group.parent_of(lane);
        let reason = Reason::OtherZone;
        let below = descend((groups, group), next, reason, service, usable, &mut Steps::Unwanted);
        match below {
            Choice::Use { level: Level::Lane(below), candidates, .. } if !has_near(&candidates) => {
                passed = group.lane(&below.lane);
            }
            Choice::Use { ref candidates, .. } if has_near(candidates) => return below,
            Choice::Use { .. } | Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => break,
        }
    }
    first
}

/// Which attempt of a request that failed at a level follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// One among several that may follow.
    Further,
    /// The last that is allowed.
    Last,
}

/// Chooses for a further attempt of a request that failed at `level`, chosen for `reason`. It stays on that level, away
/// from the `tried` instances where another is usable. Only the last attempt goes down, and only where every usable
/// instance of the level was tried and its lane says `onUnhealthy: fallback`. Baseline is never left.
pub fn choose_again<'a>(
    (level, reason): (&Level, Reason),
    turn: Turn,
    groups: &[LaneGroup],
    service: &'a Service,
    usable: Usable<'_>,
    tried: &dyn Fn(usize) -> bool,
) -> Choice<'a> {
    let (members, draining) = match level {
        Level::Lane(lane) => (Cow::Borrowed(service.in_lane(lane)), Cow::Borrowed(service.draining_in_lane(lane))),
        Level::Baseline => (service.baseline(groups), Cow::Owned(service.draining_baseline(groups))),
    };
    let same = |candidates| Choice::Use { level: level.clone(), reason, candidates };
    let able = filter(members.clone(), usable);
    let fresh: Vec<usize> = able.iter().copied().filter(|position| !tried(*position)).collect();
    if !fresh.is_empty() {
        return same(Cow::Owned(fresh));
    }
    if turn == Turn::Last
        && let Level::Lane(lane) = level
        && let Some(below) = below(lane, groups, service, usable)
    {
        return below;
    }
    same([able, members].into_iter().find(|some| !some.is_empty()).unwrap_or(draining))
}

/// Who serves below a lane that requests leave when it is unhealthy, if somebody does.
fn below<'a>(lane: &LaneRef, groups: &[LaneGroup], service: &'a Service, usable: Usable<'_>) -> Option<Choice<'a>> {
    let group = groups.iter().find(|group| group.name == lane.group)?;
    let failed = group.lane(&lane.lane).filter(|lane| match lane.on_unhealthy {
        OnUnhealthy::Fallback => true,
        OnUnhealthy::Stay | OnUnhealthy::Reject => false,
    })?;
    let next = group.parent_of(failed);
    let choice = descend((groups, group), next, Reason::Retried, service, usable, &mut Steps::Unwanted);
    match &choice {
        Choice::Use { candidates, .. } => (!candidates.is_empty()).then_some(choice),
        Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => None,
    }
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
    steps: &mut Steps,
) -> AtLevel<'a> {
    let name = || lane_of(group, lane);
    if ignored(lane) {
        steps.add(|| Step::level(name(), 0, 0, StepVerdict::Closed));
        return AtLevel::Skip;
    }
    // A draining instance is registered still: a lane of such ones is not missing, it has nobody usable.
    let (members, draining) = service.registered(&group.name, &lane.name);
    if members.is_empty() && draining.is_empty() {
        steps.add(|| Step::level(name(), 0, 0, StepVerdict::Missing));
        return match lane.on_missing {
            OnMissing::Fallback => AtLevel::Next(Reason::Missing),
            OnMissing::Reject => AtLevel::Settled(Choice::RejectMissing(name())),
        };
    }
    let able = filter(Cow::Borrowed(members), usable);
    // With `minHealthy: 0` a level without a usable member is still unhealthy: there is nothing to pick.
    let healthy = able.len() >= lane.min_healthy.max(1) as usize;
    let verdict = if healthy { StepVerdict::Serves } else { StepVerdict::Unhealthy };
    steps.add(|| Step::level(name(), members.len() + draining.len(), able.len(), verdict));
    let serve = |candidates, reason| Choice::Use { level: Level::Lane(name()), reason, candidates };
    match (healthy, lane.on_unhealthy) {
        (true, _) => AtLevel::Settled(serve(able, Reason::Matched)),
        (false, OnUnhealthy::Fallback) => AtLevel::Next(Reason::Unhealthy),
        (false, OnUnhealthy::Stay) => {
            let last = [able, Cow::Borrowed(members)].into_iter().find(|some| !some.is_empty());
            AtLevel::Settled(serve(last.unwrap_or(Cow::Borrowed(draining)), Reason::Unhealthy))
        }
        (false, OnUnhealthy::Reject) => AtLevel::Settled(Choice::RejectUnhealthy(name())),
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
    steps: &mut Steps,
) -> Choice<'a> {
    let members = service.baseline(groups);
    let able = filter(members.clone(), usable);
    // Below baseline there is nothing: an instance that seems unusable, or drains, is better than none.
    let (candidates, total) = match (able.is_empty(), members.is_empty()) {
        (false, _) => (able.clone(), members.len()),
        (true, false) => (members.clone(), members.len()),
        (true, true) => {
            let draining = service.draining_baseline(groups);
            let total = draining.len();
            (Cow::Owned(draining), total)
        }
    };
    let verdict = match (total, able.len()) {
        (0, _) => StepVerdict::Missing,
        (_, 0) => StepVerdict::Unhealthy,
        _ => StepVerdict::Serves,
    };
    steps.add(|| Step { level: Level::Baseline, members: total, usable: able.len(), verdict });
    Choice::Use { level: Level::Baseline, reason, candidates }
}

fn filter<'a>(members: Cow<'a, [usize]>, usable: Usable<'_>) -> Cow<'a, [usize]> {
    match usable {
        Usable::All => members,
        Usable::Where(allows) if members.iter().all(|position| allows(*position)) => members,
        Usable::Where(allows) => members.iter().copied().filter(|position| allows(*position)).collect(),
    }
}
