//! Heads of responses.

use super::response;
use crate::net::http1::{Asked, Framing, Malformed, Persistence, Version};

fn head(status: u16, lines: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\n{lines}\r\n")
}

#[test]
fn malformed_responses_are_refused() {
    let cases = [
        ("HTTP/1.1\r\n\r\n", Malformed::StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", Malformed::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", Malformed::StatusLine),
        ("HTTP/1.1 099 No\r\n\r\n", Malformed::StatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n", Malformed::StatusLine),
        ("HTTP/1.1 200 O\0K\r\n\r\n", Malformed::StatusLine),
        ("HTTP/1.1 200 O\rK\r\n\r\n", Malformed::StatusLine),
        ("ICY 200 OK\r\n\r\n", Malformed::StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed::StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Malformed::Version),
        ("HTTP/1.2 200 OK\r\n\r\n", Malformed::Version),
        ("HTTP/1.1 200 OK\n\r\n", Malformed::LineBreak),
        ("HTTP/1.1 200\nA: b\r\n\r\n", Malformed::LineBreak),
        ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", Malformed::LineBreak),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Malformed::FieldName),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Malformed::FieldName),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Malformed::FieldValue),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::CodingTooOld),
    ];
    for (text, reason) in cases {
        assert_eq!(response(text, Asked::Plain).err(), Some(reason), "{text:?}");
    }
}

#[test]
fn responses_with_ambiguous_framing_are_refused() {
    let cases = [
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Malformed::ContentLengthRepeated),
        ("Content-Length: 1, 1\r\n", Malformed::ContentLength),
        ("Content-Length: -1\r\n", Malformed::ContentLength),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Malformed::LengthAndCoding),
        ("Transfer-Encoding: gzip\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", Malformed::TransferCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Malformed::TransferEncoding),
        ("Connection: content-length\r\nContent-Length: 3\r\n", Malformed::Connection),
    ];
    for (lines, reason) in cases {
        for (status, asked) in [(200, Asked::Plain), (404, Asked::Connect), (200, Asked::Head), (304, Asked::Plain)] {
            assert_eq!(response(&head(status, lines), asked).err(), Some(reason), "{status} {lines:?}");
        }
    }
}

#[test]
fn framing_follows_request_status_and_fields() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases = [
        (200, length, Asked::Plain, Framing::Length(5), None),
        (200, chunked, Asked::Plain, Framing::Chunked, None),
        (200, "", Asked::Plain, Framing::UntilClose, None),
        (999, "", Asked::Plain, Framing::UntilClose, None),
        (200, length, Asked::Head, Framing::Empty, Some(5)),
        (200, chunked, Asked::Head, Framing::Empty, None),
        (404, "", Asked::Head, Framing::Empty, None),
        (204, "", Asked::Plain, Framing::Empty, None),
        (204, length, Asked::Plain, Framing::Empty, None),
        (204, length, Asked::Head, Framing::Empty, None),
        (304, length, Asked::Plain, Framing::Empty, Some(5)),
        (200, length, Asked::Connect, Framing::Tunnel, None),
        (200, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Asked::Connect, Framing::Tunnel, None),
        (407, length, Asked::Connect, Framing::Length(5), None),
        (200, length, Asked::Upgrade, Framing::Length(5), None),
        (101, "Connection: upgrade\r\nUpgrade: x\r\n", Asked::Upgrade, Framing::Tunnel, None),
        (100, "", Asked::Plain, Framing::Empty, None),
        (103, "Link: </a>\r\nContent-Length: 0\r\n", Asked::Connect, Framing::Empty, None),
    ];
    for (status, lines, asked, framing, declared) in cases {
        let head = response(&head(status, lines), asked).expect("well-formed");
        assert_eq!((head.framing(), head.declared_length()), (framing, declared), "{status} {lines:?} {asked:?}");
        assert_eq!(head.is_interim(), matches!(status, 100 | 103));
    }
}

#[test]
fn a_switch_nobody_asked_for_is_refused() {
    let switch = "Connection: upgrade\r\nUpgrade: x\r\n";
    for asked in [Asked::Plain, Asked::Head, Asked::Connect] {
        assert_eq!(response(&head(101, switch), asked).err(), Some(Malformed::Switch));
    }
    for lines in ["", "Upgrade: x\r\n", "Connection: upgrade\r\n", "Connection: upgrade\r\nUpgrade:\r\n"] {
        assert_eq!(response(&head(101, lines), Asked::Upgrade).err(), Some(Malformed::Switch), "{lines:?}");
    }
}

#[test]
fn interim_responses_with_a_body_are_refused() {
    for lines in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
        assert_eq!(response(&head(100, lines), Asked::Plain).err(), Some(Malformed::InterimBody));
    }
}

#[test]
fn only_a_connection_that_behaved_is_kept() {
    let cases = [
        (200, "Content-Length: 0\r\n", Persistence::Keep),
        (200, "Content-Length: 0\r\nConnection: close\r\n", Persistence::Close),
        (200, "", Persistence::Close),
        (204, "", Persistence::Keep),
        (204, "Content-Length: 0\r\n", Persistence::Keep),
        (204, "Content-Length: 3\r\n", Persistence::Close),
        (204, "Transfer-Encoding: chunked\r\n", Persistence::Close),
    ];
    for (status, lines, persistence) in cases {
        let head = response(&head(status, lines), Asked::Plain).expect("well-formed");
        assert_eq!(head.persistence(), persistence, "{status} {lines:?}");
    }
    let old = |line: &str| response(&format!("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n{line}\r\n"), Asked::Plain);
    let plain = old("").expect("well-formed");
    assert_eq!((plain.version(), plain.persistence()), (Version::Http10, Persistence::Close));
    assert_eq!(old("Connection: keep-alive\r\n").expect("well-formed").persistence(), Persistence::Keep);
}

#[test]
fn reasons_are_kept_as_sent() {
    for (text, reason) in [
        ("HTTP/1.1 200\r\n\r\n", &b""[..]),
        ("HTTP/1.1 200 \r\n\r\n", b""),
        ("HTTP/1.1 200 Very  well\r\n\r\n", b"Very  well"),
        ("HTTP/1.1 200 \u{e9}\r\n\r\n", "\u{e9}".as_bytes()),
    ] {
        assert_eq!(response(text, Asked::Plain).expect("well-formed").reason(), reason, "{text:?}");
    }
}
