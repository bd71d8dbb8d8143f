//! Requests without label at the application of a pod that is in a lane: whether a call without label may be made for one
//! of them, and so is not one of the pod's own lane.
//!
//! Such requests come while a lane is promoted or taken back, when the hops do not agree yet, and from peers that call the
//! instance itself. A call belongs to one of them for certain where it carries its trace id; it may belong to one while
//! one is in flight or has just ended. Otherwise it is the pod's own work.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use ahash::RandomState;

use super::{
    correlation::{Correlation, Label, Meaning},
    trace::TraceIds,
    unanimity::{QUIET, YOUNG},
};
use crate::model::lane::LaneName;

/// Trace ids that are remembered at most: those of a minute at 160 requests per second.
pub const TRACES: usize = 10_000;

/// Whether the pod's own lane may fill an absent label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLane {
    /// It may: no request without label is near.
    Fills,
    /// The call carries the trace id of a request without label that is in flight or ended within the linger.
    OtherTrace,
    /// A request without label that began less than [`YOUNG`] ago is in flight.
    InFlight,
    /// One ended less than [`QUIET`] ago.
    JustEnded,
}

/// A request without label in flight; give it back to [`Plain::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// The requests without label of one workload; begins with none.
pub struct Plain {
    /// Those in flight that began less than [`YOUNG`] ago, in order of their beginning.
    in_flight: BTreeMap<u64, Duration>,
    next: u64,
    ended: Option<Duration>,
    traces: Correlation,
    /// What their ids mean; no lane is ever looked up by it.
    label: Label,
}

impl Plain {
    /// None yet; `hasher` keeps peers from choosing ids that collide.
    ///
    /// # Panics
    /// Never: the name is a valid one.
    pub fn new(hasher: RandomState) -> Self {
        let lane: LaneName = "plain".parse().expect("a word is a valid name");
        Plain {
            in_flight: BTreeMap::new(),
            next: 0,
            ended: None,
            traces: Correlation::new(TRACES, hasher),
            label: Label { group: None, lane },
        }
    }

    /// A request without label began, with these trace ids.
    pub fn begin(&mut self, ids: &TraceIds, now: Duration) -> Ticket {
        self.forget(now);
        let ticket = self.next;
        self.next += 1;
        self.in_flight.insert(ticket, now);
        ids.iter().for_each(|id| self.traces.begin(id, &self.label, now));
        Ticket(ticket)
    }

    /// It has ended; its ids linger for so long.
    pub fn end(&mut self, Ticket(ticket): Ticket, ids: &TraceIds, linger: Duration, now: Duration) {
        self.in_flight.remove(&ticket);
        self.ended = Some(now);
        ids.iter().for_each(|id| self.traces.end(id, linger, now));
    }

    /// Some may have come and gone unseen.
    pub fn missed(&mut self, now: Duration) {
        self.ended = Some(now);
    }

    /// Whether trace ids are known: those of a call need not be read otherwise.
    pub fn has_traces(&self) -> bool {
        !self.traces.is_empty()
    }

    /// Whether the pod's own lane may fill the label of a call with these trace ids.
    pub fn own_lane(&mut self, ids: &TraceIds, now: Duration) -> OwnLane {
        if ids.iter().any(|id| matches!(self.traces.find(id, now), Some(Meaning::Lane(_)))) {
            return OwnLane::OtherTrace;
        }
        // The one that began last is young for longest.
        if self.in_flight.last_key_value().is_some_and(|(_, began)| now < *began + YOUNG) {
            return OwnLane::InFlight;
        }
        if self.ended.is_some_and(|ended| now < ended + QUIET) {
            return OwnLane::JustEnded;
        }
        OwnLane::Fills
    }

    /// Lets go what has had its time.
    pub fn sweep(&mut self, now: Duration) {
        self.forget(now);
        if self.has_traces() {
            self.traces.sweep(now);
        }
    }

    fn forget(&mut self, now: Duration) {
        while let Some(first) = self.in_flight.first_entry()
            && now >= *first.get() + YOUNG
        {
            first.remove();
        }
    }
}
