//! TLS toward providers: ordinary servers, TLS 1.2 and 1.3, no client certificate, HTTP/2 or HTTP/1.1.

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

/// Protocols that are offered, in order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
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

/// TLS configurations of one worker, by whom they trust.
#[derive(Debug, Default)]
pub struct Roots(RefCell<AHashMap<String, Arc<ClientConfig>>>);

impl Roots {
    /// TLS toward a server; `None` where it is spoken to in the clear. Files are read once.
    ///
    /// # Errors
    /// When there are no roots; the next call looks again.
    pub fn config(&self, security: &Security) -> Result<Option<Arc<ClientConfig>>, NoTrust> {
        let key = match security {
            Security::None => return Ok(None),
            Security::SystemRoots => "",
            Security::Roots(path) => path.as_str(),
        };
        if let Some(known) = self.0.borrow().get(key) {
            return Ok(Some(Arc::clone(known)));
        }
        let roots = match security {
            Security::None | Security::SystemRoots => system()?,
            Security::Roots(path) => file(path)?,
        };
        let config = client(roots)?;
        self.0.borrow_mut().insert(key.to_owned(), Arc::clone(&config));
        Ok(Some(config))
    }
}

fn system() -> Result<RootCertStore, NoTrust> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(NoTrust::NoSystemRoots) } else { Ok(roots) }
}

fn file(path: &str) -> Result<RootCertStore, NoTrust> {
    let failed = |why: String| NoTrust::File { path: path.to_owned(), why };
    let text = std::fs::read(Path::new(path)).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() { Err(failed("it holds no certificate".to_owned())) } else { Ok(roots) }
}

fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, NoTrust> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(NoTrust::Unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
    Ok(Arc::new(config))
}
