//! A client of WebSockets (RFC 6455), as little of one as tests need: texts both ways, and how the connection ends.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{client::LIMIT, wait::within};

/// Key of the handshake of RFC 6455 1.3, and the answer that belongs to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// An answer that made no WebSocket.
#[derive(Debug)]
pub struct Refused {
    /// Status.
    pub status: u16,
    /// Head and body.
    pub text: String,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    io: TcpStream,
    /// Head of the answer that made it.
    pub head: String,
}

impl WebSocket {
    /// Opens one at `path` of `host`.
    ///
    /// # Errors
    /// The answer, where it is another one.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn open(to: SocketAddr, host: &str, path: &str, fields: &[(&str, &str)]) -> Result<WebSocket, Refused> {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n{fields}\r\n"
        );
        let mut io = TcpStream::connect(to).await.unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        io.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the head of an answer", LIMIT, io.read_u8()).await.expect("a head"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        if status == 101 {
            assert!(head.contains(ACCEPT), "the answer belongs to the key: {head}");
            return Ok(WebSocket { io, head });
        }
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        within("the body of an answer", LIMIT, io.read_exact(&mut body)).await.expect("a body");
        Err(Refused { status, text: head + &String::from_utf8_lossy(&body) })
    }

    /// Sends a text.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn say(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes()).await;
    }

    async fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mask = [1u8, 2, 3, 4];
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.io.write_all(&frame).await.expect("the frame is sent");
    }

    /// The next text; nothing once the other side has ended it.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn hear(&mut self) -> Option<String> {
        self.hear_within(LIMIT).await
    }

    /// As [`WebSocket::hear`], within this time.
    ///
    /// # Panics
    /// When nothing comes until then.
    pub async fn hear_within(&mut self, limit: Duration) -> Option<String> {
        within("a frame", limit, self.next()).await
    }

    async fn next(&mut self) -> Option<String> {
        let kind = self.io.read_u8().await.ok()?;
        let length = match self.io.read_u8().await.ok()? & 0x7f {
            126 => u64::from(self.io.read_u16().await.ok()?),
            127 => self.io.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.io.read_exact(&mut payload).await.ok()?;
        (kind & 0x0f == TEXT).then(|| String::from_utf8_lossy(&payload).into_owned())
    }

    /// Ends it in order, by a frame.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn close(&mut self) {
        self.frame(CLOSE, &[0x03, 0xe8]).await;
    }
}
