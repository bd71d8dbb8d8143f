//! The header that opens a connection between sidecars: preface, length (u32, big endian), message.

use mesh_core::names::TRANSPORT_PREFACE;
use prost::Message;
use thiserror::Error;

use crate::mesh::v1::{SessionProtocol, TransportHeader, session_protocol};

/// Longest message that is read, bytes. The longest legal one (a DNS name, a port, a protocol) has 270.
pub const MESSAGE_MAX: usize = 1_024;
/// Bytes before the message: preface and length.
pub const PREFIX_LENGTH: usize = TRANSPORT_PREFACE.len() + 4;
/// Longest name of a gateway target, bytes (RFC 1035 2.3.4).
pub const NAME_MAX: usize = 253;

/// What is spoken after the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// Bytes.
    Opaque,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a connection between sidecars is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Port of the application behind the receiving sidecar.
    pub port: u16,
    /// Name that the connection is for; only toward a gateway.
    pub name: Option<String>,
    /// What is spoken.
    pub session: Session,
}

/// Bytes that are no transport header. The connection must be closed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidHeader {
    /// Other bytes than the preface.
    #[error("the preface {:?} is missing", String::from_utf8_lossy(TRANSPORT_PREFACE))]
    Preface,
    /// A length that no legal header has.
    #[error("a transport header of {0} bytes; the longest allowed is {MESSAGE_MAX}")]
    Length(usize),
    /// No such message.
    #[error("not a transport header: {0}")]
    Message(prost::DecodeError),
    /// A port that does not exist.
    #[error("port {0} in a transport header; allowed are 1 to 65535")]
    Port(i32),
    /// A name that is too long.
    #[error("a name of {0} bytes in a transport header; the longest allowed is {NAME_MAX}")]
    Name(usize),
}

/// The bytes to send first on a connection.
pub fn encode(header: &Header) -> Vec<u8> {
    let session_protocol = match header.session {
        Session::Opaque => None,
        Session::Http1 => Some(session_protocol::Kind::Http1(session_protocol::Http1 {})),
        Session::Http2 => Some(session_protocol::Kind::Http2(session_protocol::Http2 {})),
    }
    .map(|kind| SessionProtocol { kind: Some(kind) });
    let message = TransportHeader {
        port: i32::from(header.port),
        name: header.name.clone().unwrap_or_default(),
        session_protocol,
    };
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("names are bounded by the length of a host name");
    [TRANSPORT_PREFACE, &length.to_be_bytes(), &body].concat()
}

/// Reads a header from the first bytes of a connection: `None` while more bytes are needed (never more than
/// [`PREFIX_LENGTH`] + [`MESSAGE_MAX`]), else the header and how many bytes it took.
///
/// # Errors
/// As soon as the bytes cannot become a header any more.
pub fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, InvalidHeader> {
    let seen = bytes.len().min(TRANSPORT_PREFACE.len());
    if bytes[..seen] != TRANSPORT_PREFACE[..seen] {
        return Err(InvalidHeader::Preface);
    }
    let Some(length) = bytes.get(TRANSPORT_PREFACE.len()..PREFIX_LENGTH) else { return Ok(None) };
    let length = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
    if length > MESSAGE_MAX {
        return Err(InvalidHeader::Length(length));
    }
    let Some(body) = bytes.get(PREFIX_LENGTH..PREFIX_LENGTH + length) else { return Ok(None) };
    let message = TransportHeader::decode(body).map_err(InvalidHeader::Message)?;
    Ok(Some((read(message)?, PREFIX_LENGTH + length)))
}

fn read(message: TransportHeader) -> Result<Header, InvalidHeader> {
    let port = u16::try_from(message.port).ok().filter(|port| *port != 0).ok_or(InvalidHeader::Port(message.port))?;
    if message.name.len() > NAME_MAX {
        return Err(InvalidHeader::Name(message.name.len()));
    }
    let session = match message.session_protocol.and_then(|protocol| protocol.kind) {
        None => Session::Opaque,
        Some(session_protocol::Kind::Http1(_)) => Session::Http1,
        Some(session_protocol::Kind::Http2(_)) => Session::Http2,
    };
    Ok(Header { port, name: Some(message.name).filter(|name| !name.is_empty()), session })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let session = prop_oneof![Just(Session::Opaque), Just(Session::Http1), Just(Session::Http2)];
        (1..=u16::MAX, proptest::option::of("[a-z][a-z0-9.-]{0,200}"), session)
            .prop_map(|(port, name, session)| Header { port, name, session })
    }

    proptest! {
        #[test]
        fn a_header_reads_back_from_any_cut_of_the_bytes(header in header(), tail: Vec<u8>, cut: proptest::sample::Index) {
            let mut bytes = encode(&header);
            let length = bytes.len();
            prop_assert_eq!(decode(&bytes[..cut.index(length)]), Ok(None));
            bytes.extend(tail);
            prop_assert_eq!(decode(&bytes), Ok(Some((header, length))));
        }

        #[test]
        fn no_bytes_panic(tail: Vec<u8>) {
            let _ = decode(&tail);
            let _ = decode(&[TRANSPORT_PREFACE, &tail].concat());
            let _ = decode(&[TRANSPORT_PREFACE, &[0, 0, 0, 9], &tail].concat());
        }
    }

    #[test]
    fn numbers_on_the_wire_are_those_of_linkerd() {
        let header = Header { port: 4_143, name: Some("a".to_owned()), session: Session::Http2 };
        let message: &[u8] = &[0x08, 0xaf, 0x20, 0x12, 0x01, b'a', 0x1a, 0x02, 0x12, 0x00];
        assert_eq!(encode(&header), [b"transport.l5d.io/v1\r\n\r\n", &[0, 0, 0, 10][..], message].concat());
    }

    #[test]
    fn hostile_lengths_ports_and_prefaces_are_refused() {
        let with = |length: u32, body: &[u8]| decode(&[TRANSPORT_PREFACE, &length.to_be_bytes(), body].concat());
        assert_eq!(decode(b"GET / HTTP/1.1"), Err(InvalidHeader::Preface));
        assert_eq!(with(u32::MAX, &[]), Err(InvalidHeader::Length(u32::MAX as usize)));
        assert_eq!(with(0, &[]), Err(InvalidHeader::Port(0)));
        assert_eq!(with(4, &[0x08, 0x80, 0x80, 0x04]), Err(InvalidHeader::Port(65_536)));
        assert!(matches!(with(1, &[0xff]), Err(InvalidHeader::Message(_))));
    }
}
