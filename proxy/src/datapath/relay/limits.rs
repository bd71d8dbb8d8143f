//! Time limits of one exchange behind one timer.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::{outcome::Outcome, retry::Failure};
use tokio::time::Instant;

use super::Failed;
use crate::{datapath::enforce::TimeLimits, net::deadline::Deadline};

/// An answer that is not there after this makes somebody look whether its endpoint can be reached at all …
const LOOK_AFTER: Duration = Duration::from_secs(3);
/// … again and again, so often. Together with what core calls lost: how long a request waits for one that is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Debug)]
pub enum Due {
    /// A limit has passed.
    Over(Failed),
    /// The answer is late: is the endpoint there at all?
    Look,
}

/// Watches the limits of an exchange. The timer belongs to the connection and outlives the exchange.
#[derive(Debug)]
pub struct Limits<'a> {
    timer: &'a mut Deadline,
    whole: Option<Instant>,
    head: Option<Instant>,
    attempt: Option<Instant>,
    idle: Duration,
    quiet_until: Option<Instant>,
    look: Option<Instant>,
    moved: bool,
}

impl<'a> Limits<'a> {
    /// Limits of an exchange that began at `begun`, and of an attempt that began at `attempted` and sends its request `now`.
    pub fn new(
        timer: &'a mut Deadline,
        limits: TimeLimits,
        begun: Instant,
        (attempted, now): (Instant, Instant),
    ) -> Self {
        let after = |from: Instant, limit: Option<Duration>| limit.and_then(|limit| from.checked_add(limit));
        let mut limits = Limits {
            timer,
            whole: after(begun, limits.request),
            head: after(now, limits.response_headers),
            attempt: after(attempted, limits.attempt),
            idle: limits.idle,
            quiet_until: now.checked_add(limits.idle),
            look: now.checked_add(LOOK_AFTER),
            moved: false,
        };
        limits.aim();
        limits
    }

    /// The response's head came.
    pub fn headed(&mut self) {
        self.head = None;
        self.attempt = None;
        self.look = None;
    }

    /// Something moved. Costs nothing: the idle limit is moved when its timer fires.
    pub fn progressed(&mut self) {
        self.moved = true;
    }

    fn aim(&mut self) {
        let next = [self.whole, self.head, self.attempt, self.quiet_until, self.look].into_iter().flatten().min();
        self.timer.set_at(next);
    }

    /// Ready once something is due.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            ready!(self.timer.poll(cx));
            let now = Instant::now();
            let passed = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
            let over = |why| Poll::Ready(Due::Over(Failed::ended(Outcome::Timeout, why)));
            if passed(self.whole) {
                return over("the request's time limit passed");
            }
            if passed(self.head) {
                return over("no response headers within their time limit");
            }
            if passed(self.attempt) {
                let detail = "no response headers within the time limit of one attempt".to_owned();
                let failure = Some(Failure::TryTimeout);
                return Poll::Ready(Due::Over(Failed { outcome: Outcome::Timeout, failure, detail, status: None }));
            }
            if passed(self.quiet_until) {
                if !std::mem::take(&mut self.moved) {
                    return over("no byte in either direction within the idle limit");
                }
                self.quiet_until = now.checked_add(self.idle);
            }
            if passed(self.look) {
                self.look = now.checked_add(LOOK_EVERY);
                self.aim();
                return Poll::Ready(Due::Look);
            }
            self.aim();
        }
    }
}
