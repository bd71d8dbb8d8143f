//! Step 4: which lane a request belongs to, and how its fields are written for the next hop.

pub mod links;
pub mod memory;
pub mod oracle;

use std::borrow::Cow;

use mesh_core::{
    fields::Fields,
    lane::{
        Carried, MayLabel, SW8_CORRELATION, TRACESTATE, baggage, carried, foreign_baggage,
        mint::{self, Minted, Sampled},
        sw8_correlation,
        trace::{Format, SW8, TraceId, TraceIds},
        tracestate,
        unanimity::Kind,
        uses_tracestate,
    },
    model::{
        lane::{Carrier, LaneGroup},
        route::{Filter, HeaderChange},
    },
    names,
    relay::{Part, Passage, Side, Way, passage},
    snapshot::Surroundings,
};

use self::memory::{Arrival, Sender};
use super::{
    enforce::{Plan, To},
    entry,
    message::RequestHead,
    report::Exchange,
    trace::TRACEPARENT,
};
use crate::{telemetry::worker::Direction, worker::Worker};

/// The label of a request, if its sender may set one. Outbound, it is looked for wherever it can be found, and the pod's
/// own lane fills an absent one.
pub fn label(worker: &Worker, plan: &Plan, direction: Direction, fields: &dyn Fields) -> Option<Carried> {
    found(worker, (&plan.snapshot, &plan.may_label), direction, fields)
}

/// As [`label`], before it is known where the request goes.
pub fn found(
    worker: &Worker,
    (snapshot, may_label): (&Surroundings, &MayLabel),
    direction: Direction,
    fields: &dyn Fields,
) -> Option<Carried> {
    match direction {
        Direction::Outbound if !snapshot.lanes.is_empty() => worker.memory.find(fields, snapshot, may_label),
        Direction::Outbound | Direction::Inbound => {
            let said = match may_label {
                MayLabel::None => no_fields(),
                MayLabel::All | MayLabel::Of(_) => fields,
            };
            may_label.admit(carried(said, &snapshot.lanes, None)?, &snapshot.lanes)
        }
    }
}

/// The request, whose label is settled, is about to reach the application: noted, so that the calls made for it find
/// their lane. Where the application could not tell by any trace id, it is given one.
pub fn arrive(worker: &Worker, plan: &Plan, exchange: &mut Exchange) {
    if plan.snapshot.lanes.is_empty() || !matches!(plan.to, To::Application(_)) {
        return;
    }
    let groups = &plan.snapshot.lanes;
    let is_plain = exchange.carried.is_none() && plan.from == Side::Mesh && !plan.snapshot.workload.lanes.is_empty();
    let sender = if is_plain { Sender::PeerToLane } else { Sender::Other };
    let (mut ids, mut kind) = (TraceIds::default(), Kind::Lasting);
    if let Some(head) = &exchange.head {
        kind = kind_of(head);
        if exchange.carried.is_some() || is_plain {
            ids = TraceIds::read(head.fields(), groups);
        }
        match exchange.carried {
            Some(_) => mint_for(worker, groups, exchange, &mut ids),
            None => own_span(exchange).into_iter().for_each(|id| ids.add_as(id, Format::Traceparent)),
        }
    }
    let arrival = Arrival { carried: exchange.carried.as_ref(), ids, kind, sender };
    exchange.noted = worker.memory.note(groups, arrival, worker.exchanges.get());
}

/// The trace id that the mesh's own span writes into the request.
fn own_span(exchange: &Exchange) -> Option<TraceId> {
    let span = exchange.span.as_ref()?.trace();
    TraceId::new(u128::from_be_bytes(span.trace_id))
}

/// Gives the request of a lane what ids it lacks; its span is the parent where it has one.
fn mint_for(worker: &Worker, groups: &[LaneGroup], exchange: &mut Exchange, ids: &mut TraceIds) {
    let span = exchange.span.as_ref().map(|span| span.trace());
    let mut formats = mint::lacking(ids, worker.memory.learned());
    // What our own span writes is there, too.
    if let Some(id) = own_span(exchange) {
        ids.add_as(id, Format::Traceparent);
        formats = formats.without(Format::Traceparent);
    }
    if formats.is_empty() {
        return;
    }
    let random = || u128::from(worker.random()) << 64 | u128::from(worker.random() | 1);
    let Some(id) = ids.first().or_else(|| TraceId::new(random())) else { return };
    let (parent, sampled) = match span {
        Some(span) => (u64::from_be_bytes(span.span), Sampled::Yes),
        None => (worker.random() | 1, Sampled::No),
    };
    exchange.minted = Some(Box::new(mint::mint(id, parent, formats, sampled, groups)));
    ids.add(id);
    worker.sink.metrics.lane_minted.add(1);
}

/// Whether the end of a request is in sight.
fn kind_of(head: &RequestHead) -> Kind {
    let switches = match head {
        RequestHead::Http1(head) => head.upgrade().is_some(),
        RequestHead::Http2(head) => head.protocol.is_some(),
    };
    let accepts = head.fields().first("accept").unwrap_or_default();
    if switches || is_event_stream(accepts) { Kind::Lasting } else { Kind::Request }
}

/// Whether a media type is that of server-sent events.
pub fn is_event_stream(media: &[u8]) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    media.trim_ascii().get(..EVENTS.len()).is_some_and(|start| start.eq_ignore_ascii_case(EVENTS))
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
    minted: Option<&'a Minted>,
    extra: Vec<(&'a str, Cow<'a, [u8]>)>,
    scheme: http::uri::Scheme,
}

impl<'a> Edit<'a> {
    /// Nothing but what no hop passes on: changes to the head of a response of our own.
    pub fn own_response() -> Edit<'static> {
        let way = Way { part: Part::Response, from: Side::Application, to: Side::Application };
        Edit { way, groups: &[], removed: Vec::new(), minted: None, extra: Vec::new(), scheme: http::uri::Scheme::HTTP }
    }

    /// Scheme of the request, where its protocol says it.
    pub fn scheme(&self) -> &http::uri::Scheme {
        &self.scheme
    }

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
            edit.forward(head.fields(), exchange, to);
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
        if let Some(minted) = exchange.minted.as_deref() {
            // Ids of these formats that were there could not be read.
            let has = |(name, _)| exchange.head.as_ref().is_some_and(|head| head.fields().first(name).is_some());
            edit.minted = minted.iter().any(has).then_some(minted);
            edit.extra.extend(minted.iter().map(|(name, value)| (name, value.into())));
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
        let scheme = match &plan.to {
            To::Provider(_, way) if way.tls.is_some() => http::uri::Scheme::HTTPS,
            To::Provider(..) | To::Service(_) | To::Endpoint(_) | To::Application(_) | To::Outside(_) => {
                http::uri::Scheme::HTTP
            }
        };
        Edit { way, groups: &plan.snapshot.lanes, removed: Vec::new(), minted: None, extra: Vec::new(), scheme }
    }

    fn carry(&mut self, fields: &'a dyn Fields, carried: Option<&'a Carried>, to: Side) {
        let carried = carried.filter(|_| to != Side::Outside);
        let line = match carried {
            Some(carried) => {
                let (header, key) = match carrier(carried, self.groups) {
                    Some(carrier) => (carrier.header.as_str(), carrier.baggage_key.as_str()),
                    None => (names::LANE_HEADER, names::LANE_BAGGAGE_KEY),
                };
                self.extra.reserve(LABELLED_FIELDS);
                self.extra.push((header, carried.to_bytes()));
                baggage(fields, key, Some(carried))
            }
            None => foreign_baggage(fields, self.groups).map(Cow::Owned),
        };
        if let Some(line) = line {
            self.extra.push((names::BAGGAGE_HEADER, line));
        }
    }

    /// Writes what tracing libraries hand on, where the message shows that one does.
    fn forward(&mut self, fields: &'a dyn Fields, exchange: &Exchange, to: Side) {
        if self.groups.is_empty() {
            return;
        }
        let carried = exchange.carried.as_ref().filter(|_| to != Side::Outside);
        let label = carried.map(|carried| {
            let key = carrier(carried, self.groups).map(|carrier| carrier.baggage_key.as_str());
            (key.unwrap_or(names::LANE_BAGGAGE_KEY), carried)
        });
        let mints = |name: &str| exchange.minted.as_deref().is_some_and(|minted| minted.replaces(name.as_bytes()));
        let has = |name: &str| mints(name) || fields.first(name).is_some();
        let in_sw8 = label.filter(|_| has(SW8) || has(SW8_CORRELATION));
        if let Some(line) = sw8_correlation(fields, self.groups, in_sw8) {
            self.extra.push((SW8_CORRELATION, line.into()));
        }
        if !uses_tracestate(self.groups) {
            return;
        }
        // It means nothing without its other half.
        let in_state = label.filter(|_| exchange.span.is_some() || has(TRACEPARENT));
        if let Some(line) = tracestate(fields, self.groups, in_state) {
            self.extra.push((TRACESTATE, line.into()));
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
        if self.removed.iter().any(is_removed) || self.minted.is_some_and(|minted| minted.replaces(name)) {
            return Passage::Reserved;
        }
        passage(name, self.way, self.groups)
    }

    /// Fields to append.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.extra.iter().map(|(name, value)| (*name, value.as_ref()))
    }
}

/// Fields that a request with a label gets, mostly: label, baggage, `sw8-correlation`, caller, and trace ids.
const LABELLED_FIELDS: usize = 8;

/// How the group of a label carries it: the named group, or the only one that knows the lane.
fn carrier<'a>(carried: &Carried, groups: &'a [LaneGroup]) -> Option<&'a Carrier> {
    if let [only] = groups {
        return Some(&only.carrier);
    }
    let group = match &carried.group {
        Some(name) => groups.iter().find(|group| group.name == *name),
        None => groups.iter().find(|group| group.lane(&carried.lane).is_some()),
    };
    group.or_else(|| groups.first()).map(|group| &group.carrier)
}
