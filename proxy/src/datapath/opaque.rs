//! A raw connection: one exchange of bytes.

use std::{net::SocketAddr, rc::Rc};

use bytes::BytesMut;
use mesh_core::{
    model::route::{Distribution, OutboundProtocol, Target},
    outcome::Outcome,
};

use super::{
    accept::Accepted,
    enforce::{self, Plan, Refused},
    pick::{Picked, pick},
    reach::{self, InFlight, Lease, Unreachable},
    relay::{self, End},
    report::Exchange,
};
use crate::{
    net::socket::Socket,
    telemetry::worker::{Direction, Protocol},
    worker::Worker,
};

/// A raw connection's way, found and dialled.
#[derive(Debug)]
pub struct Reached {
    socket: Socket,
    exchange: Exchange,
    plan: Box<Plan>,
    _lease: Lease,
    _in_flight: InFlight,
}

impl AsMut<Socket> for Reached {
    fn as_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// A raw connection that went nowhere; it was reported.
#[derive(Clone, Copy, Debug)]
pub struct NotReached;

/// Inbound: bytes for the application.
pub async fn inbound(worker: &Rc<Worker>, accepted: Accepted) {
    let mut exchange = Exchange::open(worker, Direction::Inbound, Protocol::Opaque, accepted.connection.peer);
    exchange.peer = accepted.connection.identity.clone();
    let plan = Box::new(enforce::inbound_plan(worker, &accepted.connection, worker.shared.load()));
    if let Ok(reached) = go(worker, exchange, Ok(plan)).await {
        copy(accepted, reached).await;
    }
}

/// Outbound: bytes for a target, which may have been dialled while the client was silent.
pub async fn outbound(worker: &Rc<Worker>, accepted: Accepted, target: &Target, reached: Option<Reached>) {
    let reached = match reached {
        Some(reached) => Ok(reached),
        None => reach(worker, target, accepted.connection.peer).await,
    };
    if let Ok(reached) = reached {
        copy(accepted, reached).await;
    }
}

/// Finds and dials the way of a raw connection to `target`.
///
/// # Errors
/// It went nowhere, which is reported here.
pub async fn reach(worker: &Rc<Worker>, target: &Target, peer: SocketAddr) -> Result<Reached, NotReached> {
    let exchange = Exchange::open(worker, Direction::Outbound, Protocol::Opaque, peer);
    let plan = plan(worker, target).await.map(Box::new);
    go(worker, exchange, plan).await
}

async fn plan(worker: &Worker, target: &Target) -> Result<Plan, Refused> {
    let (snapshot, policy) = enforce::outbound_connection(worker, target).await?;
    let Some(policy) = policy else { return enforce::outside(worker, target, snapshot) };
    let empty = Distribution::Empty;
    let distribution = match &policy.protocol {
        OutboundProtocol::Opaque(to) | OutboundProtocol::Tls(to) | OutboundProtocol::Detect { opaque: to, .. } => to,
        // Bytes to what is said to speak HTTP: the backends of its last resort, if it has one.
        OutboundProtocol::Http1(routes) | OutboundProtocol::Http2(routes) | OutboundProtocol::Grpc(routes) => {
            routes.first().and_then(|route| route.rules.first()).map_or(&empty, |rule| &rule.backends)
        }
    };
    enforce::distribute(worker, snapshot, distribution, target).await
}

/// Lane, pick and reach; failures to connect go to another instance.
async fn go(
    worker: &Rc<Worker>,
    mut exchange: Exchange,
    plan: Result<Box<Plan>, Refused>,
) -> Result<Reached, NotReached> {
    let plan = match plan {
        Ok(plan) => plan,
        Err(refused) => return Err(end(exchange, refused.outcome, refused.detail)),
    };
    exchange.service = plan.service.clone();
    exchange.carried = super::lane::label(&plan, exchange.direction(), super::lane::no_fields());
    let mut tried = Vec::new();
    loop {
        exchange.attempts += 1;
        let Picked { upstream, level, .. } = match pick(worker, &plan, exchange.carried.as_ref(), &tried) {
            Ok(picked) => picked,
            Err(refused) => return Err(end(exchange, refused.outcome, refused.detail)),
        };
        exchange.level = level;
        exchange.endpoint = Some(upstream.address);
        tried.push(upstream.address);
        let limits = plan.traffic.limits;
        let Some(in_flight) = upstream.begin(limits.requests) else {
            return Err(end(exchange, Outcome::Overloaded, format!("too many exchanges at {}", upstream.address)));
        };
        match reach::raw(worker, &upstream, plan.limits.connect, limits.connections).await {
            Ok((socket, lease)) => {
                exchange.serve();
                return Ok(Reached { socket, exchange, plan, _lease: lease, _in_flight: in_flight });
            }
            Err(_) if exchange.attempts < plan.attempts => worker.sink.metrics.retries.add(1),
            Err(Unreachable { outcome, detail, .. }) => return Err(end(exchange, outcome, detail)),
        }
    }
}

fn end(mut exchange: Exchange, outcome: Outcome, detail: String) -> NotReached {
    exchange.detail = Some(detail);
    exchange.finish(outcome);
    NotReached
}

async fn copy(accepted: Accepted, reached: Reached) {
    let Accepted { mut socket, buffer, .. } = accepted;
    let Reached { socket: mut server, mut exchange, plan, .. } = reached;
    let client = End { socket: &mut socket, read: buffer };
    let server_end = End { socket: &mut server, read: BytesMut::new() };
    let done = relay::tunnel(client, server_end, plan.limits.idle).await;
    exchange.bytes_in = done.bytes_in;
    exchange.bytes_out = done.bytes_out;
    let outcome = match done.result {
        Ok(()) => Outcome::Closed,
        Err(error) => {
            // A cut is passed on as a cut: neither side must take what it has for the whole.
            socket.cut();
            server.cut();
            exchange.detail = Some(error.to_string());
            if error.kind() == std::io::ErrorKind::TimedOut { Outcome::Timeout } else { Outcome::UpstreamIncomplete }
        }
    };
    exchange.finish(outcome);
}
