//! The data path over real sockets on loopback: one worker as the caller's sidecar, one as the callee's, with snapshots
//! made by hand and certificates made on the spot.

mod harness;
mod http1;
mod http2;
mod opaque;
mod refusals;
