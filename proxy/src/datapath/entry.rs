//! Step 4, at an entry: a request that carries no label is decided here, once. Gateways decide what comes from outside,
//! sidecars of entry services what reaches their application, and what it calls of model routes that are entries; whoever
//! has decided says so to the next proxy.

use mesh_core::{
    fields::Fields,
    lane::{
        entry::{self, Asked, Place, Stained},
        trace::trace_id,
    },
    model::model_route::ModelRoute,
    names,
    relay::Side,
    snapshot::Surroundings,
};

use super::{
    enforce::{Plan, To},
    forwarded,
    report::Exchange,
};
use crate::{telemetry::worker::Direction, wall_clock, worker::Worker};

/// The label that a request without one gets, if this is an entry and a lane wants it.
pub fn stain<'p>(worker: &Worker, plan: &'p Plan, exchange: &Exchange) -> Option<Stained<'p>> {
    let groups = &plan.snapshot.lanes;
    let head = exchange.head.as_ref()?;
    let place = place(plan, exchange.direction(), head.fields())?;
    if !groups.iter().any(|group| place.decides(group)) {
        return None;
    }
    let trace = trace_id(head.fields(), groups);
    let source = forwarded::source(head.fields(), exchange.client().ip(), worker.config.forwarded_hops);
    let asked = Asked::new(head.parts(), Some(source), exchange.peer.as_ref(), trace);
    entry::decide(groups, &plan.snapshot.entries, place, &asked, wall_clock::now())
}

/// The label that a call of the application to a virtual model gets that carries none, where a group names the route as an
/// entry and a lane wants it. What reached the application was decided before, where its own service is an entry.
pub fn stain_model<'s>(
    worker: &Worker,
    snapshot: &'s Surroundings,
    route: &ModelRoute,
    exchange: &Exchange,
) -> Option<Stained<'s>> {
    let groups = &snapshot.lanes;
    if !groups.iter().any(|group| group.entries.contains(&route.name)) {
        return None;
    }
    let head = exchange.head.as_ref()?;
    let application = Place::Service { own: &snapshot.workload.services, decided: "" };
    let decided = entry::decided(groups, application).unwrap_or_default();
    let place = Place::Service { own: std::slice::from_ref(&route.name), decided: &decided };
    let own = worker.shared.tls.load();
    let caller = own.as_ref().map(|material| &material.identity);
    let trace = trace_id(head.fields(), groups);
    let asked = Asked::new(head.parts(), Some(exchange.client().ip()), caller, trace);
    entry::decide(groups, &snapshot.entries, place, &asked, wall_clock::now())
}

/// Groups that were decided here and found baseline, for the proxy behind this one.
pub fn decided(plan: &Plan) -> Option<String> {
    let own = &plan.snapshot.workload.services;
    let place = match plan.from {
        Side::Application => Place::Service { own, decided: "" },
        Side::Outside | Side::Mesh => Place::Gateway { own, called: &plan.service },
    };
    entry::decided(&plan.snapshot.lanes, place)
}

/// Where this is; `None` = nothing is decided here.
fn place<'a>(plan: &'a Plan, direction: Direction, fields: &'a dyn Fields) -> Option<Place<'a>> {
    let own = &plan.snapshot.workload.services;
    match (&plan.to, direction, plan.from) {
        (To::Outside(_) | To::Provider(..), _, _) | (_, Direction::Outbound, Side::Application) => None,
        (To::Service(_) | To::Endpoint(_) | To::Application(_), Direction::Outbound, Side::Outside | Side::Mesh) => {
            Some(Place::Gateway { own, called: &plan.service })
        }
        (_, Direction::Inbound, from) => {
            // Whoever is outside cannot have decided anything.
            let said = fields.first(names::DECIDED_HEADER).filter(|_| from == Side::Mesh);
            let decided = said.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
            Some(Place::Service { own, decided })
        }
    }
}
