//! One HTTP/1 connection: its socket, what was read and not yet used, what is to be written.

mod spare;

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use mesh_core::shedding::Pressure;
use tokio::io::AsyncWrite;

use crate::net::{
    http1::{HeadLimits, HeadReader},
    memory,
    socket::Socket,
};

/// Largest size of a read, bytes; reads grow to it while they are filled.
const READ_MAX: usize = 64 * 1024;
/// Body bytes up to this length are copied behind the head, so that both leave in one system call without a list.
const COPY_MAX: usize = 8 * 1024;
/// Bytes waiting to be written beyond which no more are taken from the other side.
const WAITING_MAX: usize = 64 * 1024;

/// An HTTP/1 connection, of either side.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    /// Read and not yet used.
    pub buffer: BytesMut,
    /// Reads heads out of `buffer`.
    pub reader: HeadReader,
    /// The peer ended its direction in order.
    pub ended: bool,
    read_size: usize,
    front: BytesMut,
    body: Bytes,
    back: BytesMut,
    unflushed: bool,
    sent: u64,
}

/// Lets memory go that no connection has needed for a while; call it now and then.
pub fn shed_memory() {
    spare::shed();
}

/// An empty buffer for what is read first, of those that no connection needs.
pub fn buffer() -> BytesMut {
    spare::take()
}

impl Wire {
    /// A connection of which `buffer` was read already.
    pub fn new(socket: Socket, buffer: BytesMut, limits: HeadLimits) -> Self {
        Wire {
            socket,
            buffer,
            reader: HeadReader::new(limits),
            ended: false,
            read_size: spare::SIZE,
            front: BytesMut::new(),
            body: Bytes::new(),
            back: BytesMut::new(),
            unflushed: false,
            sent: 0,
        }
    }

    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The socket and what was read from it, for another protocol. Nothing may be waiting to be written.
    pub fn into_parts(self) -> (Socket, BytesMut) {
        (self.socket, self.buffer)
    }

    /// Ends the connection so that the peer sees a cut.
    pub fn cut(self) {
        self.socket.cut();
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Reads once; 0 = the peer ended its direction.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            let readable = self.socket.poll_readable(cx);
            // Whoever waits holds no buffer, and streams wait most of the time. What fills its reads will not wait long.
            if readable.is_pending() && self.read_size == spare::SIZE {
                self.shrink();
            }
            ready!(readable)?;
            if self.buffer.capacity() == 0 {
                self.buffer = spare::take();
            }
        }
        self.buffer.reserve(self.read_size);
        let room = self.buffer.capacity() - self.buffer.len();
        let count = ready!(self.socket.poll_fill(cx, &mut self.buffer))?;
        if count == 0 {
            self.ended = true;
        } else if memory::pressure() > Pressure::None {
            self.read_size = spare::SIZE;
        } else if count == room {
            self.read_size = (self.read_size * 2).min(READ_MAX);
        }
        Poll::Ready(Ok(count))
    }

    /// Waits for the next message without holding buffers.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let readable = self.socket.poll_readable(cx);
        if readable.is_pending() {
            self.shrink();
        }
        readable
    }

    /// Gives memory back before the connection goes idle.
    pub fn rest(&mut self) {
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            spare::give(mem::take(&mut self.buffer));
            self.read_size = spare::SIZE;
        }
    }

    /// Where the next bytes are appended; call [`Wire::poll_flush`] to send them.
    pub fn out(&mut self) -> &mut BytesMut {
        let out = if self.is_behind_body() { &mut self.back } else { &mut self.front };
        if out.capacity() == 0 {
            *out = spare::take();
        }
        out
    }

    /// Whether what is appended stands behind body bytes: also after these were sent, while what followed them waits.
    fn is_behind_body(&self) -> bool {
        !(self.body.is_empty() && self.back.is_empty())
    }

    /// Appends body bytes; large ones are not copied.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() > COPY_MAX && !self.is_behind_body() {
            self.body = bytes;
        } else {
            self.out().extend_from_slice(&bytes);
        }
    }

    /// Whether more may be appended.
    pub fn has_room(&self) -> bool {
        !self.is_behind_body() && self.front.len() < WAITING_MAX
    }

    /// Ready once more may be appended.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_room() { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    /// Sends all that waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !(self.front.is_empty() && self.body.is_empty() && self.back.is_empty()) {
            let slices = [IoSlice::new(&self.front), IoSlice::new(&self.body), IoSlice::new(&self.back)];
            let slices = if self.body.is_empty() && self.back.is_empty() { &slices[..1] } else { &slices[..] };
            let mut count = ready!(self.socket.poll_send(cx, slices))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.sent += count as u64;
            for part in [self.front.len(), self.body.len()] {
                let taken = part.min(count);
                count -= taken;
                if self.front.is_empty() { self.body.advance(taken) } else { self.front.advance(taken) }
            }
            self.back.advance(count);
        }
        for written in [&mut self.front, &mut self.back] {
            if written.capacity() > 0 {
                spare::give(mem::take(written));
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything appended was handed to the kernel.
    pub fn is_flushed(&self) -> bool {
        !self.unflushed && self.front.is_empty() && self.body.is_empty() && self.back.is_empty()
    }

    /// Whether nothing stands in the way of another message: nothing unread, unsent or ended.
    pub fn is_clean(&self) -> bool {
        self.is_flushed() && self.buffer.is_empty() && !self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn bytes_leave_in_the_order_appended_when_a_write_ended_between_a_body_and_what_follows_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut reader = listener.accept().await.unwrap().0;
        let mut wire = Wire::new(Socket::plain(io), BytesMut::new(), HeadLimits::default());
        // As a write leaves it that took everything up to the end of a large body.
        wire.back.extend_from_slice(b"tail ");
        assert!(!wire.has_room());
        wire.push(Bytes::from_static(b"small "));
        wire.push(Bytes::from(vec![b'x'; COPY_MAX + 1]));
        poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        drop(wire);
        let mut read = String::new();
        reader.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, format!("tail small {}", "x".repeat(COPY_MAX + 1)));
    }
}
