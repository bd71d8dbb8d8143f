//! A raw connection: one exchange of bytes.

use std::{net::SocketAddr, rc::Rc};

use bytes::BytesMut;
use mesh_core::{
    health::Waited,
    lane::Turn,
    model::route::{Distribution, OutboundProtocol, Target},
    outcome::Outcome,
};

use super::{
    accept::{Accepted, Connection},
    enforce::{self, Plan, Refused},
    pick::{Before, Picked, pick},
    reach::{self, InFlight, Lease, Unreachable},
    relay::{self, Broken, End, Speech},
    report::Exchange,
};
use crate::{
    balance,
    health::Watch,
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

impl Reached {
    /// Ends a connection on which neither side said anything.
    pub fn time_out(mut self) {
        self.exchange.confirm();
        self.exchange.finish(Outcome::Timeout);
    }
}

impl AsMut<Socket> for Reached {
    fn as_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// A raw connection that went nowhere.
#[derive(Debug)]
pub struct NotReached {
    exchange: Exchange,
    outcome: Outcome,
}

impl NotReached {
    /// Tells of it, once it is known that the connection was wanted.
    pub fn report(mut self) {
        self.exchange.confirm();
        self.exchange.finish(self.outcome);
    }
}

/// Inbound: bytes for the application, which may have been dialled while the client was silent.
pub async fn inbound(worker: &Rc<Worker>, accepted: Accepted, speech: Speech, reached: Option<Reached>) {
    let reached = match reached {
        Some(reached) => Ok(reached),
        None => reach_application(worker, &accepted.connection).await,
    };
    take(accepted, speech, reached).await;
}

/// Dials the application for a caller who was let in. Tells nothing of it: there may be no raw connection.
///
/// # Errors
/// It cannot be reached.
pub async fn reach_application(worker: &Rc<Worker>, connection: &Connection) -> Result<Reached, Box<NotReached>> {
    let mut exchange = Exchange::provisional(worker, Direction::Inbound, Protocol::Opaque, connection.peer);
    exchange.peer = connection.identity.clone();
    let plan = Box::new(enforce::inbound_plan(worker, connection, &worker.shared.load()));
    go(worker, exchange, Ok(plan)).await
}

/// Outbound: bytes for a target, which may have been dialled while the client was silent.
pub async fn outbound(worker: &Rc<Worker>, accepted: Accepted, target: &Target, reached: Option<Reached>) {
    let reached = match reached {
        Some(reached) => Ok(reached),
        None => reach(worker, target, accepted.connection.peer).await,
    };
    take(accepted, Speech::Anything, reached).await;
}

/// The connection is bytes for certain.
async fn take(accepted: Accepted, speech: Speech, reached: Result<Reached, Box<NotReached>>) {
    accepted.connection.guest.works();
    match reached {
        Ok(mut reached) => {
            reached.exchange.confirm();
            copy(accepted, speech, reached).await;
        }
        Err(not_reached) => not_reached.report(),
    }
}

/// Finds and dials the way of a raw connection to `target`. Tells nothing of it: there may be no such connection.
///
/// # Errors
/// It went nowhere.
pub async fn reach(worker: &Rc<Worker>, target: &Target, peer: SocketAddr) -> Result<Reached, Box<NotReached>> {
    let exchange = Exchange::provisional(worker, Direction::Outbound, Protocol::Opaque, peer);
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
) -> Result<Reached, Box<NotReached>> {
    let mut plan = match plan {
        Ok(plan) => plan,
        Err(refused) => return Err(end(exchange, refused.outcome, refused.detail)),
    };
    balance::find_key(worker, &mut plan, None, exchange.client().ip());
    exchange.service = plan.service.clone();
    exchange.label(super::lane::label(worker, &plan, exchange.direction(), super::lane::no_fields()));
    super::lane::arrive(worker, &plan, &mut exchange);
    let mut tried = Vec::new();
    loop {
        exchange.attempts += 1;
        let turn = if exchange.attempts < plan.attempts { Turn::Further } else { Turn::Last };
        let before = Before { tried: &tried, level: exchange.level.as_ref(), turn: Some(turn) };
        let picked = match pick(worker, &plan, exchange.carried.as_ref(), before) {
            Ok(picked) => picked,
            Err(refused) => return Err(end(exchange, refused.outcome, refused.detail)),
        };
        exchange.pick = picked.note();
        let Picked { upstream, level, zone, exchange: kind, .. } = picked;
        let watch = Watch::new(worker, plan.judged(), upstream.address, kind);
        (exchange.level, exchange.zone) = (level, zone);
        exchange.endpoint = Some(upstream.address);
        tried.push(upstream.address);
        let limits = plan.traffic.limits;
        let Some(in_flight) = upstream.begin(limits.requests) else {
            return Err(end(exchange, Outcome::Overloaded, format!("too many exchanges at {}", upstream.address)));
        };
        match reach::raw(worker, &upstream, plan.limits.connect, limits.connections).await {
            Ok((socket, lease)) => {
                watch.succeeded();
                drop(watch);
                exchange.serve();
                return Ok(Reached { socket, exchange, plan, _lease: lease, _in_flight: in_flight });
            }
            Err(Unreachable { outcome, detail, failure }) => {
                watch.failed(outcome, Some(failure), Waited::ForSomethingElse);
                if exchange.attempts >= plan.attempts {
                    return Err(end(exchange, outcome, detail));
                }
                worker.sink.metrics.retries.add(1);
            }
        }
    }
}

fn end(mut exchange: Exchange, outcome: Outcome, detail: String) -> Box<NotReached> {
    exchange.detail = Some(detail);
    Box::new(NotReached { exchange, outcome })
}

async fn copy(accepted: Accepted, speech: Speech, reached: Reached) {
    let Accepted { mut socket, buffer, .. } = accepted;
    let Reached { socket: mut server, mut exchange, plan, .. } = reached;
    exchange.lasts();
    let client = End { socket: &mut socket, read: buffer };
    let server_end = End { socket: &mut server, read: BytesMut::new() };
    let done = relay::tunnel(client, speech, server_end, plan.limits.idle, None).await;
    exchange.bytes_in = done.bytes_in;
    exchange.bytes_out = done.bytes_out;
    let outcome = match done.result {
        Ok(()) => Outcome::Closed,
        Err(error) => {
            // A cut is passed on as a cut: neither side must take what it has for the whole.
            socket.cut();
            server.cut();
            exchange.detail = Some(error.to_string());
            match error {
                Broken::Idle(_) => Outcome::Timeout,
                Broken::Http => Outcome::Denied,
                Broken::Socket(_) => Outcome::UpstreamIncomplete,
            }
        }
    };
    exchange.finish(outcome);
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use arc_swap::{ArcSwap, ArcSwapOption};
    use mesh_core::snapshot::Snapshot;
    use tokio::{
        net::TcpListener,
        sync::{mpsc, watch},
    };

    use super::*;
    use crate::{
        datapath::lane::links::Links,
        net::http1::HeadLimits,
        shared::Shared,
        telemetry::worker::{AccessLog, Record, Sink, Tracing, WorkerMetrics},
        worker::{OutsideLanes, Role, WorkerConfig},
    };

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    /// A worker whose controller knows nothing of `target`.
    fn worker(target: &Target) -> (Rc<Worker>, mpsc::Receiver<Box<Record>>) {
        let mut snapshot = Snapshot::default();
        snapshot.unknown.insert(target.clone());
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            tls: ArcSwapOption::new(None),
            outside_tls: ArcSwapOption::empty(),
            ask: mpsc::channel(1).0,
            revision: watch::channel(0).1,
            draining: watch::channel(false).1,
            limits: crate::limits::Limits::new().0,
            probing: Default::default(),
        };
        let (records, recorded) = mpsc::channel(8);
        let metrics = Arc::new(WorkerMetrics::new(0));
        let sink = Sink { metrics, records, access_log: AccessLog::All, tracing: Tracing::Off };
        let config = WorkerConfig {
            role: Role::Sidecar,
            outbound_listen: PEER,
            inbound_listen: None,
            admin_listen: None,
            application_address: None,
            trust_domain: "cluster.local".into(),
            control_namespace: "lanemesh".into(),
            head_limits: HeadLimits::default(),
            drain: Default::default(),
            notices: Default::default(),
            outside_lanes: OutsideLanes::Strip,
            outside_tls_listen: None,
            forwarded_hops: 0,
            lane_table: 1,
            secrets_directory: std::path::PathBuf::new(),
            model_room: crate::providers::Room::new(0),
            places: Default::default(),
        };
        let links = Links::all(1).0.remove(0);
        (Worker::new(Arc::new(config), Arc::new(shared), sink, links), recorded)
    }

    #[tokio::test]
    async fn way_that_was_dialled_and_not_needed_is_not_told_of() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = Target::Address(listener.local_addr().unwrap());
        let (worker, mut records) = worker(&target);
        drop(reach(&worker, &target, PEER).await);
        assert!(records.try_recv().is_err());
        assert_eq!(worker.exchanges.get(), 0);
    }

    #[tokio::test]
    async fn way_that_was_dialled_in_vain_is_told_of_once_if_it_was_needed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = Target::Address(listener.local_addr().unwrap());
        drop(listener);
        let (worker, mut records) = worker(&target);
        let not_reached = reach(&worker, &target, PEER).await.unwrap_err();
        assert!(records.try_recv().is_err());
        not_reached.report();
        assert_eq!(records.try_recv().unwrap().outcome, Outcome::ConnectFailed);
        assert!(records.try_recv().is_err());
    }
}
