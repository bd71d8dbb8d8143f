//! Dials an instance: TCP, mesh TLS, transport header.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use mesh_core::{identity::Identity, outcome::Outcome, retry::Failure};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Unreachable,
    http1::Lease,
    upstream::{Transport, Upstream},
};
use crate::{
    datapath::report,
    net::{
        socket::Socket,
        tls,
        transport_header::{SessionProtocol, TransportHeader},
    },
    telemetry::worker::Direction,
    worker::Worker,
};

/// Unacknowledged bytes, or probes, older than this end a connection to another pod: the network lost the peer.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// The kernel of a peer from which nothing came for so long is probed …
const PROBED_AFTER: Duration = Duration::from_secs(10);
/// … so often, until it answers.
const PROBED_EVERY: Duration = Duration::from_secs(2);

/// Further attempts to connect when descriptors ran out, …
const DESCRIPTOR_TRIES: u32 = 20;
/// … after a pause, in which connections that were told to go are closed.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// A connection for bytes, never pooled. Nobody waits for one: those that are open may last for days.
///
/// # Errors
/// Why there is none.
pub async fn raw(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    limit: Duration,
    connections: u32,
) -> Result<(Socket, Lease), Unreachable> {
    let lease = Lease::new(upstream, connections).ok_or_else(|| {
        Unreachable::overloaded(format!("{connections} connections to {} are open", upstream.address))
    })?;
    dial(worker, upstream, None, (limit, lease)).await
}

/// A new connection that carries `session`, in the place of `lease`.
pub(super) async fn dial(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    session: Option<SessionProtocol>,
    (limit, lease): (Duration, Lease),
) -> Result<(Socket, Lease), Unreachable> {
    worker.sink.metrics.connects.add(1);
    let dialled = match &upstream.transport {
        Transport::Plain => tcp(worker, upstream.address, limit).await.map(|io| {
            // The application of this pod cannot be lost.
            if !upstream.address.ip().is_loopback() {
                notice_loss(&io);
            }
            Socket::plain(io)
        }),
        Transport::Sidecar { port, identity, server_name } => {
            let address = SocketAddr::new(upstream.address.ip(), *port);
            let header = TransportHeader { port: upstream.address.port(), session };
            meshed(worker, Peer { address, identity, server_name: server_name.as_deref() }, Some(header), limit).await
        }
        Transport::Redirected { identity, server_name } => {
            let peer = Peer { address: upstream.address, identity, server_name: server_name.as_deref() };
            meshed(worker, peer, None, limit).await
        }
        Transport::Provider(way) => way.dial(worker, upstream.address, limit).await,
    };
    if dialled.is_err() {
        worker.sink.metrics.connect_failures.add(1);
        upstream.observe_failure(worker.now());
    }
    Ok((dialled?, lease))
}

pub(super) async fn tcp(worker: &Worker, address: SocketAddr, limit: Duration) -> Result<TcpStream, Unreachable> {
    let io = tokio::time::timeout(limit, connect(worker, address))
        .await
        .map_err(|_| Unreachable::connect(format!("{address} did not answer within {limit:?}")))?
        .map_err(|error| Unreachable::connect(format!("{address}: {error}")))?;
    // Without it small messages wait for acknowledgements; a socket that refuses it still works.
    let _ = io.set_nodelay(true);
    Ok(io)
}

/// Connects; where descriptors ran out, once some that nobody used are free again.
async fn connect(worker: &Worker, address: SocketAddr) -> io::Result<TcpStream> {
    for _ in 0..DESCRIPTOR_TRIES {
        match TcpStream::connect(address).await {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                worker.relieve();
                sleep(DESCRIPTOR_PAUSE).await;
            }
            connected => return connected,
        }
    }
    TcpStream::connect(address).await
}

/// Has the kernel notice when the peer is lost. Best effort: otherwise the limits of the exchange do.
pub(super) fn notice_loss(io: &TcpStream) {
    let socket = SockRef::from(io);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBED_AFTER).with_interval(PROBED_EVERY));
}

struct Peer<'a> {
    address: SocketAddr,
    identity: &'a Identity,
    server_name: Option<&'a str>,
}

async fn meshed(
    worker: &Worker,
    peer: Peer<'_>,
    header: Option<TransportHeader>,
    limit: Duration,
) -> Result<Socket, Unreachable> {
    let Some(material) = worker.shared.tls.load_full() else {
        let detail = "this proxy has no certificate yet".to_owned();
        return Err(Unreachable { outcome: Outcome::NotReady, failure: Failure::Connect, detail });
    };
    let refused = |refusal| {
        report::tls_refused(worker, Direction::Outbound, peer.address, refusal);
        Unreachable::connect(format!("mesh TLS with {} as {} failed: {refusal}", peer.address, peer.identity))
    };
    let name = material.name_of(peer.identity, peer.server_name).map_err(refused)?;
    let io = tcp(worker, peer.address, limit).await?;
    notice_loss(&io);
    let config = if header.is_some() { &material.client } else { &material.client_redirected };
    let until = Instant::now() + limit;
    // Boxed: a handshake is rare, and what it needs would lie in every exchange as long as that lasts.
    let mut socket = timeout_at(until, Box::pin(Socket::connect_tls(io, name, config.clone())))
        .await
        .map_err(|_| refused(mesh_core::identity::Refusal::HandshakeTimeout))?
        .map_err(|error| refused(tls::refusal(&error)))?;
    worker.sink.metrics.tls_handshakes[Direction::Outbound as usize].add(1);
    if let Some(header) = header {
        let mut bytes = header.encode();
        let sent = timeout_at(until, socket.write_all_buf(&mut bytes)).await;
        let failed = |why: &str| Unreachable::connect(format!("{} {why} the transport header", peer.address));
        sent.map_err(|_| failed("did not take"))?.map_err(|_| failed("refused"))?;
    }
    Ok(socket)
}
