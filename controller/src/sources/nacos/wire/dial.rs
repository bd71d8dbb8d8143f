//! Connections to a server: TCP, and TLS by rustls over it. The same for gRPC and HTTP.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use super::{Cause, Tls};

/// What is spoken over the connection, for ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC.
    Http2,
    /// Login and lists.
    Http1,
}

impl Protocol {
    fn name(self) -> &'static [u8] {
        match self {
            Protocol::Http2 => b"h2",
            Protocol::Http1 => b"http/1.1",
        }
    }
}

/// A connection to a port of a server, under TLS where `tls` says so.
pub(super) async fn dial(host: &str, port: u16, tls: Option<&Tls>, protocol: Protocol) -> Result<Connection, Cause> {
    let security = match tls {
        Some(tls) => Some(connector(host, tls, protocol).await?),
        None => None,
    };
    let stream = TcpStream::connect((host, port)).await.map_err(Cause::Unreachable)?;
    stream.set_nodelay(true).map_err(Cause::Unreachable)?;
    match security {
        None => Ok(Connection::Left(stream)),
        Some((connector, name)) => {
            let stream = connector.connect(name, stream).await.map_err(Cause::Tls)?;
            Ok(Connection::Right(Box::new(stream)))
        }
    }
}

/// The file of authorities is read for every connection, so that a new one counts from the next one on.
async fn connector(host: &str, tls: &Tls, protocol: Protocol) -> Result<(TlsConnector, ServerName<'static>), Cause> {
    let roots = match &tls.ca_file {
        Some(file) => Arc::new(roots(file, &tokio::fs::read(file).await.map_err(|error| untrusted(file, error))?)?),
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Cause::Tls(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.name().to_vec()];
    let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|error| Cause::Tls(io::Error::other(error)))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn untrusted(file: &Path, reason: impl ToString) -> Cause {
    Cause::Trust { file: file.to_owned(), reason: reason.to_string() }
}

fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, Cause> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| untrusted(file, error))?;
        roots.add(certificate).map_err(|error| untrusted(file, error))?;
    }
    if roots.is_empty() { Err(untrusted(file, "no certificate in it")) } else { Ok(roots) }
}

/// Authorities of the system; read once, which takes a few milliseconds.
fn system_roots() -> Result<Arc<RootCertStore>, Cause> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        let none = io::Error::new(io::ErrorKind::NotFound, "the system has no certificate authorities; give a caFile");
        return Err(Cause::Tls(none));
    }
    Ok(Arc::clone(roots))
}

/// A connection: in the clear, or under TLS.
pub(super) type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Our address as this server sees it, or nothing.
pub(super) fn local_ip(connection: &Connection) -> String {
    let stream = match connection {
        Either::Left(stream) => stream,
        Either::Right(stream) => stream.get_ref().0,
    };
    stream.local_addr().map(|address| address.ip().to_string()).unwrap_or_default()
}
