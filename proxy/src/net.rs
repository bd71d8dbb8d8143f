//! Sockets and TLS. Knows addresses and bytes, nothing of services or lanes.

pub mod http1;
pub mod listener;
pub mod original_dst;
pub mod socket;
pub mod tls;
