//! Mesh peers of a test's own making: certificates as they should and should not be, and the transport between sidecars
//! spoken by hand, from either side.

use std::{net::SocketAddr, path::Path, sync::Arc, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// ALPN and preface of the transport between sidecars.
pub const TRANSPORT: &[u8] = b"transport.l5d.io/v1";

/// What sidecars speak.
pub static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// What sidecars refuse.
pub static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// Session that a transport header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Bytes.
    Opaque,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// First bytes inside TLS between sidecars: the preface and the header for `port`.
pub fn transport_header(port: u16, session: Session) -> Vec<u8> {
    let mut header = vec![0x08];
    let mut rest = u32::from(port);
    while rest >= 0x80 {
        header.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    header.push(rest as u8);
    match session {
        Session::Opaque => {}
        Session::Http1 => header.extend([0x1a, 0x02, 0x0a, 0x00]),
        Session::Http2 => header.extend([0x1a, 0x02, 0x12, 0x00]),
    }
    let mut bytes = [TRANSPORT, b"\r\n\r\n"].concat();
    bytes.extend((header.len() as u32).to_be_bytes());
    bytes.extend(header);
    bytes
}

/// What a leaf says.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names, and addresses.
    pub names: Vec<String>,
    /// First day, as year, month, day.
    pub from: (i32, u8, u8),
    /// Last day.
    pub until: (i32, u8, u8),
    /// A CA certificate.
    pub is_ca: bool,
}

impl Leaf {
    /// A leaf as the mesh's own CA makes them.
    pub fn of(trust_domain: &str, namespace: &str, account: &str) -> Leaf {
        Leaf {
            uris: vec![format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")],
            names: vec![dns_name(trust_domain, namespace, account)],
            from: (2020, 1, 1),
            until: (2090, 1, 1),
            is_ca: false,
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names yet");
        let ia5 = |name: &String| name.as_str().try_into().expect("a test writes ASCII names");
        params.subject_alt_names = self.uris.iter().map(|uri| SanType::URI(ia5(uri))).collect();
        params.subject_alt_names.extend(self.names.iter().map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(ia5(name)),
        }));
        params.not_before = date_time_ymd(self.from.0, self.from.1, self.from.2);
        params.not_after = date_time_ymd(self.until.0, self.until.1, self.until.2);
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        }
        params
    }

    /// Signed by itself.
    pub fn self_signed(&self) -> Credentials {
        let key = KeyPair::generate().expect("a P-256 key");
        let certificate = self.params().self_signed(&key).expect("a certificate");
        Credentials { chain: vec![certificate.der().clone()], key: key.serialize_der(), pem: certificate.pem() }
    }
}

/// The Linkerd-style name of an identity in the default control namespace.
pub fn dns_name(trust_domain: &str, namespace: &str, account: &str) -> String {
    format!("{account}.{namespace}.serviceaccount.identity.lanemesh.{trust_domain}")
}

/// A chain and its key.
#[derive(Clone, Debug)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    /// The first certificate of the chain, PEM.
    pub pem: String,
}

impl Credentials {
    /// As an ordinary server shows them: to everybody, with a choice of these protocols.
    ///
    /// # Panics
    /// When chain and key do not fit.
    pub fn server(&self, protocols: &[&str]) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has these versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key())
            .expect("key and chain fit");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Certificates between its leaves and the trust anchor.
    intermediates: Vec<CertificateDer<'static>>,
    /// Its own certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl Authority {
    /// A new root.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a P-256 key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let pem = key.serialize_pem();
        Authority { issuer: Issuer::new(params, key), intermediates: Vec::new(), certificate, key: pem }
    }

    /// The issuer of a controller, from its state directory.
    ///
    /// # Panics
    /// When the files are not there.
    pub fn of_controller(state: &Path) -> Authority {
        let read = |name: &str| {
            std::fs::read_to_string(state.join(name))
                .unwrap_or_else(|error| panic!("{name} of the controller: {error}"))
        };
        let (certificate, pem) = (read("issuer.pem"), read("issuer.key"));
        let key = KeyPair::from_pem(&pem).expect("the controller's key is PKCS#8");
        let intermediates = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .expect("issuer.pem holds certificates");
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).expect("issuer.pem is a CA certificate");
        Authority { issuer, intermediates, certificate, key: pem }
    }

    /// The certificate for a signing request (DER), valid until `end`.
    ///
    /// # Panics
    /// When it is no signing request.
    pub fn sign_request(&self, request: &[u8], end: SystemTime) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&request.to_vec().into());
        let mut request = request.expect("a signing request");
        request.params.not_before = SystemTime::now().into();
        request.params.not_after = end.into();
        request.signed_by(&self.issuer).expect("a certificate").der().to_vec()
    }

    /// Signs a leaf.
    pub fn sign(&self, leaf: &Leaf) -> Credentials {
        let key = KeyPair::generate().expect("a P-256 key");
        let certificate = leaf.params().signed_by(&key, &self.issuer).expect("a certificate");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.intermediates.iter().cloned());
        Credentials { chain, key: key.serialize_der(), pem: certificate.pem() }
    }
}

/// How a peer of the test shakes hands.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Own certificate, or none.
    pub credentials: Option<Credentials>,
    /// Protocols offered or accepted.
    pub alpn: Vec<Vec<u8>>,
    /// TLS versions.
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl Handshake {
    /// As a sidecar does it.
    pub fn with(credentials: Credentials) -> Handshake {
        Handshake { credentials: Some(credentials), alpn: vec![TRANSPORT.to_vec()], versions: TLS13 }
    }

    fn client(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(self.versions)
            .expect("the provider has these versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match &self.credentials {
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key()).expect("key and chain fit"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        config
    }

    fn server(&self) -> ServerConfig {
        let own = self.credentials.as_ref().expect("a server has a certificate");
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(self.versions)
            .expect("the provider has these versions")
            .with_client_cert_verifier(Arc::new(Anybody))
            .with_single_cert(own.chain.clone(), own.key())
            .expect("key and chain fit");
        config.alpn_protocols = self.alpn.clone();
        config
    }

    /// Connects to a sidecar's inbound port. With TLS 1.3 a server may still refuse after this has returned.
    ///
    /// # Errors
    /// When the server refuses during the handshake.
    pub async fn connect(&self, to: SocketAddr, server_name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(server_name.to_owned()).expect("a test writes valid names");
        TlsConnector::from(Arc::new(self.client())).connect(name, stream).await
    }

    /// Connects and sends the transport header.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(
        &self,
        to: SocketAddr,
        server_name: &str,
        port: u16,
        session: Session,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut stream = self.connect(to, server_name).await?;
        stream.write_all(&transport_header(port, session)).await?;
        Ok(stream)
    }
}

/// What a server of the test's own saw of one connection.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// The handshake succeeded from the server's view.
    pub shaken: bool,
    /// Bytes received inside TLS.
    pub inside: Vec<u8>,
    /// Name asked for.
    pub server_name: Option<String>,
}

/// A fake sidecar: takes TLS, records what comes inside. Ends when dropped.
pub struct FakeSidecar {
    attempts: Arc<std::sync::Mutex<Vec<Attempt>>>,
    accepting: JoinHandle<()>,
}

impl FakeSidecar {
    /// Listens on `address`.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, handshake: &Handshake) -> FakeSidecar {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("bind {address}: {error}"));
        let acceptor = TlsAcceptor::from(Arc::new(handshake.server()));
        let attempts = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&attempts);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(record(acceptor.clone(), stream, Arc::clone(&seen)));
            }
        });
        FakeSidecar { attempts, accepting }
    }

    /// Connections that have ended, or on which something arrived inside TLS.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().expect("no panic while held").clone()
    }
}

impl Drop for FakeSidecar {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn record(acceptor: TlsAcceptor, stream: TcpStream, seen: Arc<std::sync::Mutex<Vec<Attempt>>>) {
    let push = |attempt: Attempt| seen.lock().expect("no panic while held").push(attempt);
    let Ok(mut stream) = acceptor.accept(stream).await else { return push(Attempt::default()) };
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    let received = crate::raw::read(&mut stream, crate::raw::LISTEN, |bytes| bytes.len() > 64).await;
    push(Attempt { shaken: true, inside: received.bytes, server_name });
}

/// Accepts whom it is shown: the test judges, not the handshake.
#[derive(Debug)]
struct Anybody;

fn schemes() -> Vec<SignatureScheme> {
    aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
