//! A connection, in the clear or under mesh TLS, as one concrete type with the few operations the data path needs.
//!
//! Bytes that were read before the protocol was known are given back with [`Socket::unread`]. TLS is driven here
//! rather than by tokio-rustls, because one type for both roles, bytes read in advance, and a clear difference between
//! an orderly end and a cut connection are what the data path is about.

use std::{
    future::Future,
    io::{self, BufRead, IoSlice, Read, Write},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use rustls::{ClientConfig, ClientConnection, CommonState, Connection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Plaintext that a TLS session takes before it was sent, bytes; further writes wait for the wire.
const WRITE_LIMIT: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub struct Socket {
    io: TcpStream,
    tls: Option<Box<Connection>>,
    unread: BytesMut,
}

impl Socket {
    /// Connection in the clear.
    pub fn plain(io: TcpStream) -> Self {
        Socket { io, tls: None, unread: BytesMut::new() }
    }

    /// Takes the server's part of a TLS handshake, of which `first` was read already.
    ///
    /// # Errors
    /// As rustls has them (inside `io::Error`); whatever alert rustls wants to send is sent.
    pub async fn accept_tls(io: TcpStream, first: &[u8], config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(WRITE_LIMIT));
        let mut socket = Socket { tls: Some(Box::new(Connection::Server(tls))), ..Socket::plain(io) };
        let mut first = first;
        while !first.is_empty() {
            socket.take_records(&mut first)?;
        }
        socket.handshake().await?;
        Ok(socket)
    }

    /// Takes the client's part of a TLS handshake.
    ///
    /// # Errors
    /// As rustls has them (inside `io::Error`).
    pub async fn connect_tls(io: TcpStream, name: ServerName<'static>, config: Arc<ClientConfig>) -> io::Result<Self> {
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(WRITE_LIMIT));
        let mut socket = Socket { tls: Some(Box::new(Connection::Client(tls))), ..Socket::plain(io) };
        socket.handshake().await?;
        Ok(socket)
    }

    /// Bytes to be read again before anything else.
    pub fn unread(&mut self, bytes: BytesMut) {
        debug_assert!(self.unread.is_empty(), "bytes are given back once, at the change of the protocol");
        self.unread = bytes;
    }

    /// State of the TLS session, if there is one.
    pub fn tls(&self) -> Option<&CommonState> {
        self.tls.as_deref().map(|tls| &**tls)
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.io
    }

    /// Ends the connection so that the peer sees a cut, not an orderly end: RST, and no close_notify.
    pub fn cut(self) {
        // Where the option is refused the peer sees FIN without close_notify or last chunk: a cut all the same.
        let _ = socket2::SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
    }

    async fn handshake(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let flushed = self.poll_flush_tls(cx)?;
            let tls = self.tls.as_mut().expect("only a socket with TLS takes a handshake");
            if !tls.is_handshaking() {
                return if tls.wants_write() { flushed.map(Ok) } else { Poll::Ready(Ok(())) };
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Gives `source` to rustls and lets it decrypt; a failure sends the alert that belongs to it.
    fn take_records(&mut self, source: &mut &[u8]) -> io::Result<()> {
        let tls = self.tls.as_mut().expect("records are taken by a socket with TLS");
        tls.read_tls(source)?;
        self.process()
    }

    fn process(&mut self) -> io::Result<()> {
        let tls = self.tls.as_mut().expect("records are processed by a socket with TLS");
        if let Err(error) = tls.process_new_packets() {
            // Best effort: the peer learns why, if its window allows.
            let _ = tls.write_tls(&mut Unwaited(&self.io));
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    /// One read from the wire into rustls; 0 = the peer ended its direction.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let tls = self.tls.as_mut().expect("only a socket with TLS receives records");
        match tls.read_tls(&mut Blocking { io: &mut self.io, cx }) {
            Ok(count) => {
                self.process()?;
                // The peer may have asked for something (new keys) that no write of ours would carry.
                if self.tls.as_ref().is_some_and(|tls| tls.wants_write() && !tls.is_handshaking()) {
                    let _ = self.poll_flush_tls(cx)?;
                }
                Poll::Ready(Ok(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tls) = self.tls.as_mut() else { return Poll::Ready(Ok(())) };
        while tls.wants_write() {
            match tls.write_tls(&mut Blocking { io: &mut self.io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when a read would give bytes, the end or an error: lets an idle connection wait without a buffer.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let Some(tls) = self.tls.as_mut() else { return self.io.poll_read_ready(cx) };
            match tls.reader().into_first_chunk() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Bytes, the end, or the failure that the next read will name.
                Ok(_) | Err(_) => return Poll::Ready(Ok(())),
            }
            // What comes may be no application data (a session ticket): look again.
            ready!(self.poll_receive(cx))?;
        }
    }

    /// Looks at bytes and leaves them to be read; 0 = a read would give the end, or an error. Ready again at once while
    /// the bytes are not read, so it says nothing of further ones.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut look = |bytes: &[u8]| {
            let count = bytes.len().min(into.len());
            into[..count].copy_from_slice(&bytes[..count]);
            count
        };
        if !self.unread.is_empty() {
            return Poll::Ready(Ok(look(&self.unread)));
        }
        if self.tls.is_none() {
            return self.io.poll_peek(cx, &mut ReadBuf::new(into));
        }
        ready!(self.poll_readable(cx))?;
        let tls = self.tls.as_mut().expect("checked above");
        // A failure is named by the next read.
        Poll::Ready(Ok(tls.reader().fill_buf().map_or(0, look)))
    }

    /// Reads once into the spare room of `buffer` (which must have some); 0 = orderly end. A TLS session that ends
    /// without close_notify is an error of kind `UnexpectedEof`: what was cut must not pass for complete.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        debug_assert!(buffer.capacity() > buffer.len(), "there is room to read into");
        if self.tls.is_none() && self.unread.is_empty() {
            return std::pin::pin!(self.io.read_buf(buffer)).poll(cx);
        }
        if !self.unread.is_empty() {
            let count = self.unread.len();
            buffer.unsplit(mem::take(&mut self.unread));
            return Poll::Ready(Ok(count));
        }
        let before = buffer.len();
        self.poll_decrypted(cx, &mut |chunk| {
            let count = chunk.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&chunk[..count]);
            count
        })
        .map_ok(|()| buffer.len() - before)
    }

    /// Hands decrypted bytes to `take` (which returns how many it took) until there are no more or it takes none;
    /// nothing handed over = orderly end.
    fn poll_decrypted(&mut self, cx: &mut Context<'_>, take: &mut dyn FnMut(&[u8]) -> usize) -> Poll<io::Result<()>> {
        let mut taken = 0;
        loop {
            let tls = self.tls.as_mut().expect("only a socket with TLS decrypts");
            let mut reader = tls.reader();
            match reader.fill_buf() {
                Ok([]) => return Poll::Ready(Ok(())),
                Ok(chunk) => {
                    let count = take(chunk);
                    reader.consume(count);
                    taken += count;
                    if count == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(_) if taken > 0 => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_receive(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes some of `slices`, all of them in one system call or record where they fit; what TLS holds back goes out
    /// with [`AsyncWrite::poll_flush`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.tls.is_none() {
            return Blocking { io: &mut self.io, cx }.poll_write(slices);
        }
        ready!(self.poll_flush_tls(cx))?;
        let tls = self.tls.as_mut().expect("checked above");
        let count = tls.writer().write_vectored(slices)?;
        // Pending is no matter: the caller flushes.
        let _ = self.poll_flush_tls(cx)?;
        Poll::Ready(Ok(count))
    }
}

/// Writes what goes at once, for the last words of a failed handshake.
struct Unwaited<'a>(&'a TcpStream);

impl Write for Unwaited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket as rustls wants it: `WouldBlock` means that the task is woken later.
struct Blocking<'a, 'b> {
    io: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Blocking<'_, '_> {
    /// A single slice goes out by send(2), which costs the kernel less than a list.
    fn poll_write(&mut self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match slices {
            [slice] => Pin::new(&mut *self.io).poll_write(self.cx, slice),
            slices => Pin::new(&mut *self.io).poll_write_vectored(self.cx, slices),
        }
    }
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.poll_write(slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if !socket.unread.is_empty() {
            let count = socket.unread.len().min(buffer.remaining());
            buffer.put_slice(&socket.unread[..count]);
            socket.unread.advance(count);
            return Poll::Ready(Ok(()));
        }
        if socket.tls.is_none() {
            return Pin::new(&mut socket.io).poll_read(cx, buffer);
        }
        socket.poll_decrypted(cx, &mut |chunk| {
            let count = chunk.len().min(buffer.remaining());
            buffer.put_slice(&chunk[..count]);
            count
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush_tls(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if let Some(tls) = socket.tls.as_mut() {
            // Repeated calls queue nothing more.
            tls.send_close_notify();
        }
        ready!(socket.poll_flush_tls(cx))?;
        Pin::new(&mut socket.io).poll_shutdown(cx)
    }
}
