//! Connections for the gRPC server: TCP or TLS, with the peer that was proven.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::{info, warn};

use super::tls::{self, Refused};
use crate::{
    publish::peer::{Peer, Proof},
    telemetry::{Metrics, OpenConnection, TlsRefused},
};

/// Connections at the same time, two per proxy while one replaces another; more wait at the listener.
pub const CONNECTIONS_MAX: usize = 8_192;
/// Connections that wait for the server to take them.
pub const ACCEPTED_QUEUE: usize = 64;
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client without certificate may stay connected: it can only ask for one, and must not hold a place for
/// longer. A proxy that needs a certificate again connects again.
const ANONYMOUS_STAY: Duration = Duration::from_secs(60);
/// Pause after the listener failed (out of file descriptors), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection with its peer.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// When reading ends, for clients that proved nothing.
    leave: Option<Pin<Box<Sleep>>>,
    _open: OpenConnection,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// How connections of a listener prove who is there.
#[derive(Clone)]
pub enum Security {
    /// TLS with the newest configuration.
    Tls {
        /// Replaced on rotation and renewal.
        config: watch::Receiver<Arc<rustls::ServerConfig>>,
        /// Whose identities count.
        trust_domain: Arc<str>,
    },
    /// Plaintext from loopback addresses, refused from everywhere else.
    Loopback,
}

/// Accepts connections and hands them over once their handshake is done, until `stopping`.
pub async fn accept(
    listener: TcpListener,
    security: Security,
    connections: mpsc::Sender<io::Result<Connection>>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let permit = tokio::select! {
            () = stopping.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, address) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (security, connections, metrics) = (security.clone(), connections.clone(), Arc::clone(&metrics));
        handshakes.spawn(async move {
            let open = metrics.connection();
            match prove(stream, address, &security).await {
                Ok((stream, proof)) => {
                    let leave = (proof == Proof::Nothing).then(|| Box::pin(sleep(ANONYMOUS_STAY)));
                    let peer = Peer { address, proof };
                    let connection = Connection { stream, peer, leave, _open: open, _permit: permit };
                    // The server is gone only when everything stops.
                    drop(connections.send(Ok(connection)).await);
                }
                Err((reason, text)) => {
                    info!(peer = %address, reason = text, "connection refused");
                    metrics.tls_refused(reason);
                }
            }
        });
    }
    handshakes.shutdown().await;
}

async fn prove(
    stream: TcpStream,
    address: SocketAddr,
    security: &Security,
) -> Result<(Stream, Proof), (TlsRefused, String)> {
    stream.set_nodelay(true).map_err(|error| (TlsRefused::Handshake, error.to_string()))?;
    let (config, trust_domain) = match security {
        Security::Loopback if address.ip().to_canonical().is_loopback() => {
            return Ok((Stream::Plain(stream), Proof::Loopback));
        }
        Security::Loopback => return Err((TlsRefused::Identity, "not from a loopback address".to_owned())),
        Security::Tls { config, trust_domain } => (Arc::clone(&config.borrow()), trust_domain),
    };
    let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
    let stream = match handshake {
        Err(_) => return Err((TlsRefused::Timeout, "the handshake took too long".to_owned())),
        Ok(Err(error)) => return Err((TlsRefused::Handshake, error.to_string())),
        Ok(Ok(stream)) => stream,
    };
    let proof = match stream.get_ref().1.peer_certificates() {
        None | Some([]) => Proof::Nothing,
        Some([leaf, ..]) => {
            let identity = tls::identity(leaf, trust_domain);
            Proof::Mesh(identity.map_err(|Refused(reason)| (TlsRefused::Identity, reason.to_string()))?)
        }
    };
    Ok((Stream::Tls(Box::new(stream)), proof))
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.leave.as_mut().is_some_and(|leave| leave.as_mut().poll(cx).is_ready()) {
            // As if the client had ended the connection.
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
