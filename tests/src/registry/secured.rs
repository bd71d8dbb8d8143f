//! TLS in front of a registry: HTTP and gRPC on ports 1,000 apart, as clients expect them, passed on in plaintext.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::{
    addresses::Block,
    peer::Authority,
    registry::{Registry, ports::Ports},
};

/// Name in the certificate besides the address.
pub const NAME: &str = "nacos.tests";

/// A front with TLS; ends when dropped.
pub struct Secured {
    ports: Ports,
    block: Block,
    accepting: Vec<JoinHandle<()>>,
}

impl Secured {
    /// Listens with a certificate of this authority for its address and [`NAME`].
    ///
    /// # Panics
    /// When an address cannot be bound.
    pub async fn start(registry: &Registry, authority: &Authority) -> Secured {
        let (ports, block) = (Ports::reserve(), Block::reserve());
        let address: IpAddr = block.address(1).into();
        let mut accepting = Vec::new();
        for (port, protocol, to) in
            [(ports.http(), "http/1.1", registry.address()), (ports.grpc(), "h2", registry.grpc_address())]
        {
            let acceptor = TlsAcceptor::from(Arc::new(server_config(authority, address, protocol)));
            let listener = TcpListener::bind((address, port)).await.expect("the ports are reserved");
            accepting.push(tokio::spawn(accept(listener, acceptor, to)));
        }
        Secured { ports, block, accepting }
    }

    /// Where HTTP over TLS listens; gRPC is 1,000 ports higher.
    pub fn address(&self) -> SocketAddr {
        (self.block.address(1), self.ports.http()).into()
    }

    /// Where gRPC over TLS listens.
    pub fn grpc_address(&self) -> SocketAddr {
        (self.block.address(1), self.ports.grpc()).into()
    }

    /// A client that trusts `authority` and speaks `protocol`.
    ///
    /// # Errors
    /// When the front's certificate is of another authority.
    pub async fn connect(
        &self,
        to: SocketAddr,
        authority: &Authority,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let anchor = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).expect("an authority has one");
        let mut roots = RootCertStore::empty();
        roots.add(anchor).expect("it may sign");
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(NAME).expect("a valid name");
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(to).await?).await
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}

fn server_config(authority: &Authority, address: IpAddr, protocol: &str) -> ServerConfig {
    let issuer_key = KeyPair::from_pem(&authority.key).expect("an authority has a key");
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, issuer_key).expect("an authority has a certificate");
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name in ASCII");
    params.subject_alt_names.push(SanType::IpAddress(address));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    let key = KeyPair::generate().expect("a P-256 key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("key and certificate fit");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // What fails here the client of the test sees as a closed connection.
            let Ok(mut client) = acceptor.accept(stream).await else { return };
            let Ok(mut server) = TcpStream::connect(to).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
