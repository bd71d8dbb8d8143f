//! Bytes both ways, with half-closed connections: raw connections, upgrades, CONNECT.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

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
    pub result: io::Result<()>,
}

/// One direction.
struct Way {
    buffer: BytesMut,
    size: usize,
    count: u64,
    state: State,
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
        Way { count: first.len() as u64, buffer: first, size: CHUNK_FIRST, state: State::Open }
    }

    /// Moves bytes until it waits; ready once this direction has ended.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Socket, to: &mut Socket) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.is_empty() {
                match to.poll_send(cx, &[IoSlice::new(&self.buffer)])? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
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

/// Copies both ways until both sides have ended, one breaks, or nothing moves for `idle`.
pub async fn tunnel(client: End<'_>, server: End<'_>, idle: Duration) -> Tunnelled {
    let mut up = Way::new(client.read);
    let mut down = Way::new(server.read);
    let mut deadline = Deadline::default();
    deadline.set(idle);
    let result = std::future::poll_fn(|cx| {
        let before = (up.count, down.count);
        let sent = up.poll(cx, client.socket, server.socket)?;
        let received = down.poll(cx, server.socket, client.socket)?;
        if (up.count, down.count) != before {
            deadline.set(idle);
        }
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(Ok(()));
        }
        deadline.poll(cx).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    })
    .await;
    Tunnelled { bytes_in: up.count, bytes_out: down.count, result }
}
