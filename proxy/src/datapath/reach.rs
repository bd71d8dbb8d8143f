//! Step 6: a connection to the picked instance, pooled or new. Pools belong to one worker.

mod alive;
mod connect;
mod http1;
mod http2;
mod provider;
mod queue;
mod upstream;

use mesh_core::{outcome::Outcome, retry::Failure};

pub use self::{
    http1::{Lease, Pooled, http1},
    http2::{Ready, http2},
    provider::{Proxied, Reached, Way, provider, warm},
    queue::Queue,
    upstream::{Asked, InFlight, Transport, Upstream, Upstreams},
};
pub use connect::raw;

/// No connection.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// How the exchange ends if it is not repeated.
    pub outcome: Outcome,
    /// What core's retry decision looks at.
    pub failure: Failure,
    /// Why, for people.
    pub detail: String,
}

impl Unreachable {
    fn connect(detail: String) -> Self {
        Unreachable { outcome: Outcome::ConnectFailed, failure: Failure::Connect, detail }
    }

    fn overloaded(detail: String) -> Self {
        Unreachable { outcome: Outcome::Overloaded, failure: Failure::Connect, detail }
    }
}
