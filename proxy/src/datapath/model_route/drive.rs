//! Moves one exchange with a virtual model: attempts, what comes of them, what the client is given, and the time.
//!
//! `mesh_core::model_route::attempts` decides; here its decisions are carried out. One task polls all of it.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, response::Parts};
use mesh_core::{
    model::model_route::{Failure, ModelTarget, Reason},
    model_route::{
        attempts::{AT_ONCE, After, Attempts, Due, Reaction, Saw},
        choice::Choice,
        client_error,
        request::Delivery,
    },
    outcome::Outcome,
};

use super::{
    account::{self, Account},
    answer,
    attempt::{self, Around, Running, failure_of},
    incoming::Came,
    quota::{self, Told},
    request::Asking,
};
use crate::{
    datapath::relay::{Downstream, Failed, Http2ResponseHead, Last, Part},
    net::deadline::Deadline,
};

/// Longest wait for a client to take the end of its answer.
const LEAVING_LIMIT: Duration = Duration::from_secs(30);
/// Member of a request that some targets do not know.
const STREAM_OPTIONS: &str = "stream_options";

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client has an answer: a target's, or why there is none.
    Answered(Outcome),
    /// The client has been told that its answer is not whole.
    Cut(Failure),
    /// The client is gone.
    Gone(Failed),
}

/// Where the exchange stands.
enum Stage {
    /// No token yet.
    Trying,
    /// The answer of the attempt in this place is given to the client.
    Answering(usize),
    /// What is left is given; then it ends so.
    Leaving(End),
}

/// One exchange under way.
pub(super) struct Drive<'a, 'd> {
    around: &'a Around<'a>,
    asking: &'a Asking,
    down: &'a mut Downstream<'d>,
    attempts: Attempts,
    running: [Option<Running<'a>>; AT_ONCE],
    out: VecDeque<Part>,
    stage: Stage,
    first_token: [Option<Duration>; AT_ONCE],
    /// What ended attempts came to.
    pub(super) accounts: Vec<Account>,
    /// Status that the client was given; 0 = none.
    pub(super) status: u16,
    /// Bytes that the client was given.
    pub(super) bytes_out: u64,
    begun: Duration,
    /// What the client is told of its limits.
    limits: Told,
    /// Until when the client takes what is left.
    leaves_at: Option<Duration>,
}

impl<'a, 'd> Drive<'a, 'd> {
    pub(super) fn new(
        around: &'a Around<'a>,
        asking: &'a Asking,
        down: &'a mut Downstream<'d>,
        attempts: Attempts,
        (begun, limits): (Duration, Told),
    ) -> Self {
        let mut drive = Drive {
            around,
            asking,
            down,
            attempts,
            running: [None, None],
            out: VecDeque::new(),
            stage: Stage::Trying,
            first_token: [None, None],
            accounts: Vec::new(),
            status: 0,
            bytes_out: 0,
            begun,
            limits,
            leaves_at: None,
        };
        drive.next();
        drive
    }

    /// Attempts that were made.
    pub(super) fn made(&self) -> usize {
        self.attempts.made()
    }

    /// Moves everything that can move. Ready once the exchange is over.
    pub(super) fn poll(&mut self, timer: &mut Deadline, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Poll::Ready(gone) = self.down.poll_left(cx) {
                return Poll::Ready(self.gone(gone));
            }
            match self.give(cx) {
                Ok(Poll::Ready(())) => {
                    if let Stage::Leaving(_) = self.stage {
                        return Poll::Ready(self.leave());
                    }
                }
                Ok(Poll::Pending) => {}
                Err(gone) => return Poll::Ready(self.gone(gone)),
            }
            let mut moved = false;
            for slot in 0..AT_ONCE {
                moved |= self.advance(slot, cx);
            }
            if moved {
                continue;
            }
            timer.set_at(Some(self.around.worker.moment(self.deadline())));
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(end) = self.late() {
                return Poll::Ready(end);
            }
        }
    }

    /// When time runs out next.
    fn deadline(&mut self) -> Duration {
        match self.stage {
            Stage::Trying | Stage::Answering(_) => self.attempts.deadline(),
            Stage::Leaving(_) => {
                let limit = self.around.worker.now() + LEAVING_LIMIT;
                *self.leaves_at.get_or_insert(limit)
            }
        }
    }

    fn now(&self) -> Duration {
        self.around.worker.now()
    }

    /// Gives the client what waits. Ready once nothing does.
    fn give(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failed> {
        while let Some(part) = self.out.pop_front() {
            if self.down.poll_room(cx)?.is_pending() {
                self.out.push_front(part);
                return Ok(Poll::Pending);
            }
            if let Part::Data(bytes, _) = &part {
                self.bytes_out += bytes.len() as u64;
            }
            self.down.part(part)?;
        }
        match self.down.poll_flush(cx) {
            Poll::Ready(flushed) => flushed.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Asks the next target.
    fn next(&mut self) {
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
            let begun = asking.outgoing(worker, &target).and_then(|(outgoing, incoming)| {
                let reserved = quota::of_target(worker, asking, &target)?;
                let begun = attempt::begin(self.around, &target, outgoing, incoming, reserved);
                begun.map_err(|failed| failure_of(&failed))
            });
            match begun {
                Ok(running) => {
                    drop(standings);
                    self.first_token[slot] = None;
                    self.running[slot] = Some(running);
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
    fn advance(&mut self, slot: usize, cx: &mut Context<'_>) -> bool {
        let Some(running) = &mut self.running[slot] else { return false };
        // What the client has not taken yet must go first.
        if matches!(self.stage, Stage::Answering(answering) if answering == slot) && !self.out.is_empty() {
            return false;
        }
        let result = match &mut running.future {
            None => None,
            Some(future) => match future.as_mut().poll(cx) {
                Poll::Pending => None,
                Poll::Ready(result) => {
                    running.future = None;
                    Some(result)
                }
            },
        };
        let mut came = Vec::new();
        let mut moved = result.is_some();
        if let Some(head) = running.pipe.take_head() {
            moved = true;
            running.incoming.head(head, &mut |what| came.push(what));
        }
        while let Some(bytes) = running.pipe.take() {
            moved = true;
            running.incoming.bytes(bytes, &mut |what| came.push(what));
        }
        if let Some(Ok(())) = result {
            running.incoming.end(self.around.worker.unix_now(), &mut |what| came.push(what));
        }
        for what in came {
            if let Err(failure) = self.take(slot, what) {
                // Another attempt may be in its place now.
                self.failed(slot, failure);
                return true;
            }
        }
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
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        match self.attempts.saw(slot, saw, &mut standings, now) {
            Reaction::Hold => running.held.push(bytes),
            Reaction::Forward => self.out.push_back(Part::Data(bytes, Last::Unknown)),
            Reaction::Commit => {
                drop(standings);
                running.held.push(bytes);
                self.first_token[slot] = Some(now.saturating_sub(running.begun));
                self.commit(slot);
            }
        }
        Ok(())
    }

    /// From here on the client gets the answer of this attempt.
    fn commit(&mut self, slot: usize) {
        self.stage = Stage::Answering(slot);
        for other in (0..AT_ONCE).filter(|other| *other != slot) {
            self.close(other, None);
        }
        let Some(running) = &mut self.running[slot] else { return };
        let Some(head) = running.incoming.take_head() else { return };
        let held = mem::take(&mut running.held);
        let length = match self.asking.delivery() {
            Delivery::Stream => None,
            Delivery::Whole => Some(held.iter().map(Bytes::len).sum()),
        };
        self.asking.release();
        let overhead = running.begun.saturating_sub(self.begun);
        account::waited(self.around.worker, overhead);
        let target = Arc::clone(&running.target);
        let mut told = answer::told(Some(&target.name), self.attempts.made(), overhead);
        told.append(&mut self.limits);
        self.begin(head, length, &told);
        self.out
            .extend(held.into_iter().filter(|bytes| !bytes.is_empty()).map(|bytes| Part::Data(bytes, Last::Unknown)));
    }

    /// Begins the client's answer.
    fn begin(&mut self, mut head: Parts, length: Option<usize>, told: &[(&'static str, String)]) {
        head.headers.remove(http::header::CONTENT_LENGTH);
        if let Some(length) = length {
            head.headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        self.status = head.status.as_u16();
        for (name, value) in told {
            if let Ok(value) = HeaderValue::try_from(value) {
                head.headers.insert(*name, value);
            }
        }
        let head = Http2ResponseHead {
            status: self.status,
            headers: crate::datapath::message::Headers(head.headers),
            is_end: length == Some(0),
        };
        if let Err(gone) = answer::begin(self.down, head) {
            self.stage = Stage::Leaving(End::Gone(gone));
        }
    }

    /// The answer of an attempt is over, in order.
    fn ended(&mut self, slot: usize) {
        if matches!(self.stage, Stage::Answering(answering) if answering == slot) {
            self.attempts.finished(slot);
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

    fn failed(&mut self, slot: usize, failure: Failure) {
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
        drop(standings);
        match after {
            After::Next => self.next(),
            After::Wait => {}
            After::GiveUp(failure) => self.give_up(failure),
            After::EndStream(failure) => self.end_stream(failure, sequence),
        }
    }

    /// Whether a target refuses to be asked for usage in streams, which the client did not ask for: it is asked again
    /// without, and so is it from then on.
    fn asks_too_much(&self, slot: usize, failure: &Failure) -> bool {
        let Some(running) = &self.running[slot] else { return false };
        let names_it = failure.message.contains(STREAM_OPTIONS) || failure.code.as_deref() == Some(STREAM_OPTIONS);
        names_it
            && failure.reason == Reason::BadRequest
            && self.asking.delivery() == Delivery::Stream
            && self.around.worker.providers.refuse_usage(&self.asking.route.name, &running.target)
    }

    /// The client is told why there is no answer.
    fn give_up(&mut self, failure: Failure) {
        let (fields, body) = answer::of_failure(self.asking.api(), &failure);
        let mut told = answer::told(None, self.attempts.made(), self.now().saturating_sub(self.begun));
        told.extend(fields);
        let mut head = http::Response::new(()).into_parts().0;
        head.status = http::StatusCode::from_u16(failure.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        self.stage = Stage::Leaving(End::Answered(answer::outcome(&failure)));
        self.begin(head, Some(body.len()), &told);
        self.out.push_back(Part::Data(body.into(), Last::Yes));
    }

    /// The stream that the client reads ends with an error behind a whole event, and without its end.
    fn end_stream(&mut self, failure: Failure, sequence: u64) {
        if self.asking.delivery() == Delivery::Stream {
            let event = client_error::terminal_event(self.asking.api(), &failure, sequence);
            self.out.push_back(Part::Data(event.into(), Last::Unknown));
        }
        self.stage = Stage::Leaving(End::Cut(failure));
    }

    /// A limit of time has passed; the end, if it is that of the exchange.
    fn late(&mut self) -> Option<End> {
        let is_blocked = match self.stage {
            Stage::Leaving(_) => true,
            // What the target sends is not looked at while the client does not take what came before.
            Stage::Answering(_) => !self.out.is_empty(),
            Stage::Trying => false,
        };
        if is_blocked {
            return Some(self.gone(Failed::ended(Outcome::ClientGone, "the client takes no more of its answer")));
        }
        let now = self.now();
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        let due = self.attempts.due(&mut standings, now);
        drop(standings);
        match due {
            None => {}
            Some(Due::Hedge) => self.next(),
            Some(Due::Late(slot, failure)) => {
                let finished = self.running[slot].as_ref().is_some_and(|running| running.incoming.is_finished());
                match self.stage {
                    Stage::Answering(_) if finished => self.ended(slot),
                    Stage::Answering(_) | Stage::Trying | Stage::Leaving(_) => self.failed(slot, failure),
                }
            }
            Some(Due::Over(failure)) => match self.stage {
                Stage::Answering(slot) => self.failed(slot, failure),
                Stage::Trying => {
                    (0..AT_ONCE).for_each(|slot| self.close(slot, Some(failure.clone())));
                    self.give_up(failure);
                }
                Stage::Leaving(_) => {}
            },
        }
        None
    }

    /// An attempt is over: its connection is let go, its numbers are kept.
    fn close(&mut self, slot: usize, failed: Option<Failure>) {
        let Some(running) = self.running[slot].take() else { return };
        self.accounts.push(Account {
            target: Arc::clone(&running.target),
            usage: running.incoming.usage(),
            reported: running.incoming.reported(),
            tokens: running.incoming.tokens(),
            written: running.incoming.written(),
            reserved: running.reserved,
            failed,
            first_token: self.first_token[slot].take(),
            took: self.now().saturating_sub(running.begun),
        });
    }

    fn gone(&mut self, failed: Failed) -> End {
        (0..AT_ONCE).for_each(|slot| self.close(slot, None));
        End::Gone(failed)
    }

    fn leave(&mut self) -> End {
        (0..AT_ONCE).for_each(|slot| self.close(slot, None));
        match mem::replace(&mut self.stage, Stage::Trying) {
            Stage::Leaving(end) => end,
            Stage::Trying | Stage::Answering(_) => End::Answered(Outcome::Internal),
        }
    }
}
