//! Time limits of one exchange behind one timer.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Failed;
use crate::{datapath::enforce::TimeLimits, net::deadline::Deadline};
use mesh_core::outcome::Outcome;

/// Watches the limits of an exchange. The timer belongs to the connection and outlives the exchange.
#[derive(Debug)]
pub struct Limits<'a> {
    timer: &'a mut Deadline,
    whole: Option<Instant>,
    head: Option<Instant>,
    idle: std::time::Duration,
    quiet_until: Option<Instant>,
    moved: bool,
}

impl<'a> Limits<'a> {
    /// Limits of an exchange that began at `begun`; an attempt begins now.
    pub fn new(timer: &'a mut Deadline, limits: TimeLimits, begun: Instant) -> Self {
        let whole = limits.request.and_then(|limit| begun.checked_add(limit));
        let now = Instant::now();
        let head = limits.response_headers.and_then(|limit| now.checked_add(limit));
        let mut limits =
            Limits { timer, whole, head, idle: limits.idle, quiet_until: now.checked_add(limits.idle), moved: false };
        limits.aim();
        limits
    }

    /// The response's head came.
    pub fn headed(&mut self) {
        self.head = None;
        self.moved = true;
    }

    /// Something moved.
    pub fn progressed(&mut self) {
        self.moved = true;
    }

    fn aim(&mut self) {
        let next = [self.whole, self.head, self.quiet_until].into_iter().flatten().min();
        self.timer.set_at(next);
    }

    /// Ready once a limit has passed. Asks for the time only here, where the exchange has to wait.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        if std::mem::take(&mut self.moved) {
            self.quiet_until = Instant::now().checked_add(self.idle);
            self.aim();
        }
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let passed = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
        let which = if passed(self.whole) {
            "the request's time limit passed"
        } else if passed(self.head) {
            "no response headers within their time limit"
        } else {
            "no byte in either direction within the idle limit"
        };
        Poll::Ready(Failed::ended(Outcome::Timeout, which))
    }
}
