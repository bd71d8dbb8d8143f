//! Panic: where so few of the last level are usable that those would have to bear what they cannot, all of it is used.

use std::borrow::Cow;

use super::Usability;
use crate::{
    lane::Level,
    model::{
        lane::{LaneGroup, OnUnhealthy},
        service::Service,
    },
};

/// Whether a level is used whole, whatever is known of its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panic {
    /// No: its usable instances are used.
    Calm,
    /// Yes: too few of them are usable, and there is no other level.
    FailOpen,
}

impl Panic {
    /// Word for the access log; none where nothing is unusual.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Panic::Calm => None,
            Panic::FailOpen => Some("panic"),
        }
    }
}

/// What a pick chooses from: `candidates`, which were chosen at `level`, or all of it where less than `threshold` percent
/// can be used. Never at a lane that requests leave when it is unhealthy: there the next level serves.
///
/// Instances that drain count neither way, as those do not of which the controller says it: they leave by their own wish.
/// `tried` are left out while another is left, as by [`choose_again`](crate::lane::choose_again).
pub fn widen<'a>(
    (level, candidates): (&Level, Cow<'a, [usize]>),
    (service, groups): (&'a Service, &[LaneGroup]),
    usability: &dyn Fn(usize) -> Usability,
    tried: &dyn Fn(usize) -> bool,
    threshold: u32,
) -> (Cow<'a, [usize]>, Panic) {
    if threshold == 0 || !is_last(level, groups) {
        return (candidates, Panic::Calm);
    }
    let members = match level {
        Level::Lane(lane) => Cow::Borrowed(service.in_lane(lane)),
        Level::Baseline => service.baseline(groups),
    };
    let (mut staying, mut usable) = (0_usize, 0_usize);
    for state in members.iter().map(|position| usability(*position)) {
        staying += usize::from(state != Usability::Draining);
        usable += usize::from(state.allows());
    }
    if usable.saturating_mul(100) >= staying.saturating_mul(threshold as usize) {
        return (candidates, Panic::Calm);
    }
    let stays = |position: &usize| usability(*position) != Usability::Draining;
    let fresh: Vec<usize> = members.iter().copied().filter(|at| stays(at) && !tried(*at)).collect();
    if !fresh.is_empty() {
        return (Cow::Owned(fresh), Panic::FailOpen);
    }
    (members.iter().copied().filter(stays).collect(), Panic::FailOpen)
}

/// Whether requests at this level have nowhere else to go.
fn is_last(level: &Level, groups: &[LaneGroup]) -> bool {
    let Level::Lane(name) = level else { return true };
    let lane = groups.iter().find(|group| group.name == name.group).and_then(|group| group.lane(&name.lane));
    lane.is_some_and(|lane| match lane.on_unhealthy {
        OnUnhealthy::Stay | OnUnhealthy::Reject => true,
        OnUnhealthy::Fallback => false,
    })
}

#[cfg(test)]
mod tests;
