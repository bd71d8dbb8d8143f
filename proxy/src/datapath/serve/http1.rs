//! An HTTP/1 client's connection.

use std::{future::poll_fn, io, rc::Rc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use mesh_core::{
    model::route::Target,
    outcome::Outcome,
    shedding::{Pressure, Shed},
};

use crate::{
    datapath::{
        self,
        accept::{Accepted, Announced, Connection, Destination},
        answer::Answer,
        exchange::{Ended, Tunnel, exchange},
        message::RequestHead,
        relay::{self, Downstream, End, Farewell, Http1Downstream, Speech},
        report::Exchange,
        wire::Wire,
    },
    net::{
        deadline::Deadline,
        http1::{self as codec, Malformed, Persistence, TargetForm},
        memory,
    },
    telemetry::worker::Protocol,
    worker::{Role, Seat, Stage, Worker},
};

/// Longest time from the first byte of a request's head to its last.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for another request; longer than the pools of sidecars keep connections.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
/// How long a connection that was just made is kept for its first request when the proxy takes nothing new any more: its
/// client, who sends at once, could not know whether a request on it was taken.
const FIRST_LIMIT: Duration = Duration::from_secs(1);
/// How long and how much is read and thrown away after the last answer, so that the client can read it before a reset:
/// more than what the socket buffers of both sides hold.
const LINGER_LIMIT: Duration = Duration::from_secs(2);
const LINGER_MAX: usize = 16 * 1024 * 1024;
/// The same time while memory runs short.
const LINGER_SHORT: Duration = Duration::from_millis(100);

/// What came next on the connection.
enum Next {
    Request(codec::RequestHead),
    Refused(Malformed),
    /// The head did not come in time.
    Slow,
    /// Nothing more comes.
    End,
    /// Nothing came for so long, or the proxy drains, that we end it.
    Leave,
}

/// Serves an HTTP/1 client until its connection ends.
pub async fn http1(worker: &Rc<Worker>, accepted: Accepted) {
    let Accepted { connection, socket, buffer, .. } = accepted;
    let mut wire = Wire::new(socket, buffer, worker.config.head_limits);
    let mut timer = Deadline::default();
    let seat = worker.drain.seat();
    let last = worker.last_stage(connection.direction);
    let mut past = Past::Nothing;
    loop {
        connection.guest.rests(worker.now());
        let head = match next(&mut wire, &mut timer, (&seat, last), past).await {
            Ok(Next::Request(head)) => head,
            Ok(Next::Refused(malformed)) => return refuse(worker, &connection, wire, malformed).await,
            Ok(Next::Slow) => return too_slow(worker, &connection, wire).await,
            Ok(Next::Leave) => return linger(wire).await,
            Ok(Next::End) | Err(_) => return,
        };
        connection.guest.works();
        if connection.to == Destination::ByRequest && head.target_form() == TargetForm::Authority {
            drop(seat);
            return Box::pin(connect(worker, connection, wire, &head)).await;
        }
        match one(worker, &connection, &mut wire, &mut timer, head).await {
            After::Keep => past = Past::Requests,
            After::Close => {
                connection.guest.rests(worker.now());
                return linger(wire).await;
            }
            After::Cut => return wire.cut(),
            After::Drop => return,
            After::Tunnel(tunnel) => {
                drop(seat);
                return run_tunnel(worker, wire, *tunnel).await;
            }
        }
    }
}

/// What a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    Nothing,
    Requests,
}

/// Waits for the head of a request, up to the `last` stage of this proxy's way down.
async fn next(wire: &mut Wire, timer: &mut Deadline, (seat, last): (&Seat<'_>, Stage), past: Past) -> io::Result<Next> {
    timer.set(IDLE_LIMIT);
    let (mut begun, mut leaves) = (false, false);
    poll_fn(|cx| {
        loop {
            match wire.reader.request(&mut wire.buffer) {
                Ok(Some(head)) => return Poll::Ready(Ok(Next::Request(head))),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Ok(Next::Refused(malformed))),
            }
            if wire.ended {
                return Poll::Ready(Ok(Next::End));
            }
            if !begun && !wire.buffer.is_empty() {
                begun = true;
                timer.set(HEAD_LIMIT);
            }
            let readable = wire.poll_readable(cx)?;
            if readable.is_ready() && wire.poll_read(cx)?.is_ready() {
                continue;
            }
            if seat.poll_stage(cx) >= last && !begun && !leaves {
                match past {
                    Past::Requests => return Poll::Ready(Ok(Next::Leave)),
                    Past::Nothing => timer.set(FIRST_LIMIT),
                }
                leaves = true;
            }
            return timer.poll(cx).map(|()| Ok(if begun { Next::Slow } else { Next::Leave }));
        }
    })
    .await
}

enum After {
    Keep,
    /// The last answer was given: end in order.
    Close,
    /// Something is missing that the client cannot know of: reset.
    Cut,
    /// Something is missing that the client sees: end, not in order.
    Drop,
    Tunnel(Box<Tunnel>),
}

/// One exchange, and what it leaves of the connection.
async fn one(
    worker: &Rc<Worker>,
    connection: &Connection,
    wire: &mut Wire,
    timer: &mut Deadline,
    head: codec::RequestHead,
) -> After {
    let mut record = Exchange::open(worker, connection.direction, Protocol::Http1, connection.peer);
    let leaves = worker.must_leave(connection.direction, &connection.turn);
    let allowed = if leaves { Persistence::Close } else { Persistence::Keep };
    let mut down = Downstream::Http1(Http1Downstream::new(wire, &head, allowed));
    record.head = Some(RequestHead::Http1(head));
    let ended = exchange(worker, connection, record, &mut down, timer).await;
    let Downstream::Http1(side) = down else { return After::Cut };
    match ended {
        Ended::Tunnel(tunnel) => After::Tunnel(tunnel),
        Ended::Broken => {
            let by_close = side.ends_by_close();
            // What came of the response is passed on; whoever counts or reads chunks sees that some is missing.
            let patience = if worker.pressure() == Pressure::None { LINGER_LIMIT } else { Duration::ZERO };
            let sent = tokio::time::timeout(patience, poll_fn(|cx| wire.poll_flush(cx))).await;
            if by_close || !matches!(sent, Ok(Ok(()))) { After::Cut } else { After::Drop }
        }
        Ended::Answered => {
            let keep = side.persistence() == Persistence::Keep && side.has_whole_request();
            // What an answer of ours left to be sent; the limit of the exchange holds for it, too.
            let flushed = poll_fn(|cx| {
                if let Poll::Ready(result) = wire.poll_flush(cx) {
                    return Poll::Ready(result.is_ok());
                }
                timer.poll(cx).map(|()| false)
            });
            match (flushed.await, keep) {
                (true, true) => After::Keep,
                (true, false) => After::Close,
                (false, _) => After::Cut,
            }
        }
    }
}

/// Says that nothing more comes, and lets the client read what was said: closing with unread bytes would reset the
/// connection and could take the answer with it (RFC 9112 9.6).
async fn linger(wire: Wire) {
    let (mut socket, mut buffer) = wire.into_parts();
    let mut discarded = 0;
    let discard = async {
        tokio::io::AsyncWriteExt::shutdown(&mut socket).await?;
        while discarded < LINGER_MAX {
            buffer.clear();
            buffer.reserve(8 * 1024);
            match poll_fn(|cx| socket.poll_fill(cx, &mut buffer)).await? {
                0 => break,
                count => discarded += count,
            }
        }
        Ok::<(), io::Error>(())
    };
    // A client that goes on sending, or is gone, loses the rest.
    let limit = if memory::pressure() == Pressure::None { LINGER_LIMIT } else { LINGER_SHORT };
    let _ = tokio::time::timeout(limit, discard).await;
}

async fn say_last(mut wire: Wire, bytes: BytesMut) {
    wire.push(Bytes::from(bytes));
    let sent = tokio::time::timeout(LINGER_LIMIT, poll_fn(|cx| wire.poll_flush(cx))).await;
    if matches!(sent, Ok(Ok(()))) {
        linger(wire).await;
    }
}

async fn refuse(worker: &Rc<Worker>, connection: &Connection, wire: Wire, malformed: Malformed) {
    let mut record = Exchange::open(worker, connection.direction, Protocol::Http1, connection.peer);
    let outcome = if malformed.status() == 431 { Outcome::HeadersTooLarge } else { Outcome::BadRequest };
    record.status = malformed.status();
    record.detail = Some(malformed.to_string());
    let answer = Answer::new(outcome, Some(malformed.status()), &malformed.to_string());
    record.finish(outcome);
    if let Some(answer) = answer {
        say_last(wire, answer.to_bytes()).await;
    }
}

async fn too_slow(worker: &Rc<Worker>, connection: &Connection, wire: Wire) {
    worker.shed(Shed::SlowHead);
    let mut record = Exchange::open(worker, connection.direction, Protocol::Http1, connection.peer);
    record.status = Outcome::ClientTimeout.status();
    record.finish(Outcome::ClientTimeout);
    if let Some(answer) = Answer::new(Outcome::ClientTimeout, None, "the request's head did not come in time") {
        say_last(wire, answer.to_bytes()).await;
    }
}

/// CONNECT to us as an explicit proxy: what is inside is looked into as if it had been captured.
async fn connect(worker: &Rc<Worker>, connection: Connection, mut wire: Wire, head: &codec::RequestHead) {
    if worker.config.role == Role::Gateway {
        let detail = "a gateway makes no tunnels into the mesh";
        return reject(worker, &connection, wire, Outcome::Denied, detail).await;
    }
    let (Some(host), Some(port)) = (head.host(), head.port()) else { return };
    let target = Target::Authority(host.to_ascii_lowercase().into(), port);
    match datapath::enforce::outbound_connection(worker, &target).await {
        Ok((_, Some(_))) => {}
        Ok((_, None)) => {
            let detail = format!("{target} is no service of the mesh");
            return reject(worker, &connection, wire, Outcome::NoRoute, &detail).await;
        }
        Err(refused) => return reject(worker, &connection, wire, refused.outcome, &refused.detail).await,
    }
    codec::write_status_line(wire.out(), 200, b"Connection established");
    codec::end_head(wire.out());
    if !matches!(tokio::time::timeout(HEAD_LIMIT, poll_fn(|cx| wire.poll_flush(cx))).await, Ok(Ok(()))) {
        return;
    }
    let (socket, buffer) = wire.into_parts();
    let connection = Connection { to: Destination::Target(target), ..connection };
    let inside = Accepted { connection, socket, buffer, announced: Announced::Nothing };
    datapath::session(worker, inside).await;
}

async fn reject(worker: &Rc<Worker>, connection: &Connection, wire: Wire, outcome: Outcome, detail: &str) {
    let mut record = Exchange::open(worker, connection.direction, Protocol::Http1, connection.peer);
    record.status = outcome.status();
    record.detail = Some(detail.to_owned());
    record.finish(outcome);
    if let Some(answer) = Answer::new(outcome, None, detail) {
        say_last(wire, answer.to_bytes()).await;
    }
}

/// Copies the bytes of an upgrade or CONNECT until both sides have ended.
async fn run_tunnel(worker: &Worker, mut wire: Wire, tunnel: Tunnel) {
    let Tunnel { upstream, mut exchange, plan, in_flight: _in_flight } = tunnel;
    exchange.lasts();
    // The answer that made the tunnel.
    if !matches!(tokio::time::timeout(HEAD_LIMIT, poll_fn(|cx| wire.poll_flush(cx))).await, Ok(Ok(()))) {
        return exchange.finish(Outcome::ClientGone);
    }
    let (mut client, client_read) = wire.into_parts();
    let (server_wire, _lease) = upstream.into_tunnel();
    let (mut server, server_read) = server_wire.into_parts();
    let client_end = End { socket: &mut client, read: client_read };
    let server_end = End { socket: &mut server, read: server_read };
    let farewell = match &exchange.head {
        Some(RequestHead::Http1(head)) if head.upgrade().is_some_and(|to| to.eq_ignore_ascii_case(b"websocket")) => {
            Farewell::of(worker, exchange.direction())
        }
        Some(_) | None => None,
    };
    let done = relay::tunnel(client_end, Speech::Anything, server_end, plan.limits.idle, farewell).await;
    exchange.bytes_in += done.bytes_in;
    exchange.bytes_out += done.bytes_out;
    match done.result {
        Ok(()) => exchange.finish(Outcome::Success),
        Err(error) => {
            client.cut();
            server.cut();
            exchange.detail = Some(error.to_string());
            exchange.finish(Outcome::UpstreamIncomplete);
        }
    }
}
