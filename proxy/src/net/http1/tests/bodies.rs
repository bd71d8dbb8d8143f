//! Bodies.

use std::num::NonZeroUsize;

use bytes::BytesMut;
use mesh_core::{fields::Fields, relay::Passage};

use crate::net::http1::{
    AtEof, BodyDecoder, BodyEvent, Framing, Malformed, Version, write_chunk_head, write_last_chunk,
};

/// Body, names of trailers, and whether the message is whole.
fn decode(framing: Framing, text: &[u8]) -> Result<(Vec<u8>, Vec<String>, bool, usize), Malformed> {
    let (mut decoder, mut buffer) = (BodyDecoder::new(framing), BytesMut::from(text));
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    loop {
        match decoder.decode(&mut buffer)? {
            BodyEvent::Data(data) => body.extend_from_slice(&data),
            BodyEvent::Trailers(fields) => {
                trailers.extend(fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()));
            }
            BodyEvent::More => return Ok((body, trailers, false, buffer.len())),
            BodyEvent::End => return Ok((body, trailers, true, buffer.len())),
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let cases = [
        ("\r\n", Malformed::ChunkSize),
        (";a\r\n", Malformed::ChunkSize),
        ("g\r\n", Malformed::ChunkSize),
        ("0x5\r\nhello\r\n", Malformed::ChunkSize),
        ("+5\r\nhello\r\n", Malformed::ChunkSize),
        ("-1\r\n", Malformed::ChunkSize),
        (" 5\r\nhello\r\n", Malformed::ChunkSize),
        ("5 \r\nhello\r\n", Malformed::ChunkSize),
        ("5 ;a\r\nhello\r\n", Malformed::ChunkSize),
        ("5\t\r\nhello\r\n", Malformed::ChunkSize),
        ("5\nhello\r\n", Malformed::ChunkSize),
        ("5_0\r\n", Malformed::ChunkSize),
        ("10000000000000000\r\n", Malformed::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Malformed::ChunkSize),
        ("5\rhello\r\n", Malformed::LineBreak),
        ("5\r\r\nhello\r\n", Malformed::LineBreak),
        ("5;a\nhello\r\n", Malformed::ChunkExtension),
        ("5;a=\"\n\"\r\nhello\r\n", Malformed::ChunkExtension),
        ("5;a\0\r\nhello\r\n", Malformed::ChunkExtension),
        ("5;a\x7f\r\nhello\r\n", Malformed::ChunkExtension),
        ("5;a\rb\r\nhello\r\n", Malformed::LineBreak),
        ("5\r\nhello0\r\n\r\n", Malformed::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", Malformed::ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", Malformed::ChunkEnd),
        ("5\r\nhelloXX0\r\n\r\n", Malformed::ChunkEnd),
        ("3\r\nhello\r\n", Malformed::ChunkEnd),
        ("0\n\r\n", Malformed::ChunkSize),
        ("0\r\n\n", Malformed::LineBreak),
        ("0\r\n\rX", Malformed::LineBreak),
        ("0\r\nA: b\n\r\n", Malformed::LineBreak),
        ("0\r\nA: b\r\n\n", Malformed::LineBreak),
        ("0\r\nA : b\r\n\r\n", Malformed::FieldName),
        ("0\r\n A: b\r\n\r\n", Malformed::FieldName),
        ("0\r\nA: b\r\n c\r\n\r\n", Malformed::FieldName),
        ("0\r\nA: b\0\r\n\r\n", Malformed::FieldValue),
        ("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::FieldName),
    ];
    for (text, reason) in cases {
        assert_eq!(decode(Framing::Chunked, text.as_bytes()).err(), Some(reason), "{text:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let extension = format!("1;{}\r\n", "a".repeat(17 * 1024));
    assert_eq!(decode(Framing::Chunked, extension.as_bytes()).err(), Some(Malformed::ChunkExtension));
    let drip = format!("1;{}\r\nx\r\n", "a".repeat(100)).repeat(200);
    assert_eq!(decode(Framing::Chunked, drip.as_bytes()).err(), Some(Malformed::ChunkExtension));
    let long = format!("0\r\nA: {}\r\n\r\n", "b".repeat(17 * 1024));
    assert_eq!(decode(Framing::Chunked, long.as_bytes()).err(), Some(Malformed::TrailersTooLarge));
    let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(65));
    assert_eq!(decode(Framing::Chunked, many.as_bytes()).err(), Some(Malformed::TrailersTooLarge));
}

#[test]
fn chunked_bodies_end_where_the_last_chunk_does() {
    let text = b"5\r\nhello\r\n0006;a=\"b\"\r\n world\r\n000;x\r\n\r\nGET /";
    assert_eq!(decode(Framing::Chunked, text), Ok((b"hello world".to_vec(), vec![], true, 5)));
    assert_eq!(decode(Framing::Chunked, b"A\r\n0123456789\r\n0\r\n\r\n").expect("well-formed").0, b"0123456789");
}

#[test]
fn trailers_that_would_change_the_message_are_dropped() {
    let text = "0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nAuthorization: c\r\n\
                Cookie: d\r\nSet-Cookie: e\r\nTrailer: f\r\nConnection: close\r\nl5d-client-id: g\r\nx-mesh-lane: h\r\n\
                X-Checksum: i\r\n\r\nrest";
    let decoded = decode(Framing::Chunked, text.as_bytes()).expect("well-formed");
    assert_eq!(decoded, (vec![], vec!["Grpc-Status".to_owned(), "X-Checksum".to_owned()], true, 4));
    assert_eq!(decode(Framing::Chunked, b"0\r\nHost: b\r\n\r\n"), Ok((vec![], vec![], true, 0)));
}

#[test]
fn lengths_are_counted() {
    assert_eq!(decode(Framing::Length(3), b"abcdef"), Ok((b"abc".to_vec(), vec![], true, 3)));
    assert_eq!(decode(Framing::Length(3), b"ab"), Ok((b"ab".to_vec(), vec![], false, 0)));
    assert_eq!(decode(Framing::Length(0), b"ab"), Ok((vec![], vec![], true, 2)));
    assert_eq!(decode(Framing::Empty, b"ab"), Ok((vec![], vec![], true, 2)));
    assert_eq!(decode(Framing::UntilClose, b"ab"), Ok((b"ab".to_vec(), vec![], false, 0)));
    assert_eq!(decode(Framing::Tunnel, b"ab"), Ok((b"ab".to_vec(), vec![], false, 0)));
}

#[test]
fn the_end_of_the_connection_ends_only_what_has_no_other_end() {
    let after = |framing, text: &[u8]| {
        let (mut decoder, mut buffer) = (BodyDecoder::new(framing), BytesMut::from(text));
        while let BodyEvent::Data(_) = decoder.decode(&mut buffer).expect("well-formed") {}
        (decoder.at_eof(), decoder.is_done())
    };
    assert_eq!(after(Framing::UntilClose, b"a"), (AtEof::Whole, false));
    assert_eq!(after(Framing::Tunnel, b"a"), (AtEof::Whole, false));
    assert_eq!(after(Framing::Length(1), b"a"), (AtEof::Whole, true));
    assert_eq!(after(Framing::Length(2), b"a"), (AtEof::Truncated, false));
    assert_eq!(after(Framing::Empty, b""), (AtEof::Whole, true));
    assert_eq!(after(Framing::Chunked, b"0\r\n\r\n"), (AtEof::Whole, true));
    for text in ["", "1", "1\r\n", "1\r\na", "1\r\na\r\n", "1\r\na\r\n0\r\n", "0\r\nA: b\r\n"] {
        assert_eq!(after(Framing::Chunked, text.as_bytes()), (AtEof::Truncated, false), "{text:?}");
    }
}

#[test]
fn chunk_sizes_are_written_in_hexadecimal() {
    for (length, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0x1a2b, "1a2b\r\n"), (65_536, "10000\r\n")] {
        let mut out = BytesMut::new();
        write_chunk_head(&mut out, NonZeroUsize::new(length).expect("not zero"));
        assert_eq!(out, text);
    }
}

#[test]
fn trailers_cross_unless_the_filter_says_otherwise() {
    let (mut decoder, mut buffer) = (BodyDecoder::new(Framing::Chunked), BytesMut::from("0\r\nA: b\r\nC:d\r\n\r\n"));
    let BodyEvent::Trailers(trailers) = decoder.decode(&mut buffer).expect("well-formed") else {
        panic!("trailers come first")
    };
    assert_eq!(trailers.first("a"), Some(&b"b"[..]));
    let mut out = BytesMut::new();
    write_last_chunk(&mut out, Some(&trailers), |_| Passage::Keep);
    assert_eq!(out, "0\r\nA: b\r\nC: d\r\n\r\n");
    out.clear();
    write_last_chunk(&mut out, Some(&trailers), |name| if name == b"A" { Passage::Reserved } else { Passage::Keep });
    assert_eq!(out, "0\r\nC: d\r\n\r\n");
    out.clear();
    write_last_chunk(&mut out, None, |_| Passage::Keep);
    assert_eq!(out, "0\r\n\r\n");
}

#[test]
fn response_framing_fits_the_version_of_the_client() {
    assert_eq!(Framing::Chunked.toward(Version::Http10), Framing::UntilClose);
    assert_eq!(Framing::UntilClose.toward(Version::Http11), Framing::Chunked);
    assert_eq!(Framing::Length(3).toward(Version::Http10), Framing::Length(3));
    assert_eq!(Framing::Tunnel.toward(Version::Http11), Framing::Tunnel);
}
