//! The client's side of an exchange.

mod http1;
mod http2;
mod inner;

use std::task::{Context, Poll, Waker};

use mesh_core::shedding::AtHand;

use super::{Failed, Part, ResponseHead};
use crate::datapath::lane::Edit;

pub use self::{
    http1::Http1Downstream,
    http2::Http2Downstream,
    inner::{InnerBody, InnerDownstream},
};

/// The client's side of an exchange.
#[derive(Debug)]
pub enum Downstream<'a> {
    /// HTTP/1.
    Http1(Http1Downstream<'a>),
    /// HTTP/2.
    Http2(Http2Downstream),
    /// The exchange with a virtual model that makes this attempt at one of its targets.
    Inner(InnerDownstream),
}

/// Calls a method of whichever side it is; `inner` where that differs.
macro_rules! either {
    ($self:expr, $side:ident => $call:expr, inner => $inner:expr) => {
        match $self {
            Downstream::Http1($side) => $call,
            Downstream::Http2($side) => $call,
            Downstream::Inner($side) => $inner,
        }
    };
    ($self:expr, $side:ident => $call:expr) => {
        either!($self, $side => $call, inner => $call)
    };
}

impl Downstream<'_> {
    /// Whether no body follows the request's head.
    pub fn is_bodiless(&self) -> bool {
        either!(self, side => side.is_bodiless())
    }

    /// The next part of the request's body.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        either!(self, side => side.poll_part(cx), inner => side.poll_part())
    }

    /// Ready once the client has gone away, while nothing else is expected of it.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        either!(self, side => side.poll_gone(cx), inner => side.poll_gone())
    }

    /// Ready once the client has reset its stream, whatever of the request is still to be read. An HTTP/1 client has no
    /// other way to say so than to end a connection from which nothing is read now.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        match self {
            Downstream::Http1(_) | Downstream::Inner(_) => Poll::Pending,
            Downstream::Http2(side) => side.poll_gone(cx),
        }
    }

    /// Whether the client has reset its stream already: one who gives up what it asked for a moment ago makes no work for the
    /// next hop.
    pub fn has_given_up(&mut self) -> Option<Failed> {
        match self.poll_reset(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(gone) => Some(gone),
            Poll::Pending => None,
        }
    }

    /// Ready once a client that was read to the end of its request has gone away; one that ended its direction in order
    /// has, too: who asks a model waits for the answer.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        match self {
            Downstream::Http1(side) => side.poll_left(cx),
            Downstream::Http2(side) => side.poll_gone(cx),
            Downstream::Inner(side) => side.poll_gone(),
        }
    }

    /// The request is sent again from its beginning, where whoever sends it has it whole.
    pub fn rewind(&mut self) {
        match self {
            Downstream::Http1(_) | Downstream::Http2(_) => {}
            Downstream::Inner(side) => side.rewind(),
        }
    }

    /// Whether the request can be sent again, as far as its sender is concerned.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Downstream::Http1(_) | Downstream::Http2(_) => true,
            Downstream::Inner(side) => side.is_repeatable(),
        }
    }

    /// How much of the request was read, of a client whose next request comes on the same connection.
    pub fn progress(&self) -> Progress {
        match self {
            Downstream::Http1(side) if !side.has_whole_request() => Progress::Partial,
            Downstream::Http1(_) | Downstream::Http2(_) | Downstream::Inner(_) => Progress::Whole,
        }
    }

    /// Gives memory back that is not needed until the client says more. Parts of the request that are still held keep it.
    pub fn rest(&mut self) {
        match self {
            Downstream::Http1(side) => side.wire.rest(),
            Downstream::Http2(_) | Downstream::Inner(_) => {}
        }
    }

    /// Ready once another part of the response may be given.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        either!(self, side => side.poll_room(cx), inner => side.poll_room())
    }

    /// Passes on an interim response.
    pub fn interim(&mut self, head: &ResponseHead, edit: &Edit<'_>) -> Result<(), Failed> {
        either!(self, side => side.interim(head, edit), inner => { let _ = side; Ok(()) })
    }

    /// Begins the response. `request` says whether all of the request was read.
    pub fn begin(&mut self, head: &ResponseHead, request: Progress, edit: &Edit<'_>) -> Result<(), Failed> {
        either!(self, side => side.begin(head, request, edit), inner => side.begin(head, edit))
    }

    /// Gives a part of the response.
    pub fn part(&mut self, part: Part) -> Result<(), Failed> {
        match self {
            Downstream::Http1(side) => side.part(part),
            Downstream::Http2(side) => side.part(part),
            Downstream::Inner(side) => {
                side.part(part);
                Ok(())
            }
        }
    }

    /// Sends what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        either!(self, side => side.poll_flush(cx), inner => { let _ = side; Poll::Ready(Ok(())) })
    }

    /// How much of the request is there.
    pub fn at_hand(&self) -> AtHand {
        match self {
            Downstream::Http1(side) => side.at_hand(),
            // Of HTTP/2 no more comes than its windows allow.
            Downstream::Http2(_) | Downstream::Inner(_) => AtHand::Whole,
        }
    }

    /// Bytes that left toward the client; only grows while the exchange lasts.
    pub fn taken(&self) -> u64 {
        match self {
            Downstream::Http1(side) => side.wire.sent(),
            Downstream::Http2(side) => side.taken(),
            Downstream::Inner(_) => 0,
        }
    }

    /// Whether the response has begun: no other can be given.
    pub fn has_begun(&self) -> bool {
        either!(self, side => side.has_begun())
    }

    /// Whether the answer turned the connection into a tunnel.
    pub fn is_tunnel(&self) -> bool {
        match self {
            Downstream::Http1(side) => side.is_tunnel(),
            Downstream::Http2(_) => false,
            Downstream::Inner(side) => side.is_tunnel(),
        }
    }

    /// Ends a begun response so that the client sees that it is not whole.
    pub fn abort(&mut self) {
        either!(self, side => side.abort(), inner => { let _ = side; });
    }
}

/// How much of a message was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it.
    Whole,
    /// Not yet all of it.
    Partial,
}
