//! Exchanges that wait until one instance has a connection for them: none is free and no further one may be opened, or one
//! is being made. They are served in the order in which they came; how many wait, and how long, is bounded.

use std::{cell::Cell, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Unreachable, upstream::Upstream};
use crate::worker::Worker;

/// Who waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// For an HTTP/1 connection.
    Http1,
    /// For a stream, or an HTTP/2 connection.
    Http2,
}

/// Exchanges that wait at one instance.
#[derive(Debug, Default)]
pub struct Queue {
    /// All of them.
    waiting: Cell<u32>,
    /// Those in line, by [`Line`]. The others wait for a connection that is being made.
    in_line: [Cell<u32>; 2],
    turns: [Notify; 2],
}

impl Queue {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.get() == 0
    }

    /// Whether somebody is in line, who was here before whoever comes now.
    pub(super) fn has_line(&self, line: Line) -> bool {
        self.in_line[line as usize].get() > 0
    }

    /// A place became free that the first in line may take.
    pub(super) fn next(&self, line: Line) {
        if self.has_line(line) {
            self.turns[line as usize].notify_one();
        }
    }

    /// There may be room for all in line.
    pub(super) fn all(&self, line: Line) {
        self.turns[line as usize].notify_waiters();
    }
}

/// One exchange, which may come to wait.
pub(super) struct Waiting<'a> {
    worker: &'a Worker,
    upstream: &'a Upstream,
    line: Line,
    /// Most that may wait.
    pending: u32,
    /// How long it may be in line.
    limit: Duration,
    until: Option<Instant>,
    is_in_line: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        upstream: &'a Upstream,
        line: Line,
        (pending, limit): (u32, Duration),
    ) -> Self {
        Waiting { worker, upstream, line, pending, limit, until: None, is_in_line: false }
    }

    /// Whether it has waited, so that those in line are behind it.
    pub(super) fn was_in_line(&self) -> bool {
        self.is_in_line
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// Too many wait already, or it has waited too long.
    pub(super) async fn turn(&mut self) -> Result<(), Unreachable> {
        self.join()?;
        if !self.is_in_line {
            self.is_in_line = true;
            let in_line = &self.upstream.queue.in_line[self.line as usize];
            in_line.set(in_line.get() + 1);
        }
        let until = self.until.unwrap_or_else(Instant::now);
        let turn = self.upstream.queue.turns[self.line as usize].notified();
        timeout_at(until, turn).await.map_err(|_| self.refused("no connection to it became free in time"))
    }

    /// Waits for something that bounds its time by itself.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn until(&mut self, done: impl Future<Output = ()>) -> Result<(), Unreachable> {
        self.join()?;
        done.await;
        Ok(())
    }

    fn join(&mut self) -> Result<(), Unreachable> {
        if self.until.is_some() {
            return Ok(());
        }
        let waiting = &self.upstream.queue.waiting;
        if waiting.get() >= self.pending {
            return Err(self.refused("as many exchanges as may wait for a connection to it do"));
        }
        self.worker.sink.metrics.waits.add(1);
        waiting.set(waiting.get() + 1);
        self.until = Some(Instant::now() + self.limit);
        Ok(())
    }

    /// It waits no longer: those behind it need not wait for it.
    pub(super) fn leave(&mut self) {
        let queue = &self.upstream.queue;
        if self.until.take().is_some() {
            queue.waiting.set(queue.waiting.get() - 1);
        }
        if std::mem::take(&mut self.is_in_line) {
            let in_line = &queue.in_line[self.line as usize];
            in_line.set(in_line.get() - 1);
        }
    }

    fn refused(&self, why: &str) -> Unreachable {
        self.worker.sink.metrics.waits_refused.add(1);
        Unreachable::overloaded(format!("{}: {why}", self.upstream.address))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
