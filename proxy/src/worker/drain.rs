//! Tells connections of this worker that the proxy drains: a flag to look at, and a seat for whoever sleeps.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

use slab::Slab;

/// How far draining has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all.
    #[default]
    Serving,
    /// The exchange under way is the last of its connection.
    Draining,
    /// Idle connections end now.
    Finishing,
}

/// Whether this proxy drains.
#[derive(Debug, Default)]
pub struct Drain {
    stage: Cell<Stage>,
    sleepers: RefCell<Slab<Option<Waker>>>,
}

impl Drain {
    /// How far draining has come.
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether the proxy drains.
    pub fn is_on(&self) -> bool {
        self.stage.get() >= Stage::Draining
    }

    /// Starts draining and wakes everyone who has a seat.
    pub fn begin(&self) {
        self.advance(Stage::Draining);
    }

    /// Ends what is idle.
    pub fn finish(&self) {
        self.advance(Stage::Finishing);
    }

    fn advance(&self, stage: Stage) {
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
    /// How far draining has come; the task is woken when that changes.
    pub fn poll_stage(&self, cx: &mut Context<'_>) -> Stage {
        if let Some(place) = self.drain.sleepers.borrow_mut().get_mut(self.position)
            && !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *place = Some(cx.waker().clone());
        }
        self.drain.stage()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.drain.sleepers.borrow_mut().remove(self.position);
    }
}
