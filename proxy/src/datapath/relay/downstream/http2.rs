//! An HTTP/2 client: one stream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use mesh_core::outcome::Outcome;

use super::Progress;
use crate::datapath::{
    lane::Edit,
    relay::{Failed, Part, ResponseHead, heads, stream},
};

/// An HTTP/2 client in one exchange.
#[derive(Debug)]
pub struct Http2Downstream {
    receive: RecvStream,
    respond: SendResponse<Bytes>,
    send: Option<stream::Sender>,
    bodiless: bool,
}

impl Http2Downstream {
    /// The client whose request came on these.
    pub fn new(receive: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let bodiless = receive.is_end_stream();
        Http2Downstream { receive, respond, send: None, bodiless }
    }

    /// Answers with a head of our own.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn respond(&mut self, response: http::Response<()>, end: bool) -> Result<(), h2::Error> {
        let send: SendStream<Bytes> = self.respond.send_response(response, end)?;
        self.send = Some(stream::Sender::new(send));
        Ok(())
    }

    pub(super) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        stream::poll_part(&mut self.receive, cx).map_err(|error| gone(&error))
    }

    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        match ready!(reset) {
            Ok(reason) => Poll::Ready(Failed::ended(Outcome::ClientGone, format!("the client reset: {reason}"))),
            Err(error) => Poll::Ready(gone(&error)),
        }
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.poll_flush(cx)
    }

    pub(super) fn interim(&mut self, head: &ResponseHead, edit: &Edit<'_>) -> Result<(), Failed> {
        if let Some(response) = heads::response_to_http2(head, edit) {
            self.respond.send_informational(response).map_err(|error| gone(&error))?;
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, head: &ResponseHead, _request: Progress, edit: &Edit<'_>) -> Result<(), Failed> {
        let response = heads::response_to_http2(head, edit)
            .ok_or_else(|| Failed::ended(Outcome::UpstreamProtocol, "a response that HTTP/2 cannot carry"))?;
        let end = match head {
            ResponseHead::Http1(head) => head.framing().is_bodiless(),
            ResponseHead::Http2(head) => head.is_end,
        };
        self.respond(response, end).map_err(|error| gone(&error))
    }

    pub(super) fn part(&mut self, part: Part) -> Result<(), Failed> {
        match &mut self.send {
            Some(send) => send.give(part).map_err(|error| gone(&error)),
            None => Err(Failed::ended(Outcome::Internal, "a part of a response before its head")),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        match &mut self.send {
            Some(send) => send.poll_flush(cx).map_err(|error| gone(&error)),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn taken(&self) -> u64 {
        self.send.as_ref().map_or(0, stream::Sender::sent)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.send.is_some()
    }

    pub(super) fn abort(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

fn gone(error: &h2::Error) -> Failed {
    let outcome = match error.reason() {
        Some(Reason::PROTOCOL_ERROR) if !error.is_remote() => Outcome::BadRequest,
        _ => Outcome::ClientGone,
    };
    Failed::ended(outcome, format!("the client's stream ended: {error}"))
}
