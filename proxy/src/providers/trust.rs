//! TLS toward providers: ordinary servers, TLS 1.2 and 1.3, no client certificate, HTTP/2 or HTTP/1.1.

mod given;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, path::Path, sync::Arc};

use ahash::AHashMap;
use mesh_core::model::model_route::Security;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

use self::given::Given;
pub use self::given::said;

/// Protocols that are offered, in order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// As above, where the connection becomes a WebSocket.
const ALPN_HTTP1: [&[u8]; 1] = [b"http/1.1"];
/// Sessions that can be resumed.
const RESUMABLE_SESSIONS: usize = 64;

/// Why nobody can be trusted.
#[derive(Debug, Error)]
pub enum NoTrust {
    /// The system has no roots.
    #[error("the system has no root certificates")]
    NoSystemRoots,
    /// The file cannot be read, or holds none.
    #[error("the root certificates {path} cannot be used: {why}")]
    File {
        /// File.
        path: String,
        /// Why not.
        why: String,
    },
    /// rustls does not take them.
    #[error("TLS cannot be configured: {0}")]
    Unusable(#[source] rustls::Error),
}

/// What is offered to a server that chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/2 or HTTP/1.1.
    Both,
    /// HTTP/1.1 alone: what makes tunnels.
    Http1,
}

/// TLS configurations of one worker, by whom they trust and what they offer.
#[derive(Debug, Default)]
pub struct Roots(RefCell<AHashMap<(String, Offer), Arc<ClientConfig>>>);

impl Roots {
    /// TLS toward a server; `None` where it is spoken to in the clear. Files are read once.
    ///
    /// # Errors
    /// When there are no roots; the next call looks again.
    pub fn config(&self, security: &Security, offer: Offer) -> Result<Option<Arc<ClientConfig>>, NoTrust> {
        let key = match security {
            Security::None => return Ok(None),
            Security::SystemRoots => String::new(),
            Security::Roots(path) => path.clone(),
        };
        let key = (key, offer);
        if let Some(known) = self.0.borrow().get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let certificates = match security {
            Security::None | Security::SystemRoots => None,
            Security::Roots(path) => Some((path, file(path)?)),
        };
        let config = client(certificates, offer)?;
        self.0.borrow_mut().insert(key, Arc::clone(&config));
        Ok(Some(config))
    }
}

fn system() -> Result<RootCertStore, NoTrust> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(NoTrust::NoSystemRoots) } else { Ok(roots) }
}

fn file(path: &str) -> Result<Vec<CertificateDer<'static>>, NoTrust> {
    let text = std::fs::read(Path::new(path)).map_err(|error| unusable(path, error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| unusable(path, error.to_string()))?;
    if certificates.is_empty() { Err(unusable(path, "it holds no certificate".to_owned())) } else { Ok(certificates) }
}

fn unusable(path: &str, why: String) -> NoTrust {
    NoTrust::File { path: path.to_owned(), why }
}

/// TLS that trusts the certificates of a file, or the roots of the system.
fn client(given: Option<(&String, Vec<CertificateDer<'static>>)>, offer: Offer) -> Result<Arc<ClientConfig>, NoTrust> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(NoTrust::Unusable)?;
    let mut config = match given {
        None => builder.with_root_certificates(system()?).with_no_client_auth(),
        Some((path, certificates)) => {
            let verifier = Given::new(certificates, provider).map_err(|error| unusable(path, error.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    config.alpn_protocols = match offer {
        Offer::Both => ALPN.map(<[u8]>::to_vec).to_vec(),
        Offer::Http1 => ALPN_HTTP1.map(<[u8]>::to_vec).to_vec(),
    };
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
    Ok(Arc::new(config))
}
