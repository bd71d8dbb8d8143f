//! Ways to a stand-in that are longer than a connection in the clear: TLS in front of it, with a certificate of the test's
//! own making, and a proxy that is asked by CONNECT.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock},
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{Connection, Version},
    peer::Credentials,
};

/// Longest head of a request to a proxy, bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// Where it leads, once that is known.
type To = Arc<OnceLock<SocketAddr>>;

/// A connection whose handshake succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Name that was asked for; empty where an address was meant.
    pub name: String,
    /// Protocol that was chosen; empty where none was offered.
    pub protocol: String,
}

/// TLS in front of a stand-in; ends when dropped.
pub struct Front {
    address: SocketAddr,
    to: To,
    spoken: Arc<Mutex<Vec<Spoken>>>,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Listens with these credentials and lets clients choose among these protocols, its preferred one first.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start(credentials: &Credentials, protocols: &[&str]) -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (to, spoken) = (To::default(), Arc::<Mutex<Vec<Spoken>>>::default());
        let acceptor = TlsAcceptor::from(Arc::new(credentials.server(protocols)));
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&to), Arc::clone(&spoken)));
        Front { address, to, spoken, accepting }
    }

    /// Requests go here from now on.
    pub fn leads_to(&self, address: SocketAddr) {
        let _ = self.to.set(address);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    ///
    /// # Panics
    /// Never, unless a test panicked before.
    pub fn spoken(&self) -> Vec<Spoken> {
        self.spoken.lock().expect("no test panics while it looks").clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, to: To, spoken: Arc<Mutex<Vec<Spoken>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, to, spoken) = (acceptor.clone(), Arc::clone(&to), Arc::clone(&spoken));
        connections.spawn(async move {
            // What fails here the client sees.
            let (Ok(mut client), Some(to)) = (acceptor.accept(stream).await, to.get()) else { return };
            let session = client.get_ref().1;
            let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into_owned();
            let name = session.server_name().unwrap_or_default().to_owned();
            spoken.lock().expect("no test panics while it looks").push(Spoken { name, protocol: protocol.clone() });
            if protocol == "h2" {
                let to = *to;
                let service = service_fn(move |request| pass_on(to, request));
                let io = TokioIo::new(client);
                let _ =
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
            } else if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One request over HTTP/2, passed on over HTTP/1.1.
async fn pass_on(to: SocketAddr, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let mut server = Connection::open(to, Version::Http1).await?;
    let mut response = server.start(request.map(|body| body.map_err(anyhow::Error::from).boxed())).await?;
    for name in [http::header::TRANSFER_ENCODING, http::header::CONNECTION] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

/// A proxy that is asked by CONNECT; ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Leads everybody who asks to this address, whatever was asked for; `None` refuses everybody.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start(to: Option<SocketAddr>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(tunnel(stream, to, Arc::clone(&noted)));
            }
        });
        Proxy { address, asked, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// First lines of the requests so far.
    ///
    /// # Panics
    /// Never, unless a test panicked before.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics while it looks").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn tunnel(mut client: TcpStream, to: Option<SocketAddr>, asked: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        head.push(client.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    asked.lock().expect("no test panics while it looks").push(line);
    let Some(to) = to else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    };
    let mut server = TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
