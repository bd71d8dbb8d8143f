//! Connections to the control plane: mutual TLS to whichever address answers, with the identity that it must prove.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    config::{ControlAddress, ControlPeer, ControlTransport},
    identity::Credentials,
};

/// For name resolution, TCP connect and TLS handshake together, per address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection waits for a certificate to prove ourselves with; less than [`CONNECT_TIMEOUT`].
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(4);
/// An idle connection is asked for a sign of life this often …
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// … and given up when none came within this time.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message from the control plane, bytes: 100,000 endpoints at about 300 bytes, twice.
pub const MESSAGE_MAX: usize = 64 << 20;

/// Which certificate a connection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Ours where it is valid, else none: the Identity service takes both.
    IfHeld,
    /// Ours, waited for; without it nothing is dialled.
    Required,
}

/// A channel to one service of the control plane. It connects when it is used, again after every loss, to the next
/// address when one fails, and with the credentials of that moment.
pub fn channel(peer: &ControlPeer, credentials: watch::Receiver<Arc<Credentials>>, proof: Proof) -> Channel {
    let first = peer.addresses.first().expect("a control peer has at least one address");
    let authority = if peer.server_name.is_empty() { first.host.as_str() } else { peer.server_name.as_str() };
    // A host that is no authority (an IPv6 address) has a stand-in: addresses are dialled by our own connector.
    let uri: Uri =
        format!("http://{authority}:{}", first.port).parse().unwrap_or_else(|_| Uri::from_static("http://controller"));
    let dialler = Arc::new(Dialler { peer: peer.clone(), credentials, proof, next: AtomicUsize::new(0) });
    Endpoint::from(uri)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let dialler = Arc::clone(&dialler);
            async move { dialler.dial().await.map(TokioIo::new) }
        }))
}

struct Dialler {
    peer: ControlPeer,
    credentials: watch::Receiver<Arc<Credentials>>,
    proof: Proof,
    /// Position of the address that is tried first.
    next: AtomicUsize,
}

impl Dialler {
    /// The first address that answers, beginning with the one that last did.
    async fn dial(&self) -> io::Result<Connection> {
        let addresses = &self.peer.addresses;
        let start = self.next.load(Ordering::Relaxed);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
        for attempt in 0..addresses.len() {
            let position = (start + attempt) % addresses.len();
            let address = &addresses[position];
            match timeout(CONNECT_TIMEOUT, self.connect(address)).await {
                Ok(Ok(connection)) => {
                    self.next.store(position, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Err(error)) => failure = named(address, &error.kind(), error),
                Err(_) => failure = named(address, &io::ErrorKind::TimedOut, "no connection in time"),
            }
            tracing::debug!(error = %failure, "address of the control plane failed");
        }
        // Where several addresses lead to the same broken replica, the next dial begins elsewhere.
        self.next.store((start + 1) % addresses.len(), Ordering::Relaxed);
        Err(failure)
    }

    async fn connect(&self, address: &ControlAddress) -> io::Result<Connection> {
        let tls = match address.transport {
            ControlTransport::Plaintext => None,
            ControlTransport::Tls => Some(self.connector().await?),
        };
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        match tls {
            None => Ok(Connection::Left(stream)),
            Some((connector, name)) => Ok(Connection::Right(Box::new(connector.connect(name, stream).await?))),
        }
    }

    async fn connector(&self) -> io::Result<(TlsConnector, ServerName<'static>)> {
        let credentials = self.credentials.clone();
        let credentials = match self.proof {
            Proof::IfHeld => Arc::clone(&credentials.borrow()),
            Proof::Required => with_certificate(credentials).await?,
        };
        let held = credentials.valid(SystemTime::now());
        let config = credentials.trust.control_client(held.map(|held| &held.own)).map_err(io::Error::other)?;
        let name = ServerName::try_from(self.peer.server_name.clone()).map_err(io::Error::other)?;
        Ok((TlsConnector::from(config), name))
    }
}

/// The first certificate is awaited: at the start it is only a moment away.
async fn with_certificate(mut credentials: watch::Receiver<Arc<Credentials>>) -> io::Result<Arc<Credentials>> {
    let valid = credentials.wait_for(|credentials| credentials.valid(SystemTime::now()).is_some());
    match timeout(CERTIFICATE_TIMEOUT, valid).await {
        Ok(Ok(credentials)) => Ok(Arc::clone(&credentials)),
        Ok(Err(_)) | Err(_) => Err(io::Error::new(io::ErrorKind::PermissionDenied, "we hold no valid certificate yet")),
    }
}

fn named(address: &ControlAddress, kind: &io::ErrorKind, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(*kind, format!("{}:{}: {error}", address.host, address.port))
}

/// A connection to the control plane: in the clear, or under TLS.
type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;
