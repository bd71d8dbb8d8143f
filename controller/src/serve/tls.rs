//! TLS of the gRPC port: configuration from the authority, identity from a peer's certificate.

use std::{sync::Arc, time::Duration};

use mesh_core::identity::{Identity, Refusal, peer_identity};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::sign::authority::{Authority, AuthorityError};

/// Protocol that clients may ask for by ALPN, and need not.
const HTTP2: &[u8] = b"h2";

/// Why there is no TLS configuration.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The authority does not sign for us.
    #[error("no certificate for the controller itself")]
    Certificate(#[from] AuthorityError),
    /// No key can be made.
    #[error("no key for the controller itself")]
    Key(#[source] rcgen::Error),
    /// rustls refuses certificate or key.
    #[error("the certificate of the controller cannot be used")]
    Use(#[from] rustls::Error),
    /// The trust bundle cannot be used.
    #[error("the trust bundle cannot be used")]
    Anchors(#[from] rustls::server::VerifierBuilderError),
}

/// A configuration with a fresh key and certificate of our own, which trusts the authority's anchors.
///
/// # Errors
/// When the authority does not sign, or its anchors cannot be used.
pub fn config(authority: &Authority, identity: &Identity, life: Duration) -> Result<ServerConfig, TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Key)?;
    let leaf = authority.sign_own(identity, &key, life)?;
    let mut anchors = RootCertStore::empty();
    for anchor in authority.anchors() {
        anchors.add(CertificateDer::from(anchor.as_ref()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut chain = vec![leaf.certificate];
    chain.extend(leaf.intermediates);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A resumed session would outlive the rotation of the anchors that its peer was verified by.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Why a verified certificate proves no identity.
#[derive(Debug)]
pub struct Refused(pub Refusal);

/// Identity of a verified certificate.
///
/// # Errors
/// The reason of the refusal.
pub fn identity(leaf: &CertificateDer<'_>, trust_domain: &str) -> Result<Identity, Refused> {
    let (_, parsed) = X509Certificate::from_der(leaf.as_ref()).map_err(|_| Refused(Refusal::Malformed))?;
    if parsed.is_ca() {
        return Err(Refused(Refusal::CaAsLeaf));
    }
    let names = parsed.subject_alternative_name().map_err(|_| Refused(Refusal::Malformed))?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let mut uris = Vec::new();
    let mut dns = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns.push(*name),
            _ => (),
        }
    }
    peer_identity(&uris, &dns, trust_domain).map_err(Refused)
}
