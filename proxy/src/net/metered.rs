//! A connection whose HTTP/2 frames are counted on their way to the library, which sees no further ones once there was too
//! much of something.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use mesh_core::flood::{Flood, Meter, Scanner};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::socket::Socket;

/// What is known of the frames of one connection.
#[derive(Debug)]
pub struct Frames {
    began: Instant,
    received: RefCell<Scanner>,
    sent: RefCell<Scanner>,
    meter: RefCell<Meter>,
    flood: Cell<Option<Flood>>,
}

impl Frames {
    /// What there was too much of: nothing is read any more.
    pub fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Whether a header block has begun of which not every byte is there.
    pub fn is_inside_block(&self) -> bool {
        self.received.borrow().is_inside_block()
    }

    fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn hear(&self, bytes: &[u8]) {
        let mut meter = self.meter.borrow_mut();
        self.received.borrow_mut().scan(bytes, |frame| {
            if let Err(flood) = meter.received(frame, || self.age()) {
                self.flood.set(Some(flood));
            }
        });
    }

    fn say(&self, bytes: &[u8]) {
        let mut meter = self.meter.borrow_mut();
        self.sent.borrow_mut().scan(bytes, |frame| meter.sent(frame));
    }
}

/// The connection of an HTTP/2 client.
#[derive(Debug)]
pub struct Metered {
    socket: Socket,
    frames: Rc<Frames>,
}

impl Metered {
    /// The connection of a client that has said nothing yet (what was read of it is given back to the socket).
    pub fn client(socket: Socket) -> (Self, Rc<Frames>) {
        let frames = Rc::new(Frames {
            began: Instant::now(),
            received: RefCell::new(Scanner::of_client()),
            sent: RefCell::new(Scanner::of_server()),
            meter: RefCell::new(Meter::default()),
            flood: Cell::new(None),
        });
        (Metered { socket, frames: Rc::clone(&frames) }, frames)
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let metered = self.get_mut();
        if metered.frames.flood.get().is_some() {
            // Nobody is woken: whoever polls looks for the flood after every poll.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut metered.socket).poll_read(cx, buffer))?;
        metered.frames.hear(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let metered = self.get_mut();
        let count = ready!(metered.socket.poll_send(cx, slices))?;
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            metered.frames.say(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
