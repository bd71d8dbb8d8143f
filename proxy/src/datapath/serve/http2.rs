//! An HTTP/2 client's connection: every stream is an exchange of its own.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection as Http2, SendResponse},
};
use http::{Method, Request, Uri};
use mesh_core::{
    outcome::Outcome,
    shedding::{Pressure, Shed},
};
use tokio::time::timeout;

use crate::{
    datapath::{
        accept::{Accepted, Connection},
        answer::Answer,
        exchange::{Ended, exchange},
        message::{Headers, Http2Head, RequestHead},
        relay::{Downstream, Http2Downstream},
        report::Exchange,
    },
    net::{
        deadline::Deadline,
        http1,
        metered::{Frames, Metered},
    },
    telemetry::worker::Protocol,
    worker::{Seat, Stage, Worker},
};

/// Exchanges at the same time on one connection.
const STREAMS_MAX: u32 = 256;
/// Bytes of one stream's request that may wait here for a slow endpoint.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of all streams of a connection that may wait here: as much as all of them together, so that requests to slow
/// endpoints never stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX;
/// The same while memory is short.
const CONNECTION_WINDOW_SHORT: u32 = 4 * STREAM_WINDOW;
/// Bytes that one stream may queue for the connection.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Streams that a client reset before they were looked at, before the connection counts as an attack (CVE-2023-44487).
const RESET_STREAMS_MAX: usize = 50;
/// Streams reset by us whose late frames are still forgiven: all of a connection, since all may be answered early at once.
const FORGIVEN_STREAMS_MAX: usize = STREAMS_MAX as usize;
/// Streams reset by us because of the client's errors, before the connection is closed.
const ERROR_RESETS_MAX: usize = 256;
/// Longest time for the preface and settings.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Longest time from the first byte of a header block to its last.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Longest time for an answer of ours to fit into the client's window.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest time for a client without streams to acknowledge that it is to go away: h2 ends the connection only then.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
/// A connection without stream is closed after this.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// Serves an HTTP/2 client until its connection ends.
pub async fn http2(worker: &Rc<Worker>, accepted: Accepted) {
    let Accepted { connection, mut socket, buffer, .. } = accepted;
    socket.unread(buffer);
    let (metered, frames) = Metered::client(socket);
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(worker.config.head_limits.list_bytes())
        .max_concurrent_reset_streams(FORGIVEN_STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .handshake(metered);
    let Ok(Ok(http2)) = timeout(HANDSHAKE_LIMIT, handshake).await else { return };
    let connection = Rc::new(connection);
    let mut client = Client::new(worker, &connection, http2, frames);
    loop {
        match poll_fn(|cx| client.poll_next(cx)).await {
            Some(Ok((request, respond))) => {
                let stream = stream(Rc::clone(worker), Rc::clone(&connection), request, respond);
                worker.tasks.spawn_local(stream);
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %connection.peer, %error, "HTTP/2 connection ended");
                return;
            }
            None => return,
        }
    }
}

/// How a connection is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// What is under way goes on.
    InOrder,
    /// Its client misbehaves.
    AtOnce,
}

type Next = Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The connection of a client.
struct Client<'a> {
    worker: &'a Worker,
    connection: &'a Connection,
    http2: Http2<Metered, Bytes>,
    frames: Rc<Frames>,
    seat: Seat<'a>,
    last: Stage,
    idle: Deadline,
    turn: Deadline,
    /// Passes when a header block that has begun is late.
    block: Option<Deadline>,
    leaving: Leaving,
    farewell: Option<Deadline>,
    window: u32,
}

impl<'a> Client<'a> {
    fn new(worker: &'a Worker, connection: &'a Connection, http2: Http2<Metered, Bytes>, frames: Rc<Frames>) -> Self {
        Client {
            worker,
            connection,
            http2,
            frames,
            seat: worker.drain.seat(),
            last: worker.last_stage(connection.direction),
            idle: limit(IDLE_LIMIT),
            turn: Deadline::default(),
            block: None,
            leaving: Leaving::No,
            farewell: None,
            window: CONNECTION_WINDOW,
        }
    }

    /// Moves frames until a stream comes, or the connection ends.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(next) = self.poll_accept(cx) {
            return Poll::Ready(next);
        }
        if self.leaving != Leaving::AtOnce && self.is_abused(cx) {
            self.leaving = Leaving::AtOnce;
            self.http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.farewell = Some(limit(FAREWELL_LIMIT));
            if let Poll::Ready(next) = self.poll_accept(cx) {
                return Poll::Ready(next);
            }
        }
        if self.leaving == Leaving::No && self.must_leave(cx) {
            self.leaving = Leaving::InOrder;
            self.http2.graceful_shutdown();
            if let Poll::Ready(next) = self.poll_accept(cx) {
                return Poll::Ready(next);
            }
        }
        match self.leaving {
            Leaving::AtOnce => {}
            Leaving::InOrder if !self.http2.has_streams() => {}
            Leaving::No | Leaving::InOrder => {
                self.farewell = None;
                return Poll::Pending;
            }
        }
        self.farewell.get_or_insert_with(|| limit(FAREWELL_LIMIT)).poll(cx).map(|()| None)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.fit_window();
        let next = self.http2.poll_accept(cx);
        match &next {
            Poll::Ready(Some(Ok(_))) => {
                self.idle.set(IDLE_LIMIT);
                self.connection.guest.works();
            }
            Poll::Pending if !self.http2.has_streams() => self.connection.guest.rests(self.worker.now()),
            Poll::Pending | Poll::Ready(Some(Err(_)) | None) => {}
        }
        next
    }

    /// While memory is short, less of requests waits here for slow endpoints.
    fn fit_window(&mut self) {
        let window = match self.worker.pressure() {
            Pressure::None | Pressure::Tight => CONNECTION_WINDOW,
            Pressure::Short | Pressure::Full | Pressure::Over => CONNECTION_WINDOW_SHORT,
        };
        if window != self.window {
            self.window = window;
            self.http2.set_target_window_size(window);
        }
    }

    /// Whether there was too much of something, or a header block does not become whole.
    fn is_abused(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(flood) = self.frames.flood() {
            self.worker.sink.metrics.floods[flood as usize].add(1);
            tracing::debug!(peer = %self.connection.peer, %flood, "an HTTP/2 connection is ended: too many such frames");
            return true;
        }
        if !self.frames.is_inside_block() {
            self.block = None;
            return false;
        }
        let is_late = self.block.get_or_insert_with(|| limit(HEAD_LIMIT)).poll(cx).is_ready();
        if is_late {
            self.worker.shed(Shed::SlowHead);
        }
        is_late
    }

    /// Whether the connection is to be ended in order: the proxy drains, or nothing is under way for too long.
    fn must_leave(&mut self, cx: &mut Context<'_>) -> bool {
        let is_last = self.seat.poll_stage(cx) >= self.last;
        let direction = self.connection.direction;
        self.turn.set_at(self.worker.leaves_at(direction, &self.connection.turn));
        let drains = is_last || self.turn.poll(cx).is_ready();
        let idle = self.idle.poll(cx).is_ready();
        if idle && self.http2.has_streams() {
            self.idle.set(IDLE_LIMIT);
            let _ = self.idle.poll(cx);
        }
        drains || (idle && !self.http2.has_streams())
    }
}

/// A limit that passes so long from now.
fn limit(after: Duration) -> Deadline {
    let mut deadline = Deadline::default();
    deadline.set(after);
    deadline
}

/// One stream.
async fn stream(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let _counted = connection.guest.begin();
    let mut record = Exchange::open(&worker, connection.direction, Protocol::Http2, connection.peer);
    let (parts, receive) = request.into_parts();
    let mut side = Http2Downstream::new(receive, respond);
    let Some(head) = head(parts) else {
        record.detail = Some(":authority and Host differ, or name no host".to_owned());
        side.reset(Reason::PROTOCOL_ERROR);
        return record.finish(Outcome::BadRequest);
    };
    let too_long = head.too_long(worker.config.head_limits);
    record.head = Some(RequestHead::Http2(Box::new(head)));
    let mut down = Downstream::Http2(side);
    if let Some(why) = too_long {
        refuse(record, &mut down, why);
        return flush(&mut down).await;
    }
    let mut timer = Deadline::default();
    match exchange(&worker, &connection, record, &mut down, &mut timer).await {
        Ended::Answered => flush(&mut down).await,
        Ended::Broken => {}
        Ended::Tunnel(_) => down.abort(),
    }
}

/// Sends what an answer of ours left to be sent. Where the request was answered early, h2 tells the client that the rest of
/// it is not needed (RFC 9113 8.1) once the answer is out: a reset from here would overtake it.
async fn flush(down: &mut Downstream<'_>) {
    let flushed = timeout(ANSWER_LIMIT, poll_fn(|cx| down.poll_flush(cx))).await;
    if flushed.is_err() {
        down.abort();
    }
}

/// Answers a request whose head is too long.
fn refuse(mut record: Exchange, down: &mut Downstream<'_>, why: String) {
    let outcome = Outcome::HeadersTooLarge;
    if let Some(answer) = Answer::new(outcome, None, &why) {
        record.status = answer.status;
        answer.give(down, record.head.as_ref());
    }
    record.detail = Some(why);
    record.finish(outcome);
}

/// The head as the steps see it; `None` where `:authority` and Host contradict each other (RFC 9113 8.3.1).
fn head(parts: http::request::Parts) -> Option<Http2Head> {
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().ok()?),
        (Some(_), Some(_)) => return None,
    };
    let authority = match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) if !authority.as_str().eq_ignore_ascii_case(host) => return None,
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, Some(host)) => host.to_owned(),
        (None, None) => String::new(),
    };
    // A CONNECT says where to in `:authority` alone (RFC 9113 8.5).
    let is_aimless = parts.method == Method::CONNECT && parts.uri.authority().is_none();
    let is_malformed = !authority.is_empty() && !http1::is_authority(authority.as_bytes());
    if is_aimless || is_malformed {
        return None;
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>().cloned();
    let uri = with_authority(parts.uri, &authority, &parts.method)?;
    Some(Http2Head { method: parts.method, uri, headers: Headers(parts.headers), authority, protocol })
}

/// The next hop is told the authority in the one place that HTTP/2 has for it.
fn with_authority(uri: Uri, authority: &str, method: &Method) -> Option<Uri> {
    if uri.authority().is_some() || authority.is_empty() || *method == Method::CONNECT {
        return Some(uri);
    }
    let mut parts = uri.into_parts();
    parts.authority = Some(authority.parse().ok()?);
    parts.scheme.get_or_insert(http::uri::Scheme::HTTP);
    Uri::from_parts(parts).ok()
}
