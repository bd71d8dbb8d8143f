//! Malformed HTTP/2 requests, frame by frame: none reaches the application, and floods end the connection that sends them
//! and nothing else.
//!
//! Every case is sent by the application to its own sidecar, and by a mesh peer to the callee's sidecar.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use mesh_tests::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, block, frame, opening,
    },
    mesh::Mesh,
    peer::{Handshake, Leaf, Session},
    pod::{NAMESPACE, PodSpec, TRUST_DOMAIN},
    server::{Server, text},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long a refusal may take.
const REFUSAL: Duration = Duration::from_secs(10);

const PSEUDO: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "b"), (":path", "/case")];

/// A request of ordinary pseudo fields and these.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    let all = [&PSEUDO[..], fields].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&all))
}

/// A request whose pseudo field `name` has this value.
fn pseudo(name: &str, value: &str) -> Vec<u8> {
    let fields = PSEUDO.map(|(own, old)| if own == name { (own, value) } else { (own, old) });
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
}

fn without(name: &str) -> Vec<u8> {
    let fields: Vec<(&str, &str)> = PSEUDO.into_iter().filter(|(own, _)| *own != name).collect();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
}

fn post(fields: &[(&str, &str)], frames: &[Vec<u8>]) -> Vec<u8> {
    let mut all = PSEUDO.map(|(name, value)| if name == ":method" { (name, "POST") } else { (name, value) }).to_vec();
    all.extend(fields);
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &block(&all));
    bytes.extend(frames.concat());
    bytes
}

/// Cases whose head is already wrong: nothing of them reaches the application.
fn heads() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("upper_case_name", with(&[("X-Test", "1")])),
        ("connection", with(&[("connection", "close")])),
        ("keep_alive", with(&[("keep-alive", "timeout=1")])),
        ("proxy_connection", with(&[("proxy-connection", "close")])),
        ("transfer_encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te_other_than_trailers", with(&[("te", "gzip")])),
        (
            "pseudo_after_field",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &block(&[PSEUDO[0], PSEUDO[1], PSEUDO[2], ("x-test", "1"), PSEUDO[3]]),
            ),
        ),
        ("unknown_pseudo", with(&[(":test", "1")])),
        ("pseudo_of_responses", with(&[(":status", "200")])),
        ("path_twice", with(&[(":path", "/smuggled")])),
        ("method_twice", with(&[(":method", "POST")])),
        ("no_method", without(":method")),
        ("no_scheme", without(":scheme")),
        ("no_path", without(":path")),
        ("empty_path", pseudo(":path", "")),
        ("path_with_line_end", pseudo(":path", "/case HTTP/1.1\r\nHost: c\r\n\r\nGET /smuggled")),
        ("path_with_space", pseudo(":path", "/case HTTP/1.1")),
        ("path_without_slash", pseudo(":path", "case")),
        ("method_with_space", pseudo(":method", "GET /smuggled HTTP/1.1")),
        ("method_with_line_end", pseudo(":method", "GET\r\n")),
        ("empty_method", pseudo(":method", "")),
        ("authority_with_user", pseudo(":authority", "user@b")),
        ("authority_with_line_end", pseudo(":authority", "b\r\nx-test: 1")),
        ("authority_with_path", pseudo(":authority", "b/c")),
        ("host_differs_from_authority", with(&[("host", "c")])),
        ("value_with_line_end", with(&[("x-test", "1\r\nx-other: 2")])),
        ("value_with_line_feed", with(&[("x-test", "1\nx-other: 2")])),
        ("value_with_nul", with(&[("x-test", "1\0")])),
        ("name_with_colon", with(&[("x:test", "1")])),
        ("name_with_space", with(&[("x test", "1")])),
        ("name_with_line_end", with(&[("x-test\r\nx", "1")])),
        ("empty_name", with(&[("", "1")])),
        ("length_without_body", with(&[("content-length", "5")])),
        ("two_lengths", with(&[("content-length", "0"), ("content-length", "5")])),
        ("length_no_number", with(&[("content-length", "+0")])),
    ]
}

/// Cases whose head is fine: the application sees at most one request, and not a whole one.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let data = |text: &str, flags: u8| frame(DATA, flags, 1, text.as_bytes());
    let trailers = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields));
    vec![
        ("body_longer_than_length", post(&[("content-length", "3")], &[data("hello", END_STREAM)])),
        ("body_shorter_than_length", post(&[("content-length", "9")], &[data("hello", END_STREAM)])),
        ("connection_in_trailers", post(&[], &[data("hello", 0), trailers(&[("connection", "close")])])),
        ("upper_case_in_trailers", post(&[], &[data("hello", 0), trailers(&[("X-Test", "1")])])),
        (
            "trailers_without_end",
            post(&[], &[data("hello", 0), frame(HEADERS, END_HEADERS, 1, &block(&[("x-test", "1")]))]),
        ),
    ]
}

/// How a sidecar took something.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Refused,
    Answered,
    Nothing,
}

/// Reads frames until something says how stream 1 was taken.
async fn taken<S: AsyncRead + Unpin>(stream: &mut S) -> Taken {
    let reading = async {
        loop {
            let mut head = [0u8; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return Taken::Refused;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0u8; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return Taken::Refused;
            }
            match head[3] {
                RST_STREAM | GOAWAY => return Taken::Refused,
                // 0x88 is `:status: 200` of the static table.
                HEADERS if payload.contains(&0x88) => return Taken::Answered,
                HEADERS => return Taken::Refused,
                _ => {}
            }
        }
    };
    tokio::time::timeout(REFUSAL, reading).await.unwrap_or(Taken::Nothing)
}

struct Bench {
    mesh: Mesh,
    application: Server,
    peer: Handshake,
    /// Requests or trailers at the application that name what was smuggled.
    smuggled: Arc<Mutex<usize>>,
}

impl Bench {
    async fn start() -> Bench {
        let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
        let smuggled = Arc::new(Mutex::new(0));
        let found = Arc::clone(&smuggled);
        let application = Server::start(mesh.application("b"), move |request| {
            let found = Arc::clone(&found);
            async move {
                let in_head = request.uri().path() == "/smuggled";
                match http_body_util::BodyExt::collect(request.into_body()).await {
                    Ok(body) => {
                        let trailers = format!("{:?}", body.trailers());
                        *found.lock().unwrap() += usize::from(in_head || trailers.contains("smuggled"));
                        text("whole")
                    }
                    Err(_) => std::future::pending().await,
                }
            }
        })
        .await;
        mesh.reachable("a", "b").await;
        let peer = Handshake::with(mesh.authority().sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a")));
        Bench { mesh, application, peer, smuggled }
    }

    async fn outbound(&self) -> TcpStream {
        TcpStream::connect(self.mesh.pod("a").outbound()).await.unwrap()
    }

    async fn inbound(&self) -> impl AsyncRead + AsyncWrite + Unpin {
        let pod = self.mesh.pod("b");
        self.peer.open(pod.inbound(), &pod.server_name(), 8080, Session::Http2).await.unwrap()
    }

    async fn send<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S, bytes: &[u8]) -> Taken {
        // A refusal may come before all is written.
        let _ = stream.write_all(&[opening(), bytes.to_vec()].concat()).await;
        let _ = stream.flush().await;
        taken(&mut stream).await
    }
}

#[tokio::test]
async fn frames_of_the_test_make_an_ordinary_request() {
    let bench = Bench::start().await;
    assert_eq!(bench.send(bench.outbound().await, &with(&[("x-test", "1")])).await, Taken::Answered);
    assert_eq!(bench.send(bench.inbound().await, &with(&[("x-test", "1")])).await, Taken::Answered);
    let data = frame(DATA, END_STREAM, 1, b"hello");
    assert_eq!(bench.send(bench.outbound().await, &post(&[("content-length", "5")], &[data])).await, Taken::Answered);
}

#[tokio::test]
async fn malformed_http2_heads_never_reach_the_application() {
    let bench = Bench::start().await;
    let before = bench.application.seen.requests();
    let mut wrong = Vec::new();
    for (name, bytes) in heads() {
        let ways = [
            ("outbound", bench.send(bench.outbound().await, &bytes).await),
            ("inbound", bench.send(bench.inbound().await, &bytes).await),
        ];
        for (way, taken) in ways {
            if taken != Taken::Refused {
                wrong.push(format!("{name} ({way}): {taken:?}"));
            }
        }
        let after = bench.application.seen.requests.swap(before, Ordering::SeqCst);
        if after != before {
            wrong.push(format!("{name}: arrived"));
        }
    }
    bench.mesh.reachable("a", "b").await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn malformed_http2_bodies_are_never_whole_at_the_application() {
    let bench = Bench::start().await;
    let mut wrong = Vec::new();
    for (name, bytes) in bodies() {
        for (way, taken) in [
            ("outbound", bench.send(bench.outbound().await, &bytes).await),
            ("inbound", bench.send(bench.inbound().await, &bytes).await),
        ] {
            if taken != Taken::Refused {
                wrong.push(format!("{name} ({way}): {taken:?}"));
            }
        }
    }
    bench.mesh.reachable("a", "b").await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// RFC 9113 8.1 calls this malformed; what matters is that nothing of it travels on.
#[tokio::test]
async fn pseudo_field_in_trailers_does_not_reach_the_application() {
    let bench = Bench::start().await;
    let before = bench.application.seen.requests();
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/smuggled"), ("x-test", "1")]));
    let request = post(&[], &[frame(DATA, 0, 1, b"hello"), trailers]);
    for stream in
        [bench.send(bench.outbound().await, &request).await, bench.send(bench.inbound().await, &request).await]
    {
        assert_ne!(stream, Taken::Nothing);
    }
    assert!(bench.application.seen.requests() - before <= 2, "more requests than were sent");
    assert_eq!(*bench.smuggled.lock().unwrap(), 0, "the pseudo field arrived");
}

#[tokio::test]
async fn floods_end_their_own_connection_and_nothing_else() {
    let mut bench = Bench::start().await;
    let head = frame(HEADERS, END_STREAM, 1, &block(&PSEUDO));
    let continued = frame(CONTINUATION, 0, 1, &block(&[("x-test", &"a".repeat(8_000))]));
    let reset: Vec<u8> = (0..50_000u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&PSEUDO));
            bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
            bytes
        })
        .collect();
    let floods = [
        ("continuation", [head, continued.repeat(20_000)].concat()),
        ("rapid_reset", reset),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(500_000)),
        ("ping", frame(PING, 0, 0, &[0; 8]).repeat(500_000)),
    ];
    for (name, bytes) in floods {
        let before = bench.mesh.pod_mut("a").proxy().resident();
        let mut stream = bench.outbound().await;
        // Nothing is read: answers to a flood pile up at the sender, not in the sidecar's memory.
        let sending = async {
            let _ = stream.write_all(&opening()).await;
            let _ = stream.write_all(&bytes).await;
        };
        let _ = tokio::time::timeout(REFUSAL, sending).await;
        bench.mesh.reachable("a", "b").await;
        drop(stream);
        let grown = bench.mesh.pod_mut("a").proxy().resident().saturating_sub(before);
        assert!(grown < 32 * 1024, "{name}: the sidecar grew by {grown} KiB");
    }
}
