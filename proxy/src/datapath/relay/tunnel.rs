//! Bytes both ways, with half-closed connections: raw connections, upgrades, CONNECT.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use mesh_core::{
    detect::{Verdict, detect},
    drain::message::{Closed, Kind, Messages},
};
use thiserror::Error;
use tokio::io::AsyncWrite;

use super::farewell::Farewell;
use crate::net::{deadline::Deadline, socket::Socket};

/// Size of a read, bytes; also what waits at most for the slower side, per direction.
const CHUNK: usize = 64 * 1024;
/// First size of a read; connections that say little keep little.
const CHUNK_FIRST: usize = 8 * 1024;

/// How a tunnel ended, and what went through.
#[derive(Debug)]
pub struct Tunnelled {
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// `Ok` = both sides ended in order.
    pub result: Result<(), Broken>,
}

/// Why a tunnel ended out of order.
#[derive(Debug, Error)]
pub enum Broken {
    /// One side's connection broke.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// Nothing moved for so long.
    #[error("nothing was said for {0:?}")]
    Idle(Duration),
    /// The client may say bytes, and began to speak HTTP.
    #[error("HTTP began when only bytes were expected any more")]
    Http,
}

/// What a client may say in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Whatever it likes.
    Anything,
    /// No HTTP, which would pass as bytes the checks of this proxy, with fields that only the mesh may set: what it says
    /// first is judged, however late and in however small pieces it comes.
    Bytes,
}

/// What a client has said while that may still become HTTP.
struct Undecided(BytesMut);

impl Undecided {
    /// Takes in what comes next; `None` = bytes for certain.
    fn hear(mut self, said: &[u8]) -> Result<Option<Self>, Broken> {
        self.0.extend_from_slice(said);
        match detect(&self.0) {
            Verdict::More => Ok(Some(self)),
            Verdict::Tls { .. } | Verdict::Opaque => Ok(None),
            Verdict::Http1 | Verdict::Http2 => Err(Broken::Http),
        }
    }
}

/// One direction.
pub(super) struct Way {
    buffer: BytesMut,
    size: usize,
    count: u64,
    state: State,
    undecided: Option<Undecided>,
    frames: Option<Frames>,
}

/// Frames of one direction of a WebSocket, and what is to be said between two of them.
struct Frames {
    messages: Messages,
    saying: Saying,
}

enum Saying {
    /// What comes is passed on.
    All,
    /// This, behind the frame that has begun.
    Last(Bytes),
    /// Nothing more: what comes is thrown away.
    Nothing,
}

impl Frames {
    /// Looks at the bytes that came and are passed on next.
    fn hear(&mut self, buffer: &mut BytesMut) {
        match &self.saying {
            Saying::All => self.messages.pass(buffer),
            Saying::Last(frame) => {
                let taken = self.messages.pass_message(buffer);
                if self.messages.is_between() {
                    buffer.truncate(taken);
                    buffer.extend_from_slice(frame);
                    self.saying = Saying::Nothing;
                }
            }
            Saying::Nothing => buffer.clear(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader's side ended; the writer's is to be told once all was written.
    Ending,
    Ended,
}

impl Way {
    fn new(first: BytesMut) -> Self {
        let count = first.len() as u64;
        Way { count, buffer: first, size: CHUNK_FIRST, state: State::Open, undecided: None, frames: None }
    }

    /// Follows the frames of a WebSocket from here on.
    fn follow_frames(&mut self) {
        let mut frames = Frames { messages: Messages::new(Kind::WebSocket), saying: Saying::All };
        frames.hear(&mut self.buffer);
        self.frames = Some(frames);
    }

    /// Says this between two frames, and nothing after it; not where the sender has closed already.
    pub(super) fn say_last(&mut self, frame: Bytes) {
        // Nothing can be written behind the end.
        if self.state != State::Open {
            return;
        }
        let Some(frames) = &mut self.frames else { return };
        match (&frames.saying, frames.messages.closed()) {
            (Saying::All, Closed::No) if frames.messages.is_between() => {
                self.buffer.extend_from_slice(&frame);
                frames.saying = Saying::Nothing;
            }
            (Saying::All, Closed::No) => frames.saying = Saying::Last(frame),
            (Saying::All, Closed::Yes) | (Saying::Last(_) | Saying::Nothing, _) => {}
        }
    }

    /// Ends this direction once what waits was sent.
    pub(super) fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ending;
        }
    }

    /// As [`Way::new`], of a client that may say this.
    fn of_client(first: BytesMut, speech: Speech) -> Result<Self, Broken> {
        let mut way = Way::new(first);
        if speech == Speech::Bytes {
            way.undecided = Undecided(BytesMut::new()).hear(&way.buffer)?;
        }
        Ok(way)
    }

    /// Moves bytes until it waits; ready once this direction has ended.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Socket, to: &mut Socket) -> Poll<Result<(), Broken>> {
        loop {
            while !self.buffer.is_empty() {
                match to.poll_send(cx, &[IoSlice::new(&self.buffer)])? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                    Poll::Ready(count) => self.buffer.advance(count),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            let flushed = Pin::new(&mut *to).poll_flush(cx)?;
            match from.poll_readable(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    // Nothing to hold while nothing is said.
                    if flushed.is_ready() && self.buffer.capacity() > 0 {
                        self.buffer = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            }
            self.buffer.reserve(self.size);
            let room = self.buffer.capacity();
            let count = ready!(from.poll_fill(cx, &mut self.buffer))?;
            if count == 0 {
                self.state = State::Ending;
            } else if count == room {
                self.size = (self.size * 2).min(CHUNK);
            }
            self.count += count as u64;
            if let Some(frames) = &mut self.frames {
                frames.hear(&mut self.buffer);
            }
            if let Some(undecided) = self.undecided.take() {
                self.undecided = undecided.hear(&self.buffer)?;
            }
        }
    }
}

/// One end of a tunnel.
pub struct End<'a> {
    /// Its connection.
    pub socket: &'a mut Socket,
    /// What was read from it already.
    pub read: BytesMut,
}

/// Copies both ways until both sides have ended, one breaks, nothing moves for `idle`, or the client says what it may not.
/// Where it carries a WebSocket, `farewell` ends it when the proxy goes down.
pub async fn tunnel(
    client: End<'_>,
    speech: Speech,
    server: End<'_>,
    idle: Duration,
    mut farewell: Option<Farewell<'_>>,
) -> Tunnelled {
    let mut up = match Way::of_client(client.read, speech) {
        Ok(way) => way,
        Err(broken) => return Tunnelled { bytes_in: 0, bytes_out: 0, result: Err(broken) },
    };
    let mut down = Way::new(server.read);
    if farewell.is_some() {
        up.follow_frames();
        down.follow_frames();
    }
    let mut deadline = Deadline::default();
    deadline.set(idle);
    let result = std::future::poll_fn(|cx| {
        let before = (up.count, down.count);
        if let Some(farewell) = &mut farewell
            && farewell.poll(cx, &mut up, &mut down).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        let sent = up.poll(cx, client.socket, server.socket)?;
        let received = down.poll(cx, server.socket, client.socket)?;
        if (up.count, down.count) != before {
            deadline.set(idle);
        }
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(Ok(()));
        }
        deadline.poll(cx).map(|()| Err(Broken::Idle(idle)))
    })
    .await;
    Tunnelled { bytes_in: up.count, bytes_out: down.count, result }
}
