//! One limit for heads in both protocols and both directions, and the reason where it is exceeded.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use mesh_core::outcome::Outcome;
use mesh_proxy::net::http1::HeadLimits;
use tokio::net::TcpStream;

use crate::harness::{LIMIT, Pair, Peer};

/// The limit of these tests, bytes.
const HEADS: usize = HeadLimits::BYTES_DEFAULT;
/// What sidecars add, and what a head has anyway: more than that.
const MARGIN: usize = 2 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
}

/// A field that makes a head of about this length.
fn filler(length: usize) -> String {
    "x".repeat(length)
}

/// An answer as its client sees it: status, `x-mesh-error`, and text that tells of it.
type Answered = (u16, Option<String>, String);

async fn ask_http1(client: &mut Peer, length: usize) -> Answered {
    client.send(format!("GET / HTTP/1.1\r\nHost: b.demo\r\nx-filler: {}\r\n\r\n", filler(length))).await;
    let head = client.head().await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    (status, field("x-mesh-error:"), field("l5d-proxy-error:").unwrap_or_default())
}

async fn ask_http2(pair: &Pair, length: usize) -> Answered {
    let io = TcpStream::connect(pair.caller.outbound).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (send, connection) = builder.max_header_list_size(1 << 24).handshake::<_, Bytes>(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://b.demo/").header("x-filler", filler(length)).body(()).unwrap();
    let (response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
    let response = tokio::time::timeout(LIMIT, response).await.unwrap().unwrap();
    let field = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
    (response.status().as_u16(), field("x-mesh-error"), field("l5d-proxy-error").unwrap_or_default())
}

async fn ask(pair: &Pair, spoken: Spoken, length: usize) -> Answered {
    match spoken {
        Spoken::Http1 => ask_http1(&mut pair.call().await, length).await,
        Spoken::Http2 => ask_http2(pair, length).await,
    }
}

/// Answers every request, with a field of this length.
fn serve(pair: &mut Pair, spoken: Spoken, length: usize) -> tokio::task::JoinHandle<()> {
    let spare = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    spare.set_nonblocking(true).unwrap();
    let spare = tokio::net::TcpListener::from_std(spare).unwrap();
    let listener = std::mem::replace(&mut pair.application, spare);
    tokio::spawn(async move {
        let mut serving = tokio::task::JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            serving.spawn(async move {
                match spoken {
                    Spoken::Http1 => {
                        let mut peer = Peer(io);
                        peer.head().await;
                        peer.send(format!("HTTP/1.1 204 X\r\nx-filler: {}\r\n\r\n", filler(length))).await;
                    }
                    Spoken::Http2 => {
                        let mut server = h2::server::handshake(io).await.unwrap();
                        while let Some(Ok((_, mut respond))) = server.accept().await {
                            let mut response = Response::new(());
                            *response.status_mut() = http::StatusCode::NO_CONTENT;
                            let value = HeaderValue::try_from(filler(length)).unwrap();
                            response.headers_mut().insert("x-filler", value);
                            respond.send_response(response, true).unwrap();
                        }
                    }
                }
            });
        }
    })
}

const BOTH: [Spoken; 2] = [Spoken::Http1, Spoken::Http2];

#[tokio::test]
async fn requests_are_taken_up_to_the_limit_and_answered_431_with_the_reason_beyond_it() {
    for spoken in BOTH {
        for (length, expected) in [(HEADS - MARGIN, 204), (HEADS + 1, 431), (HEADS + HEADS / 2, 431)] {
            let mut pair = Pair::start().await;
            let serving = serve(&mut pair, spoken, 0);
            let (status, error, why) = ask(&pair, spoken, length).await;
            assert_eq!(status, expected, "{length} in {spoken:?}: {why}");
            if expected == 431 {
                assert_eq!(error.as_deref(), Some("headers_too_large"), "{length} in {spoken:?}");
                assert!(!why.is_empty());
                let record = pair.caller.record().await;
                assert_eq!((record.outcome, record.status), (Outcome::HeadersTooLarge, 431));
            }
            serving.abort();
        }
    }
}

#[tokio::test]
async fn request_that_is_far_too_long_is_answered_431_before_it_is_held() {
    for spoken in BOTH {
        let mut pair = Pair::start().await;
        let serving = serve(&mut pair, spoken, 0);
        let (status, ..) = ask(&pair, spoken, 3 * HEADS).await;
        assert_eq!(status, 431, "{spoken:?}");
        serving.abort();
    }
}

#[tokio::test]
async fn inbound_listener_has_the_same_limit() {
    for spoken in BOTH {
        let mut pair = Pair::start().await;
        // The caller's sidecar takes more than the callee's.
        let issuer = crate::harness::Authority::new();
        let caller = crate::harness::Proxy::start_with(Some(issuer.material("a")), |config| {
            config.head_limits = HeadLimits::new(4 * HEADS, HeadLimits::FIELDS_DEFAULT);
        });
        let callee = crate::harness::Proxy::start(Some(issuer.material("b")));
        let address = pair.application.local_addr().unwrap();
        caller.publish(|snapshot| {
            let endpoint = crate::harness::endpoint(address, Some(("b", callee.inbound)));
            crate::harness::route(snapshot, crate::harness::authority("b.demo"), "b", vec![endpoint]);
        });
        callee.publish(|snapshot| {
            let clients = mesh_core::model::policy::Clients::AnyMeshed;
            crate::harness::allow(snapshot, address.port(), crate::harness::DETECT, clients);
        });
        (pair.caller, pair.callee) = (caller, callee);
        let serving = serve(&mut pair, spoken, 0);
        let (status, error, _) = ask(&pair, spoken, HEADS + MARGIN).await;
        assert_eq!((status, error.as_deref()), (431, Some("headers_too_large")), "{spoken:?}");
        assert_eq!(pair.callee.record().await.outcome, Outcome::HeadersTooLarge);
        serving.abort();
    }
}

#[tokio::test]
async fn responses_are_taken_up_to_the_limit_and_not_repeated_beyond_it() {
    for spoken in BOTH {
        for (length, expected) in [(HEADS - MARGIN, 204), (HEADS + 1, 502), (3 * HEADS, 502)] {
            let mut pair = Pair::start().await;
            let serving = serve(&mut pair, spoken, length);
            let (status, error, why) = ask(&pair, spoken, 0).await;
            assert_eq!(status, expected, "{length} in {spoken:?}: {why}");
            if expected == 502 {
                assert_eq!(error.as_deref(), Some("upstream_protocol"), "{length} in {spoken:?}");
                assert!(!why.is_empty());
                assert_eq!(pair.callee.record().await.attempts, 1);
            }
            serving.abort();
        }
    }
}
