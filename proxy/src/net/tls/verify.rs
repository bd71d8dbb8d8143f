//! Verifiers of peers: webpki judges the chain, then the names of the leaf must prove an identity of our trust domain;
//! a server must prove the one that was dialled.

use std::sync::Arc;

use mesh_core::identity::{Identity, Refusal, peer_identity};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::Trust;

/// What a leaf says about itself, before anything of it is believed.
#[derive(Debug)]
pub struct LeafNames {
    names: Vec<Name>,
    /// It claims to be a CA.
    pub certificate_authority: bool,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

#[derive(Debug)]
enum Name {
    Uri(String),
    Dns(String),
}

impl LeafNames {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when it is none, or an extension that matters stands in it twice.
    pub fn read(leaf: &CertificateDer<'_>) -> Result<Self, Refusal> {
        let (rest, leaf) = X509Certificate::from_der(leaf).map_err(|_| Refusal::Malformed)?;
        let constraints = leaf.basic_constraints().map_err(|_| Refusal::Malformed)?;
        let alternatives = leaf.subject_alternative_name().map_err(|_| Refusal::Malformed)?;
        if !rest.is_empty() {
            return Err(Refusal::Malformed);
        }
        let mut names = Vec::new();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.push(Name::Uri((*uri).to_owned())),
                GeneralName::DNSName(dns) => names.push(Name::Dns((*dns).to_owned())),
                GeneralName::Invalid(..) => return Err(Refusal::MalformedIdentity),
                // Kinds of names that prove nothing here: x509-parser's enum, not ours.
                _ => {}
            }
        }
        Ok(LeafNames {
            names,
            certificate_authority: constraints.is_some_and(|extension| extension.value.ca),
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
        })
    }

    /// URI names, in order.
    pub fn uris(&self) -> Vec<&str> {
        self.names.iter().filter_map(|name| if let Name::Uri(uri) = name { Some(uri.as_str()) } else { None }).collect()
    }

    /// DNS names, in order.
    pub fn dns(&self) -> Vec<&str> {
        self.names.iter().filter_map(|name| if let Name::Dns(dns) = name { Some(dns.as_str()) } else { None }).collect()
    }
}

/// Trust anchors with what is needed to judge a chain.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    roots: Arc<RootCertStore>,
    trust_domain: Arc<str>,
    algorithms: WebPkiSupportedAlgorithms,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    pub(super) fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Self {
        Trusted {
            roots: Arc::clone(&trust.roots),
            trust_domain: Arc::clone(&trust.trust_domain),
            algorithms: provider.signature_verification_algorithms,
            provider: Arc::clone(provider),
        }
    }

    /// Whether the chain leads to an anchor, and the leaf may be a server.
    pub(super) fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)
    }

    fn identity(&self, leaf: &CertificateDer<'_>) -> Result<Identity, Error> {
        let names = LeafNames::read(leaf).map_err(refuse)?;
        if names.certificate_authority {
            return Err(refuse(Refusal::CaAsLeaf));
        }
        peer_identity(&names.uris(), &names.dns(), &self.trust_domain).map_err(refuse)
    }
}

/// Our reason, carried through rustls; [`super::refusal`] takes it out again.
fn refuse(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// Judges the servers that we dial.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    trusted: Trusted,
}

impl ServerVerifier {
    pub(super) fn new(trusted: Trusted) -> Self {
        ServerVerifier { trusted }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trusted.verify_chain(end_entity, intermediates, now)?;
        let identity = self.trusted.identity(end_entity)?;
        match server_name {
            ServerName::DnsName(name) if Identity::parse_dns_name(name.as_ref()).as_ref() == Ok(&identity) => {
                Ok(ServerCertVerified::assertion())
            }
            // rustls's enum, open by declaration: an address is nobody's identity either.
            _ => Err(refuse(Refusal::WrongIdentity)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse(Refusal::TlsVersion))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.trusted.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.algorithms.supported_schemes()
    }
}

/// Judges the clients that dial us; a certificate is required.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trusted: Trusted,
}

impl ClientVerifier {
    pub(super) fn new(trusted: Trusted) -> Self {
        let roots = Arc::clone(&trusted.roots);
        let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&trusted.provider))
            .clear_root_hint_subjects()
            .build()
            .expect("a Trust holds at least one anchor, and no revocation list is given");
        ClientVerifier { chain, trusted }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.trusted.identity(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse(Refusal::TlsVersion))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.trusted.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.algorithms.supported_schemes()
    }
}
