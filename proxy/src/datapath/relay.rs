//! Step 7: both directions of an exchange passed on whole, at the pace of the slower side.
//!
//! One task moves both directions, so that early answers, interim responses and half-closed connections need no special
//! case; the protocols of the two sides are independent of each other.

mod body;
mod downstream;
mod ending;
mod farewell;
mod feed;
mod heads;
mod limits;
mod pipe;
mod pump;
mod replay;
mod stream;
mod tunnel;
mod unwanted;
mod upstream;

use bytes::Bytes;
use http::HeaderMap;
use mesh_core::{fields::Fields, outcome::Outcome, retry::Failure};

pub use self::{
    downstream::{Downstream, Http1Downstream, Http2Downstream, InnerBody, InnerDownstream, Progress},
    farewell::Farewell,
    feed::Feed,
    limits::{Due, Limits},
    pipe::Pipe,
    pump::{Events, Pump, Relayed, Sides},
    replay::Replay,
    tunnel::{Broken, End, Speech, tunnel},
    upstream::{Http1Upstream, Http2Upstream, Stopped, Upstream},
};
use super::message::Headers;
use crate::net::http1;

/// A part of a body.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes, and whether they are the last (HTTP/2 and known lengths say so).
    Data(Bytes, Last),
    /// Trailers; nothing follows.
    Trailers(HeaderMap),
    /// The end, where the last bytes did not say so.
    End,
}

impl Part {
    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Part::Data(_, Last::Yes) | Part::Trailers(_) | Part::End)
    }
}

/// Whether a part is known to be the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is.
    Yes,
    /// Not known.
    Unknown,
}

/// Head of a response.
#[derive(Debug)]
pub enum ResponseHead {
    /// HTTP/1.
    Http1(http1::ResponseHead),
    /// HTTP/2.
    Http2(Http2ResponseHead),
}

/// Head of an HTTP/2 response.
#[derive(Debug)]
pub struct Http2ResponseHead {
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: Headers,
    /// Whether no body follows.
    pub is_end: bool,
}

impl ResponseHead {
    /// Status.
    pub fn status(&self) -> u16 {
        match self {
            ResponseHead::Http1(head) => head.status(),
            ResponseHead::Http2(head) => head.status,
        }
    }

    /// Fields.
    pub fn fields(&self) -> &dyn Fields {
        match self {
            ResponseHead::Http1(head) => head,
            ResponseHead::Http2(head) => &head.headers,
        }
    }

    /// Its fields, where it is HTTP/2's.
    pub fn http2_fields(&self) -> Option<&dyn Fields> {
        match self {
            ResponseHead::Http1(_) => None,
            ResponseHead::Http2(head) => Some(&head.headers),
        }
    }

    /// Another head follows.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status()) && self.status() != 101
    }
}

/// An attempt that failed.
#[derive(Debug)]
pub struct Failed {
    /// How the exchange ends if the attempt is not repeated.
    pub outcome: Outcome,
    /// How core's retry decision sees it; `None` = never repeated (the client's fault, or the answer has begun).
    pub failure: Option<Failure>,
    /// Why, for people.
    pub detail: String,
    /// Status of the answer where the outcome's does not fit (431, 501, …).
    pub status: Option<u16>,
}

impl Failed {
    fn upstream(failure: Failure, detail: impl Into<String>) -> Self {
        Failed { outcome: Outcome::UpstreamReset, failure: Some(failure), detail: detail.into(), status: None }
    }

    /// A failure after which nothing is repeated.
    pub fn ended(outcome: Outcome, detail: impl Into<String>) -> Self {
        Failed { outcome, failure: None, detail: detail.into(), status: None }
    }

    fn malformed_request(malformed: http1::Malformed) -> Self {
        let outcome = if malformed.status() == 431 { Outcome::HeadersTooLarge } else { Outcome::BadRequest };
        Failed { outcome, failure: None, detail: malformed.to_string(), status: Some(malformed.status()) }
    }
}
