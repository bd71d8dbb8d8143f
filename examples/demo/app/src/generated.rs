//! Bodies made on the way out: a given number of bytes, and an endless stream of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

/// Largest piece of a generated body, bytes.
const PIECE: usize = 16 * 1024;
/// Time between two events.
const EVENT_EVERY: Duration = Duration::from_millis(200);

static LETTERS: [u8; PIECE] = letters();

const fn letters() -> [u8; PIECE] {
    let mut letters = [0; PIECE];
    let mut at = 0;
    while at < PIECE {
        letters[at] = b'a' + (at % 26) as u8;
        at += 1;
    }
    letters
}

/// A body of a known number of letters.
pub(crate) struct Letters {
    left: u64,
}

impl Letters {
    /// `length` bytes.
    pub(crate) fn new(length: u64) -> Self {
        Letters { left: length }
    }
}

impl Body for Letters {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        if piece == 0 {
            return Poll::Ready(None);
        }
        self.left -= piece as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&LETTERS[..piece])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Server-sent events with a counter, until the application stops.
pub(crate) struct Events {
    ticks: Interval,
    stopping: watch::Receiver<bool>,
    counter: u64,
}

impl Events {
    /// Starts with event 1 at once.
    pub(crate) fn new(stopping: watch::Receiver<bool>) -> Self {
        let mut ticks = interval(EVENT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Events { ticks, stopping, counter: 0 }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.ticks.poll_tick(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) if *self.stopping.borrow() => Poll::Ready(None),
            Poll::Ready(_) => {
                self.counter += 1;
                let event = format!("id: {0}\ndata: {0}\n\n", self.counter);
                Poll::Ready(Some(Ok(Frame::data(event.into()))))
            }
        }
    }
}
