//! HTTP/1.0 and 1.1 for an intermediary: heads and bodies parsed and written, without IO.
//!
//! Strict where leniency lets two readers disagree about where a message ends (RFC 9112 11.1, 11.2): what is ambiguous
//! is [`Malformed`], and the connection it came on must be closed. A head is one buffer plus ranges: no allocation per
//! field, no map; a forwarded head is copied in runs. Written by hand because hyper's codec hides Content-Length beside
//! Transfer-Encoding, cannot pass on 1xx responses, and costs a map and channels per message.
//!
//! Use: one [`HeadReader`] per connection and direction reads heads out of its buffer; [`BodyDecoder`] made from the
//! head's [`Framing`] reads the body; [`write_request_head`] and [`write_response_head`] forward. HTTP versions other
//! than these, and content codings, are not known here.

mod authority;
mod body;
mod fields;
mod framing;
mod malformed;
mod options;
mod reader;
mod request;
mod response;
mod target;
mod trailers;
mod write;

#[cfg(test)]
mod tests;

pub use body::{AtEof, BodyDecoder, BodyEvent};
pub use fields::FieldTable;
pub use malformed::Malformed;
pub use reader::{HeadLimits, HeadReader};
pub use request::{Asked, RequestHead};
pub use response::ResponseHead;
pub use target::TargetForm;
pub use trailers::Trailers;
pub use write::{
    RequestPlan, ResponsePlan, end_head, write_chunk_head, write_chunk_tail, write_connection, write_field,
    write_framing, write_last_chunk, write_request_head, write_request_line, write_response_head, write_status_line,
};

/// Whether a text is `host [":" port]` as requests may name it, in either protocol (RFC 3986 3.2).
pub fn is_authority(text: &[u8]) -> bool {
    authority::parse(text).is_ok()
}

/// Version of a message as its sender wrote it. We always send HTTP/1.1 (RFC 9110 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked bodies, no 1xx, closes unless `keep-alive` is agreed.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a message's body is known (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no length said.
    Empty,
    /// Exactly this many bytes; 0 is said aloud.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the connection closes (responses only).
    UntilClose,
    /// No message any more: raw bytes both ways, after CONNECT 2xx or 101.
    Tunnel,
}

impl Framing {
    /// Framing for forwarding a response body to a client of `version`: chunked becomes until-close toward HTTP/1.0,
    /// which knows no chunks, and until-close becomes chunked toward HTTP/1.1, so that the connection survives.
    pub fn toward(self, version: Version) -> Framing {
        match (self, version) {
            (Framing::Chunked, Version::Http10) => Framing::UntilClose,
            (Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Empty | Framing::Length(_) | Framing::Chunked | Framing::UntilClose | Framing::Tunnel, _) => self,
        }
    }

    /// Whether no byte of body follows the head.
    pub fn is_bodiless(self) -> bool {
        matches!(self, Framing::Empty | Framing::Length(0))
    }
}

/// Whether a connection can carry another message after this one (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It can.
    Keep,
    /// This message is the last.
    Close,
}
