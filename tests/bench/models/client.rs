//! The application that calls: reads streams as they come, and finds out whether anything of them is missing.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{chat, provider::Behaviour};

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// How long a blocking client waits for bytes before the run fails.
const WAIT: Duration = Duration::from_secs(20);

/// One way from the application to the provider.
#[derive(Clone)]
pub(super) struct Way {
    /// Name in tables and results.
    pub(super) name: &'static str,
    /// Where requests enter.
    pub(super) address: SocketAddr,
    /// Host that requests name.
    pub(super) authority: String,
}

impl Way {
    /// A request for a stream of `tokens`.
    pub(super) fn request(&self, behaviour: Behaviour, tokens: u64) -> Vec<u8> {
        chat::request(&self.authority, behaviour.model(), tokens, "Say something.")
    }

    /// A connection that blocks.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) fn connect(&self) -> anyhow::Result<std::net::TcpStream> {
        let socket =
            std::net::TcpStream::connect(self.address).with_context(|| format!("cannot connect {}", self.name))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(WAIT))?;
        Ok(socket)
    }
}

/// Takes chunked framing (RFC 9112 7.1) off a body, as it comes.
#[derive(Debug, Default)]
struct Chunked {
    left: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In the line of a chunk's size.
    #[default]
    Size,
    Data,
    /// In front of the line feed behind a chunk's data.
    Behind,
    /// In front of the line feed that ends the body.
    Last,
    Done,
}

impl Chunked {
    fn decode(&mut self, bytes: &[u8], on: &mut impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            if self.place == Place::Data {
                let length = self.left.min(bytes.len() - at);
                on(&bytes[at..at + length]);
                self.left -= length;
                at += length;
                if self.left == 0 {
                    self.place = Place::Behind;
                }
                continue;
            }
            match (self.place, bytes[at]) {
                (Place::Size | Place::Behind | Place::Last, b'\r') => {}
                (Place::Size, b'\n') => self.place = if self.left == 0 { Place::Last } else { Place::Data },
                (Place::Size, digit) => {
                    let digit = char::from(digit).to_digit(16).context("a chunk of no size")?;
                    self.left = self.left * 16 + digit as usize;
                }
                (Place::Behind, b'\n') => self.place = Place::Size,
                (Place::Last, b'\n') => self.place = Place::Done,
                (place, byte) => bail!("byte {byte:#x} at {place:?} of a chunked body"),
            }
            at += 1;
        }
        Ok(())
    }
}

/// Reads the head of an answer in `bytes`: where its body begins, and the target of a model route that served.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(usize, Option<String>)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).context("not HTTP")? else { return Ok(None) };
    ensure!(response.code == Some(200), "refused: {}", String::from_utf8_lossy(bytes));
    let field = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    ensure!(field("transfer-encoding").is_some(), "no stream: {}", String::from_utf8_lossy(bytes));
    let target = field("x-mesh-model-target").map(|field| String::from_utf8_lossy(field.value).into_owned());
    Ok(Some((end, target)))
}

/// A stream under way, of one client among many.
pub(super) struct Stream {
    socket: TcpStream,
    chunked: Chunked,
    buffer: Vec<u8>,
    /// Bytes of the body that came with its head.
    ahead: usize,
}

impl Stream {
    /// Asks, and reads the head of the answer.
    ///
    /// # Errors
    /// When no stream is answered.
    pub(super) async fn open(way: &Way, request: &[u8]) -> anyhow::Result<Stream> {
        let mut socket =
            TcpStream::connect(way.address).await.with_context(|| format!("cannot connect {}", way.name))?;
        socket.set_nodelay(true)?;
        socket.write_all(request).await?;
        let mut buffer = vec![0; READ];
        let mut filled = 0;
        loop {
            let read = socket.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "{} closed before its answer", way.name);
            filled += read;
            if let Some((end, _)) = head(&buffer[..filled])? {
                buffer.copy_within(end..filled, 0);
                return Ok(Stream { socket, chunked: Chunked::default(), buffer, ahead: filled - end });
            }
        }
    }

    /// Reads once; false once the stream is whole.
    ///
    /// # Errors
    /// When it breaks.
    pub(super) async fn read(&mut self, mut on: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        let read = match std::mem::take(&mut self.ahead) {
            0 => self.socket.read(&mut self.buffer).await?,
            ahead => ahead,
        };
        ensure!(read > 0, "a stream was cut");
        self.chunked.decode(&self.buffer[..read], &mut on)?;
        Ok(self.chunked.place != Place::Done)
    }
}

/// What one client alone saw of a whole stream.
pub(super) struct Whole {
    /// From the first byte of the request sent to the first byte of the answer.
    pub(super) first_byte: Duration,
    /// Target of the model route that served.
    pub(super) target: Option<String>,
}

/// Sends a request and reads its stream to the end.
///
/// # Errors
/// When the stream is not whole, or does not end in order.
pub(super) fn ask(socket: &mut std::net::TcpStream, request: &[u8], tokens: usize) -> anyhow::Result<Whole> {
    let mut buffer = vec![0; READ];
    let begun = Instant::now();
    socket.write_all(request)?;
    let mut filled = socket.read(&mut buffer).context("no answer")?;
    let first_byte = begun.elapsed();
    let (end, target) = loop {
        ensure!(filled > 0, "closed before an answer");
        if let Some(found) = head(&buffer[..filled])? {
            break found;
        }
        filled += socket.read(&mut buffer[filled..])?;
    };
    let (mut chunked, mut feeds) = (Chunked::default(), 0);
    let mut body = end..filled;
    loop {
        chunked.decode(&buffer[body], &mut |bytes| feeds += line_feeds(bytes))?;
        if chunked.place == Place::Done {
            break;
        }
        let read = socket.read(&mut buffer)?;
        ensure!(read > 0, "a stream was cut");
        body = 0..read;
    }
    let (events, wanted) = (feeds / 2, tokens + chat::AROUND);
    ensure!(events == wanted, "{events} events of {wanted}");
    Ok(Whole { first_byte, target })
}

/// Opens a stream and reads until its first token.
///
/// # Errors
/// When none comes.
pub(super) fn hold(way: &Way, request: &[u8]) -> anyhow::Result<std::net::TcpStream> {
    let mut socket = way.connect()?;
    socket.write_all(request)?;
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    while chat::stamp(&buffer[..filled]).is_none() {
        let read = socket.read(&mut buffer[filled..]).context("no token")?;
        ensure!(read > 0, "closed before a token: {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
    }
    Ok(socket)
}

/// Line feeds of a part of a stream: every event has two.
pub(super) fn line_feeds(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
