//! A shared HTTP/2 connection while it lives: its frames are moved, and a peer that has gone silent is noticed. Many
//! exchanges depend on one connection, and none of them has a time limit of its own unless somebody wrote one.

use std::{cell::Cell, future::pending, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{Ping, PingPong, client::Connection};
use tokio::time::{sleep, timeout};

use super::http1::Lease;
use crate::net::socket::Socket;

/// While streams are open, the peer is asked so often whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that does not answer for so long is gone. A proxy answers at once, whatever its application does.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Moves the frames of a connection to `endpoint` until it ends, or until its peer is gone; streams learn of failures by
/// themselves. `watched` counts its open streams; `None` where the peer is not to be asked.
pub(super) async fn drive(
    mut connection: Connection<Socket, Bytes>,
    endpoint: SocketAddr,
    watched: Option<Rc<Cell<usize>>>,
    lease: Lease,
) {
    let pings = watched.and_then(|streams| Some((connection.ping_pong()?, streams)));
    let gone = async {
        match pings {
            Some((pings, streams)) => gone(pings, &streams).await,
            None => pending().await,
        }
    };
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%endpoint, %error, "HTTP/2 connection to an endpoint ended");
            }
        }
        () = gone => tracing::info!(%endpoint, limit = ?PING_TIMEOUT, "an HTTP/2 connection ends: no answer to PING"),
    }
    drop(lease);
}

/// Returns once the peer left a PING unanswered.
async fn gone(mut pings: PingPong, streams: &Cell<usize>) {
    loop {
        sleep(PING_INTERVAL).await;
        if streams.get() == 0 {
            continue;
        }
        match timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is ending, and says so itself.
            Ok(Err(_)) => pending().await,
            Err(_) => return,
        }
    }
}
