//! The lane of a call that an application makes: from the first source that answers, in a fixed order.
//!
//! Carrier header, baggage, correlation by trace id, `sw8-correlation`, `tracestate`, the entry rules evaluated again,
//! unanimity, the pod's own lane. What is carried is never overwritten by what is guessed.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    Carried, MayLabel, Source, carry,
    correlation::{Correlation, Label, Meaning},
    forwarded,
    plain::{OwnLane, Plain},
    trace::{Formats, TraceIds},
    unanimity::Unanimity,
};
use crate::{
    fields::Fields,
    model::lane::{LaneGroup, Stale},
    snapshot::Workload,
};

/// What a sidecar knows besides the message itself.
pub struct Known<'a> {
    /// What the controller says about the workload.
    pub workload: &'a Workload,
    /// Of which groups the sender may set the label.
    pub may_label: &'a MayLabel,
    /// Traces of the requests that reached the application.
    pub correlation: &'a mut Correlation,
    /// Requests without label that reached the application of a pod in a lane; `None` where nobody makes a call.
    pub plain: Option<&'a mut Plain>,
    /// The requests in flight; `None` where no group allows the guess.
    pub unanimity: Option<&'a Unanimity>,
    /// The entry rules of the group at a position, evaluated on what the message carries.
    pub rederive: &'a dyn Fn((usize, &LaneGroup)) -> Option<Label>,
    /// Time, on the clock of the correlation.
    pub now: Duration,
}

/// Whether the request to which a call belongs is one of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It is, or nothing says otherwise.
    Fresh,
    /// It ended longer than the linger ago: the application keeps its context.
    Stale,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The label, and where it was found; `None` = baseline.
    pub carried: Option<Carried>,
    /// Whether its context is of now.
    pub freshness: Freshness,
    /// Formats of the trace ids that the message carries; none where nothing asked for them.
    pub formats: Formats,
    /// Whether the pod's own lane filled the label, and if not, why; `None` where it was not asked for.
    pub own_lane: Option<OwnLane>,
}

/// The lane of a call.
pub fn find(fields: &dyn Fields, groups: &[LaneGroup], mut known: Known<'_>) -> Found {
    let sent = |carried: Option<Carried>| known.may_label.admit(carried?, groups);
    let explicit = sent(carry::in_headers(fields, groups).or_else(|| carry::in_baggage(fields, groups)));
    let wants_ids = !known.correlation.is_empty() || known.plain.as_ref().is_some_and(|plain| plain.has_traces());
    let ids = if wants_ids { TraceIds::read(fields, groups) } else { TraceIds::default() };
    let meaning = meaning(known.correlation, &ids, known.now);
    let freshness = match meaning {
        Some(Meaning::Stale(_)) => Freshness::Stale,
        Some(Meaning::Lane(_)) | None => Freshness::Fresh,
    };
    let counts = |carried: &Carried| freshness == Freshness::Fresh || stale(carried, groups) != Stale::Ignore;
    let by_trace = || match &meaning {
        Some(Meaning::Lane(label)) => Some(label.carried(Source::Trace)),
        Some(Meaning::Stale(label)) => {
            Some(label.carried(Source::Trace)).filter(|carried| stale(carried, groups) == Stale::Honour)
        }
        None => None,
    };
    let carried = explicit
        .filter(counts)
        .or_else(by_trace)
        .or_else(|| sent(forwarded::in_sw8(fields, groups)).filter(counts))
        .or_else(|| sent(forwarded::in_tracestate(fields, groups)).filter(counts))
        .or_else(|| rederived(groups, known.rederive))
        .or_else(|| unanimous(groups, known.unanimity, known.now));
    let formats = ids.formats();
    // Asked last: the pod's own lane is what is left.
    let own = if carried.is_none() { carry::own_lane(groups, known.workload) } else { None };
    let Some(own) = own else { return Found { carried, freshness, formats, own_lane: None } };
    let decided = known.plain.as_mut().map_or(OwnLane::Fills, |plain| plain.own_lane(&ids, known.now));
    let carried = match decided {
        OwnLane::Fills => Some(own),
        OwnLane::OtherTrace | OwnLane::InFlight | OwnLane::JustEnded => None,
    };
    Found { carried, freshness, formats, own_lane: Some(decided) }
}

/// What the ids of a message mean: a lane, if one of them does.
fn meaning(correlation: &mut Correlation, ids: &TraceIds, now: Duration) -> Option<Meaning> {
    let mut stale = None;
    for id in ids.iter() {
        match correlation.find(id, now) {
            Some(Meaning::Lane(label)) => return Some(Meaning::Lane(label)),
            Some(Meaning::Stale(label)) => stale = stale.or(Some(Meaning::Stale(label))),
            None => {}
        }
    }
    stale
}

fn rederived(groups: &[LaneGroup], rederive: &dyn Fn((usize, &LaneGroup)) -> Option<Label>) -> Option<Carried> {
    let label = groups.iter().enumerate().filter(|(_, group)| group.propagation.rederive).find_map(rederive)?;
    // Named only where another group could be meant.
    let group = label.group.filter(|_| groups.len() > 1);
    Some(Carried { group, lane: label.lane, source: Source::Rederived })
}

fn unanimous(groups: &[LaneGroup], unanimity: Option<&Unanimity>, now: Duration) -> Option<Carried> {
    let carried = unanimity?.lane(now)?.carried(Source::Unanimity);
    group_of(&carried, groups).filter(|group| group.propagation.unanimity)?;
    Some(carried)
}

/// What the group of a label makes of stale contexts.
fn stale(carried: &Carried, groups: &[LaneGroup]) -> Stale {
    group_of(carried, groups).map(|group| group.propagation.stale).unwrap_or_default()
}

/// The group of a label: the named one, or the first that knows the lane.
pub(super) fn group_of<'g>(carried: &Carried, groups: &'g [LaneGroup]) -> Option<&'g LaneGroup> {
    match &carried.group {
        Some(name) => groups.iter().find(|group| group.name == *name),
        None => groups.iter().find(|group| group.lane(&carried.lane).is_some()),
    }
}
