//! The endpoint's side of one attempt.

mod http1;
mod http2;

use std::task::{Context, Poll};

use super::{Failed, Part, ResponseHead};
use crate::{
    datapath::{lane::Edit, message::RequestHead},
    worker::Worker,
};

pub use self::{http1::Http1Upstream, http2::Http2Upstream};

/// The endpoint takes no more of the request; it may answer all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// The endpoint's side of one attempt.
#[derive(Debug)]
pub enum Upstream {
    /// HTTP/1.
    Http1(Box<Http1Upstream>),
    /// HTTP/2.
    Http2(Http2Upstream),
}

/// Calls a method of whichever side it is.
macro_rules! either {
    ($self:expr, $side:ident => $call:expr) => {
        match $self {
            Upstream::Http1($side) => $call,
            Upstream::Http2($side) => $call,
        }
    };
}

impl Upstream {
    /// Gives the request's head.
    pub fn head(&mut self, head: &RequestHead, is_bodiless: bool, edit: &Edit<'_>) -> Result<(), Failed> {
        either!(self, side => side.head(head, is_bodiless, edit))
    }

    /// Ready once another part of the request may be given; an error only says that no more is taken.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        either!(self, side => side.poll_room(cx))
    }

    /// Gives a part of the request's body; an error only says that no more is taken.
    pub fn part(&mut self, part: Part) -> Result<(), Stopped> {
        either!(self, side => side.part(part))
    }

    /// Sends what waits; an error only says that no more is taken.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        either!(self, side => side.poll_flush(cx))
    }

    /// The next head of the response, interim ones first.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failed>> {
        either!(self, side => side.poll_head(cx))
    }

    /// The next part of the response's body.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        either!(self, side => side.poll_part(cx))
    }

    /// Whether the body of the response, whose head came, is whole.
    pub fn is_whole(&self) -> bool {
        either!(self, side => side.is_whole())
    }

    /// Whether the endpoint cannot be reached any more. Shared connections find out by themselves, and end.
    pub fn is_lost(&mut self) -> bool {
        match self {
            Upstream::Http1(side) => side.is_lost(),
            Upstream::Http2(_) => false,
        }
    }

    /// The exchange is whole in both directions: the connection may serve another.
    pub fn finish(self, worker: &Worker) {
        match self {
            Upstream::Http1(side) => side.finish(worker),
            Upstream::Http2(_) => {}
        }
    }

    /// The exchange is over although not whole: the endpoint is told.
    pub fn cancel(self) {
        match self {
            Upstream::Http1(side) => side.cancel(),
            Upstream::Http2(side) => side.cancel(),
        }
    }
}
