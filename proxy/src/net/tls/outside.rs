//! TLS of a gateway toward callers outside the mesh: an ordinary server, TLS 1.2 and 1.3, no client certificate.

use std::sync::Arc;

use rustls::{ServerConfig, crypto::aws_lc_rs, version::TLS12, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use thiserror::Error;

/// Protocols that are offered, in order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a certificate and key cannot be used.
#[derive(Debug, Error)]
pub enum InvalidPair {
    /// The file of the chain is no PEM.
    #[error("the certificate chain cannot be read")]
    Chain(#[source] rustls_pki_types::pem::Error),
    /// No certificate in it.
    #[error("the file of the certificate chain holds no certificate")]
    NoCertificate,
    /// The file of the key holds no private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    #[error("the private key cannot be read")]
    Key(#[source] rustls_pki_types::pem::Error),
    /// They do not fit together, or are of a kind that TLS does not know.
    #[error("certificate and key cannot be used together")]
    Unusable(#[source] rustls::Error),
}

/// Configuration of a server with this chain (leaf first) and key, both PEM.
///
/// # Errors
/// When they cannot be used.
pub fn server(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, InvalidPair> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(InvalidPair::Chain)?;
    if chain.is_empty() {
        return Err(InvalidPair::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(InvalidPair::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(InvalidPair::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(InvalidPair::Unusable)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}
