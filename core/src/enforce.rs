//! May this go on? Inbound: is the caller allowed on this port and route; outbound: is the target known.

pub mod inbound;
pub mod outbound;
