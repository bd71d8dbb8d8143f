//! Malformed and ambiguous HTTP/1 requests: never two requests upstream for one downstream, ambiguity is answered with
//! 400 and the end of the connection. Judged by the bytes that arrive at an application that records them.
//!
//! Every case is sent twice: by the application to its own sidecar, and by a mesh peer to the callee's sidecar.

use std::time::Duration;

use mesh_tests::{
    mesh::Mesh,
    peer::{Handshake, Leaf, Session},
    pod::{NAMESPACE, PodSpec, TRUST_DOMAIN},
    raw::{self, End, Received, Step, Upstream},
    strict::requests,
    wait::{PATIENCE, until_true},
};
use tokio::io::AsyncWriteExt as _;

/// How long to listen to a proxy that may keep the connection open after a whole answer.
const QUIET: Duration = Duration::from_secs(3);

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// One of these statuses, the connection ends, nothing arrives upstream.
    Refused(&'static [u16]),
    /// Exactly this many whole requests arrive, each is answered.
    Whole(usize),
    /// Either of the two above (the standard leaves the choice).
    WholeOrRefused,
    /// At most one request arrives, and it is not whole; the connection ends.
    Broken,
}

use Expect::{Broken, Refused, Whole, WholeOrRefused};

const BAD: Expect = Refused(&[400]);

struct Case {
    name: &'static str,
    request: Vec<u8>,
    expect: Expect,
}

fn case(name: &'static str, request: impl AsRef<[u8]>, expect: Expect) -> Case {
    Case { name, request: request.as_ref().to_vec(), expect }
}

/// A POST with these header lines and body.
fn post(headers: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: b\r\n{headers}\r\n{body}")
}

/// What a smuggler wants to arrive as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n";

fn framing() -> Vec<Case> {
    let chunked = format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
    let headers = |headers: &str| post(headers, &chunked);
    vec![
        case("length_and_chunked", headers("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), BAD),
        case("chunked_and_length", headers("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), BAD),
        case("chunked_twice_in_one_line", headers("Transfer-Encoding: chunked, chunked\r\n"), BAD),
        case(
            "chunked_twice_in_two_lines",
            headers("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        case("chunked_then_identity", headers("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), BAD),
        case("chunked_not_last", headers("Transfer-Encoding: chunked, gzip\r\n"), BAD),
        case("unknown_coding", headers("Transfer-Encoding: xchunked\r\n"), Refused(&[400, 501])),
        case("quoted_coding", headers("Transfer-Encoding: \"chunked\"\r\n"), Refused(&[400, 501])),
        case("coding_with_vertical_tab", headers("Transfer-Encoding: \x0bchunked\r\n"), Refused(&[400, 501])),
        case("empty_coding_with_length", headers("Transfer-Encoding:\r\nContent-Length: 5\r\n"), Refused(&[400, 501])),
        case("space_before_colon_of_coding", headers("Transfer-Encoding : chunked\r\n"), BAD),
        case("folded_coding", headers("Transfer-Encoding:\r\n chunked\r\n"), BAD),
        case("nul_in_coding", headers("Transfer-Encoding: chunked\0\r\n"), BAD),
        case("two_lengths_differ", headers("Content-Length: 5\r\nContent-Length: 6\r\n"), BAD),
        case("length_list_differs", headers("Content-Length: 5, 6\r\n"), BAD),
        case("two_lengths_equal", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), WholeOrRefused),
        case("length_list_equal", post("Content-Length: 5, 5\r\n", "hello"), WholeOrRefused),
        case("length_with_plus", headers("Content-Length: +5\r\n"), BAD),
        case("length_negative", headers("Content-Length: -5\r\n"), BAD),
        case("length_hexadecimal", headers("Content-Length: 0x5\r\n"), BAD),
        case("length_with_space_inside", headers("Content-Length: 5 5\r\n"), BAD),
        case("length_empty", headers("Content-Length: \r\n"), BAD),
        case("length_beyond_64_bits", headers("Content-Length: 18446744073709551621\r\n"), BAD),
        case("length_in_other_digits", headers("Content-Length: \u{0665}\r\n"), BAD),
        case("length_with_fraction", headers("Content-Length: 5.0\r\n"), BAD),
        case("nul_in_name_of_length", headers("Content-Length\0: 5\r\n"), BAD),
        case(
            "coding_in_http_1_0",
            b"POST /first HTTP/1.0\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        case(
            "underscore_is_another_field",
            post("Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", "hello"),
            WholeOrRefused,
        ),
        case(
            "length_named_as_hop_by_hop",
            post("Connection: content-length\r\nContent-Length: 5\r\n", "hello"),
            WholeOrRefused,
        ),
        case(
            "coding_named_as_hop_by_hop",
            post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            WholeOrRefused,
        ),
    ]
}

fn heads() -> Vec<Case> {
    let get = |rest: &str| format!("GET /first HTTP/1.1\r\n{rest}");
    vec![
        case("no_host", get("Accept: */*\r\n\r\n"), BAD),
        case("two_hosts", get("Host: b\r\nHost: c\r\n\r\n"), BAD),
        case("two_equal_hosts", get("Host: b\r\nHost: b\r\n\r\n"), BAD),
        case("host_with_space", get("Host: b c\r\n\r\n"), BAD),
        case("host_with_user", get("Host: user@b\r\n\r\n"), BAD),
        case("host_with_path", get("Host: b/c\r\n\r\n"), BAD),
        case("host_list", get("Host: b, c\r\n\r\n"), BAD),
        case("space_before_colon", get("Host: b\r\nX-Test : 1\r\n\r\n"), BAD),
        case("space_in_name", get("Host: b\r\nX Test: 1\r\n\r\n"), BAD),
        case("line_without_colon", get("Host: b\r\nX-Test\r\n\r\n"), BAD),
        case("empty_name", get("Host: b\r\n: 1\r\n\r\n"), BAD),
        case("folded_first_line", get(" Host: b\r\nHost: b\r\n\r\n"), BAD),
        case("folded_line", get("Host: b\r\nX-Test: 1\r\n 2\r\n\r\n"), WholeOrRefused),
        case("bare_carriage_return", get("Host: b\r\nX-Test: 1\rX-Other: 2\r\n\r\n"), BAD),
        case("nul_in_value", get("Host: b\r\nX-Test: 1\0\r\n\r\n"), BAD),
        case("control_in_name", get("Host: b\r\nX-T\x01est: 1\r\n\r\n"), BAD),
        case("bytes_beyond_ascii_in_name", get("Host: b\r\nX-T\u{e9}st: 1\r\n\r\n"), BAD),
        case("bare_line_feeds", "GET /first HTTP/1.1\nHost: b\n\n", WholeOrRefused),
        case(
            "bare_line_feed_hides_field",
            get("Host: b\r\nX-Test: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            WholeOrRefused,
        ),
        case("target_with_space", "GET /first second HTTP/1.1\r\nHost: b\r\n\r\n", BAD),
        case("two_spaces_before_target", "GET  /first HTTP/1.1\r\nHost: b\r\n\r\n", BAD),
        case("tab_before_target", "GET\t/first HTTP/1.1\r\nHost: b\r\n\r\n", BAD),
        case("fragment_in_target", "GET /first#part HTTP/1.1\r\nHost: b\r\n\r\n", WholeOrRefused),
        case("control_in_target", "GET /fi\x01rst HTTP/1.1\r\nHost: b\r\n\r\n", BAD),
        // No method at all, so no HTTP either: a connection without known target may also end without a word.
        case("control_in_method", "G\x01T /first HTTP/1.1\r\nHost: b\r\n\r\n", Refused(&[400, 0])),
        case("asterisk_of_get", "GET * HTTP/1.1\r\nHost: b\r\n\r\n", BAD),
        case("lower_case_version", "GET /first http/1.1\r\nHost: b\r\n\r\n", BAD),
        case("version_two", "GET /first HTTP/2.0\r\nHost: b\r\n\r\n", Refused(&[400, 505])),
        case("version_with_two_digits", "GET /first HTTP/11.1\r\nHost: b\r\n\r\n", Refused(&[400, 505])),
        case("absolute_form_wins_over_host", "GET http://b/first HTTP/1.1\r\nHost: c\r\n\r\n", WholeOrRefused),
        case("asterisk_of_options", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", Whole(1)),
        case("empty_line_before_request", "\r\nGET /first HTTP/1.1\r\nHost: b\r\n\r\n", WholeOrRefused),
    ]
}

fn bodies() -> Vec<Case> {
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let pipelined = |first: String| format!("{first}GET /second HTTP/1.1\r\nHost: b\r\n\r\n");
    vec![
        case("chunk_size_beyond_64_bits", chunked("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), Broken),
        case("chunk_size_negative", chunked("-5\r\nhello\r\n0\r\n\r\n"), Broken),
        case("chunk_size_with_prefix", chunked("0x5\r\nhello\r\n0\r\n\r\n"), Broken),
        case("chunk_size_empty", chunked("\r\nhello\r\n0\r\n\r\n"), Broken),
        case("chunk_longer_than_its_size", chunked("3\r\nhello\r\n0\r\n\r\n"), Broken),
        case("chunk_without_line_end", chunked("5\r\nhello0\r\n\r\n"), Broken),
        case("chunk_with_bare_line_feeds", chunked("5\nhello\n0\n\n"), Broken),
        case("extension_ended_by_line_feed", chunked(&format!("5;\nhello\r\n0\r\n\r\n{SMUGGLED}")), Broken),
        case("extension_with_carriage_return", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), Broken),
        case("extension_without_end", chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(1 << 20))), Broken),
        case("trailer_without_colon", chunked("5\r\nhello\r\n0\r\nbroken\r\n\r\n"), Broken),
        case("trailer_with_space_before_colon", chunked("5\r\nhello\r\n0\r\nX-Test : 1\r\n\r\n"), Broken),
        case("trailers_without_end", chunked(&format!("0\r\n{}\r\n", "X-Test: 1\r\n".repeat(20_000))), Broken),
        case("chunk_extension", chunked("5;name=value\r\nhello\r\n0\r\n\r\n"), Whole(1)),
        case("trailer", chunked("5\r\nhello\r\n0\r\nX-Test: 1\r\n\r\n"), Whole(1)),
        case("two_in_a_row_with_length", pipelined(post("Content-Length: 5\r\n", "hello")), Whole(2)),
        case("two_in_a_row_chunked", pipelined(chunked("5\r\nhello\r\n0\r\n\r\n")), Whole(2)),
        case("get_with_body", "GET /first HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello", Whole(1)),
        case(
            "smuggled_in_body_of_get",
            format!("GET /first HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
            Whole(1),
        ),
        case(
            "websocket_without_connection",
            format!("GET /first HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\n\r\n{SMUGGLED}"),
            Whole(2),
        ),
        case(
            "upgrade_to_h2c",
            "GET /first HTTP/1.1\r\nHost: b\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            Whole(1),
        ),
    ]
}

/// Where a case is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Outbound,
    Inbound,
}

struct Bench {
    mesh: Mesh,
    upstream: Upstream,
    peer: Handshake,
}

impl Bench {
    async fn start() -> Bench {
        let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
        let answer = [Step::Request, Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")];
        let upstream = Upstream::start(mesh.application("b"), answer.to_vec()).await;
        mesh.reachable("a", "b").await;
        let peer = Handshake::with(mesh.authority().sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a")));
        Bench { mesh, upstream, peer }
    }

    async fn send(&self, way: Way, case: &Case) -> Received {
        let whole = match case.expect {
            Whole(count) => count,
            Refused(_) | WholeOrRefused | Broken => usize::MAX,
        };
        let enough = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("\r\n\r\nok").count() >= whole;
        match way {
            Way::Outbound => raw::exchange(self.mesh.pod("a").outbound(), &case.request, QUIET, enough).await,
            Way::Inbound => {
                let pod = self.mesh.pod("b");
                let opened = self.peer.open(pod.inbound(), &pod.server_name(), 8080, Session::Http1).await;
                let mut stream = opened.expect("the sidecar takes a peer of the mesh");
                // The sidecar may close before it has read all.
                let _ = stream.write_all(&case.request).await;
                let _ = stream.flush().await;
                raw::read(&mut stream, QUIET, enough).await
            }
        }
    }

    /// Why the case is not as it must be; `None` when it is.
    async fn judge(&self, way: Way, case: &Case) -> Option<String> {
        self.upstream.forget();
        let received = self.send(way, case).await;
        if let Whole(_) | WholeOrRefused = case.expect {
            // Nothing to wait for: an answer is there only after the request has arrived whole.
        } else if received.end == End::Open {
            return Some(format!("the connection stays open after {:?}", received.text()));
        }
        let arrived: Vec<Vec<u8>> = self.upstream.received().into_iter().filter(|bytes| !bytes.is_empty()).collect();
        let text = String::from_utf8_lossy(&arrived.concat()).into_owned();
        let whole: Option<Vec<String>> =
            arrived.iter().map(|bytes| requests(bytes)).collect::<Option<Vec<_>>>().map(|found| found.concat());
        let refused = |statuses: &[u16]| {
            (!statuses.contains(&received.status())).then(|| format!("answered {:?}", received.text())).or_else(|| {
                (!arrived.is_empty()).then(|| format!("refused, but this arrived: {text:?}")).or_else(|| {
                    (received.answers() > 1).then(|| format!("answered more than once: {:?}", received.text()))
                })
            })
        };
        let passed = |count: usize| match &whole {
            None => Some(format!("not whole: {text:?}")),
            Some(found) if found.len() != count => Some(format!("{} requests arrived: {text:?}", found.len())),
            Some(_) if received.answers() != count => Some(format!("answered {:?}", received.text())),
            Some(_) => well_formed(&text),
        };
        match case.expect {
            Refused(statuses) => refused(statuses),
            Whole(count) => passed(count),
            WholeOrRefused if received.status() == 200 => passed(1),
            WholeOrRefused => refused(&[400]),
            Broken => broken(&received, &arrived),
        }
    }
}

fn well_formed(text: &str) -> Option<String> {
    let bare = text.replace("\r\n", "").contains(['\r', '\n']);
    bare.then(|| format!("a bare CR or LF arrived upstream: {text:?}"))
}

fn broken(received: &Received, arrived: &[Vec<u8>]) -> Option<String> {
    if received.status() == 200 {
        return Some(format!("answered {:?}", received.text()));
    }
    if arrived.len() > 1 {
        return Some(format!("arrived on {} connections", arrived.len()));
    }
    let whole = arrived.first().and_then(|bytes| requests(bytes));
    whole.map(|found| format!("arrived as whole: {found:?}"))
}

async fn all_as_expected(cases: Vec<Case>) {
    let bench = Bench::start().await;
    let mut wrong = Vec::new();
    for case in &cases {
        for way in [Way::Outbound, Way::Inbound] {
            if let Some(why) = bench.judge(way, case).await {
                wrong.push(format!("{} ({way:?}, expected {:?}): {why}", case.name, case.expect));
            }
        }
    }
    bench.mesh.reachable("a", "b").await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len() * 2, wrong.join("\n"));
}

#[tokio::test]
async fn ambiguous_framing_is_refused_before_anything_goes_upstream() {
    all_as_expected(framing()).await;
}

#[tokio::test]
async fn malformed_request_heads_are_refused_before_anything_goes_upstream() {
    all_as_expected(heads()).await;
}

#[tokio::test]
async fn malformed_bodies_never_become_whole_requests_upstream() {
    all_as_expected(bodies()).await;
}

#[tokio::test]
async fn headers_beyond_the_limit_are_answered_431() {
    let bench = Bench::start().await;
    let long_value = format!("GET /first HTTP/1.1\r\nHost: b\r\nX-Test: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET /first HTTP/1.1\r\nHost: b\r\n{}\r\n", "X-Test: 1\r\n".repeat(50_000));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: b\r\n\r\n", "a".repeat(1 << 20));
    let cases = [
        case("long_value", long_value, Refused(&[431])),
        case("many_fields", many, Refused(&[431])),
        case("long_target", long_target, Refused(&[414, 431])),
    ];
    for case in &cases {
        for way in [Way::Outbound, Way::Inbound] {
            assert_eq!(bench.judge(way, case).await, None, "{} {way:?}", case.name);
        }
    }
}

#[tokio::test]
async fn request_cut_off_by_its_client_is_never_whole_upstream() {
    let bench = Bench::start().await;
    let cut = [
        post("Content-Length: 100\r\n", "hello"),
        post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"),
        post("Transfer-Encoding: chunked\r\n", "ff\r\nhello"),
    ];
    for request in cut {
        bench.upstream.forget();
        let mut stream = tokio::net::TcpStream::connect(bench.mesh.pod("a").outbound()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        until_true("head upstream", PATIENCE, || bench.upstream.text().contains("/first")).await;
        stream.shutdown().await.unwrap();
        raw::read(&mut stream, raw::LISTEN, |_| false).await;
        let arrived = bench.upstream.received().into_iter().find(|bytes| !bytes.is_empty()).unwrap();
        assert_eq!(requests(&arrived), None, "arrived as whole: {:?}", String::from_utf8_lossy(&arrived));
    }
}

#[tokio::test]
async fn fields_that_only_the_mesh_may_set_are_stripped_from_clients() {
    let bench = Bench::start().await;
    let forged = "GET /first HTTP/1.1\r\nHost: b\r\nL5d-Client-Id: forged\r\nX-Forwarded-Client-Cert: forged\r\n\
                  X-Mesh-Draining: forged\r\nConnection: keep-alive, x-hop\r\nX-Hop: forged\r\n\r\n";
    bench.upstream.forget();
    let received = bench.mesh.raw("a", forged.as_bytes(), |bytes| bytes.ends_with(b"ok")).await;
    assert_eq!(received.status(), 200, "{}", received.text());
    let arrived = bench.upstream.text();
    assert!(!arrived.contains("forged"), "arrived: {arrived}");
    let caller = format!("l5d-client-id: {}", mesh_tests::peer::dns_name(TRUST_DOMAIN, NAMESPACE, "a"));
    let spiffe = format!("l5d-client-id: spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/a");
    let lower = arrived.to_lowercase();
    assert!(lower.contains(&caller) || lower.contains(&spiffe), "the caller's identity is told: {arrived}");
}
