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
    worker::{Drain, Seat, Stage},
};

/// A call of gRPC that has gone on for so long is no call with one answer, which would be all there already; only what is
/// older is ended. Those that begin while streams are ended are served.
const CALL: Duration = Duration::from_secs(1);

/// Whether a call that began then may be ended.
pub(super) fn is_stream(begun: Instant) -> bool {
    begun.elapsed() >= CALL
}

/// A response that may last.
pub(super) struct Ending<'a> {
    seat: Seat<'a>,
    kind: Kind,
    begun: Instant,
    messages: Messages,
}

impl<'a> Ending<'a> {
    /// Of a response with this head; `None` where it has its own end: a length, or no stream of messages that are seen here.
    pub(super) fn of(drain: &'a Drain, head: &ResponseHead, begun: Instant) -> Option<Self> {
        let fields = head.fields();
        let media = fields.first("content-type")?;
        let kind = match is_event_stream(media) {
            true if fields.first("content-encoding").is_some() => return None,
            true => Kind::Events,
            false if is_grpc(media) => Kind::Grpc,
            false => return None,
        };
        let has_length = fields.first("content-length").is_some();
        (!has_length).then(|| Ending { seat: drain.seat(), kind, begun, messages: Messages::new(kind) })
    }

    /// Whether it is to end here. The task is woken when it may be.
    pub(super) fn is_due(&self, cx: &mut Context<'_>) -> bool {
        self.is_over(cx) && self.messages.is_between()
    }

    fn is_over(&self, cx: &mut Context<'_>) -> bool {
        let is_over = self.seat.poll_stage(cx) >= Stage::Streams;
        match self.kind {
            Kind::Events | Kind::WebSocket => is_over,
            Kind::Grpc => is_over && is_stream(self.begun),
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
