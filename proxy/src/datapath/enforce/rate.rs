//! Whether the services of this pod take one more request.

use mesh_core::limits::rate::{Asked, Refused};

use super::Plan;
use crate::{
    datapath::{accept::Connection, report::Exchange},
    telemetry::worker::Direction,
    worker::Worker,
};

/// May the request come now? Asked once its lane is known; who calls is what its connection proved, not what it says.
///
/// # Errors
/// The limit that is used up.
pub fn rate(worker: &Worker, connection: &Connection, plan: &Plan, exchange: &Exchange) -> Result<(), Box<Refused>> {
    if connection.direction != Direction::Inbound {
        return Ok(());
    }
    let Some(rules) = plan.snapshot.rates.of_port(connection.application().port()) else { return Ok(()) };
    let Some(head) = &exchange.head else { return Ok(()) };
    let asked = Asked {
        identity: connection.identity.as_ref(),
        lane: exchange.carried.as_ref().map(|carried| carried.full(&plan.snapshot.lanes)),
        parts: head.parts(),
    };
    worker.shared.limits.admit(rules, &asked)
}
