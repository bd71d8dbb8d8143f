//! WebSockets and event streams that stay open: each counts what it hears, so that a message that is lost, changed or
//! doubled is noticed, and none may end but by its caller. Half of them are closed and opened again all the time.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use mesh_tests::{
    client::{Connection, LIMIT, Version, full, request},
    wait::{PATIENCE, pace, until, within},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::callers::HOST;

/// Between two messages of a session.
const BETWEEN: Duration = Duration::from_millis(250);
/// The path of event streams with this pause between events.
const EVENTS: &str = "/events?pause=250";
/// Messages after which a session that is renewed is closed: at least so many, …
const RENEWED_AFTER: usize = 4;
/// … and up to so many more, so that not all are renewed at once.
const RENEWED_SPREAD: usize = 16;
/// Close frames: of the client (its mask is zero), and the server's answer.
const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";
const CLOSED: &[u8] = b"\x88\x02\x03\xe8";

#[derive(Default)]
struct Tally {
    opened: AtomicUsize,
    heard: AtomicUsize,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// One session, again and again.
struct Session {
    to: SocketAddr,
    /// Label of its requests.
    lane: Option<&'static str>,
    /// Messages after which it is renewed; `None` = it stays.
    life: Option<usize>,
    tally: Arc<Tally>,
}

/// Sessions that run until they are ended.
pub(crate) struct Sessions {
    tally: Arc<Tally>,
    running: JoinSet<()>,
}

impl Sessions {
    /// Opens so many WebSockets and as many event streams through the sidecar whose outbound address is `to`, every
    /// second one of them in this lane, and waits until all are open.
    pub(crate) async fn open(to: SocketAddr, each: usize, lane: &'static str) -> Sessions {
        let (tally, mut running) = (Arc::new(Tally::default()), JoinSet::new());
        for number in 0..each {
            let session = || Session {
                to,
                lane: (number % 2 == 0).then_some(lane),
                life: (number / 2 % 2 == 0).then_some(RENEWED_AFTER + number % RENEWED_SPREAD),
                tally: Arc::clone(&tally),
            };
            running.spawn(session().web_sockets());
            running.spawn(session().event_streams());
        }
        let sessions = Sessions { tally, running };
        until("all sessions are open", PATIENCE, || async {
            (sessions.tally.opened.load(Relaxed) >= 2 * each || sessions.has_failed()).then_some(())
        })
        .await;
        sessions
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.tally.failures.lock().expect("no panic while held").is_empty()
    }

    /// Ends them; how many were opened, and messages heard.
    pub(crate) async fn end_unbroken(mut self) -> (usize, usize) {
        self.tally.stop.store(true, Relaxed);
        within("the end of the sessions", 2 * LIMIT, async { while self.running.join_next().await.is_some() {} }).await;
        let failures = self.tally.failures.lock().expect("no panic while held").clone();
        assert!(failures.is_empty(), "{} sessions broken: {:#?}", failures.len(), &failures[..failures.len().min(8)]);
        (self.tally.opened.load(Relaxed), self.tally.heard.load(Relaxed))
    }
}

impl Session {
    fn is_over(&self) -> bool {
        self.tally.stop.load(Relaxed)
    }

    fn is_old(&self, heard: usize) -> bool {
        self.life.is_some_and(|life| heard >= life) || self.is_over()
    }

    fn broken(&self, error: &anyhow::Error) {
        self.tally.failures.lock().expect("no panic while held").push(format!("{error:#}"));
    }

    fn fields(&self) -> Vec<(&'static str, &'static str)> {
        self.lane.map(|lane| ("x-mesh-lane", lane)).into_iter().collect()
    }

    async fn web_sockets(self) {
        while !self.is_over() {
            if let Err(error) = self.web_socket().await {
                return self.broken(&error.context("WebSocket"));
            }
        }
    }

    /// Counts, has every number said back, and closes in order.
    async fn web_socket(&self) -> anyhow::Result<()> {
        let mut socket = TcpStream::connect(self.to).await?;
        let mut head = format!("GET /chat HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n");
        self.fields().iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        socket.write_all(format!("{head}\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(LIMIT, socket.read_u8()).await.context("no answer")??);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&answer));
        self.tally.opened.fetch_add(1, Relaxed);
        let mut heard = 0;
        while !self.is_old(heard) {
            let number = (heard as u32).to_be_bytes();
            socket.write_all(&[&b"\x82\x84\0\0\0\0"[..], &number].concat()).await.context("could not be sent")?;
            let mut frame = [0; 6];
            timeout(LIMIT, socket.read_exact(&mut frame)).await.context("silence")?.context("cut")?;
            ensure!(frame[..2] == *b"\x82\x04" && frame[2..] == number, "{frame:?} instead of {number:?}");
            heard += 1;
            self.tally.heard.fetch_add(1, Relaxed);
            pace(BETWEEN).await;
        }
        socket.write_all(CLOSE).await.context("could not be closed")?;
        let mut rest = Vec::new();
        timeout(LIMIT, socket.read_to_end(&mut rest)).await.context("no end")?.context("cut at the end")?;
        ensure!(rest == CLOSED, "{rest:?} at the end");
        Ok(())
    }

    async fn event_streams(self) {
        while !self.is_over() {
            if let Err(error) = self.event_stream().await {
                return self.broken(&error.context("event stream"));
            }
        }
    }

    /// Hears events, which count up from 0, and hangs up between two.
    async fn event_stream(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.to, Version::Http1).await?;
        let ask = request(Method::GET, HOST, EVENTS, &self.fields(), full(""));
        let response = connection.start(ask).await?;
        ensure!(response.status() == 200, "{} {:?}", response.status(), response.headers().get("x-mesh-error"));
        self.tally.opened.fetch_add(1, Relaxed);
        let (mut body, mut text, mut heard) = (response.into_body(), String::new(), 0);
        while !self.is_old(heard) {
            let Some(frame) = timeout(LIMIT, body.frame()).await.context("silence")? else {
                bail!("ended after {heard} events by somebody else");
            };
            let Ok(bytes) = frame.with_context(|| format!("after {heard} events"))?.into_data() else {
                bail!("trailers after {heard} events");
            };
            text.push_str(std::str::from_utf8(&bytes).context("no text")?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                ensure!(event == format!("data: {heard}"), "{event:?} as event {heard}");
                text = rest.to_owned();
                heard += 1;
                self.tally.heard.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }
}
