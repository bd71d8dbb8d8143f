//! A request that is passed on to its one target while it comes.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use mesh_core::{model::model_route::Failure, model_route::request::Delivery};

use super::{Drive, Stage};
use crate::datapath::{
    model_route::{body::IDLE_LIMIT, upload::Sending},
    relay::Failed,
};

impl Drive<'_, '_> {
    /// Ready once the client is gone. While its request comes it says so there, or by a reset.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        match self.sending {
            Some(_) => self.down.poll_reset(cx),
            None => self.down.poll_left(cx),
        }
    }

    /// When the client has been silent for too long in the middle of its request. Not while its target takes no more.
    pub(super) fn silent_at(&self) -> Duration {
        match &self.sending {
            Some((_, sending)) if sending.has_room() => sending.silent_at,
            Some(_) | None => Duration::MAX,
        }
    }

    /// Whether the target has to take some of the request before more is read of it.
    pub(super) fn is_full(&self) -> bool {
        self.sending.as_ref().is_some_and(|(_, sending)| !sending.has_room())
    }

    /// Whether more is read of a request that was [full](Self::is_full). Only from now on can the client be silent.
    pub(super) fn has_room_again(&mut self) -> bool {
        let now = self.around.worker.now();
        let Some((_, sending)) = self.sending.as_mut().filter(|(_, sending)| sending.has_room()) else { return false };
        sending.silent_at = now.saturating_add(IDLE_LIMIT);
        true
    }

    /// The attempt in this place gets the request.
    pub(super) fn begin_sending(&mut self, slot: usize, sending: Sending) {
        if let Some(running) = &mut self.running[slot] {
            running.prompt = sending.came;
        }
        match (self.asking.upload(), sending.delivery()) {
            (Some(upload), Some(delivery)) if upload.is_whole() => self.sent(slot, delivery),
            _ => self.sending = Some((slot, sending)),
        }
    }

    /// Passes on what comes of the request. Says whether anything moved.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, Failed> {
        let mut moved = false;
        loop {
            let is_wanted = match self.stage {
                Stage::Trying | Stage::Answering(_) | Stage::Resuming => true,
                Stage::Leaving(_) => false,
            };
            let Some((slot, sending)) = self.sending.as_mut().filter(|(_, sending)| is_wanted && sending.has_room())
            else {
                return Ok(moved);
            };
            let (slot, Poll::Ready(part)) = (*slot, self.down.poll_part(cx)?) else { return Ok(moved) };
            moved = true;
            let now = self.around.worker.now();
            let passed = sending.part(&part, &self.asking.virtual_model, now);
            // What is said of its length is not true before all of it came.
            if let Some(running) = &mut self.running[slot] {
                running.prompt = sending.came;
            }
            match passed {
                Ok(false) => {}
                Ok(true) => {
                    let delivery = sending.delivery().unwrap_or(Delivery::Whole);
                    self.sending = None;
                    self.asking.release();
                    // Behind the head of the answer it is too late to say how that is delivered.
                    if self.running[slot].as_ref().is_none_or(|running| running.incoming.awaits_head()) {
                        self.sent(slot, delivery);
                    }
                }
                Err(failure) => {
                    self.refuse(slot, failure);
                    return Ok(true);
                }
            }
        }
    }

    /// The request was sent, or its answer comes before that: it is delivered so.
    pub(super) fn sent(&mut self, slot: usize, delivery: Delivery) {
        self.asking.passed(delivery);
        self.attempts.sent(slot, delivery, self.around.worker.now());
        if let Some(running) = &mut self.running[slot] {
            running.incoming.deliver(delivery);
        }
    }

    /// What came of the request is not what any target could be given.
    fn refuse(&mut self, slot: usize, failure: Failure) {
        let sequence = self.running[slot].as_ref().map_or(0, |running| running.incoming.next_sequence());
        self.close(slot, None);
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        self.attempts.again(slot, &mut standings);
        drop(standings);
        match self.stage {
            Stage::Trying => self.give_up(failure),
            Stage::Answering(_) | Stage::Resuming => self.end_stream(failure, sequence),
            Stage::Leaving(_) => {}
        }
    }
}
