//! Lanes: which lane a request belongs to, and which level of instances serves it at this hop.

use std::fmt;

use crate::{
    fields::Fields,
    model::{
        lane::{LaneGroup, LaneName, LaneRef},
        service::Service,
    },
    snapshot::Workload,
};

/// Where a label was found; the label of `mesh_lane_source_total{source}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Carrier header, alias, or the plain header named like the baggage key.
    Header,
    /// Member of `baggage`.
    Baggage,
    /// The pod's own lane.
    Workload,
    /// No label: baseline.
    None,
}

impl Source {
    /// Label for metrics, logs and spans.
    pub fn label(self) -> &'static str {
        match self {
            Source::Header => "header",
            Source::Baggage => "baggage",
            Source::Workload => "workload",
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

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{group}/{}", self.lane),
            None => write!(f, "{}", self.lane),
        }
    }
}

/// Reads the label of a message: carrier header, aliases, header named like the baggage key, baggage member; malformed
/// labels count as absent. The workload's own lane fills an absent label (outbound only: pass `None` inbound).
pub fn carried(fields: &dyn Fields, groups: &[LaneGroup], workload: Option<&Workload>) -> Option<Carried> {
    let _ = (fields, groups, workload);
    None
}

/// Value of the one `baggage` line to send: our member first, every old member of that key removed, foreign members kept
/// in order and dropped from the end beyond 8,192 bytes. `None` when there is nothing to send.
pub fn baggage(fields: &dyn Fields, key: &str, carried: Option<&Carried>) -> Option<Vec<u8>> {
    let _ = (fields, key, carried);
    None
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
    /// The wanted lane has too few usable members; a parent or baseline serves.
    Unhealthy,
}

impl Reason {
    /// Label for metrics, logs, spans and `explain`.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Unlabelled => "unlabelled",
            Reason::Matched => "matched",
            Reason::OutsideGroup => "outside_group",
            Reason::LaneClosed => "lane_closed",
            Reason::Missing => "missing",
            Reason::Unhealthy => "unhealthy",
        }
    }
}

/// What was decided for one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Pick among these positions of [`Service::endpoints`] (never empty unless the service has no candidate at all).
    Use {
        /// Level that serves.
        level: Level,
        /// Why.
        reason: Reason,
        /// Positions to pick from: enabled, not draining, of the level.
        candidates: Vec<usize>,
    },
    /// 503 `lane_missing`.
    RejectMissing(LaneRef),
    /// 503 `lane_unhealthy`.
    RejectUnhealthy(LaneRef),
}

/// Chooses the level for a request at this hop, in the fixed order of the lanes' specification, section 4: enabled and
/// weight > 0, not draining, then lane → parents → baseline, by members registered and members usable.
/// `usable` says of a position whether active health and ejection allow it.
pub fn choose(
    carried: Option<&Carried>,
    groups: &[LaneGroup],
    service: &Service,
    usable: &dyn Fn(usize) -> bool,
) -> Choice {
    let _ = (carried, groups, usable);
    Choice::Use {
        level: Level::Baseline,
        reason: Reason::Unlabelled,
        candidates: (0..service.endpoints().len()).collect(),
    }
}
