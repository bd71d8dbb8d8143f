//! An HTTP/1 client.

use std::task::{Context, Poll, ready};

use mesh_core::{outcome::Outcome, shedding::AtHand};

use super::Progress;
use crate::{
    datapath::{
        lane::Edit,
        relay::{Failed, Last, Part, ResponseHead, body, heads},
        wire::Wire,
    },
    net::http1::{self, Asked, BodyDecoder, BodyEvent, Framing, Persistence, ResponsePlan, Version},
};

/// Bytes of further requests that are read while one is answered.
const PIPELINE_MAX: usize = 64 * 1024;

/// An HTTP/1 client in one exchange.
#[derive(Debug)]
pub struct Http1Downstream<'a> {
    /// Its connection.
    pub wire: &'a mut Wire,
    decoder: BodyDecoder,
    bodiless: bool,
    version: Version,
    asked: Asked,
    waits_for_continue: bool,
    client: Persistence,
    framing: Option<Framing>,
    aborted: bool,
}

impl<'a> Http1Downstream<'a> {
    /// The client that sent `head`; `allowed` says whether we want to keep its connection.
    pub fn new(wire: &'a mut Wire, head: &http1::RequestHead, allowed: Persistence) -> Self {
        let client = match (head.persistence(), allowed) {
            (Persistence::Keep, Persistence::Keep) => Persistence::Keep,
            (Persistence::Close, _) | (_, Persistence::Close) => Persistence::Close,
        };
        Http1Downstream {
            wire,
            decoder: BodyDecoder::new(head.framing()),
            bodiless: head.framing().is_bodiless(),
            version: head.version(),
            asked: head.asked(),
            waits_for_continue: head.expects_continue(),
            client,
            framing: None,
            aborted: false,
        }
    }

    /// Whether the connection can carry another exchange: after a whole response, of which the client knows that.
    pub fn persistence(&self) -> Persistence {
        if self.aborted || self.wire.ended { Persistence::Close } else { self.client }
    }

    /// Whether all of the request was read.
    pub fn has_whole_request(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether the answer turned the connection into a tunnel.
    pub fn is_tunnel(&self) -> bool {
        self.framing == Some(Framing::Tunnel)
    }

    /// Version of the client.
    pub fn version(&self) -> Version {
        self.version
    }

    /// No exchange can follow on this connection.
    pub fn close_after(&mut self) {
        self.client = Persistence::Close;
    }

    /// Whether only a reset tells the client that the response is not whole.
    pub fn ends_by_close(&self) -> bool {
        self.framing == Some(Framing::UntilClose)
    }

    /// A response of our own begins, framed by its length.
    pub fn begun_by_us(&mut self) {
        self.framing = Some(Framing::Empty);
    }

    pub(super) fn at_hand(&self) -> AtHand {
        let is_there = self.decoder.left().is_some_and(|left| left <= self.wire.buffer.len() as u64);
        if is_there { AtHand::Whole } else { AtHand::Part }
    }

    pub(super) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        loop {
            match self.decoder.decode(&mut self.wire.buffer).map_err(Failed::malformed_request)? {
                BodyEvent::Data(bytes) => {
                    self.waits_for_continue = false;
                    let last = if self.decoder.is_done() { Last::Yes } else { Last::Unknown };
                    return Poll::Ready(Ok(Part::Data(bytes, last)));
                }
                BodyEvent::Trailers(trailers) => return Poll::Ready(Ok(Part::Trailers(heads::trailers(&trailers)))),
                BodyEvent::End => return Poll::Ready(Ok(Part::End)),
                BodyEvent::More => match ready!(self.wire.poll_read(cx)) {
                    Ok(0) => return Poll::Ready(Err(gone("the client ended its request early"))),
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(gone("the client's connection broke"))),
                },
            }
        }
    }

    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        while !self.wire.ended && self.wire.buffer.len() < PIPELINE_MAX {
            let read = match ready!(self.wire.socket().poll_readable(cx)) {
                Ok(()) => ready!(self.wire.poll_read(cx)),
                Err(error) => Err(error),
            };
            // An orderly end is a client that has no more to say: it still gets its answer.
            if read.is_err() {
                return Poll::Ready(gone("the client's connection broke"));
            }
        }
        Poll::Pending
    }

    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        let gone_or_quiet = self.poll_gone(cx);
        if gone_or_quiet.is_pending() && self.wire.ended {
            return Poll::Ready(gone("the client ended its connection"));
        }
        gone_or_quiet
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.wire.poll_room(cx).map_err(|_| gone("the client's connection broke"))
    }

    pub(super) fn interim(&mut self, head: &ResponseHead, edit: &Edit<'_>) -> Result<(), Failed> {
        // HTTP/1.0 knows no interim responses (RFC 9110 15.2).
        if self.version == Version::Http11 {
            if head.status() == 100 {
                self.waits_for_continue = false;
            }
            self.write(head, Framing::Empty, Persistence::Keep, edit);
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, head: &ResponseHead, request: Progress, edit: &Edit<'_>) -> Result<(), Failed> {
        let framing = heads::response_framing(head, self.asked).toward(self.version);
        // What is left of a request that was answered early would be read as the next request.
        if framing == Framing::UntilClose || request == Progress::Partial || self.waits_for_continue {
            self.client = Persistence::Close;
        }
        self.framing = Some(framing);
        self.write(head, framing, self.client, edit);
        Ok(())
    }

    fn write(&mut self, head: &ResponseHead, framing: Framing, persistence: Persistence, edit: &Edit<'_>) {
        let plan = ResponsePlan { client: self.version, framing, persistence, extra: &[] };
        heads::response_to_http1(self.wire.out(), head, &plan, edit);
    }

    pub(super) fn part(&mut self, part: Part) -> Result<(), Failed> {
        if self.framing == Some(Framing::Empty) && matches!(&part, Part::Data(bytes, _) if !bytes.is_empty()) {
            // It would be read as the next response; an HTTP/2 endpoint can send it.
            return Err(Failed::ended(Outcome::UpstreamProtocol, "a body after a response that has none"));
        }
        let chunked = self.framing == Some(Framing::Chunked);
        body::push(self.wire, chunked, part);
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.wire.poll_flush(cx).map_err(|_| gone("the client's connection broke"))
    }

    pub(super) fn has_begun(&self) -> bool {
        self.framing.is_some()
    }

    pub(super) fn abort(&mut self) {
        self.aborted = true;
    }
}

fn gone(why: &str) -> Failed {
    Failed::ended(Outcome::ClientGone, why)
}
