//! Listening sockets: one per worker and address, shared by SO_REUSEPORT, with a pause when descriptors run out.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel keeps for us until they are accepted (bounded further by net.core.somaxconn).
const BACKLOG: i32 = 4_096;
/// Pause after accept failed for want of descriptors or memory: connections end meanwhile, and the loop stays cool.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket of one worker.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`, outside any runtime; several workers may bind the same one.
    ///
    /// # Errors
    /// When the address is taken by another process or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Joins a bound socket to the runtime of this thread.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Listener { socket, address })
    }

    /// Where it listens, with the port that the kernel chose if none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Failures of single connections are skipped; exhaustion is waited out, calling `exhausted`
    /// once for each pause.
    pub async fn accept(&self, exhausted: impl Fn()) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    // Without it small answers wait for acknowledgements; a socket that refuses it still works.
                    let _ = socket.set_nodelay(true);
                    return (socket, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => {
                    exhausted();
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// The peer left before accept, or the network said so; the listener itself is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
