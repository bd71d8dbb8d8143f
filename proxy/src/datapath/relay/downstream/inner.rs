//! The exchange that made an attempt at a target of a model route, as the client of that attempt: it has the request
//! whole, or passes it on while it comes, and takes the answer from a pipe.

use std::{rc::Rc, task::Poll};

use bytes::Bytes;
use mesh_core::outcome::Outcome;

use crate::{
    datapath::{
        lane::Edit,
        relay::{Failed, Feed, Last, Part, Pipe, ResponseHead, heads},
    },
    net::http1::Framing,
};

/// Body of a request that an attempt sends.
#[derive(Clone, Debug)]
pub enum InnerBody {
    /// All of it, in pieces.
    Whole(Rc<[Bytes]>),
    /// As it comes, and its length where that is known.
    Passing(Rc<Feed>, Option<u64>),
}

/// The client of one attempt.
#[derive(Debug)]
pub struct InnerDownstream {
    pipe: Rc<Pipe>,
    body: InnerBody,
    next: usize,
}

impl InnerDownstream {
    /// One that sends `body` and takes the answer from `pipe`.
    pub fn new(pipe: Rc<Pipe>, body: InnerBody) -> Self {
        InnerDownstream { pipe, body, next: 0 }
    }

    /// The request is sent again from its beginning.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Whether it can be.
    pub(super) fn is_repeatable(&self) -> bool {
        match &self.body {
            InnerBody::Whole(_) => true,
            InnerBody::Passing(feed, _) => !feed.is_taken(),
        }
    }

    pub(super) fn is_bodiless(&self) -> bool {
        match &self.body {
            InnerBody::Whole(pieces) => pieces.is_empty(),
            InnerBody::Passing(..) => false,
        }
    }

    pub(super) fn poll_part(&mut self) -> Poll<Result<Part, Failed>> {
        match &self.body {
            InnerBody::Whole(pieces) => {
                let Some(bytes) = pieces.get(self.next) else { return Poll::Ready(Ok(Part::End)) };
                self.next += 1;
                let last = if self.next == pieces.len() { Last::Yes } else { Last::Unknown };
                Poll::Ready(Ok(Part::Data(bytes.clone(), last)))
            }
            InnerBody::Passing(feed, _) => match feed.take() {
                Some(bytes) => Poll::Ready(Ok(Part::Data(bytes, Last::Unknown))),
                None if feed.is_whole() => Poll::Ready(Ok(Part::End)),
                None => Poll::Pending,
            },
        }
    }

    /// Whoever made the attempt drops it when it is not wanted any more.
    pub(super) fn poll_gone(&self) -> Poll<Failed> {
        Poll::Pending
    }

    pub(super) fn poll_room(&self) -> Poll<Result<(), Failed>> {
        if self.pipe.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    pub(super) fn begin(&mut self, head: &ResponseHead, edit: &Edit<'_>) -> Result<(), Failed> {
        if let InnerBody::Whole(pieces) = &self.body
            && self.next >= pieces.len()
        {
            // Sent, and not needed again: answers last long.
            (self.body, self.next) = (InnerBody::Whole(Rc::default()), 0);
        }
        if let ResponseHead::Http1(head) = head
            && head.framing() == Framing::Tunnel
        {
            self.pipe.switch(head.clone());
            return Ok(());
        }
        let response = heads::response_to_http2(head, edit)
            .ok_or_else(|| Failed::ended(Outcome::UpstreamProtocol, "a response of a status that nobody knows"))?;
        self.pipe.begin(response.into_parts().0);
        Ok(())
    }

    pub(super) fn part(&self, part: Part) {
        let ends = part.is_last();
        if let Part::Data(bytes, _) = part {
            self.pipe.give(bytes);
        }
        if ends {
            self.pipe.end();
        }
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.pipe.has_switched()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.pipe.has_begun()
    }
}
