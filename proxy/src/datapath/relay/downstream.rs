//! The client's side of an exchange.

mod http1;
mod http2;

use std::task::{Context, Poll};

use super::{Failed, Part, ResponseHead};
use crate::datapath::lane::Edit;

pub use self::{http1::Http1Downstream, http2::Http2Downstream};

/// The client's side of an exchange.
#[derive(Debug)]
pub enum Downstream<'a> {
    /// HTTP/1.
    Http1(Http1Downstream<'a>),
    /// HTTP/2.
    Http2(Http2Downstream),
}

/// Calls a method of whichever side it is.
macro_rules! either {
    ($self:expr, $side:ident => $call:expr) => {
        match $self {
            Downstream::Http1($side) => $call,
            Downstream::Http2($side) => $call,
        }
    };
}

impl Downstream<'_> {
    /// Whether no body follows the request's head.
    pub fn is_bodiless(&self) -> bool {
        either!(self, side => side.is_bodiless())
    }

    /// The next part of the request's body.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        either!(self, side => side.poll_part(cx))
    }

    /// Ready once the client has gone away, while nothing else is expected of it.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        either!(self, side => side.poll_gone(cx))
    }

    /// Ready once the client has reset its stream, whatever of the request is still to be read. An HTTP/1 client has no
    /// other way to say so than to end a connection from which nothing is read now.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        match self {
            Downstream::Http1(_) => Poll::Pending,
            Downstream::Http2(side) => side.poll_gone(cx),
        }
    }

    /// Ready once another part of the response may be given.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        either!(self, side => side.poll_room(cx))
    }

    /// Passes on an interim response.
    pub fn interim(&mut self, head: &ResponseHead, edit: &Edit<'_>) -> Result<(), Failed> {
        either!(self, side => side.interim(head, edit))
    }

    /// Begins the response. `request` says whether all of the request was read.
    pub fn begin(&mut self, head: &ResponseHead, request: Progress, edit: &Edit<'_>) -> Result<(), Failed> {
        either!(self, side => side.begin(head, request, edit))
    }

    /// Gives a part of the response.
    pub fn part(&mut self, part: Part) -> Result<(), Failed> {
        either!(self, side => side.part(part))
    }

    /// Sends what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        either!(self, side => side.poll_flush(cx))
    }

    /// Whether the response has begun: no other can be given.
    pub fn has_begun(&self) -> bool {
        either!(self, side => side.has_begun())
    }

    /// Ends a begun response so that the client sees that it is not whole.
    pub fn abort(&mut self) {
        either!(self, side => side.abort());
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
