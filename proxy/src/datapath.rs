//! The path of an exchange: accept → detect → enforce → lane → pick → reach → relay → report.
//!
//! [`connection`] accepts and detects, [`exchange`](exchange::exchange) takes one request through the other steps, and
//! [`opaque`] does the same for a raw connection. Steps are files of their own and never call each other.

pub mod accept;
pub mod answer;
pub mod detect;
pub mod enforce;
pub mod entry;
pub mod exchange;
pub mod forwarded;
pub mod lane;
pub mod message;
pub mod model_route;
pub mod opaque;
pub mod pick;
pub mod probe;
pub mod reach;
pub mod relay;
pub mod report;
pub mod serve;
pub mod trace;
pub mod wire;

use std::{net::SocketAddr, rc::Rc, time::Duration};

use mesh_core::{
    model::{
        policy::InboundProtocol,
        route::{OutboundProtocol, Target},
    },
    outcome::Outcome,
};
use tokio::net::TcpStream;

use self::{
    accept::{Accepted, Announced, Destination, NotAccepted},
    detect::{Dial, First, Session, Wait},
    enforce::Refused,
    relay::Speech,
    report::Exchange,
};
use crate::{
    net::transport_header::SessionProtocol,
    telemetry::worker::{Direction, Protocol},
    worker::{Door, Worker, guests::Guest},
};

/// How long the first bytes of a connection are awaited whose policy says nothing about it.
const FIRST_BYTES_LIMIT: Duration = Duration::from_secs(10);

/// How long application and caller may both be silent on a connection of which it is not known yet what it carries; as
/// long as an open connection may be idle by default.
const SILENT_LIMIT: Duration = Duration::from_secs(3_600);

/// One connection, from accept to its end.
pub async fn connection(worker: &Rc<Worker>, io: TcpStream, peer: SocketAddr, (door, guest): (Door, &Rc<Guest>)) {
    let direction = door.direction();
    let accepted = match door {
        Door::Inbound => accept::inbound(worker, io, peer).await,
        Door::Outbound => accept::outbound(worker, io, peer),
        Door::OutsideTls => accept::outside_tls(worker, io, peer).await,
    };
    match accepted {
        Ok(mut accepted) => {
            accepted.connection.guest = Rc::clone(guest);
            session(worker, accepted).await;
        }
        Err(NotAccepted::Tls(refusal)) => {
            report::tls_refused(worker, direction, peer, refusal);
            Exchange::open(worker, direction, Protocol::Opaque, peer).finish(Outcome::TlsRefused);
        }
        Err(NotAccepted::Policy(refused)) => refuse(worker, direction, peer, refused),
        Err(NotAccepted::Gone) => {}
    }
}

/// A connection that ends before any exchange.
fn refuse(worker: &Rc<Worker>, direction: Direction, peer: SocketAddr, refused: Refused) {
    let mut exchange = Exchange::open(worker, direction, Protocol::Opaque, peer);
    exchange.detail = Some(refused.detail);
    exchange.finish(refused.outcome);
}

/// What is spoken on an accepted connection, and who serves it.
async fn session(worker: &Rc<Worker>, accepted: Accepted) {
    match accepted.connection.direction {
        Direction::Inbound => inbound(worker, accepted).await,
        Direction::Outbound => Box::pin(outbound(worker, accepted)).await,
    }
}

async fn inbound(worker: &Rc<Worker>, mut accepted: Accepted) {
    let Accepted { connection, socket, buffer, announced } = &mut accepted;
    let server = match enforce::inbound_connection(worker, connection).await {
        Ok(server) => Some(server),
        // A mesh peer that speaks HTTP is told why; everyone else is cut off without a byte.
        Err(_) if connection.identity.is_some() && matches!(announced, Announced::Session(_)) => None,
        Err(refused) => return refuse(worker, Direction::Inbound, connection.peer, refused),
    };
    let protocol = server.as_ref().map(|server| server.protocol);
    let has_routes = server.as_ref().is_some_and(|server| !server.routes.is_empty());
    // Bytes would carry requests past the checks, with fields that only the mesh may set.
    let is_http = matches!(protocol, Some(InboundProtocol::Http1 | InboundProtocol::Http2 | InboundProtocol::Grpc));
    let takes_http_only = has_routes || is_http;
    let session = match (*announced, protocol) {
        (_, Some(InboundProtocol::Opaque | InboundProtocol::Tls)) | (Announced::ForeignTls, _) => Session::Opaque,
        (Announced::Session(SessionProtocol::Http1), _) => Session::Http1,
        (Announced::Session(SessionProtocol::Http2), _) => Session::Http2,
        // What routes forbid must not pass as bytes, nor what names its sender: whoever announces bytes, or waits until
        // nobody looks, is judged by what it says first.
        (Announced::Bytes | Announced::Nothing, Some(InboundProtocol::Detect { timeout })) if !takes_http_only => {
            return Box::pin(detected(worker, accepted, timeout)).await;
        }
        (Announced::Bytes | Announced::Nothing, _) => {
            let limit = match protocol {
                Some(InboundProtocol::Detect { timeout }) => timeout,
                _ => FIRST_BYTES_LIMIT,
            };
            match detect::session(socket, buffer, limit).await {
                Ok(session) => session,
                Err(_) => return,
            }
        }
    };
    match session {
        Session::Http1 => serve::http1(worker, accepted).await,
        Session::Http2 => serve::http2(worker, accepted).await,
        Session::Opaque if takes_http_only => {
            let why = "only HTTP is allowed on a port of HTTP or with routes";
            refuse(worker, Direction::Inbound, accepted.connection.peer, Refused::new(Outcome::Denied, why));
        }
        Session::Opaque => opaque::inbound(worker, accepted, Speech::Anything, None).await,
        Session::Ended => {}
    }
}

/// Inbound on a port that takes whatever is spoken.
async fn detected(worker: &Rc<Worker>, mut accepted: Accepted, limit: Duration) {
    let Accepted { connection, socket, buffer, announced } = &mut accepted;
    let dial = if *announced == Announced::Bytes { Dial::Early } else { Dial::AtLimit };
    let wait = Wait { limit, silent: limit.max(SILENT_LIMIT), dial };
    let known = (&worker.server_first, connection.application());
    let reach = opaque::reach_application(worker, connection);
    match detect::session_or_server((socket, buffer), wait, known, reach).await {
        Ok(First::Client(Session::Http1)) => serve::http1(worker, accepted).await,
        Ok(First::Client(Session::Http2)) => serve::http2(worker, accepted).await,
        // One who has nothing to say may still want to be told something.
        Ok(First::Client(Session::Opaque | Session::Ended)) => {
            opaque::inbound(worker, accepted, Speech::Bytes, None).await;
        }
        Ok(First::Server(reached)) => opaque::inbound(worker, accepted, Speech::Bytes, Some(reached)).await,
        Ok(First::Silent(reached)) => reached.time_out(),
        Ok(First::Nobody(not_reached)) => not_reached.report(),
        Err(_) => {}
    }
}

async fn outbound(worker: &Rc<Worker>, mut accepted: Accepted) {
    let peer = accepted.connection.peer;
    let Destination::Target(target) = accepted.connection.to.clone() else {
        let Accepted { socket, buffer, .. } = &mut accepted;
        return match detect::session(socket, buffer, FIRST_BYTES_LIMIT).await {
            Ok(Session::Http1) => serve::http1(worker, accepted).await,
            Ok(Session::Http2) => serve::http2(worker, accepted).await,
            Ok(Session::Opaque) => {
                let why = "bytes that are no HTTP, and no captured destination to send them to";
                refuse(worker, Direction::Outbound, peer, Refused::new(Outcome::NoRoute, why));
            }
            Ok(Session::Ended) | Err(_) => {}
        };
    };
    let policy = match enforce::outbound_connection(worker, &target).await {
        Ok((_, policy)) => policy,
        Err(refused) => return refuse(worker, Direction::Outbound, peer, refused),
    };
    let limit = match policy.as_ref().map(|policy| &policy.protocol) {
        Some(OutboundProtocol::Opaque(_) | OutboundProtocol::Tls(_)) => {
            return opaque::outbound(worker, accepted, &target, None).await;
        }
        Some(OutboundProtocol::Detect { timeout, .. }) => *timeout,
        Some(OutboundProtocol::Http1(_) | OutboundProtocol::Http2(_) | OutboundProtocol::Grpc(_)) | None => {
            FIRST_BYTES_LIMIT
        }
    };
    match first(worker, &mut accepted, &target, limit).await {
        Ok(First::Client(Session::Http1)) => serve::http1(worker, accepted).await,
        Ok(First::Client(Session::Http2)) => serve::http2(worker, accepted).await,
        Ok(First::Client(Session::Opaque)) => opaque::outbound(worker, accepted, &target, None).await,
        Ok(First::Server(reached) | First::Silent(reached)) => {
            opaque::outbound(worker, accepted, &target, Some(reached)).await;
        }
        Ok(First::Nobody(not_reached)) => not_reached.report(),
        Ok(First::Client(Session::Ended)) | Err(_) => {}
    }
}

/// Who speaks first, and what.
async fn first(
    worker: &Rc<Worker>,
    accepted: &mut Accepted,
    target: &Target,
    limit: Duration,
) -> std::io::Result<First<opaque::Reached, Box<opaque::NotReached>>> {
    let peer = accepted.connection.peer;
    let Accepted { socket, buffer, .. } = accepted;
    match target {
        Target::Address(address) => {
            let dial = opaque::reach(worker, target, peer);
            let wait = Wait { limit, silent: limit, dial: Dial::Early };
            detect::session_or_server((socket, buffer), wait, (&worker.server_first, *address), dial).await
        }
        Target::Authority(..) => detect::session(socket, buffer, limit).await.map(First::Client),
    }
}
