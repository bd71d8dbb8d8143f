//! The end of a response that outlasts its proxy: behind a whole message, so that its reader has nothing in part, and as
//! the protocol says that a server goes away.

use std::{task::Context, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use mesh_core::drain::message::{Kind, Messages};
use tokio::time::Instant;

use super::{Part, ResponseHead};
use crate::{
    datapath::{lane::is_event_stream, message::is_grpc},
    net::deadline::Deadline,
    worker::{Drain, Seat, Stage},
};

/// A response that has gone on for so long is not that of a call with one answer, which would be all there already; only
/// what is older is ended. Those that begin while streams are ended are served.
const CALL: Duration = Duration::from_secs(1);

/// Whether a call that began then may be ended.
pub(super) fn is_stream(begun: Instant) -> bool {
    begun.elapsed() >= CALL
}

/// A response that may last.
pub(super) struct Ending<'a> {
    seat: Seat<'a>,
    kind: Kind,
    /// When its head came: how long the call was waited for says nothing.
    begun: Instant,
    /// Wakes a quiet one that became old enough after streams were to be ended.
    age: Deadline,
    messages: Messages,
}

impl<'a> Ending<'a> {
    /// Of a response whose head came just now; `None` where it has its own end: a length, or no stream of messages that are
    /// seen here.
    pub(super) fn of(drain: &'a Drain, head: &ResponseHead) -> Option<Self> {
        let fields = head.fields();
        let media = fields.first("content-type")?;
        let kind = match is_event_stream(media) {
            true if fields.first("content-encoding").is_some() => return None,
            true => Kind::Events,
            false if is_grpc(media) => Kind::Grpc,
            false => return None,
        };
        let has_length = fields.first("content-length").is_some();
        (!has_length).then(|| Ending::begin(drain, kind))
    }

    fn begin(drain: &'a Drain, kind: Kind) -> Self {
        let (age, messages) = (Deadline::default(), Messages::new(kind));
        Ending { seat: drain.seat(), kind, begun: Instant::now(), age, messages }
    }

    /// Whether it is to end here. The task is woken when it may be.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_over(cx) && self.messages.is_between()
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.seat.poll_stage(cx) < Stage::Streams {
            return false;
        }
        match self.kind {
            Kind::WebSocket => true,
            Kind::Events | Kind::Grpc => {
                self.age.set_at(Some(self.begun + CALL));
                is_stream(self.begun) || self.age.poll(cx).is_ready()
            }
        }
    }

    /// Takes in what is passed on, and cuts it behind the message in which the end is due.
    pub(super) fn pass(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) {
        if !self.is_over(cx) {
            return self.messages.pass(bytes);
        }
        let taken = self.messages.pass_message(bytes);
        bytes.truncate(taken);
    }

    /// What ends it.
    pub(super) fn last(&self) -> Part {
        match self.kind {
            Kind::Events | Kind::WebSocket => Part::End,
            Kind::Grpc => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("14"));
                trailers.insert("grpc-message", HeaderValue::from_static("the server is going away"));
                Part::Trailers(trailers)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_stream_that_begins_while_streams_are_ended_is_served_for_a_moment() {
        for kind in [Kind::Events, Kind::Grpc] {
            let drain = Drain::default();
            drain.enter(Stage::Closing);
            let mut ending = Ending::begin(&drain, kind);
            let begun = Instant::now();
            poll_fn(|cx| if ending.is_due(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
            assert!(begun.elapsed() >= CALL && begun.elapsed() < CALL * 2, "{kind:?}: {:?}", begun.elapsed());
        }
    }
}
