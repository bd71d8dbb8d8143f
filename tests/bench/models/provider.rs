//! A provider that speaks OpenAI's chat completions as streams, as fast as a socket takes them. The stand-in of
//! `examples/models` is faithful in everything; this one is only fast.
//!
//! The model asked for says what it does ([`Behaviour`]). It looks at no more of a request than its first few hundred bytes.

use std::{future::pending, io, net::SocketAddr, sync::mpsc, thread};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
};

use super::{
    chat,
    pacer::{self, Flow},
};

/// Largest request head, bytes.
const HEAD_LIMIT: usize = 16 * 1024;
/// Bytes of a request's body in which its model and its number of tokens stand.
const LOOKED_AT: usize = 256;
/// Least bytes that are given to a socket at once by a provider at full speed.
const BLOCK: usize = 64 * 1024;
const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";

/// What the provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Tokens at full speed, many at once.
    Packed,
    /// A token every [`pacer::PERIOD`].
    Paced,
    /// One token, then nothing more.
    Held,
    /// A whole stream at once.
    Short,
    /// 429.
    Rate,
    /// A head, an event without token, then nothing more.
    Hang,
}

impl Behaviour {
    /// Those that serve.
    pub(super) const SERVING: [Behaviour; 4] = [Behaviour::Packed, Behaviour::Paced, Behaviour::Held, Behaviour::Short];

    /// Name of the model that does it.
    pub(super) fn model(self) -> &'static str {
        match self {
            Behaviour::Packed => "packed",
            Behaviour::Paced => "paced",
            Behaviour::Held => "held",
            Behaviour::Short => "short",
            Behaviour::Rate => "rate",
            Behaviour::Hang => "hang",
        }
    }

    fn of(model: &str) -> Option<Behaviour> {
        let all = Self::SERVING.into_iter().chain([Behaviour::Rate, Behaviour::Hang]);
        all.into_iter().find(|behaviour| behaviour.model() == model)
    }
}

/// The provider, on a thread of its own that lives as long as the process.
pub(super) struct Provider {
    runtime: Handle,
    pacer: mpsc::Sender<Flow>,
}

impl Provider {
    /// Starts it; it listens nowhere yet.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start() -> anyhow::Result<Provider> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name("provider".into()).spawn(move || runtime.block_on(pending::<()>()))?;
        Ok(Provider { runtime: handle, pacer: pacer::start()? })
    }

    /// Serves at `address`; returns it with its port.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub(super) fn listen(&self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind(address).context("provider: cannot listen")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        self.runtime.spawn(accept(listener, self.pacer.clone()));
        Ok(address)
    }
}

async fn accept(listener: std::net::TcpListener, pacer: mpsc::Sender<Flow>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket, pacer.clone()));
    }
}

async fn serve(mut socket: TcpStream, pacer: mpsc::Sender<Flow>) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut socket, &mut buffer).await? {
        match asked.behaviour {
            None => socket.write_all(PLAIN).await?,
            Some(Behaviour::Rate) => socket.write_all(&rate_limited()).await?,
            Some(Behaviour::Short) => {
                let mut answer = begun("");
                (0..asked.tokens).for_each(|_| chat::chunk(&mut answer, &chat::token(0)));
                chat::end(&mut answer, asked.tokens);
                socket.write_all(&answer).await?;
            }
            Some(Behaviour::Packed) => packed(&mut socket, asked.tokens).await?,
            Some(Behaviour::Held) => {
                let mut answer = begun("");
                chat::chunk(&mut answer, &chat::token(0));
                socket.write_all(&answer).await?;
                return until_gone(socket).await;
            }
            Some(Behaviour::Hang) => {
                socket.write_all(&begun("")).await?;
                return until_gone(socket).await;
            }
            Some(Behaviour::Paced) => {
                socket.write_all(&begun("connection: close\r\n")).await?;
                let flow = Flow::new(socket.into_std()?, asked.tokens);
                return pacer.send(flow).map_err(|_| io::ErrorKind::BrokenPipe.into());
            }
        }
    }
    Ok(())
}

/// Head and first event of a stream.
fn begun(field: &str) -> Vec<u8> {
    let mut answer = format!("{}{field}\r\n", chat::HEAD).into_bytes();
    chat::chunk(&mut answer, &chat::role());
    answer
}

async fn packed(socket: &mut TcpStream, tokens: u64) -> io::Result<()> {
    socket.write_all(&begun("")).await?;
    let mut one = Vec::new();
    chat::chunk(&mut one, &chat::token(0));
    let each = u64::try_from(BLOCK.div_ceil(one.len())).unwrap_or(1);
    let block = one.repeat(BLOCK.div_ceil(one.len()));
    let mut left = tokens;
    while left >= each {
        socket.write_all(&block).await?;
        left -= each;
    }
    for _ in 0..left {
        socket.write_all(&one).await?;
    }
    let mut rest = Vec::new();
    chat::end(&mut rest, tokens);
    socket.write_all(&rest).await
}

async fn until_gone(mut socket: TcpStream) -> io::Result<()> {
    let mut ignored = [0; 64];
    while socket.read(&mut ignored).await? > 0 {}
    Ok(())
}

fn rate_limited() -> Vec<u8> {
    let body = "{\"error\":{\"message\":\"Rate limit reached for requests\",\"type\":\"requests\",\"param\":null,\
                \"code\":\"rate_limit_exceeded\"}}";
    let length = body.len();
    let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n";
    format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// What a request asks.
struct Asked {
    /// `None` where no model is asked for.
    behaviour: Option<Behaviour>,
    tokens: u64,
}

/// Reads one request, whole; `None` once the other side has no more.
async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let length = length(&buffer[..head]).ok_or(io::ErrorKind::InvalidData)?;
    buffer.reserve((head + length).saturating_sub(buffer.len()));
    while buffer.len() < head + length {
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let looked_at = String::from_utf8_lossy(&buffer[head..head + length.min(LOOKED_AT)]).into_owned();
    buffer.drain(..head + length);
    let behaviour = behind(&looked_at, "\"model\":\"").and_then(|rest| Behaviour::of(rest.split('"').next()?));
    let tokens = behind(&looked_at, "\"max_tokens\":").and_then(|rest| rest.split(',').next()?.parse().ok());
    Ok(Some(Asked { behaviour, tokens: tokens.unwrap_or(1) }))
}

fn length(head: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?;
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    length.map_or(Some(0), |header| str::from_utf8(header.value).ok()?.parse().ok())
}

fn behind<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name).map(|(_, rest)| rest)
}
