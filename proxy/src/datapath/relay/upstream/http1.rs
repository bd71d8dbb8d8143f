//! An HTTP/1 endpoint.

use std::task::{Context, Poll, ready};

use mesh_core::{outcome::Outcome, reach::Unanswered, retry::Failure};

use super::Stopped;
use crate::{
    datapath::{
        lane::Edit,
        message::RequestHead,
        reach::{Lease, Pooled},
        relay::{Failed, Last, Part, ResponseHead, body, heads},
        wire::Wire,
    },
    net::{
        http1::{Asked, AtEof, BodyDecoder, BodyEvent, Framing, Malformed, Persistence},
        sys,
    },
    worker::Worker,
};

/// An HTTP/1 endpoint in one exchange.
#[derive(Debug)]
pub struct Http1Upstream {
    pooled: Pooled,
    asked: Asked,
    framing: Framing,
    decoder: Option<BodyDecoder>,
    persistence: Persistence,
    heard: bool,
}

impl Http1Upstream {
    /// The endpoint behind a connection.
    pub fn new(pooled: Pooled) -> Self {
        Http1Upstream {
            pooled,
            asked: Asked::Plain,
            framing: Framing::Empty,
            decoder: None,
            persistence: Persistence::Close,
            heard: false,
        }
    }

    /// The connection, for a tunnel.
    pub fn into_tunnel(self) -> (Wire, Lease) {
        self.pooled.into_parts()
    }

    pub(super) fn head(&mut self, head: &RequestHead, is_bodiless: bool, edit: &Edit<'_>) -> Result<(), Failed> {
        self.asked = match head {
            RequestHead::Http1(head) => head.asked(),
            RequestHead::Http2(head) if head.method == http::Method::HEAD => Asked::Head,
            // Its frames would have to become a tunnel's bytes, behind a body that says where it ends.
            RequestHead::Http2(head) if head.method == http::Method::CONNECT => {
                return Err(Failed::ended(Outcome::BadRequest, "a CONNECT cannot be carried over as HTTP/1"));
            }
            RequestHead::Http2(_) => Asked::Plain,
        };
        self.framing = heads::request_framing(head, is_bodiless);
        heads::request_to_http1(self.pooled.wire.out(), head, self.framing, edit);
        Ok(())
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.pooled.wire.poll_room(cx).map_err(|_| Stopped)
    }

    pub(super) fn part(&mut self, part: Part) -> Result<(), Stopped> {
        body::push(&mut self.pooled.wire, self.framing == Framing::Chunked, part);
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.pooled.wire.poll_flush(cx).map_err(|_| Stopped)
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failed>> {
        loop {
            let Pooled { wire, .. } = &mut self.pooled;
            if let Some(head) = wire.reader.response(&mut wire.buffer, self.asked).map_err(malformed)? {
                if !head.is_interim() {
                    self.persistence = head.persistence();
                    self.decoder = Some(BodyDecoder::new(head.framing()));
                }
                return Poll::Ready(Ok(ResponseHead::Http1(head)));
            }
            match ready!(wire.poll_read(cx)) {
                Ok(1..) => self.heard = true,
                Ok(0) => return Poll::Ready(Err(self.ended())),
                Err(error) => return Poll::Ready(Err(self.silent(&error.to_string()))),
            }
        }
    }

    /// An orderly end before the response. A sidecar ends a session in order only between exchanges (it cuts what it
    /// leaves unfinished), so on a connection that waited in the pool it has not taken this request.
    fn ended(&mut self) -> Failed {
        const WHY: &str = "closed the connection before its response";
        if self.pooled.reused && !self.heard && self.pooled.wire.socket().tls().is_some() {
            return Failed::upstream(Failure::ReusedEnded, format!("the endpoint {WHY}"));
        }
        self.silent(WHY)
    }

    fn silent(&self, why: &str) -> Failed {
        let reused = self.pooled.reused && !self.heard;
        Failed::upstream(if reused { Failure::ReusedClosed } else { Failure::Reset }, format!("the endpoint {why}"))
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        let Pooled { wire, .. } = &mut self.pooled;
        let Some(decoder) = &mut self.decoder else {
            return Poll::Ready(Err(Failed::ended(Outcome::Internal, "a part of a response before its head")));
        };
        loop {
            match decoder.decode(&mut wire.buffer).map_err(malformed)? {
                BodyEvent::Data(bytes) => {
                    let last = if decoder.is_done() { Last::Yes } else { Last::Unknown };
                    return Poll::Ready(Ok(Part::Data(bytes, last)));
                }
                BodyEvent::Trailers(trailers) => return Poll::Ready(Ok(Part::Trailers(heads::trailers(&trailers)))),
                BodyEvent::End => return Poll::Ready(Ok(Part::End)),
                BodyEvent::More => match ready!(wire.poll_read(cx)) {
                    Ok(1..) => {}
                    Ok(0) if decoder.at_eof() == AtEof::Whole => return Poll::Ready(Ok(Part::End)),
                    Ok(0) => return Poll::Ready(Err(incomplete("the endpoint ended its response early"))),
                    Err(error) => return Poll::Ready(Err(incomplete(&error.to_string()))),
                },
            }
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.decoder.as_ref().is_some_and(BodyDecoder::is_done)
    }

    pub(super) fn is_lost(&mut self) -> bool {
        // A kernel that does not say leaves the exchange its other limits.
        sys::unanswered(self.pooled.wire.socket().tcp()).is_ok_and(Unanswered::is_lost)
    }

    pub(super) fn finish(self, worker: &Worker) {
        let whole = self.is_whole() && self.persistence == Persistence::Keep;
        if whole {
            self.pooled.give_back(worker);
        }
    }

    pub(super) fn cancel(self) {
        self.pooled.into_parts().0.cut();
    }
}

fn malformed(malformed: Malformed) -> Failed {
    Failed::ended(Outcome::UpstreamProtocol, format!("the endpoint's response: {malformed}"))
}

fn incomplete(why: &str) -> Failed {
    Failed::ended(Outcome::UpstreamIncomplete, why)
}
