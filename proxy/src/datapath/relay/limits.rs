//! Time limits of one exchange behind one timer.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::{outcome::Outcome, retry::Failure};
use tokio::time::Instant;

use super::Failed;
use crate::{datapath::enforce::TimeLimits, net::deadline::Deadline};

/// Watches the limits of an exchange. The timer belongs to the connection and outlives the exchange.
#[derive(Debug)]
pub struct Limits<'a> {
    timer: &'a mut Deadline,
    whole: Option<Instant>,
    head: Option<Instant>,
    attempt: Option<Instant>,
    idle: Duration,
    quiet_until: Option<Instant>,
    moved: bool,
}

impl<'a> Limits<'a> {
    /// Limits of an exchange that began at `begun`; an attempt begins `now`.
    pub fn new(timer: &'a mut Deadline, limits: TimeLimits, begun: Instant, now: Instant) -> Self {
        let after = |from: Instant, limit: Option<Duration>| limit.and_then(|limit| from.checked_add(limit));
        let mut limits = Limits {
            timer,
            whole: after(begun, limits.request),
            head: after(now, limits.response_headers),
            attempt: after(now, limits.attempt),
            idle: limits.idle,
            quiet_until: now.checked_add(limits.idle),
            moved: false,
        };
        limits.aim();
        limits
    }

    /// The response's head came.
    pub fn headed(&mut self) {
        self.head = None;
        self.attempt = None;
    }

    /// Something moved. Costs nothing: the idle limit is moved when its timer fires.
    pub fn progressed(&mut self) {
        self.moved = true;
    }

    fn aim(&mut self) {
        let next = [self.whole, self.head, self.attempt, self.quiet_until].into_iter().flatten().min();
        self.timer.set_at(next);
    }

    /// Ready once a limit has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        loop {
            ready!(self.timer.poll(cx));
            let now = Instant::now();
            let passed = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
            if passed(self.whole) {
                return Poll::Ready(Failed::ended(Outcome::Timeout, "the request's time limit passed"));
            }
            if passed(self.head) {
                return Poll::Ready(Failed::ended(Outcome::Timeout, "no response headers within their time limit"));
            }
            if passed(self.attempt) {
                let detail = "no response headers within the time limit of one attempt".to_owned();
                let failure = Some(Failure::TryTimeout);
                return Poll::Ready(Failed { outcome: Outcome::Timeout, failure, detail, status: None });
            }
            if passed(self.quiet_until) {
                if !std::mem::take(&mut self.moved) {
                    let why = "no byte in either direction within the idle limit";
                    return Poll::Ready(Failed::ended(Outcome::Timeout, why));
                }
                self.quiet_until = now.checked_add(self.idle);
            }
            self.aim();
        }
    }
}
