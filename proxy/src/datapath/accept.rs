//! Step 1: who called, what for, and under which identity. Terminates mesh TLS; judges nothing but TLS itself.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::BytesMut;
use mesh_core::{
    detect::{PREFIX_MAX, Verdict, detect},
    identity::{Identity, Refusal},
    model::{policy::InboundProtocol, route::Target},
    outcome::Outcome,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::enforce::{self, Refused};
use crate::{
    net::{
        original_dst::original_destination,
        socket::Socket,
        tls,
        transport_header::{SessionProtocol, TransportHeader},
    },
    telemetry::worker::Direction,
    worker::{Role, Turn, Worker, guests::Guest},
};

/// Longest time for first bytes, TLS handshake and transport header of a mesh peer.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a captured caller of an opaque port may be silent before it counts as plaintext that waits for the server.
const OPAQUE_SILENCE: Duration = Duration::from_secs(1);

/// What is known of a connection.
#[derive(Debug)]
pub struct Connection {
    /// Which way.
    pub direction: Direction,
    /// Address of the caller.
    pub peer: SocketAddr,
    /// Identity that the caller proved.
    pub identity: Option<Identity>,
    /// Name by which the application is told who calls (inbound, mesh peers only).
    pub client_id: Option<String>,
    /// What it is for.
    pub to: Destination,
    /// Under which scheme the caller speaks HTTP here.
    pub scheme: Scheme,
    /// When the caller is told that this proxy drains.
    pub turn: Turn,
    /// Whether anything is under way on it, for whoever needs its place.
    pub guest: Rc<Guest>,
}

/// Scheme of a caller's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing between, or mesh TLS, which callers do not see.
    Http,
    /// TLS that the caller itself speaks.
    Https,
}

impl Scheme {
    /// As in `X-Forwarded-Proto`.
    pub fn label(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The application of this pod, at this address (inbound).
    Application(SocketAddr),
    /// This target (outbound: captured, or inside CONNECT).
    Target(Target),
    /// Each request says (outbound without capture).
    ByRequest,
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// What is known of it.
    pub connection: Connection,
    /// The socket.
    pub socket: Socket,
    /// What was read of it already.
    pub buffer: BytesMut,
    /// What the caller's sidecar, or the first bytes, said of the protocol.
    pub announced: Announced,
}

/// What is known of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Nothing: detect.
    Nothing,
    /// This, by the transport header.
    Session(SessionProtocol),
    /// Bytes, by the transport header.
    Bytes,
    /// TLS that is not for us.
    ForeignTls,
}

/// Why a connection was not accepted.
#[derive(Debug)]
pub enum NotAccepted {
    /// Its TLS was refused, or missing.
    Tls(Refusal),
    /// Policy, or a missing answer about it.
    Policy(Refused),
    /// It ended by itself.
    Gone,
}

impl From<Refused> for NotAccepted {
    fn from(refused: Refused) -> Self {
        NotAccepted::Policy(refused)
    }
}

impl Connection {
    fn anonymous(direction: Direction, peer: SocketAddr, to: Destination, scheme: Scheme) -> Self {
        let (turn, guest) = Default::default();
        Connection { direction, peer, identity: None, client_id: None, to, scheme, turn, guest }
    }

    /// Address of the application; inbound only.
    pub fn application(&self) -> SocketAddr {
        match &self.to {
            Destination::Application(address) => *address,
            // Never a port that has a policy: such a connection is refused.
            Destination::Target(_) | Destination::ByRequest => SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }
}

/// Accepts a connection at the outbound listener.
///
/// # Errors
/// When it ended by itself.
pub fn outbound(worker: &Worker, io: TcpStream, peer: SocketAddr) -> Result<Accepted, NotAccepted> {
    let local = io.local_addr().map_err(|_| NotAccepted::Gone)?;
    let original = match worker.config.role {
        Role::Sidecar => original_destination(&io, local),
        Role::Gateway => None,
    };
    let to = original.map_or(Destination::ByRequest, |address| Destination::Target(Target::Address(address)));
    let connection = Connection::anonymous(Direction::Outbound, peer, to, Scheme::Http);
    let (socket, buffer) = (Socket::plain(io), BytesMut::new());
    Ok(Accepted { connection, socket, buffer, announced: Announced::Nothing })
}

/// Accepts a connection from outside under TLS, at a gateway.
///
/// # Errors
/// When there is no certificate, or the handshake does not succeed: the caller's affair, counted and not warned of.
pub async fn outside_tls(worker: &Worker, io: TcpStream, peer: SocketAddr) -> Result<Accepted, NotAccepted> {
    let Some(config) = worker.shared.outside_tls.load_full() else { return Err(NotAccepted::Gone) };
    let refused = |refusal: Refusal| {
        worker.sink.metrics.refuse_tls(Direction::Outbound, refusal);
        tracing::debug!(%peer, reason = %refusal, "TLS from outside refused");
        NotAccepted::Gone
    };
    let handshake = timeout(HANDSHAKE_LIMIT, Socket::accept_tls(io, &[], config));
    let socket = handshake.await.map_err(|_| refused(Refusal::HandshakeTimeout))?;
    let socket = socket.map_err(|error| refused(tls::refusal(&error)))?;
    let connection = Connection::anonymous(Direction::Outbound, peer, Destination::ByRequest, Scheme::Https);
    Ok(Accepted { connection, socket, buffer: BytesMut::new(), announced: Announced::Nothing })
}

/// Accepts a connection at the inbound listener.
///
/// # Errors
/// Why not.
pub async fn inbound(worker: &Worker, mut io: TcpStream, peer: SocketAddr) -> Result<Accepted, NotAccepted> {
    let limit = Instant::now() + HANDSHAKE_LIMIT;
    let local = io.local_addr().map_err(|_| NotAccepted::Gone)?;
    let own_port = worker.config.inbound_listen.map(|listen| listen.port());
    // A connection to our own port was made by a sidecar, whether a rule turned it round or not.
    let captured = original_destination(&io, local).filter(|original| Some(original.port()) != own_port);
    let silence = match captured {
        Some(original) => (Instant::now() + silence(worker, original.port()).await?).min(limit),
        None => limit,
    };
    let (buffer, verdict) = first_bytes(&mut io, silence).await?;
    let is_ours = match (&verdict, worker.shared.tls.load().as_ref()) {
        (Verdict::Tls { .. }, _) if captured.is_none() => true,
        (Verdict::Tls { server_name: Some(name) }, Some(material)) => *name == material.server_name,
        _ => false,
    };
    match captured {
        _ if is_ours => mesh_tls(worker, Arrived { io, peer, local, captured }, buffer, limit).await,
        None => Err(NotAccepted::Tls(Refusal::Plaintext)),
        Some(original) => {
            let foreign = matches!(verdict, Verdict::Tls { .. });
            let announced = if foreign { Announced::ForeignTls } else { Announced::Nothing };
            let to = application(worker, original)?;
            let connection = Connection::anonymous(Direction::Inbound, peer, to, Scheme::Http);
            Ok(Accepted { connection, socket: Socket::plain(io), buffer, announced })
        }
    }
}

/// How long first bytes are awaited on a captured port.
async fn silence(worker: &Worker, port: u16) -> Result<Duration, NotAccepted> {
    let (_, server) = enforce::server(worker, port).await?;
    Ok(match server.protocol {
        InboundProtocol::Detect { timeout } => timeout,
        InboundProtocol::Opaque => OPAQUE_SILENCE,
        InboundProtocol::Tls | InboundProtocol::Http1 | InboundProtocol::Http2 | InboundProtocol::Grpc => {
            HANDSHAKE_LIMIT
        }
    })
}

/// Reads until the bytes say what they are, or `limit`. Silence is [`Verdict::More`].
async fn first_bytes(io: &mut TcpStream, limit: Instant) -> Result<(BytesMut, Verdict), NotAccepted> {
    let mut buffer = BytesMut::with_capacity(PREFIX_MAX);
    loop {
        match timeout_at(limit, io.read_buf(&mut buffer)).await {
            Err(_) => return Ok((buffer, Verdict::More)),
            Ok(Err(_) | Ok(0)) => return Err(NotAccepted::Gone),
            Ok(Ok(_)) => {}
        }
        let verdict = detect(&buffer);
        if verdict != Verdict::More || buffer.len() >= PREFIX_MAX {
            return Ok((buffer, verdict));
        }
    }
}

struct Arrived {
    io: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    captured: Option<SocketAddr>,
}

async fn mesh_tls(worker: &Worker, arrived: Arrived, first: BytesMut, limit: Instant) -> Result<Accepted, NotAccepted> {
    let Some(material) = worker.shared.tls.load_full() else {
        return Err(Refused::new(Outcome::NotReady, "no certificate yet").into());
    };
    let timed_out = |_| NotAccepted::Tls(Refusal::HandshakeTimeout);
    let handshake = Socket::accept_tls(arrived.io, &first, material.server.clone());
    let mut socket = timeout_at(limit, handshake)
        .await
        .map_err(timed_out)?
        .map_err(|error| NotAccepted::Tls(tls::refusal(&error)))?;
    drop(first);
    let session = socket.tls().ok_or(NotAccepted::Tls(Refusal::Malformed))?;
    let identity = tls::peer(session, &worker.config.trust_domain).ok_or(NotAccepted::Tls(Refusal::NoCertificate))?;
    let transport = tls::speaks_transport(session);
    worker.sink.metrics.tls_handshakes[Direction::Inbound as usize].add(1);
    let mut buffer = BytesMut::new();
    let (application_port, announced) = match arrived.captured {
        _ if transport => {
            let header = timeout_at(limit, transport_header(&mut socket, &mut buffer)).await.map_err(timed_out)?;
            let header = header.map_err(|_| NotAccepted::Tls(Refusal::Malformed))?;
            (header.port, header.session.map_or(Announced::Bytes, Announced::Session))
        }
        Some(original) => (original.port(), Announced::Nothing),
        None => return Err(NotAccepted::Tls(Refusal::Alpn)),
    };
    let address = SocketAddr::new(arrived.captured.unwrap_or(arrived.local).ip().to_canonical(), application_port);
    let to = application(worker, address)?;
    let client_id = Some(identity.dns_name(&worker.config.control_namespace));
    let (direction, peer, identity) = (Direction::Inbound, arrived.peer, Some(identity));
    let (scheme, (turn, guest)) = (Scheme::Http, Default::default());
    let connection = Connection { direction, peer, identity, client_id, to, scheme, turn, guest };
    Ok(Accepted { connection, socket, buffer, announced })
}

async fn transport_header(socket: &mut Socket, buffer: &mut BytesMut) -> io::Result<TransportHeader> {
    loop {
        if let Some(header) = TransportHeader::take(buffer)? {
            return Ok(header);
        }
        buffer.reserve(PREFIX_MAX);
        if std::future::poll_fn(|cx| socket.poll_fill(cx, buffer)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Where the application that was called as `called` listens.
fn application(worker: &Worker, called: SocketAddr) -> Result<Destination, NotAccepted> {
    let ip = worker.config.application_address.unwrap_or(called.ip());
    let address = SocketAddr::new(ip, called.port());
    guard(worker, address)?;
    Ok(Destination::Application(address))
}

/// What comes from outside never reaches a port of this proxy: neither in circles nor, as if it came from the pod
/// itself, the admin interface.
fn guard(worker: &Worker, address: SocketAddr) -> Result<(), Refused> {
    let config = &worker.config;
    let is = |listen: SocketAddr| {
        let is_here = listen.ip().is_unspecified() || listen.ip().to_canonical() == address.ip();
        listen.port() == address.port() && is_here
    };
    if is(config.outbound_listen) || config.inbound_listen.is_some_and(is) {
        return Err(Refused::new(Outcome::Loop, format!("{address} is a port of this proxy itself")));
    }
    if config.admin_listen.is_some_and(is) {
        return Err(Refused::new(Outcome::Denied, format!("{address} is the admin interface of this proxy")));
    }
    Ok(())
}
