//! Where a captured connection was going before the redirect rule turned it to us.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Original destination of `socket`; `None` when nothing captured it (it was made to our own listener).
pub fn original_destination(socket: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let reference = SockRef::from(socket);
    let found = if local.is_ipv4() { reference.original_dst_v4() } else { reference.original_dst_v6() };
    let original = found.ok()?.as_socket()?;
    (canonical(original) != canonical(local)).then_some(canonical(original))
}

/// IPv4-mapped IPv6 addresses as IPv4, so that equal destinations compare equal.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
