//! Pooled HTTP/1 connections: without a task while idle; looked at when taken, and discarded if anything came.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::BytesMut;
use mesh_core::{model::policy::Limits, retry::Idempotence};

use super::{
    Unreachable, connect,
    queue::{Line, Waiting},
    upstream::{Transport, Upstream},
};
use crate::{
    datapath::wire::Wire,
    net::{socket::Socket, transport_header::SessionProtocol},
    worker::{Stage, Worker},
};

/// Idle connections kept per instance and worker; more are closed.
const IDLE_MAX: usize = 256;
/// Idle connections are closed after this, before sidecars (2 min) and usual servers (60 to 75 s) close them.
const IDLE_LIMIT: Duration = Duration::from_secs(50);
/// A connection that will be closed so soon is renewed where one is kept ready.
pub(super) const SOON: Duration = Duration::from_secs(12);
/// An application may close idle connections early (Node after 5 s). What cannot be repeated goes on one that was used
/// so lately that this has not happened.
const IDLE_FRESH: Duration = Duration::from_secs(1);

/// A place among the open connections of an instance.
#[derive(Debug)]
pub struct Lease(Rc<Upstream>);

impl Lease {
    /// A place for a new connection, where no more than `limit` may be open.
    pub(super) fn new(upstream: &Rc<Upstream>, limit: u32) -> Option<Self> {
        upstream.has_room(limit).then(|| Lease::of(upstream))
    }

    /// The place of a connection that was idle.
    fn of(upstream: &Rc<Upstream>) -> Self {
        upstream.open.set(upstream.open.get() + 1);
        Lease(Rc::clone(upstream))
    }

    /// The instance.
    pub(super) fn upstream(&self) -> &Rc<Upstream> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        // Ended, or idle from now on: either will do for both.
        self.0.queue.next(Line::Http1);
        self.0.queue.next(Line::Http2);
    }
}

/// A connection taken for one exchange.
#[derive(Debug)]
pub struct Pooled {
    /// The connection.
    pub wire: Wire,
    /// Whether it carried an exchange before.
    pub reused: bool,
    lease: Lease,
}

impl Pooled {
    /// Puts the connection back if nothing stands in the way of another exchange.
    pub fn give_back(self, worker: &Worker) {
        if self.wire.is_clean() && worker.drain.stage() < Stage::Done {
            self.lease.0.idle.put(Idle { wire: self.wire, since: worker.now() });
        }
    }

    /// The parts, for a tunnel.
    pub fn into_parts(self) -> (Wire, Lease) {
        (self.wire, self.lease)
    }
}

#[derive(Debug)]
struct Idle {
    wire: Wire,
    since: Duration,
}

/// Idle connections of one instance, latest last.
#[derive(Debug, Default)]
pub struct IdleConnections(RefCell<VecDeque<Idle>>);

impl IdleConnections {
    fn put(&self, mut idle: Idle) {
        idle.wire.rest();
        let mut list = self.0.borrow_mut();
        if list.len() >= IDLE_MAX {
            list.pop_front();
        }
        list.push_back(idle);
    }

    /// The connection used last, if it is still as it was left.
    fn take(&self, now: Duration, oldest: Duration) -> Option<Wire> {
        loop {
            let mut idle = self.0.borrow_mut().pop_back()?;
            let age = now.saturating_sub(idle.since);
            if age > oldest {
                // Those before it are older still, but may do for others.
                self.0.borrow_mut().push_back(idle);
                return None;
            }
            let mut cx = Context::from_waker(Waker::noop());
            // Bytes that nobody asked for, the end, an error: all make it unfit.
            if idle.wire.poll_readable(&mut cx).is_pending() {
                return Some(idle.wire);
            }
        }
    }

    /// Whether one is there that is as it was left, and will not be closed soon. Those that are not are let go.
    pub(super) fn has_lasting(&self, now: Duration) -> bool {
        let mut list = self.0.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        list.retain_mut(|idle| idle.wire.poll_readable(&mut cx).is_pending());
        list.back().is_some_and(|idle| now.saturating_sub(idle.since) + SOON < IDLE_LIMIT)
    }

    /// Closes what will be closed soon.
    pub(super) fn drop_fading(&self, now: Duration) {
        self.0.borrow_mut().retain(|idle| now.saturating_sub(idle.since) + SOON < IDLE_LIMIT);
    }

    /// Closes what is idle too long.
    pub(super) fn sweep(&self, now: Duration) {
        let mut list = self.0.borrow_mut();
        while list.front().is_some_and(|idle| now.saturating_sub(idle.since) > IDLE_LIMIT) {
            list.pop_front();
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        // Bounded by `IDLE_MAX`.
        self.0.borrow().len() as u32
    }

    /// Closes the one that has been idle longest; false where there is none.
    pub(super) fn drop_oldest(&self) -> bool {
        self.0.borrow_mut().pop_front().is_some()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A connection to an instance for one HTTP/1 exchange. Where `limits.connections` are open, it waits for one of them, not
/// longer than making one may take.
///
/// # Errors
/// Why there is none.
pub async fn http1(
    worker: &Worker,
    upstream: &Rc<Upstream>,
    idempotence: Idempotence,
    limit: Duration,
    limits: Limits,
) -> Result<Pooled, Unreachable> {
    let fresh = upstream.transport == Transport::Plain && idempotence == Idempotence::NotIdempotent;
    let oldest = if fresh { IDLE_FRESH } else { IDLE_LIMIT };
    let mut waiting = Waiting::new(worker, upstream, Line::Http1, (limits.pending, limit));
    loop {
        // Who has waited longer goes first.
        if upstream.queue.has_line(Line::Http1) && !waiting.was_in_line() {
            waiting.turn().await?;
        }
        if let Some(wire) = upstream.idle.take(worker.now(), oldest) {
            worker.sink.metrics.reused.add(1);
            return Ok(Pooled { wire, reused: true, lease: Lease::of(upstream) });
        }
        if let Some(lease) = Lease::new(upstream, limits.connections) {
            waiting.leave();
            let session = Some(SessionProtocol::Http1);
            let (socket, lease) = connect::dial(worker, upstream, session, (limit, lease)).await?;
            return Ok(new(worker, socket, lease));
        }
        waiting.turn().await?;
    }
}

/// A connection that was just made.
pub(super) fn new(worker: &Worker, socket: Socket, lease: Lease) -> Pooled {
    Pooled { wire: Wire::new(socket, BytesMut::new(), worker.config.head_limits), reused: false, lease }
}
