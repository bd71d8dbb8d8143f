//! Heads as they are forwarded.

use bytes::BytesMut;
use mesh_core::relay::Passage;

use super::{request, response, with_fields};
use crate::net::http1::{
    Asked, Framing, Persistence, RequestHead, RequestPlan, ResponsePlan, Version, end_head, write_connection,
    write_field, write_framing, write_request_head, write_request_line, write_response_head, write_status_line,
};

fn plan(head: &RequestHead) -> RequestPlan<'static> {
    RequestPlan { target: None, host: None, framing: head.framing(), persistence: Persistence::Keep, extra: &[] }
}

fn written(head: &RequestHead, plan: &RequestPlan<'_>) -> String {
    let mut out = BytesMut::new();
    write_request_head(&mut out, head, plan, |name| if name == b"X-Drop" { Passage::Reserved } else { Passage::Keep });
    String::from_utf8(out.to_vec()).expect("the test sends text")
}

fn forwarded(text: &str) -> String {
    let head = request(text).expect("well-formed");
    written(&head, &plan(&head))
}

#[test]
fn end_to_end_fields_keep_order_and_case() {
    let text =
        "POST /a?b HTTP/1.1\r\nX-One:  1\r\nhOsT: a:80\r\nx-two:2 \r\nX-Drop: x\r\nCONTENT-length: 03\r\nX-3: \r\n\r\n";
    let expected = "POST /a?b HTTP/1.1\r\nX-One:  1\r\nhOsT: a:80\r\nx-two:2 \r\nCONTENT-length: 3\r\nX-3: \r\n\r\n";
    assert_eq!(forwarded(text), expected);
}

#[test]
fn fields_of_the_connection_stay_behind() {
    let lines = "Connection: keep-alive, X-Named\r\nKeep-Alive: 5\r\nX-Named: 1\r\nX-Other: 2\r\nx-named: 3\r\n\
                 Proxy-Connection: keep-alive\r\nTE: deflate\r\nTrailer: a\r\nUpgrade: foo\r\nHTTP2-Settings: a\r\n";
    assert_eq!(forwarded(&with_fields(lines)), "GET / HTTP/1.1\r\nHost: a\r\nX-Other: 2\r\n\r\n");
}

#[test]
fn fields_that_others_depend_on_cannot_be_named_away() {
    let lines = "Connection: Authorization, X-Forwarded-For\r\nAuthorization: a\r\nX-Forwarded-For: b\r\n";
    let expected = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nX-Forwarded-For: b\r\n\r\n";
    assert_eq!(forwarded(&with_fields(lines)), expected);
}

#[test]
fn targets_are_forwarded_in_origin_form_with_their_own_host() {
    let cases = [
        ("GET http://b:8/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /p?q HTTP/1.1\r\nHost: b:8\r\n\r\n"),
        ("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n"),
        ("GET http://b/ HTTP/1.0\r\nA: c\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\nA: c\r\n\r\n"),
        ("GET / HTTP/1.0\r\nA: c\r\n\r\n", "GET / HTTP/1.0\r\nA: c\r\n\r\n"),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(forwarded(text), expected, "{text:?}");
    }
}

#[test]
fn the_plan_overrides_target_host_framing_and_persistence() {
    let head = request(&with_fields("Content-Length: 3\r\nX: y\r\n")).expect("well-formed");
    let plan = RequestPlan {
        target: Some("/new"),
        host: Some("b"),
        framing: Framing::Chunked,
        persistence: Persistence::Close,
        extra: &[("x-mesh-lane", b"canary")],
    };
    let expected = "GET /new HTTP/1.1\r\nHost: b\r\nX: y\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\
                    x-mesh-lane: canary\r\n\r\n";
    assert_eq!(written(&head, &plan), expected);
    let old = request("GET / HTTP/1.0\r\n\r\n").expect("well-formed");
    let plan = RequestPlan { host: Some("b"), framing: Framing::Empty, persistence: Persistence::Keep, ..plan };
    assert_eq!(written(&old, &plan), "GET /new HTTP/1.1\r\nHost: b\r\nx-mesh-lane: canary\r\n\r\n");
}

#[test]
fn upgrades_trailers_and_expectations_are_said_anew() {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let expected = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Connection: upgrade\r\n\r\n";
    assert_eq!(forwarded(&with_fields(websocket)), expected);
    let trailers = "TE: deflate, trailers\r\nConnection: TE\r\nExpect: 100-continue\r\nTransfer-Encoding:CHUNKED\r\n\
                    Trailer: x\r\n";
    let expected = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\
                    Trailer: x\r\nConnection: TE\r\n\r\n";
    assert_eq!(forwarded(&with_fields(trailers)), expected);
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n";
    assert_eq!(forwarded(&with_fields(h2c)), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let old = "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(forwarded(old), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
}

/// Response text, what was asked, client's version, persistence, framing toward the client, result.
type ResponseCase = (&'static str, Asked, Version, Persistence, Option<Framing>, &'static str);

#[test]
fn responses_are_framed_for_the_client() {
    use Persistence::{Close, Keep};
    use Version::{Http10, Http11};
    let cases: &[ResponseCase] = &[
        (
            "200 OK\r\nA: b\r\nContent-Length: 3\r\n",
            Asked::Plain,
            Http11,
            Keep,
            None,
            "200 OK\r\nA: b\r\nContent-Length: 3\r\n",
        ),
        (
            "200 OK\r\nContent-Length: 3\r\n",
            Asked::Plain,
            Http10,
            Keep,
            None,
            "200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n",
        ),
        (
            "200 OK\r\nContent-Length: 3\r\nConnection: close\r\n",
            Asked::Plain,
            Http11,
            Keep,
            None,
            "200 OK\r\nContent-Length: 3\r\n",
        ),
        (
            "200 OK\r\nContent-Length: 3\r\n",
            Asked::Plain,
            Http11,
            Close,
            None,
            "200 OK\r\nContent-Length: 3\r\nConnection: close\r\n",
        ),
        ("200 OK\r\nA: b\r\n", Asked::Plain, Http11, Keep, None, "200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n"),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n",
            Asked::Plain,
            Http10,
            Keep,
            None,
            "200 OK\r\nConnection: close\r\n",
        ),
        ("200 OK\r\nContent-Length: 3\r\n", Asked::Head, Http11, Keep, None, "200 OK\r\nContent-Length: 3\r\n"),
        (
            "304 Not Modified\r\nContent-Length: 3\r\n",
            Asked::Plain,
            Http11,
            Keep,
            None,
            "304 Not Modified\r\nContent-Length: 3\r\n",
        ),
        ("204 No Content\r\nContent-Length: 0\r\n", Asked::Plain, Http11, Keep, None, "204 No Content\r\n"),
        ("200 OK\r\nContent-Length: 0\r\n", Asked::Connect, Http11, Keep, None, "200 OK\r\n"),
        ("103 Early Hints\r\nLink: </a>\r\n", Asked::Plain, Http11, Close, None, "103 Early Hints\r\nLink: </a>\r\n"),
        (
            "101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n",
            Asked::Upgrade,
            Http11,
            Keep,
            None,
            "101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n",
        ),
        (
            "426 Upgrade Required\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 0\r\n",
            Asked::Plain,
            Http11,
            Close,
            None,
            "426 Upgrade Required\r\nUpgrade: x\r\nContent-Length: 0\r\nConnection: close, upgrade\r\n",
        ),
        (
            "200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\nX-Drop: 1\r\n",
            Asked::Plain,
            Http11,
            Keep,
            None,
            "200 OK\r\nContent-Length: 0\r\n",
        ),
        (
            "200 OK\r\nA: b\r\n",
            Asked::Plain,
            Http11,
            Keep,
            Some(Framing::Length(9)),
            "200 OK\r\nA: b\r\nContent-Length: 9\r\n",
        ),
    ];
    for (text, asked, client, persistence, framing, expected) in cases {
        let head = response(&format!("HTTP/1.1 {text}\r\n"), *asked).expect("well-formed");
        let framing = framing.unwrap_or(head.framing().toward(*client));
        let plan = ResponsePlan { client: *client, framing, persistence: *persistence, extra: &[] };
        let mut out = BytesMut::new();
        let passage = |name: &[u8]| if name == b"X-Drop" { Passage::Reserved } else { Passage::Keep };
        write_response_head(&mut out, &head, &plan, passage);
        assert_eq!(out, format!("HTTP/1.1 {expected}\r\n"), "{text:?}");
    }
}

#[test]
fn messages_of_our_own_are_written_from_parts() {
    let mut out = BytesMut::new();
    write_status_line(&mut out, 503, b"Service Unavailable");
    write_field(&mut out, "x-mesh-error", b"no_endpoints");
    write_framing(&mut out, Framing::Length(0));
    write_connection(&mut out, Persistence::Close, Version::Http11);
    end_head(&mut out);
    let expected = "HTTP/1.1 503 Service Unavailable\r\nx-mesh-error: no_endpoints\r\nContent-Length: 0\r\n\
                    Connection: close\r\n\r\n";
    assert_eq!(out, expected);
    out.clear();
    write_request_line(&mut out, "GET", "/");
    write_framing(&mut out, Framing::Empty);
    write_connection(&mut out, Persistence::Keep, Version::Http11);
    assert_eq!(out, "GET / HTTP/1.1\r\n");
}
