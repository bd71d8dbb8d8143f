//! Forwarders for clients that cannot name their target: a listener that passes bytes on to a sidecar.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::peer::{Handshake, Session};

/// How long a client may take to close after the sidecar did.
const LINGER: Duration = Duration::from_secs(5);

/// Where a forwarder passes bytes on to.
#[derive(Clone, Debug)]
pub enum Target {
    /// Plaintext, as an application reaches its sidecar's outbound port.
    Plain(SocketAddr),
    /// Mesh transport, as a peer reaches a sidecar's inbound port.
    Mesh {
        /// How it shakes hands.
        handshake: Handshake,
        /// Inbound port of the sidecar.
        to: SocketAddr,
        /// Name asked for.
        server_name: String,
        /// Application port in the transport header.
        port: u16,
        /// Session in the transport header.
        session: Session,
    },
}

/// A running forwarder; ends when dropped.
pub struct Forwarder {
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// Listens on `address`.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, target: Target) -> Forwarder {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("bind {address}: {error}"));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(forward(stream, target.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Forwarder { accepting }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection that cannot be passed on is closed: the client of the test sees it.
async fn forward(client: TcpStream, target: Target) {
    let _ = client.set_nodelay(true);
    match target {
        Target::Plain(to) => {
            if let Ok(stream) = TcpStream::connect(to).await {
                let _ = stream.set_nodelay(true);
                pass(client, stream).await;
            }
        }
        Target::Mesh { handshake, to, server_name, port, session } => {
            if let Ok(stream) = handshake.open(to, &server_name, port, session).await {
                pass(client, stream).await;
            }
        }
    }
}

/// Passes bytes both ways. Whatever the sidecar said last reaches the client before its connection is closed: closing with
/// unread bytes would reset it.
async fn pass(client: TcpStream, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_sidecar, mut to_sidecar) = tokio::io::split(stream);
    // Either side may reset; the other then sees the end.
    let up = async {
        let _ = copy(&mut from_client, &mut to_sidecar).await;
        let _ = to_sidecar.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let _ = copy(&mut from_sidecar, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    let mut nowhere = tokio::io::sink();
    let _ = tokio::time::timeout(LINGER, copy(&mut from_client, &mut nowhere)).await;
}
