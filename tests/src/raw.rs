//! Bytes as a test wants them: a client that sends what no well-behaved one would, and an upstream that records every
//! byte and answers by a script.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::strict::request_length;

/// How long a client listens for more after it has sent all.
pub const LISTEN: Duration = Duration::from_secs(10);

/// How a connection ended from the client's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed in order.
    Closed,
    /// The peer reset.
    Reset,
    /// Still open when the client stopped listening.
    Open,
}

/// What came back.
#[derive(Debug)]
pub struct Received {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// How it ended.
    pub end: End,
}

impl Received {
    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Status of the first answer; 0 where there is none.
    pub fn status(&self) -> u16 {
        let text = self.text();
        text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or_default()
    }

    /// Number of answers that begin in what came back.
    pub fn answers(&self) -> usize {
        let text = self.text();
        let begins = |rest: &&str| {
            let status = rest.get(2..5).is_some_and(|status| status.bytes().all(|byte| byte.is_ascii_digit()));
            status && rest.get(1..2) == Some(" ")
        };
        text.split("HTTP/1.").skip(1).filter(begins).count()
    }
}

/// Sends `bytes` and reads until the peer closes, `enough` says so, or `limit` passes.
pub async fn exchange(to: SocketAddr, bytes: &[u8], limit: Duration, enough: impl Fn(&[u8]) -> bool) -> Received {
    let mut stream = TcpStream::connect(to).await.unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    // The peer may close before it has read all: what it said is still there to be read.
    let _ = stream.write_all(bytes).await;
    read(&mut stream, limit, enough).await
}

/// Reads until the peer closes, `enough` says so, or `limit` passes.
pub async fn read<S>(stream: &mut S, limit: Duration, enough: impl Fn(&[u8]) -> bool) -> Received
where
    S: tokio::io::AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    let end = tokio::time::Instant::now() + limit;
    loop {
        if enough(&bytes) {
            return Received { bytes, end: End::Open };
        }
        let mut part = vec![0u8; 16 * 1024];
        match tokio::time::timeout_at(end, stream.read(&mut part)).await {
            Err(_) => return Received { bytes, end: End::Open },
            Ok(Ok(0)) => return Received { bytes, end: End::Closed },
            Ok(Ok(length)) => bytes.extend_from_slice(&part[..length]),
            Ok(Err(_)) => return Received { bytes, end: End::Reset },
        }
    }
}

/// What a scripted upstream does next on a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits until the bytes received since the last answer contain this.
    Await(Vec<u8>),
    /// Waits for a whole request, as a strict application counts them.
    Request,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Ends its sending side, reads on.
    HalfClose,
    /// Closes.
    Close,
    /// Closes with a reset.
    Reset,
    /// Reads until the peer closes.
    Drain,
}

impl Step {
    /// Awaits the end of a request head.
    pub fn head() -> Step {
        Step::Await(b"\r\n\r\n".to_vec())
    }

    /// Sends text.
    pub fn send(text: &str) -> Step {
        Step::Send(text.as_bytes().to_vec())
    }
}

/// Bytes received, by connection.
pub type Recording = Arc<Mutex<Vec<Vec<u8>>>>;

/// An upstream that records; ends when dropped.
pub struct Upstream {
    recording: Recording,
    script: Arc<Mutex<Vec<Step>>>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Listens on `address`; each connection plays `script`, then from its start again until a close.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, script: Vec<Step>) -> Upstream {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("bind {address}: {error}"));
        let recording = Recording::default();
        let script = Arc::new(Mutex::new(script));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&recording), Arc::clone(&script)));
        Upstream { recording, script, accepting }
    }

    /// Script for connections accepted from now on.
    pub fn play(&self, script: Vec<Step>) {
        *self.script.lock().expect("no panic while held") = script;
    }

    /// Everything received, by connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.recording.lock().expect("no panic while held").clone()
    }

    /// Forgets what was received so far; connections that are open go on in recordings of their own.
    pub fn forget(&self) {
        for recorded in self.recording.lock().expect("no panic while held").iter_mut() {
            recorded.clear();
        }
    }

    /// Connections on which something arrived since [`Upstream::forget`].
    pub fn spoken(&self) -> usize {
        self.received().iter().filter(|recorded| !recorded.is_empty()).count()
    }

    /// Everything received, as one text.
    pub fn text(&self) -> String {
        self.received().iter().map(|recorded| String::from_utf8_lossy(recorded).into_owned()).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, recording: Recording, script: Arc<Mutex<Vec<Step>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut recorded = recording.lock().expect("no panic while held");
            recorded.push(Vec::new());
            recorded.len() - 1
        };
        let script = script.lock().expect("no panic while held").clone();
        let player = Player { stream, number, recording: Arc::clone(&recording), unread: Vec::new() };
        connections.spawn(player.play(script));
        while connections.try_join_next().is_some() {}
    }
}

struct Player {
    stream: TcpStream,
    number: usize,
    recording: Recording,
    unread: Vec<u8>,
}

impl Player {
    async fn play(mut self, script: Vec<Step>) {
        if script.is_empty() {
            return self.drain().await;
        }
        loop {
            for step in &script {
                match step {
                    Step::Await(text) => {
                        if !self.awaited(text).await {
                            return;
                        }
                    }
                    Step::Request => {
                        if !self.requested().await {
                            return;
                        }
                    }
                    // The peer may be gone; the next read says so.
                    Step::Send(bytes) => drop(self.stream.write_all(bytes).await),
                    Step::HalfClose => drop(self.stream.shutdown().await),
                    Step::Close => return,
                    Step::Reset => return drop(self.stream.set_zero_linger()),
                    Step::Drain => return self.drain().await,
                }
            }
        }
    }

    async fn read(&mut self) -> bool {
        let mut part = vec![0u8; 64 * 1024];
        match self.stream.read(&mut part).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                let mut recorded = self.recording.lock().expect("no panic while held");
                recorded[self.number].extend_from_slice(&part[..length]);
                self.unread.extend_from_slice(&part[..length]);
                true
            }
        }
    }

    async fn awaited(&mut self, text: &[u8]) -> bool {
        loop {
            if let Some(at) = self.unread.windows(text.len()).position(|window| window == text) {
                self.unread.drain(..at + text.len());
                return true;
            }
            if !self.read().await {
                return false;
            }
        }
    }

    async fn requested(&mut self) -> bool {
        loop {
            if let Some(length) = request_length(&self.unread) {
                self.unread.drain(..length);
                return true;
            }
            if !self.read().await {
                return false;
            }
        }
    }

    async fn drain(&mut self) {
        while self.read().await {
            self.unread.clear();
        }
    }
}
