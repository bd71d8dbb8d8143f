//! The header that starts a connection between sidecars (Linkerd's transport header): which port, which protocol.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use mesh_core::names::TRANSPORT_PREFACE;
use prost::Message;
use thiserror::Error;

/// Longest header that is read, bytes: a port, a name of at most 253 characters, and room for fields to come.
const LENGTH_MAX: usize = 8 * 1024;
/// Bytes of the big-endian length between preface and header.
const LENGTH_BYTES: usize = 4;

/// What the connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Header of a connection between sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportHeader {
    /// Port of the application.
    pub port: u16,
    /// Protocol; `None` = bytes.
    pub session: Option<SessionProtocol>,
}

/// A header that is none, or asks for what a sidecar does not do.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidHeader {
    /// The preface is missing.
    #[error("the transport preface is missing")]
    Preface,
    /// Longer than allowed.
    #[error("the transport header is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// No protobuf message of that type.
    #[error("the transport header cannot be read")]
    Malformed,
    /// A port outside 1 to 65,535.
    #[error("the transport header names no port")]
    Port,
    /// It names a service: only gateways between clusters take such connections.
    #[error("the transport header asks for a gateway")]
    Gateway,
}

impl From<InvalidHeader> for io::Error {
    fn from(error: InvalidHeader) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl TransportHeader {
    /// Takes the header off the front of `buffer`; `None` while it is not whole.
    ///
    /// # Errors
    /// The peer does not speak the transport: close.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, InvalidHeader> {
        let begun = buffer.len().min(TRANSPORT_PREFACE.len());
        if buffer[..begun] != TRANSPORT_PREFACE[..begun] {
            return Err(InvalidHeader::Preface);
        }
        let Some((length, rest)) = buffer.get(TRANSPORT_PREFACE.len()..).and_then(|rest| rest.split_first_chunk())
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LENGTH_MAX {
            return Err(InvalidHeader::TooLong);
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let header = wire::Header::decode(message).map_err(|_| InvalidHeader::Malformed)?;
        buffer.advance(TRANSPORT_PREFACE.len() + LENGTH_BYTES + length);
        Self::read(&header).map(Some)
    }

    fn read(header: &wire::Header) -> Result<Self, InvalidHeader> {
        if !header.name.is_empty() {
            return Err(InvalidHeader::Gateway);
        }
        let port = u16::try_from(header.port).ok().filter(|port| *port != 0).ok_or(InvalidHeader::Port)?;
        let session =
            header.session_protocol.as_ref().and_then(|session| session.kind.as_ref()).map(|kind| match kind {
                wire::Kind::Http1(_) => SessionProtocol::Http1,
                wire::Kind::Http2(_) => SessionProtocol::Http2,
            });
        Ok(TransportHeader { port, session })
    }

    /// The header as the first bytes of a connection.
    pub fn encode(&self) -> BytesMut {
        let kind = self.session.map(|session| match session {
            SessionProtocol::Http1 => wire::Kind::Http1(wire::Empty {}),
            SessionProtocol::Http2 => wire::Kind::Http2(wire::Empty {}),
        });
        let header = wire::Header {
            port: i32::from(self.port),
            name: String::new(),
            session_protocol: kind.map(|kind| wire::SessionProtocol { kind: Some(kind) }),
        };
        let message = header.encode_to_vec();
        let mut bytes = BytesMut::with_capacity(TRANSPORT_PREFACE.len() + LENGTH_BYTES + message.len());
        bytes.put_slice(TRANSPORT_PREFACE);
        bytes.put_u32(message.len() as u32);
        bytes.put_slice(&message);
        bytes
    }
}

/// The messages of Linkerd's `transport-header` package, written out because linkerd2-proxy-api does not have them.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(int32, tag = "1")]
        pub(super) port: i32,
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(message, optional, tag = "3")]
        pub(super) session_protocol: Option<SessionProtocol>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SessionProtocol {
        #[prost(oneof = "Kind", tags = "1, 2")]
        pub(super) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(message, tag = "1")]
        Http1(Empty),
        #[prost(message, tag = "2")]
        Http2(Empty),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Empty {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_back_from_any_split_and_leaves_what_follows() {
        for session in [None, Some(SessionProtocol::Http1), Some(SessionProtocol::Http2)] {
            let header = TransportHeader { port: 8080, session };
            let mut whole = header.encode();
            whole.extend_from_slice(b"rest");
            for split in 0..whole.len() - 4 {
                let mut part = BytesMut::from(&whole[..split]);
                assert_eq!(TransportHeader::take(&mut part), Ok(None), "{split}");
                part.extend_from_slice(&whole[split..]);
                assert_eq!(TransportHeader::take(&mut part), Ok(Some(header.clone())));
                assert_eq!(&part[..], b"rest");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let framed = |length: u32, message: &[u8]| {
            let mut bytes = BytesMut::from(TRANSPORT_PREFACE);
            bytes.put_u32(length);
            bytes.put_slice(message);
            bytes
        };
        let named = wire::Header { port: 80, name: "b.demo:80".to_owned(), session_protocol: None }.encode_to_vec();
        let cases = [
            (BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]), InvalidHeader::Preface),
            (framed(u32::MAX, b""), InvalidHeader::TooLong),
            (framed(2, b"\xff\xff"), InvalidHeader::Malformed),
            (framed(0, b""), InvalidHeader::Port),
            (framed(4, b"\x08\x80\x80\x04"), InvalidHeader::Port),
            (framed(named.len() as u32, &named), InvalidHeader::Gateway),
        ];
        for (mut bytes, expected) in cases {
            assert_eq!(TransportHeader::take(&mut bytes), Err(expected), "{bytes:?}");
        }
    }
}
