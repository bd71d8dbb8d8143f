//! Inbound: who may call the application.

use std::sync::{Arc, LazyLock};

use mesh_core::{
    enforce::inbound::{self as decide, Caller, Denial, Verdict as Decision},
    model::policy::{InboundServer, Limits, TrafficPolicy},
    outcome::Outcome,
    relay::Side,
    snapshot::Snapshot,
};

use super::{
    Plan, Refused, To,
    wait::{Look, answer},
};
use crate::{
    datapath::{accept::Connection, message::RequestHead},
    shared::Ask,
    worker::Worker,
};

/// Attempts toward the application: one more where a pooled connection turns out to be closed.
const ATTEMPTS: u32 = 2;

/// Toward its application a sidecar has as many connections and exchanges as come: what an instance may have, its callers
/// are told by the service's policy, and this process is bounded as a whole.
static TRAFFIC: LazyLock<Arc<TrafficPolicy>> = LazyLock::new(|| {
    let limits = Limits { connections: u32::MAX, requests: u32::MAX, ..Limits::default() };
    Arc::new(TrafficPolicy { limits, ..TrafficPolicy::default() })
});

/// Policy of an inbound port.
///
/// # Errors
/// `not_ready` while the controller has not answered.
pub async fn server(worker: &Worker, port: u16) -> Result<(Arc<Snapshot>, Arc<InboundServer>), Refused> {
    answer(worker, |snapshot| match snapshot.inbound.get(&port) {
        Some(server) => Look::Found(Arc::clone(server)),
        None => Look::Ask(Ask::Port(port)),
    })
    .await
}

fn caller(connection: &Connection) -> Caller<'_> {
    Caller { address: connection.peer.ip().to_canonical(), identity: connection.identity.as_ref() }
}

fn judge(decision: &Decision<'_>, connection: &Connection) -> Result<(), Refused> {
    match decision {
        Decision::Allow { .. } => Ok(()),
        Decision::Deny(denial) => {
            let outcome = match denial {
                Denial::UnknownPort => Outcome::UnknownPolicy,
                Denial::Plaintext | Denial::NotAuthorized => Outcome::Denied,
            };
            let who = match &connection.identity {
                Some(identity) => identity.to_string(),
                None => format!("{} without mesh identity", connection.peer.ip()),
            };
            Err(Refused::new(outcome, format!("{who} may not call this port: {}", denial.label())))
        }
    }
}

/// May the caller open this connection?
///
/// # Errors
/// Why not.
pub async fn connection(worker: &Worker, connection: &Connection) -> Result<Arc<InboundServer>, Refused> {
    let (_, server) = server(worker, connection.application().port()).await?;
    judge(&decide::connection(Some(&server), &caller(connection)), connection)?;
    Ok(server)
}

/// May the caller make this request?
///
/// # Errors
/// Why not.
pub async fn request(worker: &Worker, connection: &Connection, head: &RequestHead) -> Result<Box<Plan>, Refused> {
    let (snapshot, server) = server(worker, connection.application().port()).await?;
    judge(&decide::request(&server, &caller(connection), &head.parts()), connection)?;
    Ok(Box::new(plan(worker, connection, &snapshot)))
}

/// The way to the application, for a caller who was let in.
pub fn plan(worker: &Worker, connection: &Connection, snapshot: &Snapshot) -> Plan {
    let from = if connection.identity.is_some() { Side::Mesh } else { Side::Outside };
    let application = connection.application();
    let service = worker.series.port(application.port());
    let mut plan = Plan::new(snapshot, To::Application(application), service, from, connection.identity.as_ref());
    plan.attempts = plan.attempts.min(ATTEMPTS);
    plan.traffic = Arc::clone(&TRAFFIC);
    plan
}
