//! Malformed and unusual HTTP/1 responses: a client never takes a broken answer for a whole one, a connection that carried
//! anything unexpected is never used again, and nothing of one exchange reaches the next.
//!
//! Every case is played behind the callee's sidecar, and by a callee without sidecar.

use std::time::Duration;

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    raw::{self, End, Received, Step, Upstream},
    wait::{PATIENCE, until_true},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// How long to listen for the end of an answer.
const QUIET: Duration = Duration::from_secs(5);

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The mesh answers for the upstream.
    Status(u16),
    /// The answer begins, and its end is missing in a way that a client notices.
    Cut,
    /// Either of the two above: depends on what the sidecar has passed on by then.
    StatusOrCut(u16),
    /// A whole answer with this body.
    Body(&'static str),
    /// A whole answer with this body, or the mesh answers for the upstream.
    BodyOr(&'static str, u16),
}

use Expect::{Body, BodyOr, Cut, Status, StatusOrCut};

struct Case {
    name: &'static str,
    script: Vec<Step>,
    expect: Expect,
}

fn case(name: &'static str, script: Vec<Step>, expect: Expect) -> Case {
    Case { name, script, expect }
}

fn answer(text: &str) -> Vec<Step> {
    vec![Step::Await(b"hello".to_vec()), Step::send(text), Step::Drain]
}

fn answer_and_close(text: &str) -> Vec<Step> {
    vec![Step::Await(b"hello".to_vec()), Step::send(text), Step::Close]
}

fn cases() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let with = |rest: &str| format!("{ok}{rest}");
    vec![
        case(
            "length_and_chunked",
            answer(&with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
            Status(502),
        ),
        case("two_lengths_differ", answer(&with("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")), Status(502)),
        case("length_no_number", answer(&with("Content-Length: five\r\n\r\nhello")), Status(502)),
        case("chunked_twice", answer(&with("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")), Status(502)),
        case("space_before_colon", answer(&with("X-Test : 1\r\nContent-Length: 2\r\n\r\nok")), BodyOr("ok", 502)),
        case("line_without_colon", answer(&with("X-Test\r\nContent-Length: 2\r\n\r\nok")), Status(502)),
        case("nul_in_value", answer(&with("X-Test: \0\r\nContent-Length: 2\r\n\r\nok")), Status(502)),
        case("folded_line", answer(&with("X-Test: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok")), BodyOr("ok", 502)),
        case("no_http", answer("SSH-2.0-OpenSSH\r\n\r\n"), Status(502)),
        case("status_with_two_digits", answer("HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"), Status(502)),
        case("head_without_end", answer(&with(&"X-Test: 1\r\n".repeat(50_000))), Status(502)),
        case("closed_without_a_word", vec![Step::Await(b"hello".to_vec()), Step::Close], Status(502)),
        case("reset_without_a_word", vec![Step::Await(b"hello".to_vec()), Step::Reset], Status(502)),
        case("closed_in_head", answer_and_close("HTTP/1.1 200 OK\r\nContent-"), Status(502)),
        case("closed_before_length", answer_and_close(&with("Content-Length: 10\r\n\r\nhello")), Cut),
        case("closed_in_chunk", answer_and_close(&with("Transfer-Encoding: chunked\r\n\r\na\r\nhello")), Cut),
        case(
            "closed_before_last_chunk",
            answer_and_close(&with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")),
            Cut,
        ),
        case(
            "closed_before_end_of_trailers",
            answer_and_close(&with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")),
            Cut,
        ),
        case(
            "chunk_size_no_number",
            answer(&with("Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n")),
            StatusOrCut(502),
        ),
        case(
            "chunk_longer_than_its_size",
            answer(&with("Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n")),
            StatusOrCut(502),
        ),
        case(
            "bytes_after_length",
            answer(&with("Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")),
            Body("ok"),
        ),
        case(
            "bytes_after_last_chunk",
            answer(&with(
                "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            )),
            Body("ok"),
        ),
        case(
            "body_of_204",
            answer("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
            Body(""),
        ),
        case("body_of_304", answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"), Body("")),
        case("until_close", answer_and_close(&with("\r\nuntil the end")), Body("until the end")),
        case("version_1_0", answer_and_close("HTTP/1.0 200 OK\r\n\r\nold"), Body("old")),
        case(
            "switching_uninvited",
            answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            Status(502),
        ),
        case(
            "one_interim_answer",
            answer_and_close(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            ),
            Body("ok"),
        ),
        case(
            "flood_of_interim_answers",
            answer(&format!(
                "{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20_000)
            )),
            BodyOr("ok", 502),
        ),
        case(
            "trailers",
            answer_and_close(&with(
                "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            )),
            Body("ok"),
        ),
        case(
            "coding_hides_body",
            answer(&with("Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok")),
            StatusOrCut(502),
        ),
    ]
}

/// The final answer of what came back: status, body, whether it is whole.
fn final_answer(received: &Received) -> (u16, String, bool) {
    let text = received.text();
    let mut rest = text.as_str();
    while rest.starts_with("HTTP/1.1 1") && !rest.starts_with("HTTP/1.1 101") {
        rest = rest.split_once("\r\n\r\n").map_or("", |(_, after)| after);
    }
    let status = rest.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    let Some((head, body)) = rest.split_once("\r\n\r\n") else { return (status, String::new(), false) };
    let lower = head.to_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        let (body, whole) = unchunk(body);
        return (status, body, whole);
    }
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    match length {
        _ if matches!(status, 204 | 304) => (status, body.to_owned(), true),
        Some(length) => (status, body.to_owned(), body.len() == length),
        None => (status, body.to_owned(), received.end == End::Closed),
    }
}

fn unchunk(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((line, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(line, 16) else { return (body, false) };
        if size == 0 {
            return (body, after == "\r\n" || after.ends_with("\r\n\r\n"));
        }
        let Some(data) = after.get(..size) else { return (body, false) };
        body.push_str(data);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

fn judge(expect: Expect, received: &Received) -> Option<String> {
    let (status, body, whole) = final_answer(received);
    let is_body = |wanted: &str| whole && body == wanted && status < 400;
    let is_status = |wanted: u16| whole && status == wanted;
    let is_cut = !whole && received.end != End::Open;
    let fine = match expect {
        Status(wanted) => is_status(wanted),
        Cut => is_cut,
        StatusOrCut(wanted) => is_status(wanted) || is_cut,
        Body(wanted) => is_body(wanted),
        BodyOr(wanted, status) => is_body(wanted) || is_status(status),
    };
    let shown: String = received.text().chars().take(600).collect();
    (!fine).then(|| format!("came back ({:?}): {shown:?}", received.end))
}

struct Bench {
    mesh: Mesh,
    upstream: Upstream,
}

fn good() -> Vec<Step> {
    vec![Step::head(), Step::send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood"), Step::Close]
}

fn request(body: &str) -> String {
    format!("POST /case HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Bench {
    async fn start(plain: bool) -> Bench {
        let b = PodSpec::new("b").of("b");
        let b = if plain { b.plain() } else { b };
        let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(b).start().await;
        let upstream = Upstream::start(mesh.application("b"), good()).await;
        mesh.reachable("a", "b").await;
        Bench { mesh, upstream }
    }

    /// Plays a case, then shows that nothing of it is left.
    async fn judge(&self, case: &Case) -> Option<String> {
        self.upstream.play(case.script.clone());
        self.upstream.forget();
        let enough = |bytes: &[u8]| {
            let received = Received { bytes: bytes.to_vec(), end: End::Open };
            let (status, _, whole) = final_answer(&received);
            whole && status != 0
        };
        let received = raw::exchange(self.mesh.pod("a").outbound(), request("hello").as_bytes(), QUIET, enough).await;
        let wrong = judge(case.expect, &received);
        let spoken = self.upstream.spoken();
        self.upstream.play(good());
        let used = self.upstream.received().len();
        let next = self.mesh.get("a", "b", "/next", &[]).await;
        let next = next.map_or_else(|error| format!("{error:#}"), |answer| answer.text());
        wrong
            .or_else(|| (spoken != 1).then(|| format!("arrived on {spoken} connections")))
            .or_else(|| (next != "good").then(|| format!("the next exchange saw {next:?}")))
            .or_else(|| {
                let old: Vec<u8> = self.upstream.received().into_iter().take(used).flatten().collect();
                String::from_utf8_lossy(&old).contains("/next").then(|| "the connection was used again".to_owned())
            })
    }
}

async fn all_as_expected(plain: bool) {
    let bench = Bench::start(plain).await;
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        if let Some(why) = bench.judge(case).await {
            wrong.push(format!("{} (expected {:?}): {why}", case.name, case.expect));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test]
async fn broken_responses_of_the_application_are_never_passed_on_as_whole() {
    all_as_expected(false).await;
}

#[tokio::test]
async fn broken_responses_of_a_callee_without_sidecar_are_never_passed_on_as_whole() {
    all_as_expected(true).await;
}

#[tokio::test]
async fn answer_before_the_request_is_whole_reaches_the_client_and_ends_the_connection() {
    let bench = Bench::start(false).await;
    let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly";
    bench.upstream.play(vec![Step::head(), Step::send(early), Step::Drain]);
    bench.upstream.forget();
    let mut stream = TcpStream::connect(bench.mesh.pod("a").outbound()).await.unwrap();
    stream.write_all(b"POST /early HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\n\r\nbegin").await.unwrap();
    let received = raw::read(&mut stream, QUIET, |bytes| bytes.ends_with(b"early")).await;
    assert_eq!(received.status(), 413, "{}", received.text());
    drop(stream);
    let used = bench.upstream.received().len();
    bench.upstream.play(good());
    assert_eq!(bench.mesh.get("a", "b", "/next", &[]).await.unwrap().text(), "good");
    let old: Vec<u8> = bench.upstream.received().into_iter().take(used).flatten().collect();
    assert!(!String::from_utf8_lossy(&old).contains("/next"), "the half-used connection was used again");
}

#[tokio::test]
async fn client_that_closes_its_side_after_the_request_still_gets_the_answer() {
    let bench = Bench::start(false).await;
    let late = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate";
    bench.upstream.play(vec![Step::Await(b"hello".to_vec()), Step::send(late), Step::Close]);
    let mut stream = TcpStream::connect(bench.mesh.pod("a").outbound()).await.unwrap();
    stream.write_all(request("hello").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let received = raw::read(&mut stream, QUIET, |_| false).await;
    assert!(received.text().ends_with("late"), "{}", received.text());
}

#[tokio::test]
async fn upgraded_connection_carries_bytes_both_ways_until_both_sides_end() {
    let bench = Bench::start(false).await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nserver first ";
    let script =
        vec![Step::head(), Step::send(switch), Step::Await(b"client".to_vec()), Step::send("bye"), Step::Close];
    bench.upstream.play(script);
    bench.upstream.forget();
    let mut stream = TcpStream::connect(bench.mesh.pod("a").outbound()).await.unwrap();
    let request = b"GET /up HTTP/1.1\r\nHost: b\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let first = raw::read(&mut stream, QUIET, |bytes| bytes.ends_with(b"server first ")).await;
    assert_eq!(first.status(), 101, "{}", first.text());
    stream.write_all(b"client GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let rest = raw::read(&mut stream, QUIET, |_| false).await;
    assert_eq!(rest.text(), "bye");
    assert_ne!(rest.end, End::Open);
    let arrived = bench.upstream.text();
    assert!(arrived.ends_with("client GET / HTTP/1.1\r\n\r\n"), "{arrived}");
}

#[tokio::test]
async fn bytes_on_an_idle_connection_never_answer_the_next_request() {
    let bench = Bench::start(false).await;
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for plain_pause in 0..20 {
        bench.upstream.play(vec![Step::head(), Step::send(two), Step::send(poison), Step::Drain]);
        let first = bench.mesh.get("a", "b", "/first", &[]).await.unwrap();
        assert_eq!(first.text(), "ok", "round {plain_pause}");
        bench.upstream.play(good());
        let next = bench.mesh.get("a", "b", "/next", &[]).await.unwrap();
        assert_eq!(next.text(), "good", "round {plain_pause}");
    }
}

#[tokio::test]
async fn request_that_may_have_been_processed_is_not_sent_twice() {
    let bench = Bench::start(false).await;
    bench.upstream.play(vec![Step::Await(b"hello".to_vec()), Step::Reset]);
    bench.upstream.forget();
    let received = bench.mesh.raw("a", request("hello").as_bytes(), |bytes| bytes.ends_with(b"}")).await;
    assert_eq!(received.status(), 502, "{}", received.text());
    until_true("the request arrived", PATIENCE, || bench.upstream.spoken() > 0).await;
    assert_eq!(bench.upstream.text().matches("/case").count(), 1);
}
