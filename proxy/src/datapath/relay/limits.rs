//! Time limits of one exchange behind one timer.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::{
    outcome::Outcome,
    retry::Failure,
    shedding::{Awaited, Creep, Pressure},
};
use tokio::time::Instant;

use super::Failed;
use crate::{datapath::enforce::TimeLimits, net::deadline::Deadline, worker::Worker};

/// An answer that is not there after this makes somebody look whether its endpoint can be reached at all …
const LOOK_AFTER: Duration = Duration::from_secs(3);
/// … again and again, so often. Together with what core calls lost: how long a request waits for one that is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// While something is awaited of the client, it is looked at so often how much has moved.
const CREEP_EVERY: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Debug)]
pub enum Due {
    /// A limit has passed.
    Over(Failed),
    /// The answer is late: is the endpoint there at all?
    Look,
}

/// Watches the limits of an exchange. The timer belongs to the connection and outlives the exchange.
pub struct Limits<'a> {
    worker: &'a Worker,
    /// How short the instance's places are, besides what the worker knows.
    places: &'a dyn Fn() -> Pressure,
    timer: &'a mut Deadline,
    whole: Option<Instant>,
    head: Option<Instant>,
    attempt: Option<Instant>,
    idle: Duration,
    quiet_until: Option<Instant>,
    look: Option<Instant>,
    moved: bool,
    client: Client,
}

/// How the client moves while something is awaited of it.
#[derive(Debug, Default)]
struct Client {
    awaited: Option<Awaited>,
    bytes: u64,
    creep: Option<Creep>,
    look: Option<Instant>,
}

impl Client {
    /// Whether it was waited for long enough.
    fn look(&mut self, worker: &Worker, now: Instant, pressure: Pressure) -> Option<Awaited> {
        let Some(awaited) = self.awaited else {
            (self.creep, self.look) = (None, None);
            return None;
        };
        self.look = now.checked_add(CREEP_EVERY);
        let now = worker.since_start(now);
        match &mut self.creep {
            Some(creep) if creep.awaited() == awaited => creep.look(now, self.bytes, pressure).then_some(awaited),
            Some(_) | None => {
                self.creep = Some(Creep::begin(awaited, now, self.bytes));
                None
            }
        }
    }
}

impl<'a> Limits<'a> {
    /// Limits of an exchange that began at `begun`, and of an attempt that began at `attempted` and sends its request `now`.
    pub fn new(
        (worker, places): (&'a Worker, &'a dyn Fn() -> Pressure),
        timer: &'a mut Deadline,
        limits: TimeLimits,
        (begun, attempted, now): (Instant, Instant, Instant),
    ) -> Self {
        let after = |from: Instant, limit: Option<Duration>| limit.and_then(|limit| from.checked_add(limit));
        let mut limits = Limits {
            worker,
            places,
            timer,
            whole: after(begun, limits.request),
            head: after(now, limits.response_headers),
            attempt: after(attempted, limits.attempt),
            idle: limits.idle,
            quiet_until: now.checked_add(limits.idle),
            look: now.checked_add(LOOK_AFTER),
            moved: false,
            client: Client::default(),
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

    /// What is awaited of the client, and how many bytes have moved between it and this proxy. Costs nothing but the first
    /// time: it is looked at when a timer fires.
    pub fn awaits(&mut self, awaited: Option<Awaited>, bytes: u64) {
        (self.client.awaited, self.client.bytes) = (awaited, bytes);
        if awaited.is_some() && self.client.look.is_none() {
            self.client.look = Instant::now().checked_add(CREEP_EVERY);
            self.aim();
        }
    }

    fn aim(&mut self) {
        let next = [self.whole, self.head, self.attempt, self.quiet_until, self.look, self.client.look]
            .into_iter()
            .flatten()
            .min();
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
            if passed(self.client.look) {
                let pressure = self.worker.pressure().max((self.places)());
                if let Some(awaited) = self.client.look(self.worker, now, pressure) {
                    self.worker.shed(awaited.into());
                    return Poll::Ready(Due::Over(Failed::ended(Outcome::ClientTimeout, why(awaited))));
                }
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

fn why(awaited: Awaited) -> &'static str {
    match awaited {
        Awaited::SizedRequest | Awaited::OpenRequest => "the client hardly sends its request",
        Awaited::Taking => "the client hardly takes its answer",
    }
}
