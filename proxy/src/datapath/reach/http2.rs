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
use mesh_core::model::policy::Limits;
use tokio::{sync::Notify, time::timeout};

use super::{
    Unreachable,
    alive::{self, Asked},
    connect,
    http1::{Lease, SOON},
    queue::{Line, Waiting},
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
/// Exchanges on a connection whose peer has not said yet how many it allows. Its settings come within a round trip; more
/// exchanges than it allows would be refused.
pub(super) const STREAMS_FIRST: usize = 1;
/// A peer whose settings did not come within this is one of few streams. Also one that allows just [`STREAMS_FIRST`].
const SETTINGS_LIMIT: Duration = Duration::from_millis(100);
/// Bytes of one stream that may wait here for a slow client.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of all streams of a connection that may wait here: as much as all of them together, so that slow clients never
/// stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;
/// Largest frame taken from the peer, bytes: fewer, larger frames cost less.
const FRAME_MAX: u32 = 64 * 1024;
/// Bytes that one stream may queue for the connection.
const SEND_BUFFER_MAX: usize = 256 * 1024;
/// Streams in a row that are given up before their answers begin, after which a connection gets no further ones: servers take
/// more of them for an attack (h2 from 20 on), and end the connection for all who use it.
const GIVEN_UP_MAX: u32 = 16;
/// Streams reset by us whose late frames are still forgiven: all of a connection, whose caller may go away with them at once.
/// Late frames of others end the connection after a while.
const RESET_STREAMS_MAX: usize = STREAMS_MAX;

#[derive(Debug)]
struct Shared {
    send: SendRequest<Bytes>,
    streams: Rc<Streams>,
    made: Duration,
    used: Duration,
}

impl Shared {
    fn is_used(&self) -> bool {
        self.streams.open.get() > 0
    }

    /// Whether it is not known yet how many streams the peer allows, and will be at once.
    fn is_young(&self, now: Duration) -> bool {
        !self.streams.has_settings() && now.saturating_sub(self.made) < SETTINGS_LIMIT
    }
}

/// What is known of the streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    /// Open ones.
    pub(super) open: Cell<usize>,
    allowed: Cell<usize>,
    /// How many in a row were given up before their answers began.
    given_up: Cell<u32>,
}

impl Streams {
    /// The peer allows so many streams; says whether that is news.
    pub(super) fn allow(&self, allowed: usize) -> bool {
        self.allowed.replace(allowed) != allowed
    }

    fn has_settings(&self) -> bool {
        self.allowed.get() != STREAMS_FIRST
    }
}

/// A stream of a shared connection, ready to be opened.
#[derive(Debug)]
pub struct Ready {
    /// Opens it.
    pub send: SendRequest<Bytes>,
    streams: Rc<Streams>,
    upstream: Rc<Upstream>,
}

impl Ready {
    fn new(send: SendRequest<Bytes>, streams: &Rc<Streams>, upstream: &Rc<Upstream>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Ready { send, streams: Rc::clone(streams), upstream: Rc::clone(upstream) }
    }
}

impl Ready {
    /// The answer of its stream has begun.
    pub fn answered(&self) {
        self.streams.given_up.set(0);
    }

    /// Its stream is given up before that.
    pub fn given_up(&self) {
        self.streams.given_up.set(self.streams.given_up.get().saturating_add(1));
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let left = self.streams.open.get() - 1;
        self.streams.open.set(left);
        self.upstream.queue.next(Line::Http2);
        if left == 0 {
            // Nobody uses the connection: it may be closed for one of HTTP/1.
            self.upstream.queue.next(Line::Http1);
        }
    }
}

/// What there is for an exchange.
enum Found {
    /// Room for its stream.
    Ready(Ready),
    /// A connection of which it will be known at once whether it has.
    Young,
    /// Nothing.
    None,
}

/// HTTP/2 connections of one instance.
#[derive(Debug, Default)]
pub struct SharedConnections {
    list: RefCell<Vec<Shared>>,
    connecting: Cell<bool>,
    connected: Notify,
    /// How often one began to be made.
    round: Cell<u64>,
    /// Why the last one came to nothing, and which that was.
    failed: RefCell<Option<(u64, Unreachable)>>,
}

impl SharedConnections {
    /// Connections.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.list.borrow().len()).unwrap_or(u32::MAX)
    }

    /// A connection with room for a stream.
    fn take(&self, upstream: &Rc<Upstream>, now: Duration) -> Found {
        let mut list = self.list.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        // Closed, going away, or about to be ended by its peer: streams under way end by themselves.
        list.retain_mut(|shared| {
            shared.streams.given_up.get() < GIVEN_UP_MAX
                && !matches!(shared.send.poll_ready(&mut cx), Poll::Ready(Err(_)))
        });
        let room =
            |shared: &Shared| shared.streams.open.get() < shared.send.current_max_send_streams().min(STREAMS_MAX);
        let Some(position) = list.iter().position(room) else {
            return if list.iter().any(|shared| shared.is_young(now)) { Found::Young } else { Found::None };
        };
        let shared = &mut list[position];
        shared.used = now;
        Found::Ready(Ready::new(shared.send.clone(), &shared.streams, upstream))
    }

    /// Whether one is there that will not be closed soon.
    pub(super) fn has_lasting(&self, now: Duration) -> bool {
        let mut list = self.list.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        list.retain_mut(|shared| !matches!(shared.send.poll_ready(&mut cx), Poll::Ready(Err(_))));
        list.iter().any(|shared| shared.is_used() || now.saturating_sub(shared.used) + SOON < IDLE_LIMIT)
    }

    /// A peer said how many streams it allows: who waits for that looks again.
    pub(super) fn has_settings(&self) {
        self.connected.notify_waiters();
    }

    /// Closes every connection once its streams have ended.
    pub(super) fn close(&self) {
        self.list.borrow_mut().clear();
    }

    /// Closes one that nobody uses.
    pub(super) fn close_unused(&self) {
        let mut list = self.list.borrow_mut();
        if let Some(position) = list.iter().position(|shared| !shared.is_used()) {
            list.swap_remove(position);
        }
    }

    /// Closes what will be closed soon.
    pub(super) fn drop_fading(&self, now: Duration) {
        let lasts = |shared: &Shared| shared.is_used() || now.saturating_sub(shared.used) + SOON < IDLE_LIMIT;
        self.list.borrow_mut().retain(lasts);
    }

    /// Closes what is idle too long.
    pub(super) fn sweep(&self, now: Duration) {
        self.list.borrow_mut().retain(|shared| shared.is_used() || now.saturating_sub(shared.used) < IDLE_LIMIT);
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

/// A connection that is ready to take one stream. Where `limits.connections` are open and none has room, it waits for a
/// stream to end, not longer than making a connection may take.
///
/// # Errors
/// Why there is none.
pub async fn http2(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    limit: Duration,
    limits: Limits,
) -> Result<Ready, Unreachable> {
    let shared = &upstream.shared;
    let mut waiting = Waiting::new(worker, upstream, Line::Http2, (limits.pending, limit));
    loop {
        // Who has waited longer goes first.
        if upstream.queue.has_line(Line::Http2) && !waiting.was_in_line() {
            waiting.turn().await?;
        }
        let mut ready = match shared.take(upstream, worker.now()) {
            Found::Ready(ready) => {
                worker.sink.metrics.reused.add(1);
                ready
            }
            Found::Young => {
                let settings = async {
                    // Then it is taken for what it is known to be.
                    let _ = timeout(SETTINGS_LIMIT, shared.connected.notified()).await;
                };
                waiting.until(settings).await?;
                continue;
            }
            Found::None if shared.connecting.get() => {
                // The one who connects has a limit of its own; then everyone looks again, or fails with it.
                let round = shared.round.get();
                waiting.until(shared.connected.notified()).await?;
                // News of another connection wakes as well: a failure from before is not that of this one.
                if let Some((failed, why)) = &*shared.failed.borrow()
                    && *failed == round
                {
                    return Err(why.clone());
                }
                continue;
            }
            Found::None => match Lease::new(upstream, limits.connections) {
                Some(lease) => {
                    waiting.leave();
                    let connected = connect(worker, upstream, (limit, lease)).await;
                    shared.failed.replace(connected.as_ref().err().map(|why| (shared.round.get(), why.clone())));
                    shared.connected.notify_waiters();
                    connected?
                }
                None => {
                    waiting.turn().await?;
                    continue;
                }
            },
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
    (limit, lease): (Duration, Lease),
) -> Result<Ready, Unreachable> {
    upstream.shared.connecting.set(true);
    upstream.shared.round.set(upstream.shared.round.get() + 1);
    let connecting = Connecting(&upstream.shared);
    let session = Some(SessionProtocol::Http2);
    let (socket, lease) = connect::dial(worker, upstream, session, (limit, lease)).await?;
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
        .initial_max_send_streams(STREAMS_FIRST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(worker.config.head_limits.list_bytes())
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .enable_push(false)
        .handshake(socket);
    let failed = |why: String| Unreachable::connect(format!("HTTP/2 with {}: {why}", upstream.address));
    let (send, connection) = timeout(limit, handshake)
        .await
        .map_err(|_| failed("no handshake in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let streams = Rc::new(Streams { open: Cell::new(0), allowed: Cell::new(STREAMS_FIRST), given_up: Cell::new(0) });
    let asked = match upstream.transport {
        // Servers that are no proxies take frequent pings for an attack.
        Transport::Plain | Transport::Provider(_) => Asked::No,
        Transport::Sidecar { .. } | Transport::Redirected { .. } => Asked::Yes,
    };
    worker.tasks.spawn_local(alive::drive(connection, Rc::clone(&streams), asked, lease));
    let ready = Ready::new(send.clone(), &streams, upstream);
    let now = worker.now();
    upstream.shared.list.borrow_mut().push(Shared { send, streams, made: now, used: now });
    Ok(ready)
}
