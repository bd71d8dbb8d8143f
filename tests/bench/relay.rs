//! The bare relay: hyper and rustls put together with nothing between, to show what the libraries alone cost.
//!
//! HTTP/1.1 in, HTTP/1.1 out, upstream connections pooled, one thread. It deliberately has no timeouts, no policy,
//! no telemetry and no identity checks beyond the chain: it is a yardstick, not a proxy.

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::SendRequest,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[derive(Parser)]
struct Settings {
    /// Address to accept on.
    #[arg(long)]
    listen: SocketAddr,
    /// Address to relay to.
    #[arg(long)]
    upstream: SocketAddr,
    /// Folder with ca.pem, leaf.pem, leaf.key: accept mutual TLS.
    #[arg(long)]
    accept_tls: Option<PathBuf>,
    /// The same folder: dial mutual TLS.
    #[arg(long)]
    dial_tls: Option<PathBuf>,
}

/// Idle upstream connections; as many as there were concurrent exchanges, so bounded by the load.
type Pool = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

struct Upstream {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    idle: Pool,
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let acceptor = settings.accept_tls.as_deref().map(acceptor).transpose()?;
    let tls = settings.dial_tls.as_deref().map(connector).transpose()?;
    let upstream = Rc::new(Upstream { address: settings.upstream, tls, idle: Pool::default() });
    let listener = TcpListener::bind(settings.listen).await.context("cannot listen")?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        tokio::task::spawn_local(async move {
            match acceptor {
                None => exchanges(socket, upstream).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        exchanges(stream, upstream).await;
                    }
                }
            }
        });
    }
}

async fn exchanges<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, upstream: Rc<Upstream>) {
    let service = service_fn(move |request| {
        let upstream = upstream.clone();
        async move { relay(request, &upstream).await }
    });
    // A client that goes away ends its connection; there is nobody to tell.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn relay(request: Request<Incoming>, upstream: &Upstream) -> anyhow::Result<Response<Returning>> {
    let pooled = upstream.idle.borrow_mut().pop().filter(SendRequest::is_ready);
    let mut sender = match pooled {
        Some(sender) => sender,
        None => dial(upstream).await?,
    };
    let response = sender.send_request(request).await?;
    let lease = Lease { sender: Some(sender), idle: upstream.idle.clone() };
    Ok(response.map(|body| Returning { body, lease }))
}

async fn dial(upstream: &Upstream) -> anyhow::Result<SendRequest<Incoming>> {
    let socket = TcpStream::connect(upstream.address).await?;
    socket.set_nodelay(true)?;
    match &upstream.tls {
        None => handshake(socket).await,
        Some(connector) => handshake(connector.connect(ServerName::try_from("bench.test")?, socket).await?).await,
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S) -> anyhow::Result<SendRequest<Incoming>> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// Gives the connection back to the pool when the response body is through.
struct Lease {
    sender: Option<SendRequest<Incoming>>,
    idle: Pool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.idle.borrow_mut().extend(self.sender.take());
    }
}

/// A response body that holds its upstream connection.
struct Returning {
    body: Incoming,
    lease: Lease,
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(Some(Err(_)))) {
            this.lease.sender = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let (roots, chain, key) = material(folder)?;
    let verifier = rustls::server::WebPkiClientVerifier::builder(roots.into()).build()?;
    let config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config).into())
}

fn connector(folder: &Path) -> anyhow::Result<TlsConnector> {
    let (roots, chain, key) = material(folder)?;
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config).into())
}

type Material = (rustls::RootCertStore, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn material(folder: &Path) -> anyhow::Result<Material> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let chain = CertificateDer::pem_file_iter(folder.join("leaf.pem"))?.collect::<Result<_, _>>()?;
    Ok((roots, chain, PrivateKeyDer::from_pem_file(folder.join("leaf.key"))?))
}
