//! Whether an instance may be ejected: never so many of a level that its requests have nowhere to go.

use crate::{
    lane::{Carried, Choice, Source, Usable, choose},
    model::{
        lane::{Lane, LaneGroup, LaneRef, LaneState, OnUnhealthy},
        policy::OutlierDetection,
        service::Service,
    },
};

/// Whether an instance may be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Granted,
    /// One of its levels needs it.
    Refused,
}

/// Whether the instance at `position` may be ejected, while `usable` says who else can be used.
///
/// Limits are counted per level (lanes' specification, section 4): every lane that the instance is in, and baseline if it
/// serves that. A lane that its requests leave when it is unhealthy (`onUnhealthy: fallback`, and another level has usable
/// instances) may lose all of its instances: fallback absorbs that. Of any other level at most
/// `max_ejection_percent` are out at the same time, and one always stays.
pub fn permission(
    service: &Service,
    groups: &[LaneGroup],
    position: usize,
    usable: &dyn Fn(usize) -> bool,
    policy: &OutlierDetection,
) -> Permission {
    let stays = |other: usize| other != position && usable(other);
    let within = |members: &[usize]| {
        let out = members.iter().filter(|member| !stays(**member)).count();
        out <= limit(members.len(), policy.max_ejection_percent)
    };
    let lanes = service.endpoints().get(position).map_or(&[][..], |endpoint| &endpoint.lanes);
    let lanes_allow = lanes.iter().all(|name| match level(name, groups, service).map(|lane| lane.on_unhealthy) {
        None => true,
        Some(OnUnhealthy::Fallback) if can_be_left(name, groups, service, &stays) => true,
        Some(OnUnhealthy::Fallback | OnUnhealthy::Stay | OnUnhealthy::Reject) => within(service.in_lane(name)),
    });
    let baseline = service.baseline(groups);
    let baseline_allows = !baseline.contains(&position) || within(&baseline);
    if lanes_allow && baseline_allows { Permission::Granted } else { Permission::Refused }
}

/// How many of a level's `members` may be out at the same time.
fn limit(members: usize, percent: u32) -> usize {
    if percent == 0 {
        return 0;
    }
    let share = members.saturating_mul(percent as usize) / 100;
    share.max(1).min(members.saturating_sub(1))
}

/// The lane as the groups describe it, if requests are served at its level here.
fn level<'g>(lane: &LaneRef, groups: &'g [LaneGroup], service: &Service) -> Option<&'g Lane> {
    let label = service.key().label();
    let group = groups.iter().find(|group| group.name == lane.group && group.members.contains(label))?;
    group.lane(&lane.lane).filter(|lane| match lane.state {
        LaneState::Draft | LaneState::Active | LaneState::Draining => true,
        LaneState::Closed | LaneState::Promoted => false,
    })
}

/// Whether requests of the lane are served by somebody usable, here or at another level, while only those who `stays` can
/// be used.
fn can_be_left(lane: &LaneRef, groups: &[LaneGroup], service: &Service, stays: &dyn Fn(usize) -> bool) -> bool {
    let carried = Carried { group: Some(lane.group.clone()), lane: lane.lane.clone(), source: Source::Header };
    match choose(Some(&carried), groups, service, Usable::Where(stays)) {
        // Where nobody is usable, those who are not are offered, and those who soon leave.
        Choice::Use { candidates, .. } => {
            candidates.iter().any(|position| stays(*position) && service.endpoints()[*position].is_open())
        }
        Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => false,
    }
}
