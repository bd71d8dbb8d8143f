//! The reason behind a failed handshake, for the metric `mesh_tls_refused_total{reason}` and the log.

use std::io;

use mesh_core::identity::Refusal;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why the handshake that ended with `error` was refused, by us or by the peer. Call it for errors of a handshake only.
pub fn refusal(error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::TimedOut => Refusal::HandshakeTimeout,
        // The peer went away in the middle: it did not like what it saw, but does not say why.
        None => Refusal::RefusedByPeer,
    }
}

fn of_tls(error: &Error) -> Refusal {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => Refusal::NoCertificate,
        Error::NoApplicationProtocol => Refusal::Alpn,
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => Refusal::Malformed,
        Error::PeerIncompatible(_) => Refusal::TlsVersion,
        Error::AlertReceived(AlertDescription::ProtocolVersion) => Refusal::TlsVersion,
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Refusal::Alpn,
        Error::AlertReceived(_) => Refusal::RefusedByPeer,
        // rustls's enum, open by declaration.
        _ => Refusal::Malformed,
    }
}

fn of_certificate(error: &CertificateError) -> Refusal {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Refusal::NotYetValid,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Refusal::WrongIdentity,
        CertificateError::Other(other) => {
            if let Some(refusal) = other.0.downcast_ref::<Refusal>() {
                *refusal
            } else if let Some(webpki::Error::CaUsedAsEndEntity) = other.0.downcast_ref::<webpki::Error>() {
                Refusal::CaAsLeaf
            } else {
                Refusal::Malformed
            }
        }
        // rustls's enum, open by declaration.
        _ => Refusal::Malformed,
    }
}
