//! Mesh TLS: configurations from a certificate and a trust bundle, verification of peers, reasons of refusal.
//!
//! TLS 1.3 only. A chain is judged by webpki, the names in the leaf by `mesh_core::identity::peer_identity`.
//! `verify` holds the verifiers, `refused` the reasons.

pub mod outside;
mod refused;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    identity::{Identity, Refusal, peer_identity},
    names,
};
use rustls::{
    ClientConfig, CommonState, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::ServerSessionMemoryCache,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;
pub use verify::LeafNames;
use verify::{ClientVerifier, ServerVerifier, Trusted};

pub use refused::refusal;

/// Sessions that can be resumed, per direction; about 2 KiB each, oldest out.
const RESUMABLE_SESSIONS: usize = 256;
/// Session tickets sent after a handshake: peers keep one pooled connection, so one is enough.
const TICKETS: usize = 1;
/// Most trust anchors in a bundle: a rotation needs two, a federation some more.
pub const TRUST_ANCHORS_MAX: usize = 64;

/// Why no TLS material can be made of what was given.
#[derive(Debug, Error)]
pub enum InvalidMaterial {
    /// Nobody could be trusted.
    #[error("the trust bundle holds no certificate")]
    NoAnchor,
    /// More than [`TRUST_ANCHORS_MAX`].
    #[error("the trust bundle holds {0} certificates, at most {TRUST_ANCHORS_MAX} are allowed")]
    TooManyAnchors(usize),
    /// One of the anchors is no certificate.
    #[error("certificate {0} of the trust bundle cannot be read")]
    Anchor(usize, #[source] rustls::Error),
    /// The chain is empty.
    #[error("the certificate chain is empty")]
    NoCertificate,
    /// The leaf proves no identity.
    #[error("the certificate proves no identity of trust domain {trust_domain}: {refusal}")]
    Identity {
        /// Our trust domain.
        trust_domain: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// Key and certificate do not fit, or rustls cannot use them.
    #[error("certificate and key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// Whom we trust, parsed and checked: the anchors, the trust domain, and the control namespace of names in it.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    trust_domain: Arc<str>,
    control_namespace: Arc<str>,
}

impl Trust {
    /// Reads `anchors` (DER certificates).
    ///
    /// # Errors
    /// When there is none, too many, or one that is no certificate.
    pub fn new<A: AsRef<[u8]>>(
        anchors: &[A],
        trust_domain: &str,
        control_namespace: &str,
    ) -> Result<Self, InvalidMaterial> {
        if anchors.is_empty() {
            return Err(InvalidMaterial::NoAnchor);
        }
        if anchors.len() > TRUST_ANCHORS_MAX {
            return Err(InvalidMaterial::TooManyAnchors(anchors.len()));
        }
        let mut roots = RootCertStore::empty();
        for (position, anchor) in anchors.iter().enumerate() {
            let der = CertificateDer::from(anchor.as_ref().to_vec());
            roots.add(der).map_err(|error| InvalidMaterial::Anchor(position, error))?;
        }
        Ok(Trust {
            roots: Arc::new(roots),
            trust_domain: trust_domain.into(),
            control_namespace: control_namespace.into(),
        })
    }

    /// Whether a chain leads to one of the anchors, at `now`. Says nothing about the names in the leaf.
    pub fn vouches_for(&self, own: &KeyAndChain, now: SystemTime) -> bool {
        let Some((leaf, intermediates)) = own.chain.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        Trusted::new(self, &provider()).verify_chain(leaf, intermediates, now).is_ok()
    }

    /// For dialling the controller: TLS 1.3, no ALPN, our certificate where we hold one. The server name given to the
    /// connector is the controller's identity (Linkerd-style DNS name).
    ///
    /// # Errors
    /// When the chain and key cannot be used.
    pub fn control_client(&self, own: Option<&KeyAndChain>) -> Result<Arc<ClientConfig>, InvalidMaterial> {
        let mut config = client_builder(self)?.with_no_client_auth();
        if let Some(own) = own {
            config = client_config(self, own)?;
        }
        config.alpn_protocols = Vec::new();
        Ok(Arc::new(config))
    }
}

/// A private key and the chain that vouches for it, leaf first.
#[derive(Debug)]
pub struct KeyAndChain {
    /// PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// Leaf, then issuers; the anchor itself is left out.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Clone for KeyAndChain {
    fn clone(&self) -> Self {
        KeyAndChain { key: self.key.clone_key(), chain: self.chain.clone() }
    }
}

/// Certificate, key and trust bundle in force, as rustls wants them. Replaced whole; handshakes under way keep theirs,
/// and sessions cannot be resumed across a replacement.
pub struct TlsMaterial {
    /// For accepting mesh peers: TLS 1.3, client certificate required, ALPN `transport.l5d.io/v1` offered.
    pub server: Arc<ServerConfig>,
    /// For dialling mesh peers: TLS 1.3, our certificate, ALPN `transport.l5d.io/v1`; the server name given to the
    /// connector is the expected identity (Linkerd-style DNS name), checked against the peer's certificate.
    pub client: Arc<ClientConfig>,
    /// As `client`, without ALPN: redirected TLS to the application's own port.
    pub client_redirected: Arc<ClientConfig>,
    /// Our own identity.
    pub identity: Identity,
    /// Our own DNS name: SNI by which peers call us.
    pub server_name: String,
    /// Namespace of the control plane, part of every identity's DNS name.
    pub control_namespace: Arc<str>,
    /// End of our certificate.
    pub not_after: SystemTime,
}

impl TlsMaterial {
    /// Configurations for both directions.
    ///
    /// # Errors
    /// When the leaf proves no identity of the trust domain, or key and chain cannot be used.
    pub fn new(own: &KeyAndChain, trust: &Trust) -> Result<Self, InvalidMaterial> {
        let leaf = own.chain.first().ok_or(InvalidMaterial::NoCertificate)?;
        let (identity, validity) = leaf_identity(leaf, &trust.trust_domain).map_err(|refusal| {
            InvalidMaterial::Identity { trust_domain: trust.trust_domain.as_ref().to_owned(), refusal }
        })?;
        let redirected = client_config(trust, own)?;
        let mut client = client_config(trust, own)?;
        client.alpn_protocols = vec![names::TRANSPORT_ALPN.to_vec()];
        Ok(TlsMaterial {
            server: Arc::new(server_config(trust, own)?),
            client: Arc::new(client),
            client_redirected: Arc::new(redirected),
            server_name: identity.dns_name(&trust.control_namespace),
            identity,
            control_namespace: Arc::clone(&trust.control_namespace),
            not_after: validity.not_after,
        })
    }

    /// Name to give to the connector for a peer that must prove `identity`. `announced` is the server name that the
    /// controller published for it, which may only differ in the control namespace.
    ///
    /// # Errors
    /// When the announced name is another identity's, or the name is too long for a host name.
    pub fn name_of(&self, identity: &Identity, announced: Option<&str>) -> Result<ServerName<'static>, Refusal> {
        let name = match announced {
            Some(announced) => match Identity::parse_dns_name(announced) {
                Ok(named) if &named == identity => announced.to_owned(),
                Ok(_) | Err(_) => return Err(Refusal::WrongIdentity),
            },
            None => identity.dns_name(&self.control_namespace),
        };
        ServerName::try_from(name).map_err(|_| Refusal::MalformedIdentity)
    }
}

/// Identity that the peer of an established connection proved. `None` without certificate, and for a certificate that
/// has ended since (a resumed session is not verified again). Parses the leaf: call once per connection.
pub fn peer(connection: &CommonState, trust_domain: &str) -> Option<Identity> {
    let leaf = connection.peer_certificates()?.first()?;
    let (identity, validity) = leaf_identity(leaf, trust_domain).ok()?;
    (SystemTime::now() < validity.not_after).then_some(identity)
}

/// Whether the transport's ALPN was negotiated: the session starts with the transport header.
pub fn speaks_transport(connection: &CommonState) -> bool {
    connection.alpn_protocol() == Some(names::TRANSPORT_ALPN)
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Start.
    pub not_before: SystemTime,
    /// End.
    pub not_after: SystemTime,
}

/// Identity and validity of a leaf, which nobody has verified yet.
///
/// # Errors
/// What is wrong with its names.
pub fn leaf_identity(leaf: &CertificateDer<'_>, trust_domain: &str) -> Result<(Identity, Validity), Refusal> {
    let names = LeafNames::read(leaf)?;
    if names.certificate_authority {
        return Err(Refusal::CaAsLeaf);
    }
    let identity = peer_identity(&names.uris(), &names.dns(), trust_domain)?;
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok((identity, Validity { not_before: at(names.not_before), not_after: at(names.not_after) }))
}

/// Cryptography of every connection: aws-lc-rs, key exchange X25519MLKEM768, X25519, P-256.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(trust: &Trust) -> Result<ClientBuilder, InvalidMaterial> {
    let provider = provider();
    let verifier = ServerVerifier::new(Trusted::new(trust, &provider));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(InvalidMaterial::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn client_config(trust: &Trust, own: &KeyAndChain) -> Result<ClientConfig, InvalidMaterial> {
    let mut config = client_builder(trust)?
        .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
        .map_err(InvalidMaterial::Unusable)?;
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
    Ok(config)
}

fn server_config(trust: &Trust, own: &KeyAndChain) -> Result<ServerConfig, InvalidMaterial> {
    let provider = provider();
    let verifier = ClientVerifier::new(Trusted::new(trust, &provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(InvalidMaterial::Unusable)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(own.chain.clone(), own.key.clone_key())
        .map_err(InvalidMaterial::Unusable)?;
    config.alpn_protocols = vec![names::TRANSPORT_ALPN.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}
