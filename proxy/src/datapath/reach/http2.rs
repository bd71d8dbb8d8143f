//! Shared HTTP/2 connections: many exchanges each, a further one opened when the peer's limit of streams is reached.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::{sync::Notify, time::timeout};

use super::{
    Unreachable, alive, connect,
    http1::{Lease, SOON},
    upstream::{Transport, Upstream},
};
use crate::{
    net::{socket::Socket, transport_header::SessionProtocol},
    worker::Worker,
};

/// An HTTP/2 connection without stream is closed after this.
const IDLE_LIMIT: Duration = Duration::from_secs(50);
/// Exchanges at the same time on one connection, if the peer allows as many.
const STREAMS_MAX: usize = 256;
/// Bytes of one stream that may wait here for a slow client.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of all streams of a connection that may wait here: as much as all of them together, so that slow clients never
/// stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;
/// Largest frame taken from the peer, bytes: fewer, larger frames cost less.
const FRAME_MAX: u32 = 64 * 1024;
/// Bytes that one stream may queue for the connection.
const SEND_BUFFER_MAX: usize = 256 * 1024;
/// Streams reset by us whose late frames are still forgiven.
const RESET_STREAMS_MAX: usize = 64;

#[derive(Debug)]
struct Shared {
    send: SendRequest<Bytes>,
    streams: Rc<Cell<usize>>,
    used: Duration,
}

/// A stream of a shared connection, ready to be opened.
#[derive(Debug)]
pub struct Ready {
    /// Opens it.
    pub send: SendRequest<Bytes>,
    streams: Rc<Cell<usize>>,
}

impl Ready {
    fn new(send: SendRequest<Bytes>, streams: &Rc<Cell<usize>>) -> Self {
        streams.set(streams.get() + 1);
        Ready { send, streams: Rc::clone(streams) }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.streams.set(self.streams.get() - 1);
    }
}

/// HTTP/2 connections of one instance.
#[derive(Debug, Default)]
pub struct SharedConnections {
    list: RefCell<Vec<Shared>>,
    connecting: Cell<bool>,
    connected: Notify,
    failed: RefCell<Option<Unreachable>>,
}

impl SharedConnections {
    /// A connection with room for a stream.
    fn take(&self, now: Duration) -> Option<Ready> {
        let mut list = self.list.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        // Closed or going away: streams under way end by themselves.
        list.retain_mut(|shared| !matches!(shared.send.poll_ready(&mut cx), Poll::Ready(Err(_))));
        let room =
            |shared: &&mut Shared| shared.streams.get() < shared.send.current_max_send_streams().min(STREAMS_MAX);
        let shared = list.iter_mut().find(room)?;
        shared.used = now;
        Some(Ready::new(shared.send.clone(), &shared.streams))
    }

    /// Whether one is there that will not be closed soon.
    pub(super) fn has_lasting(&self, now: Duration) -> bool {
        let mut list = self.list.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        list.retain_mut(|shared| !matches!(shared.send.poll_ready(&mut cx), Poll::Ready(Err(_))));
        list.iter().any(|shared| shared.streams.get() > 0 || now.saturating_sub(shared.used) + SOON < IDLE_LIMIT)
    }

    /// Closes every connection once its streams have ended.
    pub(super) fn close(&self) {
        self.list.borrow_mut().clear();
    }

    /// Closes what will be closed soon.
    pub(super) fn drop_fading(&self, now: Duration) {
        self.list
            .borrow_mut()
            .retain(|shared| shared.streams.get() > 0 || now.saturating_sub(shared.used) + SOON < IDLE_LIMIT);
    }

    /// Closes what is idle too long.
    pub(super) fn sweep(&self, now: Duration) {
        self.list
            .borrow_mut()
            .retain(|shared| shared.streams.get() > 0 || now.saturating_sub(shared.used) < IDLE_LIMIT);
    }
}

/// The only task that connects, and the end of that.
struct Connecting<'a>(&'a SharedConnections);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        // One who was cancelled leaves the others to connect.
        self.0.failed.replace(None);
        self.0.connected.notify_waiters();
    }
}

/// A connection that is ready to take one stream.
///
/// # Errors
/// Why there is none.
pub async fn http2(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    limit: Duration,
    connections: u32,
) -> Result<Ready, Unreachable> {
    loop {
        let mut ready = match upstream.shared.take(worker.now()) {
            Some(ready) => {
                worker.sink.metrics.reused.add(1);
                ready
            }
            None if upstream.shared.connecting.get() => {
                // The one who connects has a limit of its own; then everyone looks again, or fails with it.
                upstream.shared.connected.notified().await;
                if let Some(failed) = upstream.shared.failed.borrow().clone() {
                    return Err(failed);
                }
                continue;
            }
            None => {
                let connected = connect(worker, upstream, limit, connections).await;
                upstream.shared.failed.replace(connected.as_ref().err().cloned());
                upstream.shared.connected.notify_waiters();
                connected?
            }
        };
        match poll_fn(|cx| ready.send.poll_ready(cx)).await {
            Ok(()) => return Ok(ready),
            // It closed between the look and now.
            Err(_) => continue,
        }
    }
}

async fn connect(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    limit: Duration,
    connections: u32,
) -> Result<Ready, Unreachable> {
    upstream.shared.connecting.set(true);
    let connecting = Connecting(&upstream.shared);
    let (socket, lease) = connect::dial(worker, upstream, Some(SessionProtocol::Http2), limit, connections).await?;
    let ready = shake_hands(worker, upstream, (socket, lease), limit).await?;
    drop(connecting);
    Ok(ready)
}

/// Begins HTTP/2 on a connection that was just made, and shares it.
pub(super) async fn shake_hands(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    (socket, lease): (Socket, Lease),
    limit: Duration,
) -> Result<Ready, Unreachable> {
    let handshake = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(worker.config.head_limits.bytes() as u32)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .enable_push(false)
        .handshake(socket);
    let failed = |why: String| Unreachable::connect(format!("HTTP/2 with {}: {why}", upstream.address));
    let (send, connection) = timeout(limit, handshake)
        .await
        .map_err(|_| failed("no handshake in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let streams = Rc::new(Cell::new(0));
    let watched = match upstream.transport {
        // Servers that are no proxies take frequent pings for an attack.
        Transport::Plain | Transport::Provider(_) => None,
        Transport::Sidecar { .. } | Transport::Redirected { .. } => Some(Rc::clone(&streams)),
    };
    worker.tasks.spawn_local(alive::drive(connection, upstream.address, watched, lease));
    let ready = Ready::new(send.clone(), &streams);
    upstream.shared.list.borrow_mut().push(Shared { send, streams, used: worker.now() });
    Ok(ready)
}
