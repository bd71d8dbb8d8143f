//! Sockets and TLS. Knows addresses and bytes, nothing of services or lanes.

pub mod tls;
