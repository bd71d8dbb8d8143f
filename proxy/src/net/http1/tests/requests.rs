//! Heads of requests.

use mesh_core::fields::Fields;

use super::{request, request_within, with_fields};
use crate::net::http1::{Asked, Framing, HeadLimits, HeadReader, Malformed, Persistence, TargetForm, Version};
use bytes::BytesMut;

fn refuses(cases: &[(&str, Malformed)]) {
    for (text, reason) in cases {
        assert_eq!(request(text).err(), Some(*reason), "{text:?}");
    }
}

fn refuses_fields(cases: &[(&str, Malformed)]) {
    for (lines, reason) in cases {
        assert_eq!(request(&with_fields(lines)).err(), Some(*reason), "{lines:?}");
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    refuses(&[
        ("GET /\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET\r\n\r\n", Malformed::RequestLine),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Malformed::LineBreak),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET: / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET / HTP/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", Malformed::RequestLine),
        ("\x16\x03\x01\x02\0\x01", Malformed::RequestLine),
    ]);
}

#[test]
fn other_versions_are_refused_with_505() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/11.1", "HTTP/1.10", "HTTP/2"] {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        let error = request(&text).expect_err("not ours");
        let expected = if version == "HTTP/1.10" { Malformed::LineBreak } else { Malformed::Version };
        assert_eq!(error, expected, "{version}");
    }
    assert_eq!(request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect_err("not ours").status(), 505);
}

#[test]
fn targets_in_the_wrong_form_are_refused() {
    refuses(&[
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("GET ?q HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::TargetFragment),
        ("GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::TargetFragment),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::TargetNotAscii),
        ("GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Userinfo),
        ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Userinfo),
        ("GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT a:65536 HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT http://a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Authority),
        ("CONNECT u@a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Userinfo),
    ]);
}

#[test]
fn missing_repeated_and_invalid_hosts_are_refused() {
    let get = |fields: &str| request(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).err();
    assert_eq!(get(""), Some(Malformed::HostMissing));
    assert_eq!(get("Host: a\r\nHost: a\r\n"), Some(Malformed::HostRepeated));
    assert_eq!(get("Host: a\r\nhOST: b\r\n"), Some(Malformed::HostRepeated));
    assert_eq!(get("Host: u@a\r\n"), Some(Malformed::Userinfo));
    for host in [
        "", " ", "a b", "a,b", "a/b", "a:b", "a:1:2", "a:-1", "a:+80", "a:99999", "[::1", "[a]", "[::1]x", "::1",
        "a\\b", "a%2", "a%zz", "http://a", "\u{e9}",
    ] {
        assert_eq!(get(&format!("Host: {host}\r\n")), Some(Malformed::HostInvalid), "{host:?}");
    }
    let old = request("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").err();
    assert_eq!(old, Some(Malformed::HostRepeated));
    let absolute = request("GET http://a/ HTTP/1.1\r\n\r\n").err();
    assert_eq!(absolute, Some(Malformed::HostMissing));
}

#[test]
fn malformed_field_lines_are_refused() {
    refuses_fields(&[
        ("A : b\r\n", Malformed::FieldName),
        ("A\t: b\r\n", Malformed::FieldName),
        (": b\r\n", Malformed::FieldName),
        ("A\r\n", Malformed::FieldName),
        ("A b: c\r\n", Malformed::FieldName),
        ("A(: b\r\n", Malformed::FieldName),
        ("\u{e9}: b\r\n", Malformed::FieldName),
        ("A\0: b\r\n", Malformed::FieldName),
        ("A: b\r\n c\r\n", Malformed::FieldName),
        ("A: b\r\n\tc\r\n", Malformed::FieldName),
        ("A:\r\n b\r\n", Malformed::FieldName),
        ("A: b\0c\r\n", Malformed::FieldValue),
        ("A: b\x01\r\n", Malformed::FieldValue),
        ("A: \x0bb\r\n", Malformed::FieldValue),
        ("A: b\x7fc\r\n", Malformed::FieldValue),
        ("A: b\rc\r\n", Malformed::FieldValue),
        ("A: b\r\r\n", Malformed::FieldValue),
    ]);
    let first_folded = request("GET / HTTP/1.1\r\n Host: a\r\n\r\n").err();
    assert_eq!(first_folded, Some(Malformed::FieldName));
}

#[test]
fn bare_line_feeds_are_refused_wherever_they_stand() {
    refuses(&[
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: c\nD: e\r\n\r\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\r\nHost: a\r\nB:\nD: e\r\n\r\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: \t\nD: e\r\n\r\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\nHost: a\n\n", Malformed::LineBreak),
        ("GET / HTTP/1.0\n\n", Malformed::LineBreak),
        ("GET / HTTP/1.0\r\n\n", Malformed::LineBreak),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::LineBreak),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::LineBreak),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", Malformed::LineBreak),
    ]);
}

#[test]
fn ambiguous_content_lengths_are_refused() {
    for value in [
        "",
        "+1",
        "-1",
        " +0",
        "1 1",
        "1,1",
        "1, 1",
        "1,2",
        "0x1",
        "1e1",
        "1.0",
        "\"1\"",
        "a",
        "1;a",
        "18446744073709551616",
        "99999999999999999999",
        "\t1",
        "1\t",
        "\u{661}",
    ] {
        let text = with_fields(&format!("Content-Length: {value}\r\n"));
        assert_eq!(request(&text).err(), Some(Malformed::ContentLength), "{value:?}");
    }
    refuses_fields(&[
        ("Content-Length: 1\r\nContent-Length: 2\r\n", Malformed::ContentLengthRepeated),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Malformed::ContentLengthRepeated),
        ("Content-Length: 1\r\ncontent-length: 1\r\n", Malformed::ContentLengthRepeated),
    ]);
}

#[test]
fn transfer_encodings_other_than_one_chunked_are_refused() {
    for value in [
        "",
        "identity",
        "gzip",
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "chunked, chunked",
        "\tchunked",
        "chunked\t",
        "\"chunked\"",
        "chunked;q=1",
        "chun ked",
        "chunked, gzip",
        "gzip; x, chunked",
        "chunked,,chunked",
        "chunked,",
        ",chunked",
        "chunked\u{a0}",
        "'chunked'",
    ] {
        let text = with_fields(&format!("Transfer-Encoding: {value}\r\n"));
        assert_eq!(request(&text).err(), Some(Malformed::TransferEncoding), "{value:?}");
    }
    refuses_fields(&[
        ("Transfer-Encoding: gzip, chunked\r\n", Malformed::TransferCoding),
        ("Transfer-Encoding: identity, chunked\r\n", Malformed::TransferCoding),
        ("Transfer-Encoding: \x0bchunked\r\n", Malformed::FieldValue),
        ("Transfer-Encoding: chun\x0cked\r\n", Malformed::FieldValue),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Malformed::TransferEncoding),
        ("Transfer-Encoding : chunked\r\n", Malformed::FieldName),
        ("Transfer-Encoding\t: chunked\r\n", Malformed::FieldName),
        (" Transfer-Encoding: chunked\r\n", Malformed::FieldName),
        ("Transfer-Encoding:\r\n chunked\r\n", Malformed::FieldName),
        ("X: y\nTransfer-Encoding: chunked\r\n", Malformed::LineBreak),
    ]);
    assert_eq!(Malformed::TransferCoding.status(), 501);
}

#[test]
fn length_beside_transfer_encoding_is_refused() {
    refuses_fields(&[
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Malformed::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Malformed::LengthAndCoding),
        ("Transfer-Encoding: identity\r\nContent-Length: 0\r\n", Malformed::LengthAndCoding),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n", Malformed::LengthAndCoding),
    ]);
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(old.err(), Some(Malformed::CodingTooOld));
}

#[test]
fn connection_options_that_would_strip_framing_or_routing_are_refused() {
    let many = format!("Connection: {}\r\n", "a,".repeat(40));
    refuses_fields(&[
        ("Connection: Content-Length\r\nContent-Length: 3\r\n", Malformed::Connection),
        ("Connection: close, transfer-encoding\r\n", Malformed::Connection),
        ("Connection: host\r\n", Malformed::Connection),
        ("Connection: \"close\"\r\n", Malformed::Connection),
        ("Connection: a b\r\n", Malformed::Connection),
        (&many, Malformed::Connection),
    ]);
}

#[test]
fn expectations_other_than_continue_are_refused_with_417() {
    for value in ["", "200-ok", "100-continue, x", "100-continue;a"] {
        let error = request(&with_fields(&format!("Expect: {value}\r\n"))).expect_err("unknown expectation");
        assert_eq!((error, error.status()), (Malformed::Expectation, 417), "{value:?}");
    }
    let twice = request(&with_fields("Expect: 100-continue\r\nExpect: 100-continue\r\n"));
    assert_eq!(twice.err(), Some(Malformed::Expectation));
}

#[test]
fn connect_with_content_is_refused() {
    let connect = |field: &str| request(&format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n{field}\r\n"));
    assert_eq!(connect("Content-Length: 4\r\n").err(), Some(Malformed::ContentLength));
    assert_eq!(connect("Transfer-Encoding: chunked\r\n").err(), Some(Malformed::TransferEncoding));
    assert_eq!(connect("Content-Length: 0\r\n").expect("no content").framing(), Framing::Empty);
}

#[test]
fn heads_beyond_the_limits_are_refused_with_431() {
    let long = with_fields(&format!("A: {}\r\n", "b".repeat(2_000)));
    let limits = HeadLimits::new(1_000, 10);
    assert_eq!(request_within(long.as_bytes(), limits).err(), Some(Malformed::HeadTooLarge));
    let many = with_fields(&"A: b\r\n".repeat(10));
    assert_eq!(request_within(many.as_bytes(), limits).err(), Some(Malformed::TooManyFields));
    assert_eq!((Malformed::HeadTooLarge.status(), Malformed::TooManyFields.status()), (431, 431));
    let fitting = with_fields(&"A: b\r\n".repeat(9));
    assert_eq!(request_within(fitting.as_bytes(), limits).expect("ten fields").len(), 10);
    let exact = HeadLimits::new(fitting.len(), 10);
    assert!(request_within(fitting.as_bytes(), exact).is_ok());
}

#[test]
fn a_few_empty_lines_before_a_request_are_skipped() {
    assert!(request("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    let many = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(5));
    assert_eq!(request(&many).err(), Some(Malformed::EmptyLines));
}

#[test]
fn an_unfinished_head_asks_for_more_and_leaves_the_next_request_alone() {
    let mut reader = HeadReader::new(HeadLimits::default());
    let mut buffer = BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\n");
    assert!(reader.request(&mut buffer).expect("so far well-formed").is_none());
    buffer.extend_from_slice(b"\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n");
    let first = reader.request(&mut buffer).expect("well-formed").expect("whole");
    reader.reclaim_request(first);
    let second = reader.request(&mut buffer).expect("well-formed").expect("whole");
    assert_eq!((second.target(), second.host(), buffer.len()), ("/2", Some("b"), 0));
}

#[test]
fn a_long_head_reads_the_same_in_tiny_pieces() {
    let drip = |text: &str| {
        let (mut reader, mut buffer) = (HeadReader::new(HeadLimits::default()), BytesMut::new());
        for byte in text.bytes() {
            buffer.extend_from_slice(&[byte]);
            match reader.request(&mut buffer) {
                Ok(None) => {}
                Ok(Some(head)) => return Ok(head.len()),
                Err(error) => return Err(error),
            }
        }
        panic!("the test gives a whole head")
    };
    let long = format!("A: {}\r\n", "b".repeat(1_000)).repeat(20);
    assert_eq!(drip(&with_fields(&long)), Ok(21));
    assert_eq!(drip(&with_fields(&format!("{long}C: d\0\r\n"))), Err(Malformed::FieldValue));
    assert_eq!(drip(&with_fields(&format!("A: {}\r\n", "b".repeat(70_000)))), Err(Malformed::HeadTooLarge));
}

#[test]
fn all_four_target_forms_are_understood() {
    let cases = [
        ("GET /p/q?r=/s?t HTTP/1.1\r\nHost: a:8\r\n\r\n", TargetForm::Origin, "a", Some(8), "/p/q", Some("r=/s?t")),
        ("GET http://B/p HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm::Absolute, "B", None, "/p", None),
        ("GET HTTPS://b:1?q HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm::Absolute, "b", Some(1), "/", Some("q")),
        ("GET http://b HTTP/1.0\r\n\r\n", TargetForm::Absolute, "b", None, "/", None),
        ("CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n", TargetForm::Authority, "[::1]", Some(443), "", None),
        ("OPTIONS * HTTP/1.1\r\nHost: a:\r\n\r\n", TargetForm::Asterisk, "a", None, "*", None),
        ("GET //b/ HTTP/1.1\r\nHost: a-b_c.d~\r\n\r\n", TargetForm::Origin, "a-b_c.d~", None, "//b/", None),
    ];
    for (text, form, host, port, path, query) in cases {
        let head = request(text).expect("well-formed");
        let found = (head.target_form(), head.host(), head.port(), head.path(), head.query());
        assert_eq!(found, (form, Some(host), port, path, query), "{text:?}");
    }
}

#[test]
fn http_1_0_needs_no_host() {
    let head = request("GET / HTTP/1.0\r\n\r\n").expect("well-formed");
    assert_eq!((head.version(), head.authority()), (Version::Http10, None));
}

#[test]
fn framing_follows_the_fields() {
    let framing = |lines: &str| request(&with_fields(lines)).expect("well-formed").framing();
    assert_eq!(framing(""), Framing::Empty);
    assert_eq!(framing("Content-Length: 0\r\n"), Framing::Length(0));
    assert_eq!(framing("content-length:   007  \r\n"), Framing::Length(7));
    assert_eq!(framing("Content-Length: 18446744073709551615\r\n"), Framing::Length(u64::MAX));
    assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Framing::Chunked);
    assert_eq!(framing("TRANSFER-ENCODING:CHUNKED \r\n"), Framing::Chunked);
}

#[test]
fn persistence_follows_version_and_connection() {
    let cases = [
        ("1.1", "", Persistence::Keep),
        ("1.1", "Connection: close\r\n", Persistence::Close),
        ("1.1", "Connection: keep-alive, Close\r\n", Persistence::Close),
        ("1.1", "Connection: x\r\nConnection: ,close,\r\n", Persistence::Close),
        ("1.0", "", Persistence::Close),
        ("1.0", "Connection: Keep-Alive\r\n", Persistence::Keep),
        ("1.0", "Connection: keep-alive, close\r\n", Persistence::Close),
    ];
    for (version, line, persistence) in cases {
        let head = request(&format!("GET / HTTP/{version}\r\nHost: a\r\n{line}\r\n")).expect("well-formed");
        assert_eq!(head.persistence(), persistence, "{version} {line:?}");
    }
}

#[test]
fn an_upgrade_is_seen_only_where_it_may_be_forwarded() {
    let upgrade = |lines: &str| {
        let head = request(&with_fields(lines)).expect("well-formed");
        (head.upgrade().map(<[u8]>::to_vec), head.asked())
    };
    let websocket = (Some(b"websocket".to_vec()), Asked::Upgrade);
    let ignored = (None, Asked::Plain);
    assert_eq!(upgrade("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), websocket);
    assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n"), websocket);
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: \r\n",
        "Connection: upgrade, close\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: other\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n",
    ] {
        assert_eq!(upgrade(lines), ignored, "{lines:?}");
    }
    let old = request("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").expect("well-formed");
    assert_eq!(old.upgrade(), None);
    for start in ["HEAD /", "CONNECT a:1"] {
        let text = format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(request(&text).expect("well-formed").upgrade(), None, "{start}");
    }
}

#[test]
fn continue_and_trailers_are_noticed() {
    let head = request(&with_fields("Expect: 100-Continue\r\nTE: deflate, trailers\r\nConnection: te\r\n"));
    let head = head.expect("well-formed");
    assert!(head.expects_continue() && head.te_trailers());
    let unnamed = request(&with_fields("TE: trailers\r\n")).expect("well-formed");
    assert!(!unnamed.te_trailers(), "TE counts only when Connection names it");
    let old = request("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect("well-formed");
    assert!(!old.expects_continue(), "HTTP/1.0 knows no 100");
}

#[test]
fn fields_are_found_without_case_and_in_order() {
    let head = request(&with_fields("X-A: 1\r\nx-b:2\r\nx-a:  3\t \r\nX-Text: \u{e9} \"q\"\r\n")).expect("well-formed");
    let mut values = Vec::new();
    head.each("x-a", &mut |value| values.push(value.to_vec()));
    assert_eq!(values, [b"1".to_vec(), b"3".to_vec()]);
    assert_eq!(head.first("X-B"), Some(&b"2"[..]));
    let names: Vec<_> = head.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"Host"[..], b"X-A", b"x-b", b"x-a", b"X-Text"]);
    assert_eq!(format!("{:?}", head.iter().count()), "5");
}

#[test]
fn labels_are_distinct_and_statuses_are_errors() {
    let mut labels: Vec<_> = Malformed::ALL.iter().map(|malformed| malformed.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Malformed::ALL.len());
    assert!(Malformed::ALL.iter().all(|malformed| (400..600).contains(&malformed.status())));
}
