//! Lanes: which lane a request belongs to, and which level of instances serves it at this hop.

mod carry;
pub mod correlation;
pub mod entry;
mod explain;
mod find;
mod forwarded;
pub mod guard;
mod leak;
mod level;
mod links;
mod living;
pub mod mint;
mod moment;
pub mod plain;
pub mod probe;
pub mod routes;
pub mod subset;
pub mod trace;
pub mod transition;
mod trust;
pub mod unanimity;

use std::{borrow::Cow, fmt};

pub(crate) use carry::{CarrierRole, alike, carrier_role};
pub use carry::{baggage, carried, foreign_baggage};
pub use explain::{Hop, Step, StepVerdict, explain};
pub use find::{Found, Freshness, Known, find};
pub(crate) use forwarded::ForwardedRole;
pub use forwarded::{SW8_CORRELATION, TRACESTATE, sw8_correlation, tracestate, uses_tracestate};
pub use leak::leak;
pub use level::{Turn, choose, choose_again, choose_near};
pub use living::{Living, Strength, baseline_strength, living};
pub use moment::{next_change, settled};
pub use trust::MayLabel;

use crate::model::lane::{LaneGroup, LaneName, LaneRef};

/// Where a label was found; the label of `mesh_lane_source_total{source}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Carrier header, alias, or the plain header named like the baggage key.
    Header,
    /// Member of `baggage`.
    Baggage,
    /// The request in flight, or just ended, that has the same trace id.
    Trace,
    /// Member of `sw8-correlation`.
    Sw8,
    /// Member of `tracestate`.
    Tracestate,
    /// The entry rules, evaluated again on what the application forwards.
    Rederived,
    /// The lane of all requests in flight.
    Unanimity,
    /// The pod's own lane.
    Workload,
    /// The entry rules: the request is stained here.
    Entry,
    /// No label: baseline.
    None,
}

impl Source {
    /// Every source, in order of declaration.
    pub const ALL: [Source; 10] = [
        Source::Header,
        Source::Baggage,
        Source::Trace,
        Source::Sw8,
        Source::Tracestate,
        Source::Rederived,
        Source::Unanimity,
        Source::Workload,
        Source::Entry,
        Source::None,
    ];

    /// Label for metrics, logs and spans.
    pub fn label(self) -> &'static str {
        match self {
            Source::Header => "header",
            Source::Baggage => "baggage",
            Source::Trace => "trace",
            Source::Sw8 => "sw8",
            Source::Tracestate => "tracestate",
            Source::Rederived => "rederived",
            Source::Unanimity => "unanimity",
            Source::Workload => "workload",
            Source::Entry => "entry",
            Source::None => "none",
        }
    }
}

/// The label that a message carries: a lane, with its group where the text named one or only one group knows the lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Label as it travels: lane name, group if named.
    pub group: Option<LaneName>,
    /// Lane name.
    pub lane: LaneName,
    /// Where it stood.
    pub source: Source,
}

impl Carried {
    /// `<group>/<lane>` where the group is known: named, or the only one of `groups` that has such a lane. Else the label as
    /// it travels. For what is counted by lane, so that a lane is counted in one place however its label was written.
    pub fn full_name(&self, groups: &[LaneGroup]) -> String {
        match self.full(groups) {
            (Some(group), lane) => format!("{group}/{lane}"),
            (None, lane) => lane.to_string(),
        }
    }

    /// The parts of [`Carried::full_name`].
    pub fn full<'a>(&'a self, groups: &'a [LaneGroup]) -> (Option<&'a LaneName>, &'a LaneName) {
        if self.group.is_some() {
            return (self.group.as_ref(), &self.lane);
        }
        let mut knowing = groups.iter().filter(|group| group.lane(&self.lane).is_some());
        match (knowing.next(), knowing.next()) {
            (Some(group), None) => (Some(&group.name), &self.lane),
            _ => (None, &self.lane),
        }
    }

    /// The label as header fields carry it.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        let lane = self.lane.as_str();
        match &self.group {
            Some(group) => Cow::Owned([group.as_str(), "/", lane].concat().into_bytes()),
            None => Cow::Borrowed(lane.as_bytes()),
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{group}/{}", self.lane),
            None => write!(f, "{}", self.lane),
        }
    }
}

/// Level of instances that serves a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// A lane: the wanted one or one of its parents.
    Lane(LaneRef),
    /// Instances in no active lane.
    Baseline,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Lane(lane) => write!(f, "{lane}"),
            Level::Baseline => f.write_str("baseline"),
        }
    }
}

/// Why a level was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request carries no label.
    Unlabelled,
    /// The wanted lane has usable members here.
    Matched,
    /// No group that this service belongs to knows the lane (or the service is in none): ordinary routing.
    OutsideGroup,
    /// The lane is closed or promoted: label ignored.
    LaneClosed,
    /// The wanted lane has no member registered here; a parent or baseline serves.
    Missing,
    /// The wanted lane has too few usable members; a parent or baseline serves, or the lane itself if it says `stay`.
    Unhealthy,
    /// The attempts at the level above failed: the last one goes down.
    Retried,
    /// The level above has nobody usable in the caller's zone, and the group puts the zone first.
    OtherZone,
}

impl Reason {
    /// Every reason, in order of declaration.
    pub const ALL: [Reason; 8] = [
        Reason::Unlabelled,
        Reason::Matched,
        Reason::OutsideGroup,
        Reason::LaneClosed,
        Reason::Missing,
        Reason::Unhealthy,
        Reason::Retried,
        Reason::OtherZone,
    ];

    /// Label for metrics, logs, spans and `explain`.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Unlabelled => "unlabelled",
            Reason::Matched => "matched",
            Reason::OutsideGroup => "outside_group",
            Reason::LaneClosed => "lane_closed",
            Reason::Missing => "missing",
            Reason::Unhealthy => "unhealthy",
            Reason::Retried => "retried",
            Reason::OtherZone => "other_zone",
        }
    }
}

/// What was decided for one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Pick among these positions of [`Service::endpoints`](crate::model::service::Service::endpoints).
    Use {
        /// Level that serves.
        level: Level,
        /// Why.
        reason: Reason,
        /// Positions to pick from: of the level, weight > 0, not draining, and usable. Where none is usable and there is
        /// nowhere else to go, all of the level that do not drain; where all do, these. Empty only where the service has
        /// no instance for baseline.
        candidates: Cow<'a, [usize]>,
    },
    /// 503 `lane_missing`.
    RejectMissing(LaneRef),
    /// 503 `lane_unhealthy`.
    RejectUnhealthy(LaneRef),
}

/// Which positions of a service active health and ejection allow.
#[derive(Clone, Copy)]
pub enum Usable<'a> {
    /// All of them; costs nothing.
    All,
    /// Those of which this says so.
    Where(&'a dyn Fn(usize) -> bool),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lane::Lane;

    #[test]
    fn full_name_has_the_group_that_was_named_or_that_alone_has_the_lane() {
        let group = |name: &str, lanes: &[&str]| {
            let lanes = lanes.iter().map(|lane| Lane::new(lane.parse().unwrap())).collect();
            LaneGroup { lanes, ..LaneGroup::new(name.parse().unwrap()) }
        };
        let groups = [group("models", &["canary", "next"]), group("shop", &["next"])];
        let carried = |group: Option<&str>, lane: &str| Carried {
            group: group.map(|group| group.parse().unwrap()),
            lane: lane.parse().unwrap(),
            source: Source::Header,
        };
        for (group, lane, expected) in [
            (Some("models"), "canary", "models/canary"),
            (None, "canary", "models/canary"),
            (None, "next", "next"),
            (Some("shop"), "next", "shop/next"),
            (None, "unknown", "unknown"),
        ] {
            assert_eq!(carried(group, lane).full_name(&groups), expected);
        }
    }
}
