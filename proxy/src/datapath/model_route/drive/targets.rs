//! Whom an exchange asks, and what comes of it.

use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use mesh_core::{
    model::model_route::{Failure, ModelTarget, Reason},
    model_route::{
        attempts::{After, Reaction, Saw},
        choice::Choice,
        request::Delivery,
    },
    outcome::Outcome,
};

use super::{Drive, End, Stage};
use crate::{
    datapath::{
        model_route::{
            account::Account,
            attempt::{self, failure_of},
            incoming::{self, Came, HELD_MAX},
            quota,
        },
        relay::{Failed, Part},
    },
    limits::Reserved,
};

/// Member of a request that some targets do not know.
const STREAM_OPTIONS: &str = "stream_options";

impl Drive<'_, '_> {
    /// Asks the next target.
    pub(super) fn next(&mut self) {
        self.asking.renew(self.around.worker);
        loop {
            let now = self.now();
            let worker = self.around.worker;
            let asking = self.asking;
            let bars = |_: usize, target: &ModelTarget| asking.bar(worker, target);
            let mut standings = worker.providers.standings.borrow_mut();
            let want = asking.want(self.around.carried.as_ref());
            let next = self.attempts.next(&mut standings, &want, &bars, worker.random(), now);
            let (slot, choice) = match next {
                Ok(next) => next,
                // Where only a hedge found nobody the first attempt goes on.
                Err(_) if self.running.iter().any(Option::is_some) => return,
                Err(failure) => {
                    drop(standings);
                    return self.give_up(failure);
                }
            };
            let Some(target) = self.attempts.target(slot).cloned() else { return };
            if let Some(failure) = self.attempts.forced(slot) {
                self.accounts.push(Account::of_drill(target, failure.clone(), asking.delivery()));
                let after = self.attempts.failed(slot, failure, &mut standings, now);
                drop(standings);
                match after {
                    After::Next => continue,
                    After::Wait => return,
                    After::GiveUp(failure) | After::EndStream(failure) => return self.give_up(failure),
                }
            }
            let reserved = quota::of_target(worker, asking, &target);
            let begun = reserved.and_then(|mut reserved| {
                let begun = self.outgoing(&target).and_then(|(outgoing, incoming, sending)| {
                    let begun = attempt::begin(self.around, &target, outgoing, incoming, &mut reserved);
                    begun.map(|running| (running, sending)).map_err(|failed| failure_of(&failed))
                });
                // What no attempt took is for nobody: the target was not asked.
                reserved.into_iter().for_each(Reserved::cancel);
                begun
            });
            match begun {
                Ok((running, sending)) => {
                    drop(standings);
                    self.running[slot] = Some(Box::new(running));
                    if let Some(sending) = sending {
                        self.begin_sending(slot, sending);
                    }
                    return self.log_choice(&target, choice);
                }
                Err(failure) => self.attempts.skipped(slot, failure, &mut standings),
            }
        }
    }

    fn log_choice(&self, target: &ModelTarget, choice: Choice) {
        tracing::debug!(model = self.asking.model(), target = target.name, why = %choice.why, "asking a target");
    }

    /// Polls one attempt and takes what came of it. Says whether anything moved.
    pub(super) fn advance(&mut self, slot: usize, cx: &mut Context<'_>) -> bool {
        let Some(running) = &mut self.running[slot] else { return false };
        // What the client has not taken yet must go first.
        if matches!(self.stage, Stage::Answering(answering) if answering == slot) && !self.out.is_empty() {
            return false;
        }
        let result = match &mut running.future {
            None => None,
            Some(_) if running.waits => None,
            Some(future) => match future.as_mut().poll(cx) {
                Poll::Pending => {
                    // Without room it waits for what happens below.
                    running.waits = running.pipe.has_room();
                    None
                }
                Poll::Ready(result) => {
                    running.future = None;
                    Some(result)
                }
            },
        };
        let mut came = mem::take(&mut self.came);
        let mut moved = result.is_some();
        if let Some(head) = running.pipe.take_head() {
            moved = true;
            if self.sending.is_some() {
                // It answers before it has all of the request: what the client wants is told by what it gets.
                let delivery = if incoming::is_events(&head) { Delivery::Stream } else { Delivery::Whole };
                self.asking.passed(delivery);
                self.attempts.sent(slot, delivery, self.around.worker.now());
                running.incoming.deliver(delivery);
            }
            running.incoming.head(head, &mut |what| came.push(what));
        }
        while let Some(bytes) = running.pipe.take() {
            moved = true;
            running.incoming.bytes(bytes, &mut |what| came.push(what));
        }
        if let Some(Ok(())) = result {
            running.incoming.end(self.around.worker.unix_now(), &mut |what| came.push(what));
        }
        for what in came.drain(..) {
            if let Err(failure) = self.take(slot, what) {
                // Another attempt may be in its place now.
                self.failed(slot, failure);
                return true;
            }
        }
        self.came = came;
        match result {
            None => {}
            Some(Ok(())) => self.ended(slot),
            Some(Err(failed)) => self.broke(slot, &failed),
        }
        moved
    }

    /// Takes what came of an attempt.
    fn take(&mut self, slot: usize, came: Came) -> Result<(), Failure> {
        let now = self.now();
        let Some(running) = &mut self.running[slot] else { return Ok(()) };
        let (saw, bytes) = match came {
            Came::Head => (Saw::Head, Bytes::new()),
            Came::Event(bytes) => (Saw::Event, bytes),
            Came::Token(bytes) => (Saw::Token, bytes),
            Came::Failed(failure) => return Err(failure),
        };
        if saw != Saw::Head {
            running.first_event.get_or_insert(now);
        }
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        match self.attempts.saw(slot, saw, &mut standings, now) {
            Reaction::Hold if bytes.is_empty() => {}
            Reaction::Hold if running.held.len() + bytes.len() > HELD_MAX => {
                return Err(incoming::too_much("more came before the first token than is held"));
            }
            // Copied, because a small piece would keep all that was read with it.
            Reaction::Hold => running.held.extend_from_slice(&bytes),
            Reaction::Forward => {
                drop(standings);
                self.pass(bytes);
            }
            Reaction::Commit => {
                drop(standings);
                running.first_token = Some(now);
                self.commit(slot, bytes);
            }
        }
        Ok(())
    }

    /// The answer of an attempt is over, in order.
    pub(super) fn ended(&mut self, slot: usize) {
        if matches!(self.stage, Stage::Answering(answering) if answering == slot) {
            self.attempts.finished(slot);
            // Its final event may have come without the end of its connection, at which a translation ends.
            let end = self.running[slot].as_mut().map_or_else(Bytes::new, |running| running.incoming.take_end());
            self.pass(end);
            self.close(slot, None);
            self.out.push_back(Part::End);
            self.stage = Stage::Leaving(End::Answered(Outcome::Success));
        }
    }

    /// An attempt ended without the end of its answer.
    fn broke(&mut self, slot: usize, failed: &Failed) {
        let Some(running) = &mut self.running[slot] else { return };
        let is_answering = matches!(self.stage, Stage::Answering(answering) if answering == slot);
        if is_answering && running.incoming.is_finished() {
            // The final event came: nothing of the answer is missing.
            return self.ended(slot);
        }
        self.failed(slot, failure_of(failed));
    }

    pub(super) fn failed(&mut self, slot: usize, failure: Failure) {
        let now = self.now();
        if self.asks_too_much(slot, &failure) {
            self.close(slot, Some(failure));
            self.attempts.again(slot, &mut self.around.worker.providers.standings.borrow_mut());
            return self.next();
        }
        let sequence = self.running[slot].as_ref().map_or(0, |running| running.incoming.next_sequence());
        self.close(slot, Some(failure.clone()));
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        let after = self.attempts.failed(slot, failure, &mut standings, now);
        if let Some(account) = self.accounts.last_mut() {
            account.rests(&standings, self.asking.model(), now);
        }
        drop(standings);
        match after {
            After::Next => self.next(),
            After::Wait => {}
            After::GiveUp(failure) => self.give_up(failure),
            After::EndStream(failure) => self.broken(failure, sequence),
        }
    }

    /// Whether a target refuses to be asked for usage in streams, which the client did not ask for: it is asked again
    /// without, and so is it from then on.
    fn asks_too_much(&self, slot: usize, failure: &Failure) -> bool {
        // Who reads of an answer already would be given another one behind it.
        let may_ask_again = matches!(self.stage, Stage::Trying | Stage::Resuming);
        let Some(running) = self.running[slot].as_ref().filter(|_| may_ask_again) else { return false };
        let names_it = failure.message.contains(STREAM_OPTIONS) || failure.code.as_deref() == Some(STREAM_OPTIONS);
        names_it
            && self.asking.upload().is_none()
            && failure.reason == Reason::BadRequest
            && self.asking.delivery() == Delivery::Stream
            && self.around.worker.providers.refuse_usage(&self.asking.route.name, &running.target)
    }

    /// An attempt is over: its connection is let go, its numbers are kept.
    pub(super) fn close(&mut self, slot: usize, failed: Option<Failure>) {
        let (now, delivery) = (self.now(), self.asking.delivery());
        self.accounts.extend(self.running[slot].take().map(|running| running.close(failed, delivery, now)));
    }
}
