//! Sockets, TLS and the HTTP/1 codec. Knows addresses and bytes, nothing of services or lanes.

pub mod deadline;
pub mod grpc_health;
pub mod http1;
pub mod listener;
pub mod memory;
pub mod metered;
pub mod original_dst;
pub mod socket;
pub mod sys;
pub mod tls;
pub mod transport_header;
