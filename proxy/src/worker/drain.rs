//! Tells connections of this worker how far it has come on its way down: a stage to look at, and a seat for whoever
//! sleeps.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

pub use mesh_core::drain::Stage;
use mesh_core::drain::turn;
use slab::Slab;
use tokio::time::Instant;

/// How far this worker has come.
#[derive(Debug, Default)]
pub struct Drain {
    stage: Cell<Stage>,
    ordered: Cell<Option<Instant>>,
    sleepers: RefCell<Slab<Option<Waker>>>,
}

impl Drain {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether it is on its way down.
    pub fn is_on(&self) -> bool {
        self.stage.get() > Stage::Serving
    }

    /// Enters a stage and wakes everyone who has a seat.
    pub fn enter(&self, stage: Stage) {
        if self.ordered.get().is_none() {
            self.ordered.set(Some(Instant::now()));
        }
        self.stage.set(stage);
        let wakers: Vec<Waker> = self.sleepers.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A seat for one task, which is woken whenever the stage changes.
    pub fn seat(&self) -> Seat<'_> {
        Seat { drain: self, position: self.sleepers.borrow_mut().insert(None) }
    }
}

/// Place of one task among those that are told.
#[derive(Debug)]
pub struct Seat<'a> {
    drain: &'a Drain,
    position: usize,
}

impl Seat<'_> {
    /// How far the worker has come; the task is woken when that changes.
    pub fn poll_stage(&self, cx: &mut Context<'_>) -> Stage {
        if let Some(place) = self.drain.sleepers.borrow_mut().get_mut(self.position)
            && !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *place = Some(cx.waker().clone());
        }
        self.drain.stage()
    }

    /// Returns once the worker has come to `stage`.
    pub async fn reached(&self, stage: Stage) {
        poll_fn(|cx| if self.poll_stage(cx) >= stage { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.drain.sleepers.borrow_mut().remove(self.position);
    }
}

/// When one connection is told that the proxy drains: a moment within a window, drawn once.
#[derive(Debug)]
pub struct Turn {
    opened: Instant,
    moment: Cell<Option<Instant>>,
}

impl Default for Turn {
    fn default() -> Self {
        Turn { opened: Instant::now(), moment: Cell::new(None) }
    }
}

impl Turn {
    /// The moment; `None` while the proxy serves. The window begins with the order to drain, or with the connection: who
    /// comes back is not told at once again.
    pub fn moment(&self, drain: &Drain, window: Duration, random: impl FnOnce() -> u64) -> Option<Instant> {
        let ordered = drain.ordered.get()?;
        let moment = self.moment.get().unwrap_or_else(|| ordered.max(self.opened) + turn(window, random()));
        self.moment.set(Some(moment));
        Some(moment)
    }
}
