//! Step 2: what a connection speaks, as soon as its first bytes say so; meanwhile, where the server may be the one who
//! speaks first, it is dialled.

use std::{cell::RefCell, future::Future, io, net::SocketAddr, pin::pin, task::Poll, time::Duration};

use ahash::AHashSet;
use bytes::BytesMut;
use mesh_core::detect::{GREETING_BYTES, Greeting, PREFIX_MAX, Verdict, detect, greeting, if_no_more};
use tokio::time::{Instant, Sleep, sleep_until};

use super::wire;
use crate::net::socket::Socket;

/// Silence of the client after which the server is dialled: it may be the one who speaks first.
const SILENCE: Duration = Duration::from_millis(50);
/// Destinations remembered as speaking first; the set is emptied when it is full.
const SERVER_FIRST_MAX: usize = 1_024;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Opaque,
    /// The client ended before it said anything.
    Ended,
}

/// Destinations where the server speaks first: dialled at once.
#[derive(Debug, Default)]
pub struct ServerFirst(RefCell<AHashSet<SocketAddr>>);

impl ServerFirst {
    fn knows(&self, address: SocketAddr) -> bool {
        self.0.borrow().contains(&address)
    }

    fn remember(&self, address: SocketAddr) {
        let mut set = self.0.borrow_mut();
        if set.len() >= SERVER_FIRST_MAX {
            set.clear();
        }
        set.insert(address);
    }
}

/// Reads until the bytes say what they are, or `limit` passes; then what is no begun request is opaque.
///
/// # Errors
/// The connection broke.
pub async fn session(socket: &mut Socket, buffer: &mut BytesMut, limit: Duration) -> io::Result<Session> {
    let mut timer = pin!(sleep_until(Instant::now() + limit));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(session) = poll_session(socket, buffer, cx)? {
            return Poll::Ready(Ok(session));
        }
        timer.as_mut().poll(cx).map(|()| Ok(last_word(buffer)))
    })
    .await
}

/// What a client speaks of whom no more is awaited.
fn last_word(buffer: &[u8]) -> Session {
    match if_no_more(buffer) {
        Verdict::Http1 => Session::Http1,
        Verdict::More | Verdict::Http2 | Verdict::Tls { .. } | Verdict::Opaque => Session::Opaque,
    }
}

fn poll_session(
    socket: &mut Socket,
    buffer: &mut BytesMut,
    cx: &mut std::task::Context<'_>,
) -> Poll<io::Result<Session>> {
    loop {
        if !buffer.is_empty() {
            match detect(buffer) {
                Verdict::Http1 => return Poll::Ready(Ok(Session::Http1)),
                Verdict::Http2 => return Poll::Ready(Ok(Session::Http2)),
                Verdict::Tls { .. } | Verdict::Opaque => return Poll::Ready(Ok(Session::Opaque)),
                Verdict::More if buffer.len() >= PREFIX_MAX => return Poll::Ready(Ok(Session::Opaque)),
                Verdict::More => {}
            }
        }
        std::task::ready!(socket.poll_readable(cx))?;
        if buffer.capacity() == 0 {
            *buffer = wire::buffer();
        }
        buffer.reserve(PREFIX_MAX);
        match std::task::ready!(socket.poll_fill(cx, buffer))? {
            0 if buffer.is_empty() => return Poll::Ready(Ok(Session::Ended)),
            // What began like something known and ended is bytes.
            0 => return Poll::Ready(Ok(Session::Opaque)),
            _ => {}
        }
    }
}

/// How long a client's first bytes are awaited.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// After this, what came must do.
    pub limit: Duration,
    /// How long both sides may say nothing at all; not shorter than `limit`.
    pub silent: Duration,
    /// When the server is dialled.
    pub dial: Dial,
}

/// When the server of a silent client is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// After a short silence; at once where it is known to speak first.
    Early,
    /// When the client's limit has passed.
    AtLimit,
}

/// What came first.
#[derive(Debug)]
pub enum First<T, E> {
    /// The client's bytes said what they are.
    Client(Session),
    /// The server spoke: bytes, over this connection.
    Server(T),
    /// Both were silent for as long as they may be; the server waits on this connection.
    Silent(T),
    /// Both were silent until the client's limit passed, and the server could not be dialled.
    Nobody(E),
}

/// As [`session`], and dials the server (`dial`), at `address`, of a silent client. Bytes of the client are judged
/// whenever they come, until the server has spoken.
///
/// # Errors
/// The client's connection broke.
pub async fn session_or_server<T: AsMut<Socket>, E>(
    (socket, buffer): (&mut Socket, &mut BytesMut),
    wait: Wait,
    (known, address): (&ServerFirst, SocketAddr),
    dial: impl Future<Output = Result<T, E>>,
) -> io::Result<First<T, E>> {
    let now = Instant::now();
    let silence = match wait.dial {
        Dial::Early if known.knows(address) => Duration::ZERO,
        Dial::Early => SILENCE,
        Dial::AtLimit => wait.limit,
    };
    let mut silent = pin!(sleep_until(now + silence));
    let mut timer = pin!(sleep_until(now + wait.limit));
    let mut patience = pin!(sleep_until(now + wait.silent));
    let mut dial = pin!(dial);
    let mut server: Option<Result<T, E>> = None;
    let first = std::future::poll_fn(|cx| {
        if let Poll::Ready(session) = poll_session(socket, buffer, cx)? {
            return Poll::Ready(Ok(First::Client(session)));
        }
        if passed(&mut silent, cx)
            && buffer.is_empty()
            && server.is_none()
            && let Poll::Ready(result) = dial.as_mut().poll(cx)
        {
            server = Some(result);
        }
        if let Some(Ok(dialled)) = &mut server
            && buffer.is_empty()
            && poll_server_first(dialled.as_mut(), cx).is_ready()
            && let Some(Ok(dialled)) = server.take()
        {
            known.remember(address);
            return Poll::Ready(Ok(First::Server(dialled)));
        }
        if passed(&mut timer, cx) && !buffer.is_empty() {
            return Poll::Ready(Ok(First::Client(last_word(buffer))));
        }
        if timer.is_elapsed()
            && let Some(Err(failed)) = server.take_if(|server| server.is_err())
        {
            return Poll::Ready(Ok(First::Nobody(failed)));
        }
        if passed(&mut patience, cx) {
            return Poll::Ready(Ok(match server.take() {
                Some(Ok(dialled)) => First::Silent(dialled),
                Some(Err(failed)) => First::Nobody(failed),
                None => First::Client(Session::Opaque),
            }));
        }
        Poll::Pending
    });
    first.await
}

/// Ready when a server has said (or ended) what makes the connection opaque. One of HTTP/2 says its settings without
/// waiting for the client, of whom it is still to be seen what it speaks.
fn poll_server_first(server: &mut Socket, cx: &mut std::task::Context<'_>) -> Poll<()> {
    let mut said = [0; GREETING_BYTES];
    match std::task::ready!(server.poll_peek(cx, &mut said)) {
        Ok(count) if greeting(&said[..count]) == Greeting::Http2 => Poll::Pending,
        Ok(_) | Err(_) => Poll::Ready(()),
    }
}

fn passed(timer: &mut std::pin::Pin<&mut Sleep>, cx: &mut std::task::Context<'_>) -> bool {
    timer.is_elapsed() || timer.as_mut().poll(cx).is_ready()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const WAIT: Wait = Wait { limit: Duration::from_secs(5), silent: Duration::from_secs(5), dial: Dial::Early };

    struct Dialled(Socket);

    impl AsMut<Socket> for Dialled {
        fn as_mut(&mut self) -> &mut Socket {
            &mut self.0
        }
    }

    /// Two ends of a connection.
    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, Socket::plain(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn server_that_speaks_first_makes_the_connection_opaque_and_is_remembered() {
        let (known, address) = (ServerFirst::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 5432)));
        let (_client, mut socket) = pair().await;
        let (mut server, dialled) = pair().await;
        server.write_all(b"ready").await.unwrap();
        let dial = async { Ok::<_, ()>(Dialled(dialled)) };
        let mut buffer = BytesMut::new();
        let first = session_or_server((&mut socket, &mut buffer), WAIT, (&known, address), dial).await.unwrap();
        assert!(matches!(first, First::Server(_)));
        assert!(known.knows(address));
    }

    #[tokio::test]
    async fn settings_of_an_http2_server_leave_the_word_to_the_client() {
        let (known, address) = (ServerFirst::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
        known.remember(address);
        let (mut client, mut socket) = pair().await;
        let (mut server, dialled) = pair().await;
        server.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        dialled.tcp().readable().await.unwrap();
        let dial = async { Ok::<_, ()>(Dialled(dialled)) };
        let mut buffer = BytesMut::new();
        let first = session_or_server((&mut socket, &mut buffer), WAIT, (&known, address), dial);
        let mut first = pin!(first);
        std::future::poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        assert!(matches!(first.await.unwrap(), First::Client(Session::Http2)));
    }

    #[tokio::test]
    async fn client_that_speaks_is_detected_although_the_server_was_dialled() {
        let (known, address) = (ServerFirst::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
        known.remember(address);
        let (mut client, mut socket) = pair().await;
        let (_server, dialled) = pair().await;
        let dial = async {
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            Ok::<_, ()>(Dialled(dialled))
        };
        let mut buffer = BytesMut::new();
        let first = session_or_server((&mut socket, &mut buffer), WAIT, (&known, address), dial).await.unwrap();
        assert!(matches!(first, First::Client(Session::Http1)));
        assert_eq!(&buffer[..], b"GET / HTTP/1.1\r\n");
    }
}
