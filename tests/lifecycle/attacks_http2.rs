//! Floods and games of HTTP/2, frame by frame: each ends its own connection, or is borne, and good clients notice next to nothing.
//!
//! Every script runs against the listener for the application's calls, and as a mesh peer against the listener for callers.

use std::time::Duration;

use mesh_tests::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, block, frame, indexed, kept_field, opening, opening_with,
    },
    peer::Session,
    wait::within,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::attacked::Attacked;

/// Part of the good requests that may fail. None is what is wanted: a connection to the next hop that carries
/// streams of good clients still ends now and then, when an attacker gives up many streams on it at once.
const LOST: f64 = 0.05;

/// How long each script runs.
const LENGTH: Duration = Duration::from_millis(1_500);
/// Connections of each script at the same time.
const CONNECTIONS: usize = 4;
/// Frames in one write of a flood.
const BATCH: u32 = 500;
/// Largest stream identifier (RFC 9113 5.1.1).
const LAST_STREAM: u32 = 0x7fff_ffff;
/// Memory budget of the sidecars, bytes, and what they may take in all, MiB.
const BUDGET: (&str, u64) = ("134217728", 256);
/// For the end of an abused connection.
const END: Duration = Duration::from_secs(20);

/// What is expected of a connection that is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The sidecar ends it.
    Ended,
    /// The sidecar ends it and counts that under this reason.
    EndedFor(&'static str),
    /// It may go on.
    Borne,
}

/// One attack: what is sent first, and what again and again, by the number of the write.
struct Script {
    name: &'static str,
    expected: Expected,
    first: Vec<u8>,
    again: fn(u32) -> Vec<u8>,
}

fn head(path: &str, method: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", "b"), (":path", path)])
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/", "GET"))
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("/", "POST"))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// Frames for the streams of the write of this number, each stream once.
fn streams(number: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (number * BATCH..(number + 1) * BATCH).flat_map(|one| frames(one * 2 + 1)).collect()
}

fn repeated(frame: &[u8]) -> Vec<u8> {
    frame.repeat(BATCH as usize)
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

/// Requests for big answers on as many streams as are allowed.
fn big(window: u32) -> Vec<u8> {
    let ask = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/big", "GET"));
    let mut bytes = opening_with(&[(INITIAL_WINDOW_SIZE, window)]);
    bytes.extend((0..200).flat_map(|number| ask(number * 2 + 1)));
    bytes
}

fn game(name: &'static str, expected: Expected, first: Vec<u8>, again: fn(u32) -> Vec<u8>) -> Script {
    Script { name, expected, first, again }
}

fn flood(name: &'static str, reason: &'static str, again: fn(u32) -> Vec<u8>) -> Script {
    game(name, Expected::EndedFor(reason), opening(), again)
}

/// Floods: the same again and again.
fn floods() -> Vec<Script> {
    vec![
        game("rapid_reset", Expected::Ended, opening(), |number| {
            streams(number, |stream| [get(stream), reset(stream)].concat())
        }),
        game("resets_behind_trailers", Expected::Ended, opening(), |number| {
            let trailers = block(&[("x-end", "1")]);
            streams(number, |stream| {
                let end = frame(HEADERS, END_STREAM | END_HEADERS, stream, &trailers);
                [post(stream), frame(DATA, 0, stream, b"x"), end, reset(stream)].concat()
            })
        }),
        flood("settings", "http2_control", |_| repeated(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]))),
        flood("pings", "http2_control", |_| repeated(&frame(PING, 0, 0, b"overload"))),
        flood("ping_answers", "http2_control", |_| repeated(&frame(PING, 1, 0, b"overload"))),
        flood("priorities", "http2_control", |number| {
            streams(number, |stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]))
        }),
        flood("unknown_kinds", "http2_control", |_| repeated(&frame(0xbe, 0xff, 7, b"?"))),
        flood("window_updates", "http2_window_updates", |_| repeated(&update(0, 1))),
    ]
}

/// Floods that end by themselves in the library, and games with windows, header blocks and identifiers.
fn games() -> Vec<Script> {
    let opened = |frames: &[Vec<u8>]| [opening(), frames.concat()].concat();
    let unfinished = frame(HEADERS, 0, 1, &head("/", "GET"));
    vec![
        game("empty_data", Expected::Ended, opened(&[post(1)]), |_| repeated(&frame(DATA, 0, 1, b""))),
        game("empty_continuations", Expected::Ended, opened(std::slice::from_ref(&unfinished)), |_| {
            repeated(&frame(CONTINUATION, 0, 1, b""))
        }),
        game("endless_continuations", Expected::Ended, opened(&[unfinished]), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("x-more", &"a".repeat(8_000))])).repeat(8)
        }),
        game("goaways", Expected::Ended, opening(), |_| repeated(&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0]))),
        game("streams_beyond_the_limit", Expected::Ended, opening(), |number| streams(number, post)),
        game("last_stream_and_one_more", Expected::Ended, opened(&[get(LAST_STREAM), get(1)]), nothing),
        game("window_overflow", Expected::Ended, opened(&[update(0, LAST_STREAM), update(0, LAST_STREAM)]), nothing),
        game("table_bombs", Expected::Borne, opened(&[bomb_table()]), |number| {
            let block = [head("/", "GET"), indexed(62).repeat(4_000)].concat();
            frame(HEADERS, END_STREAM | END_HEADERS, number * 2 + 3, &block)
        }),
        game("zero_windows", Expected::Borne, big(0), nothing),
        game("windows_of_a_byte", Expected::Borne, big(1), |number| {
            (0..200).flat_map(|stream| update((stream + number % 2) * 2 + 1, 1)).collect()
        }),
        game("bodies_half_sent", Expected::Borne, half_sent(), nothing),
        game("bytes_one_by_one", Expected::Borne, opened(&[post(1)]), |_| repeated(&frame(DATA, 0, 1, b"x"))),
    ]
}

/// Keeps a long field in the table, to be named again and again.
fn bomb_table() -> Vec<u8> {
    let block = [head("/", "GET"), kept_field("x-bomb", &"b".repeat(3_900))].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

/// Uploads that stop in the middle, on as many streams as are allowed; all of them together fit into the window that a
/// connection has at first.
fn half_sent() -> Vec<u8> {
    let upload = |stream| {
        let fields = [head("/", "POST"), block(&[("content-length", "1000000")])].concat();
        [frame(HEADERS, END_HEADERS, stream, &fields), frame(DATA, 0, stream, &[b'x'; 300])].concat()
    };
    [opening(), (0..200).flat_map(|number| upload(number * 2 + 1)).collect()].concat()
}

/// Plays a script on one connection until it is ended or `until`; says whether it was ended.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(stream: S, script: &Script, until: Instant) -> bool {
    let (mut from, mut to) = tokio::io::split(stream);
    let listen = async {
        let mut heard = vec![0; 64 * 1024];
        while !matches!(from.read(&mut heard).await, Ok(0) | Err(_)) {}
    };
    let speak = async {
        if to.write_all(&script.first).await.is_err() {
            return;
        }
        for number in 0.. {
            let bytes = (script.again)(number);
            if bytes.is_empty() {
                return std::future::pending().await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let either = async {
        tokio::select! {
            () = listen => {}
            () = speak => {}
        }
    };
    timeout_at(until, either).await.is_ok()
}

/// Which listener is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Outbound,
    Inbound,
}

/// One connection after the other until the time is over; says how many were ended.
async fn attack(attacked: &Attacked, way: Way, script: &Script, until: Instant) -> usize {
    let mut ended = 0;
    while Instant::now() < until {
        let is_ended = match way {
            Way::Outbound => {
                let Ok(stream) = TcpStream::connect(attacked.mesh.pod("a").outbound()).await else { continue };
                play(stream, script, until).await
            }
            Way::Inbound => {
                let pod = attacked.mesh.pod("b");
                let (to, name) = (pod.inbound(), pod.server_name());
                let Ok(stream) = attacked.peer().open(to, &name, 8080, Session::Http2).await else { continue };
                play(stream, script, until).await
            }
        };
        ended += usize::from(is_ended);
    }
    ended
}

/// Plays every script, one after the other, and says what went otherwise than expected.
async fn play_all(attacked: &Attacked, way: Way) -> Vec<String> {
    let pod = if way == Way::Outbound { "a" } else { "b" };
    let mut wrong = Vec::new();
    for script in floods().into_iter().chain(games()) {
        let until = Instant::now() + LENGTH;
        let connections = (0..CONNECTIONS).map(|_| attack(attacked, way, &script, until));
        let ended: usize = futures_util::future::join_all(connections).await.into_iter().sum();
        let counted = match script.expected {
            Expected::EndedFor(reason) => attacked.shed(pod, reason).await,
            Expected::Ended | Expected::Borne => 1.0,
        };
        let is_wrong = script.expected != Expected::Borne && (ended == 0 || counted == 0.0);
        eprintln!("{way:?} {}: {ended} connections ended", script.name);
        if is_wrong {
            wrong.push(format!("{}: {:?}, but {ended} ended, {counted} counted", script.name, script.expected));
        }
    }
    wrong
}

async fn is_borne(way: Way) {
    let attacked = Attacked::start(&[("LANEMESH_MEMORY_BUDGET", BUDGET.0)], |_| Vec::new()).await;
    let mut wrong = Vec::new();
    attacked
        .bears_nearly(&format!("{way:?}"), (BUDGET.1, LOST), async { wrong = play_all(&attacked, way).await })
        .await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn floods_from_the_application_are_outlived_and_hardly_anybody_is_refused() {
    is_borne(Way::Outbound).await;
}

#[tokio::test]
async fn floods_of_a_mesh_peer_are_outlived_and_hardly_anybody_is_refused() {
    is_borne(Way::Inbound).await;
}

#[tokio::test]
async fn connection_whose_header_block_never_ends_is_ended() {
    let attacked = Attacked::start(&[], |_| Vec::new()).await;
    let mut stream = TcpStream::connect(attacked.mesh.pod("a").outbound()).await.unwrap();
    stream.write_all(&[opening(), frame(HEADERS, 0, 1, &head("/", "GET"))].concat()).await.unwrap();
    let mut heard = Vec::new();
    // A cut says the same as an end.
    drop(within("the end of the connection", END, stream.read_to_end(&mut heard)).await);
    assert_eq!(attacked.shed("a", "slow_head").await, 1.0);
    // ENHANCE_YOUR_CALM (RFC 9113 7).
    assert!(heard.windows(4).any(|bytes| bytes == 11_u32.to_be_bytes()), "{heard:?}");
}
