//! The decision of every hop of a chain with each level looked at, for `explain`: the same code as the data path's.

use super::{
    Carried, Choice, Level, Usable,
    level::{self, Steps},
};
use crate::model::{
    lane::{LaneGroup, LaneRef},
    service::Service,
};

/// One level that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The level.
    pub level: Level,
    /// Instances of the level that take traffic (0 for a closed lane, whose instances are not looked at).
    pub members: usize,
    /// Those of them that are usable.
    pub usable: usize,
    /// What came of it.
    pub verdict: StepVerdict,
}

impl Step {
    pub(super) fn level(lane: LaneRef, members: usize, usable: usize, verdict: StepVerdict) -> Self {
        Step { level: Level::Lane(lane), members, usable, verdict }
    }
}

/// What came of looking at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepVerdict {
    /// It serves.
    Serves,
    /// No member takes traffic.
    Missing,
    /// Too few members are usable.
    Unhealthy,
    /// The lane is closed or promoted: skipped.
    Closed,
}

impl StepVerdict {
    /// One word for output.
    pub fn label(self) -> &'static str {
        match self {
            StepVerdict::Serves => "serves",
            StepVerdict::Missing => "missing",
            StepVerdict::Unhealthy => "unhealthy",
            StepVerdict::Closed => "closed",
        }
    }
}

/// The decision at one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop<'a> {
    /// The service.
    pub service: &'a Service,
    /// Levels looked at, in order.
    pub steps: Vec<Step>,
    /// What was decided.
    pub choice: Choice<'a>,
}

/// Decides for each service of a chain, while `usable` says of an instance, by its position, whether callers would pick it.
/// The label travels on whole from hop to hop, whatever level served, until a hop refuses: later hops are then never
/// reached and are not in the answer.
pub fn explain<'a>(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    chain: &[&'a Service],
    usable: &dyn Fn(&Service, usize) -> bool,
) -> Vec<Hop<'a>> {
    let mut hops = Vec::with_capacity(chain.len());
    for service in chain {
        let allows = |position| usable(service, position);
        let mut seen = Steps::Wanted(Vec::new());
        let choice = level::walk(carried, groups, service, Usable::Where(&allows), &mut seen);
        let steps = match seen {
            Steps::Wanted(steps) => steps,
            Steps::Unwanted => Vec::new(),
        };
        let refused = matches!(choice, Choice::RejectMissing(_) | Choice::RejectUnhealthy(_));
        hops.push(Hop { service, steps, choice });
        if refused {
            break;
        }
    }
    hops
}
