//! Servers outside of the mesh: in the clear or under ordinary TLS, perhaps through a proxy by CONNECT. Under TLS they
//! choose between HTTP/2 and HTTP/1.1 when they are dialled; what they chose is remembered.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Pooled, Ready, Unreachable, connect,
    http1::{self, http1},
    http2::{self, http2},
    upstream::Upstream,
};
use crate::{
    net::{http1::Asked, http1::HeadLimits, http1::HeadReader, socket::Socket, transport_header::SessionProtocol},
    providers,
    worker::Worker,
};
use mesh_core::{model::policy::Limits, retry::Idempotence};

/// Protocol of HTTP/2 as TLS names it.
const H2: &[u8] = b"h2";

/// How a provider is dialled.
#[derive(Debug)]
pub struct Way {
    /// `host:port`, as a proxy is told it.
    pub authority: String,
    /// TLS with the name that the certificate must have; `None` = in the clear.
    pub tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// Whether the address belongs to a proxy that has to be asked for the way.
    pub proxied: Proxied,
}

/// Whether a proxy stands in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// None does.
    No,
    /// It is asked by CONNECT.
    Yes,
}

impl PartialEq for Way {
    fn eq(&self, other: &Way) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some((_, one)), Some((_, two))) => Arc::ptr_eq(one, two),
            (None, Some(_)) | (Some(_), None) => false,
        };
        same_tls && self.authority == other.authority && self.proxied == other.proxied
    }
}

impl Eq for Way {}

impl Way {
    /// A connection, with TLS where it is spoken.
    pub(super) async fn dial(
        &self,
        worker: &Worker,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Socket, Unreachable> {
        let until = Instant::now() + limit;
        let mut io = connect::tcp(worker, address, limit).await?;
        if !address.ip().is_loopback() {
            connect::notice_loss(&io);
        }
        let failed = |why: String| Unreachable::connect(format!("{} at {address}: {why}", self.authority));
        if self.proxied == Proxied::Yes {
            let asked = timeout_at(until, ask_proxy(&mut io, &self.authority)).await;
            asked.map_err(|_| failed("the proxy did not answer CONNECT in time".to_owned()))?.map_err(failed)?;
        }
        let Some((name, config)) = &self.tls else { return Ok(Socket::plain(io)) };
        timeout_at(until, Box::pin(Socket::connect_tls(io, name.clone(), Arc::clone(config))))
            .await
            .map_err(|_| failed("no TLS handshake in time".to_owned()))?
            .map_err(|error| failed(format!("TLS: {}", providers::said(&error))))
    }
}

/// Asks a proxy for the way. Byte by byte at its end, so that nothing behind its answer is taken.
async fn ask_proxy(io: &mut TcpStream, authority: &str) -> Result<(), String> {
    let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    io.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let limits = HeadLimits::default();
    let (mut reader, mut buffer) = (HeadReader::new(limits), BytesMut::new());
    loop {
        let byte = io.read_u8().await.map_err(|error| format!("the proxy ended: {error}"))?;
        buffer.extend_from_slice(&[byte]);
        if byte != b'\n' {
            continue;
        }
        match reader.response(&mut buffer, Asked::Connect) {
            Ok(Some(head)) if head.status() == 200 => return Ok(()),
            Ok(Some(head)) if head.is_interim() => {}
            Ok(Some(head)) => return Err(format!("the proxy answered {} to CONNECT", head.status())),
            Ok(None) => {}
            Err(malformed) => return Err(format!("the proxy's answer to CONNECT: {malformed}")),
        }
    }
}

/// A connection to a provider for one exchange.
#[derive(Debug)]
pub enum Reached {
    /// HTTP/1.1.
    Http1(Box<Pooled>),
    /// HTTP/2.
    Http2(Ready),
}

/// Makes sure that a connection to a provider at one of its addresses waits for an exchange. Nothing is sent on it but
/// what makes it.
///
/// # Errors
/// Why there is none, at the last of them.
pub async fn warm(
    worker: &Worker,
    places: &[Rc<Upstream>],
    limit: Duration,
    limits: Limits,
) -> Result<(), Unreachable> {
    let now = worker.now();
    if places.iter().any(|upstream| upstream.idle.has_lasting(now) || upstream.shared.has_lasting(now)) {
        return Ok(());
    }
    let mut warmed = Ok(());
    for upstream in places {
        // Taken and given back, one of these would look young, while its server closes it as soon as before.
        upstream.idle.drop_fading(now);
        upstream.shared.drop_fading(now);
        match provider(worker, upstream, limit, limits).await {
            Ok(Reached::Http1(pooled)) => pooled.give_back(worker),
            Ok(Reached::Http2(ready)) => drop(ready),
            Err(unreachable) => {
                warmed = Err(unreachable);
                continue;
            }
        }
        return Ok(());
    }
    warmed
}

/// A connection to a provider, pooled or new.
///
/// # Errors
/// Why there is none.
pub async fn provider(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    limit: Duration,
    limits: Limits,
) -> Result<Reached, Unreachable> {
    match upstream.chosen.get() {
        Some(SessionProtocol::Http1) => {
            let pooled = http1(worker, upstream, Idempotence::Idempotent, limit, limits).await;
            pooled.map(Box::new).map(Reached::Http1)
        }
        Some(SessionProtocol::Http2) => {
            let ready = http2(worker, upstream, limit, limits).await;
            // It may have changed its mind: the next one asks again.
            ready.inspect_err(|_| upstream.chosen.set(None)).map(Reached::Http2)
        }
        None => {
            // Which protocol it will choose, and so what to wait for, is not known yet.
            let (socket, lease) = connect::raw(worker, upstream, limit, limits.connections).await?;
            if socket.tls().and_then(|tls| tls.alpn_protocol()) == Some(H2) {
                upstream.chosen.set(Some(SessionProtocol::Http2));
                return http2::shake_hands(worker, upstream, (socket, lease), limit).await.map(Reached::Http2);
            }
            upstream.chosen.set(Some(SessionProtocol::Http1));
            Ok(Reached::Http1(Box::new(http1::new(worker, socket, lease))))
        }
    }
}
