//! An HTTP/2 endpoint: one stream of a shared connection.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use h2::{Reason, RecvStream, client::ResponseFuture};
use http::StatusCode;
use mesh_core::{outcome::Outcome, retry::Failure};

use super::Stopped;
use crate::{
    datapath::{
        lane::Edit,
        message::{Headers, RequestHead},
        reach::Ready,
        relay::{Failed, Http2ResponseHead, Part, ResponseHead, heads, stream},
    },
    net::http1::HeadLimits,
};

/// An HTTP/2 endpoint in one exchange.
#[derive(Debug)]
pub struct Http2Upstream {
    connection: Ready,
    send: Option<stream::Sender>,
    response: Option<ResponseFuture>,
    receive: Option<RecvStream>,
    heads: HeadLimits,
}

impl Http2Upstream {
    /// The endpoint behind a connection that is ready for a stream, whose responses may have such heads.
    pub fn new(connection: Ready, heads: HeadLimits) -> Self {
        Http2Upstream { connection, send: None, response: None, receive: None, heads }
    }

    pub(super) fn head(&mut self, head: &RequestHead, is_bodiless: bool, edit: &Edit<'_>) -> Result<(), Failed> {
        let request = heads::request_to_http2(head, edit)
            .ok_or_else(|| Failed::ended(Outcome::BadRequest, "a request that HTTP/2 cannot carry"))?;
        // No stream was opened: nothing was sent.
        let unsent = |error: h2::Error| Failed::upstream(Failure::NotProcessed, format!("no stream: {error}"));
        let (response, send) = self.connection.send.send_request(request, is_bodiless).map_err(unsent)?;
        self.response = Some(response);
        self.send = Some(stream::Sender::new(send));
        Ok(())
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.poll_flush(cx)
    }

    pub(super) fn part(&mut self, part: Part) -> Result<(), Stopped> {
        self.send.as_mut().ok_or(Stopped)?.give(part).map_err(|_| Stopped)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        match &mut self.send {
            Some(send) => send.poll_flush(cx).map_err(|_| Stopped),
            None => Poll::Ready(Err(Stopped)),
        }
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failed>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(Failed::ended(Outcome::Internal, "a response before its request")));
        };
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let (parts, ()) = interim.map_err(|error| failed(&error))?.into_parts();
            if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                let why = "the endpoint switches protocols on a stream, which HTTP/2 does not know";
                return Poll::Ready(Err(Failed::ended(Outcome::UpstreamProtocol, why)));
            }
            let headers = Headers(parts.headers);
            let head = Http2ResponseHead { status: parts.status.as_u16(), headers, is_end: false };
            return Poll::Ready(Ok(ResponseHead::Http2(head)));
        }
        let (parts, receive) = ready!(Pin::new(response).poll(cx)).map_err(|error| failed(&error))?.into_parts();
        let (is_end, headers) = (receive.is_end_stream(), Headers(parts.headers));
        self.response = None;
        self.connection.answered();
        self.receive = Some(receive);
        if let Some(why) = headers.too_long("HTTP/1.1 200 \r\n\r\n".len(), self.heads) {
            let why = format!("the endpoint's response: {why}");
            return Poll::Ready(Err(Failed::ended(Outcome::UpstreamProtocol, why)));
        }
        let head = Http2ResponseHead { status: parts.status.as_u16(), headers, is_end };
        Poll::Ready(Ok(ResponseHead::Http2(head)))
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failed>> {
        let Some(receive) = &mut self.receive else {
            return Poll::Ready(Err(Failed::ended(Outcome::Internal, "a part of a response before its head")));
        };
        stream::poll_part(receive, cx)
            .map_err(|error| Failed::ended(Outcome::UpstreamIncomplete, format!("the endpoint's stream: {error}")))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    pub(super) fn cancel(mut self) {
        if let Some(send) = &mut self.send {
            send.reset(Reason::CANCEL);
        }
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        if self.response.is_some() {
            self.connection.given_up();
        }
    }
}

fn failed(error: &h2::Error) -> Failed {
    if error.is_reset() && error.is_library() {
        // Reset from here, for what it was; a head that is far too long is among that.
        let why = format!("the endpoint's response is malformed, or its head too long: {error}");
        return Failed::ended(Outcome::UpstreamProtocol, why);
    }
    let not_processed = error.reason() == Some(Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote());
    let failure = if not_processed { Failure::NotProcessed } else { Failure::Reset };
    Failed::upstream(failure, format!("the endpoint's stream: {error}"))
}
