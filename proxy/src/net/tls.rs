//! Mesh TLS: configurations from a certificate and a trust bundle, verification of peers, reasons of refusal.

use std::{sync::Arc, time::SystemTime};

use mesh_core::identity::Identity;

/// Certificate, key and trust bundle in force, as rustls wants them. Replaced whole; handshakes under way keep theirs.
pub struct TlsMaterial {
    /// For accepting mesh peers: TLS 1.3, client certificate required, ALPN `transport.l5d.io/v1` offered.
    pub server: Arc<rustls::ServerConfig>,
    /// For dialling mesh peers: TLS 1.3, our certificate, ALPN `transport.l5d.io/v1`; the server name given to the
    /// connector is the expected identity (Linkerd-style DNS name), checked against the peer's certificate.
    pub client: Arc<rustls::ClientConfig>,
    /// As `client`, without ALPN: redirected TLS to the application's own port.
    pub client_redirected: Arc<rustls::ClientConfig>,
    /// Our own identity.
    pub identity: Identity,
    /// Our own DNS name: SNI by which peers call us.
    pub server_name: String,
    /// End of our certificate.
    pub not_after: SystemTime,
}
