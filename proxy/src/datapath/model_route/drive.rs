//! Moves one exchange with a virtual model: attempts, what comes of them, what the client is given, and the time.
//!
//! `mesh_core::model_route::attempts` decides; here its decisions are carried out. One task polls all of it. What targets
//! are asked and what comes of it is in `targets`, what the client is given in `client`.

mod client;
mod resume;
mod sending;
mod targets;

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll},
    time::Duration,
};

use mesh_core::{
    model::model_route::{Failure, Reason},
    model_route::{
        attempts::{AT_ONCE, Attempts, Due},
        translate::Transcript,
    },
    outcome::Outcome,
};

use super::{
    account::Account,
    attempt::{Around, Running},
    body,
    incoming::Came,
    quota::Told,
    request::Asking,
    upload::Sending,
};
use crate::{
    datapath::relay::{Downstream, Failed, Part},
    net::deadline::Deadline,
};

/// Longest wait for a client to take the end of its answer.
const LEAVING_LIMIT: Duration = Duration::from_secs(30);

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
    /// What the client has of an answer broke off. Another target is to go on with it.
    Resuming,
    /// What is left is given; then it ends so.
    Leaving(End),
}

/// One exchange under way.
pub(super) struct Drive<'a, 'd> {
    around: &'a Around<'a>,
    asking: &'a Asking,
    down: &'a mut Downstream<'d>,
    attempts: Attempts,
    running: [Option<Box<Running<'a>>>; AT_ONCE],
    out: VecDeque<Part>,
    /// Empty between turns; kept because an allocation per event would be one too many.
    came: Vec<Came>,
    stage: Stage,
    /// What ended attempts came to.
    pub(super) accounts: Vec<Account>,
    /// Status that the client was given; 0 = none.
    pub(super) status: u16,
    /// Bytes that the client was given.
    pub(super) bytes_out: u64,
    /// Time before the target that serves was asked.
    pub(super) overhead: Option<Duration>,
    /// Why the client has no answer, or only a part of one.
    pub(super) error: Option<Reason>,
    begun: Duration,
    /// What the client is told of its limits.
    limits: Told,
    /// What the client has read, where another target may have to go on with it.
    transcript: Option<Box<Transcript>>,
    /// Until when the client takes what is left.
    leaves_at: Option<Duration>,
    /// The request, as long as it is passed on while it comes, and which attempt gets it.
    sending: Option<(usize, Sending)>,
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
            came: Vec::new(),
            stage: Stage::Trying,
            accounts: Vec::new(),
            status: 0,
            bytes_out: 0,
            overhead: None,
            error: None,
            begun,
            limits,
            transcript: asking.transcript(),
            leaves_at: None,
            sending: None,
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
        // Whatever woke this task may have been meant for any of them.
        self.running.iter_mut().flatten().for_each(|running| running.waits = false);
        loop {
            if let Poll::Ready(gone) = self.poll_left(cx) {
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
            let mut moved = match self.send(cx) {
                Ok(moved) => moved,
                Err(gone) => return Poll::Ready(self.gone(gone)),
            };
            if moved {
                // An attempt that had sent all there was waits for no socket, but for what just came.
                self.running.iter_mut().flatten().for_each(|running| running.waits = false);
            }
            let was_full = self.is_full();
            for slot in 0..AT_ONCE {
                moved |= self.advance(slot, cx);
            }
            // Nobody waits for the client's bytes yet: nothing was read of it while there was no room for them.
            moved |= was_full && self.has_room_again();
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
            Stage::Trying | Stage::Answering(_) | Stage::Resuming => self.attempts.deadline().min(self.silent_at()),
            Stage::Leaving(_) => {
                let limit = self.around.worker.now() + LEAVING_LIMIT;
                *self.leaves_at.get_or_insert(limit)
            }
        }
    }

    fn now(&self) -> Duration {
        self.around.worker.now()
    }

    /// A limit of time has passed; the end, if it is that of the exchange.
    fn late(&mut self) -> Option<End> {
        let is_blocked = match self.stage {
            Stage::Leaving(_) => true,
            // What the target sends is not looked at while the client does not take what came before.
            Stage::Answering(_) => !self.out.is_empty(),
            Stage::Trying | Stage::Resuming => false,
        };
        if is_blocked {
            return Some(self.gone(Failed::ended(Outcome::ClientGone, "the client takes no more of its answer")));
        }
        let now = self.now();
        if self.silent_at() <= now {
            return Some(self.gone(body::silent()));
        }
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        let due = self.attempts.due(&mut standings, now);
        drop(standings);
        match due {
            None => {}
            Some(Due::Hedge) => self.next(),
            Some(Due::Late(slot, failure)) => match self.stage {
                Stage::Answering(_) if self.is_finished(slot) => self.ended(slot),
                Stage::Answering(_) | Stage::Trying | Stage::Resuming | Stage::Leaving(_) => {
                    self.failed(slot, failure);
                }
            },
            Some(Due::Over(failure)) => match self.stage {
                Stage::Answering(slot) if self.is_finished(slot) => self.ended(slot),
                Stage::Answering(slot) => self.failed(slot, failure),
                Stage::Trying | Stage::Resuming => {
                    (0..AT_ONCE).for_each(|slot| self.close(slot, Some(failure.clone())));
                    self.withdraw();
                    self.give_up(failure);
                }
                Stage::Leaving(_) => {}
            },
        }
        None
    }

    /// Whether nothing is missing of the answer of the attempt in this place, whatever becomes of its connection.
    fn is_finished(&self, slot: usize) -> bool {
        self.running[slot].as_ref().is_some_and(|running| running.incoming.is_finished())
    }

    fn gone(&mut self, failed: Failed) -> End {
        (0..AT_ONCE).for_each(|slot| self.close(slot, None));
        self.withdraw();
        End::Gone(failed)
    }

    /// Nothing is awaited any more of those who were asked: a trial of one of them is free for the next request.
    fn withdraw(&mut self) {
        self.attempts.withdrawn(&mut self.around.worker.providers.standings.borrow_mut());
    }

    fn leave(&mut self) -> End {
        (0..AT_ONCE).for_each(|slot| self.close(slot, None));
        match mem::replace(&mut self.stage, Stage::Trying) {
            Stage::Leaving(end) => end,
            Stage::Trying | Stage::Answering(_) | Stage::Resuming => End::Answered(Outcome::Internal),
        }
    }
}
