//! A shared HTTP/2 connection while it lives: its frames are moved, and a peer that has gone silent is noticed. Many
//! exchanges depend on one connection, and none of them has a time limit of its own unless somebody wrote one.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, client::Connection};
use tokio::time::{sleep, timeout};

use super::{http1::Lease, http2::Streams, queue::Line};
use crate::net::socket::Socket;

/// While streams are open, the peer is asked so often whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that does not answer for so long is gone. A proxy answers at once, whatever its application does.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the peer is asked now and then if it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is, while streams are open.
    Yes,
    /// It is not.
    No,
}

/// Moves the frames of a connection to an instance until it ends, or until its peer is gone; streams learn of failures by
/// themselves.
pub(super) async fn drive(mut connection: Connection<Socket, Bytes>, streams: Rc<Streams>, asked: Asked, lease: Lease) {
    let endpoint = lease.upstream().address;
    let pings = match asked {
        Asked::Yes => connection.ping_pong(),
        Asked::No => None,
    };
    let gone = async {
        match pings {
            Some(pings) => gone(pings, &streams).await,
            None => pending().await,
        }
    };
    tokio::select! {
        ended = moved(&mut connection, &streams, &lease) => {
            if let Err(error) = ended {
                tracing::debug!(%endpoint, %error, "HTTP/2 connection to an endpoint ended");
            }
        }
        () = gone => tracing::info!(%endpoint, limit = ?PING_TIMEOUT, "an HTTP/2 connection ends: no answer to PING"),
    }
    drop(lease);
}

/// Moves frames, and says when the peer says how many streams it allows.
async fn moved(connection: &mut Connection<Socket, Bytes>, streams: &Streams, lease: &Lease) -> Result<(), h2::Error> {
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        if streams.allow(connection.max_concurrent_send_streams()) {
            let upstream = lease.upstream();
            upstream.shared.has_settings();
            upstream.queue.all(Line::Http2);
        }
        ended
    })
    .await
}

/// Returns once the peer left a PING unanswered.
async fn gone(mut pings: PingPong, streams: &Streams) {
    loop {
        sleep(PING_INTERVAL).await;
        if streams.open.get() == 0 {
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
