//! Step 4: which lane a request belongs to, and how its fields are written for the next hop.

use std::borrow::Cow;

use mesh_core::{
    fields::Fields,
    lane::{Carried, MayLabel, baggage, carried, foreign_baggage},
    model::{
        lane::{Carrier, LaneGroup},
        route::{Filter, HeaderChange},
    },
    names,
    relay::{Part, Passage, Side, Way, passage},
};

use super::{enforce::Plan, entry, report::Exchange, trace::TRACEPARENT};
use crate::telemetry::worker::Direction;

/// The label of a request, if its sender may set one. Outbound, the pod's own lane fills an absent label.
pub fn label(plan: &Plan, direction: Direction, fields: &dyn Fields) -> Option<Carried> {
    let workload = match direction {
        Direction::Outbound => Some(&plan.snapshot.workload),
        Direction::Inbound => None,
    };
    let said = match plan.may_label {
        MayLabel::None => no_fields(),
        MayLabel::All | MayLabel::Of(_) => fields,
    };
    let carried = carried(said, &plan.snapshot.lanes, workload)?;
    plan.may_label.admit(carried, &plan.snapshot.lanes)
}

/// Fields of what has none: raw connections, and callers that may not set a label.
pub fn no_fields() -> &'static dyn Fields {
    struct None;
    impl Fields for None {
        fn each<'a>(&'a self, _name: &str, _visit: &mut dyn FnMut(&'a [u8])) {}
    }
    &None
}

/// How the fields of one message change on their way.
#[derive(Debug)]
pub struct Edit<'a> {
    way: Way,
    groups: &'a [LaneGroup],
    removed: Vec<&'a str>,
    extra: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> Edit<'a> {
    /// Changes to the head of a request that goes to `to`.
    pub fn request(plan: &'a Plan, exchange: &'a Exchange, to: Side, client_id: Option<&'a str>) -> Edit<'a> {
        // Of whoever may not label every group nothing passes that could be taken for a label.
        let from = match plan.may_label {
            MayLabel::All => plan.from,
            MayLabel::Of(_) | MayLabel::None => Side::Outside,
        };
        let mut edit = Edit::new(plan, Way { part: Part::Request, from, to });
        if let Some(head) = &exchange.head {
            edit.carry(head.fields(), exchange.carried.as_ref(), to);
        }
        if to == Side::Mesh
            && exchange.carried.is_none()
            && let Some(decided) = entry::decided(plan)
        {
            edit.extra.push((names::DECIDED_HEADER, decided.into_bytes().into()));
        }
        if let Some(id) = client_id {
            edit.extra.push((names::CLIENT_ID_HEADER, id.as_bytes().into()));
        }
        if let Some(span) = &exchange.span {
            edit.removed.push(TRACEPARENT);
            edit.extra.push((TRACEPARENT, span.header().into_bytes().into()));
        }
        edit.filter(plan, |filter| match filter {
            Filter::RequestHeaders(change) => Some(change),
            Filter::ResponseHeaders(_) | Filter::Redirect { .. } | Filter::Fail { .. } => None,
        });
        edit
    }

    /// Changes to the head of a response that comes from `from`.
    pub fn response(plan: &'a Plan, from: Side) -> Edit<'a> {
        let mut edit = Edit::new(plan, Way { part: Part::Response, from, to: plan.from });
        edit.filter(plan, |filter| match filter {
            Filter::ResponseHeaders(change) => Some(change),
            Filter::RequestHeaders(_) | Filter::Redirect { .. } | Filter::Fail { .. } => None,
        });
        edit
    }

    fn new(plan: &'a Plan, way: Way) -> Edit<'a> {
        Edit { way, groups: &plan.snapshot.lanes, removed: Vec::new(), extra: Vec::new() }
    }

    fn carry(&mut self, fields: &'a dyn Fields, carried: Option<&Carried>, to: Side) {
        let carried = carried.filter(|_| to != Side::Outside);
        let line = match carried {
            Some(carried) => {
                let (header, key) = match carrier(carried, self.groups) {
                    Some(carrier) => (carrier.header.as_str(), carrier.baggage_key.as_str()),
                    None => (names::LANE_HEADER, names::LANE_BAGGAGE_KEY),
                };
                self.extra.push((header, carried.to_string().into_bytes().into()));
                baggage(fields, key, Some(carried))
            }
            None => foreign_baggage(fields, self.groups),
        };
        if let Some(line) = line {
            self.extra.push((names::BAGGAGE_HEADER, line.into()));
        }
    }

    fn filter(&mut self, plan: &'a Plan, change: impl Fn(&'a Filter) -> Option<&'a HeaderChange>) {
        for change in plan.filters.iter().filter_map(change) {
            let removed = change.remove.iter().chain(change.set.iter().map(|(name, _)| name));
            self.removed.extend(removed.map(String::as_str));
            for (name, value) in change.set.iter().chain(&change.add) {
                self.extra.push((name, value.as_bytes().into()));
            }
        }
    }

    /// Puts a field in the place of those of its name.
    pub fn replace(&mut self, name: &'a str, value: &'a [u8]) {
        self.removed.push(name);
        self.extra.push((name, value.into()));
    }

    /// Appends a field.
    pub fn add(&mut self, name: &'a str, value: &'a [u8]) {
        self.extra.push((name, value.into()));
    }

    /// Whether a field crosses.
    pub fn passage(&self, name: &[u8]) -> Passage {
        let is_removed = |removed: &&str| removed.as_bytes().eq_ignore_ascii_case(name);
        if !self.removed.is_empty() && self.removed.iter().any(is_removed) {
            return Passage::Reserved;
        }
        passage(name, self.way, self.groups)
    }

    /// Fields to append.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.extra.iter().map(|(name, value)| (*name, value.as_ref()))
    }
}

/// How the group of a label carries it: the named group, or the only one that knows the lane.
fn carrier<'a>(carried: &Carried, groups: &'a [LaneGroup]) -> Option<&'a Carrier> {
    let group = match &carried.group {
        Some(name) => groups.iter().find(|group| group.name == *name),
        None => groups.iter().find(|group| group.lane(&carried.lane).is_some()),
    };
    group.or_else(|| groups.first()).map(|group| &group.carrier)
}
