//! How a WebSocket ends whose proxy goes down (RFC 6455, 7.1 and 7.4.1): the client is told with a close frame between two
//! frames of the server. What it sends until it answers is passed on, and its answer tells the server.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use mesh_core::drain::{
    message::{GOING_AWAY, masked_going_away},
    turn,
};

use super::tunnel::Way;
use crate::{
    net::deadline::Deadline,
    telemetry::worker::Direction,
    worker::{Seat, Stage, Worker},
};

/// How long the client may take to answer, and the server to close after that.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long a side that did not answer may take to read what was said last.
const LAST: Duration = Duration::from_secs(1);

/// A WebSocket, up to its farewell.
pub struct Farewell<'a> {
    seat: Seat<'a>,
    window: Duration,
    random: u64,
    deadline: Deadline,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The proxy serves.
    Serving,
    /// It is not its turn yet.
    Waiting,
    /// The client was told.
    Told,
    /// Both sides were told, and are not waited for any longer.
    Ending,
}

impl<'a> Farewell<'a> {
    /// Of a WebSocket that came in this way; `None` where it ends with the application.
    pub fn of(worker: &'a Worker, direction: Direction) -> Option<Self> {
        worker.takes_calls(direction).then(|| Farewell {
            seat: worker.drain.seat(),
            window: worker.config.drain.window(),
            random: worker.random(),
            deadline: Deadline::default(),
            step: Step::Serving,
        })
    }

    /// Says what is to be said; ready once nobody is waited for any more. `up` is the client's direction.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, up: &mut Way, down: &mut Way) -> Poll<()> {
        if self.step == Step::Serving {
            if self.seat.poll_stage(cx) < Stage::Sessions {
                return Poll::Pending;
            }
            self.deadline.set(turn(self.window, self.random));
            self.step = Step::Waiting;
        }
        loop {
            ready!(self.deadline.poll(cx));
            match self.step {
                Step::Serving | Step::Waiting => {
                    down.say_last(Bytes::from_static(&GOING_AWAY));
                    self.deadline.set(HANDSHAKE);
                    self.step = Step::Told;
                }
                Step::Told => {
                    let [mask @ .., _, _, _, _] = self.random.to_be_bytes();
                    up.say_last(Bytes::copy_from_slice(&masked_going_away(mask)));
                    up.end();
                    down.end();
                    self.deadline.set(LAST);
                    self.step = Step::Ending;
                }
                Step::Ending => return Poll::Ready(()),
            }
        }
    }
}
