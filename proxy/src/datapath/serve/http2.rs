//! An HTTP/2 client's connection: every stream is an exchange of its own.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection as Http2, SendResponse},
};
use http::{Method, Request, Uri};
use mesh_core::outcome::Outcome;
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
    net::{deadline::Deadline, http1, socket::Socket},
    telemetry::worker::Protocol,
    worker::{Seat, Worker},
};

/// Exchanges at the same time on one connection.
const STREAMS_MAX: u32 = 256;
/// Bytes of one stream's request that may wait here for a slow endpoint.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes of all streams of a connection that may wait here: as much as all of them together, so that requests to slow
/// endpoints never stop the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX;
/// Bytes that one stream may queue for the connection.
const SEND_BUFFER_MAX: usize = 256 * 1024;
/// Streams that a client reset, and those that we reset, before the connection counts as an attack (CVE-2023-44487).
const RESET_STREAMS_MAX: usize = 50;
/// Streams reset by us because of the client's errors, before the connection is closed.
const ERROR_RESETS_MAX: usize = 256;
/// Longest time for the preface and settings.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
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
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_header_list_size(worker.config.head_limits.list_bytes())
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .handshake(socket);
    let Ok(Ok(http2)) = timeout(HANDSHAKE_LIMIT, handshake).await else { return };
    let connection = Rc::new(connection);
    let seat = worker.drain.seat();
    if let Err(error) = streams(worker, &connection, http2, &seat).await {
        tracing::debug!(peer = %connection.peer, %error, "HTTP/2 connection ended");
    }
}

/// Accepts streams and moves frames until the connection ends.
async fn streams(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    mut http2: Http2<Socket, Bytes>,
    seat: &Seat<'_>,
) -> Result<(), h2::Error> {
    let mut timer = limit(IDLE_LIMIT);
    let mut turn = Deadline::default();
    let last = worker.last_stage(connection.direction);
    let mut leaving = false;
    let mut farewell: Option<Deadline> = None;
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = http2.poll_accept(cx) {
                return Poll::Ready(next);
            }
            let is_last = seat.poll_stage(cx) >= last;
            turn.set_at(worker.leaves_at(connection.direction, &connection.turn));
            let drains = is_last || turn.poll(cx).is_ready();
            let idle = timer.poll(cx).is_ready();
            if idle && http2.has_streams() {
                timer.set(IDLE_LIMIT);
                let _ = timer.poll(cx);
            }
            if !leaving && (drains || (idle && !http2.has_streams())) {
                leaving = true;
                http2.graceful_shutdown();
                if let Poll::Ready(next) = http2.poll_accept(cx) {
                    return Poll::Ready(next);
                }
            }
            if !leaving || http2.has_streams() {
                farewell = None;
                return Poll::Pending;
            }
            farewell.get_or_insert_with(|| limit(FAREWELL_LIMIT)).poll(cx).map(|()| None)
        });
        match next.await {
            Some(Ok((request, respond))) => {
                timer.set(IDLE_LIMIT);
                let stream = stream(Rc::clone(worker), Rc::clone(connection), request, respond);
                worker.tasks.spawn_local(stream);
            }
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
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
