//! A WebSocket (RFC 6455) that sends back what it gets: handshake, text and binary messages, ping, close.
//!
//! Written by hand because an echo needs little of the protocol. No extensions; a frame beyond [`FRAME_MAX`] closes.

use std::{io, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// Largest frame that is echoed, bytes.
const FRAME_MAX: u64 = 1 << 20;
/// Longest silence of a client.
const IDLE: Duration = Duration::from_secs(3_600);
/// Appended to the client's key (RFC 6455 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Close codes (RFC 6455 7.4.1).
const GOING_AWAY: u16 = 1_001;
const PROTOCOL_ERROR: u16 = 1_002;
const TOO_BIG: u16 = 1_009;

/// Opcodes (RFC 6455 5.2).
mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

/// Answers the handshake and, once the connection is handed over, echoes until it ends, as one of `tasks`.
pub(crate) fn accept(
    mut request: Request<Incoming>,
    tasks: &TaskTracker,
    stopping: watch::Receiver<bool>,
) -> Response<()> {
    let key = match handshake_key(request.method(), request.headers()) {
        Ok(key) => accept_value(key),
        Err(status) => {
            let mut refusal = Response::new(());
            *refusal.status_mut() = status;
            refusal.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return refusal;
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let _ = echo(TokioIo::new(upgraded), stopping).await;
        }
    });
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    response
}

/// The client's key, or the status that refuses the handshake (RFC 6455 4.2).
fn handshake_key<'a>(method: &Method, headers: &'a HeaderMap) -> Result<&'a HeaderValue, StatusCode> {
    let has = |name: header::HeaderName, token: &str| {
        headers.get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
        })
    };
    if method != Method::GET || !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    headers.get(header::SEC_WEBSOCKET_KEY).ok_or(StatusCode::BAD_REQUEST)
}

fn accept_value(key: &HeaderValue) -> HeaderValue {
    let text = [key.as_bytes(), KEY_SUFFIX.as_bytes()].concat();
    let value = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text));
    HeaderValue::from_str(&value).expect("base64 holds only characters that a header may hold")
}

async fn echo(mut socket: TokioIo<Upgraded>, mut stopping: watch::Receiver<bool>) -> io::Result<()> {
    loop {
        let frame = tokio::select! {
            frame = timeout(IDLE, Frame::read(&mut socket)) => frame.map_err(io::Error::from)??,
            () = crate::stopped(&mut stopping) => return close(&mut socket, GOING_AWAY).await,
        };
        match frame {
            Read::Whole(frame) => match frame.opcode {
                opcode::CONTINUATION..=opcode::BINARY => frame.write(&mut socket).await?,
                opcode::PING => Frame { opcode: opcode::PONG, ..frame }.write(&mut socket).await?,
                opcode::PONG => {}
                opcode::CLOSE => {
                    frame.write(&mut socket).await?;
                    return socket.shutdown().await;
                }
                _ => return close(&mut socket, PROTOCOL_ERROR).await,
            },
            Read::Refused(code) => return close(&mut socket, code).await,
        }
    }
}

async fn close(socket: &mut TokioIo<Upgraded>, code: u16) -> io::Result<()> {
    Frame { last: true, opcode: opcode::CLOSE, payload: code.to_be_bytes().to_vec() }.write(socket).await?;
    socket.shutdown().await
}

struct Frame {
    last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

enum Read {
    Whole(Frame),
    Refused(u16),
}

impl Frame {
    /// Reads one frame of a client: masked, without reserved bits (RFC 6455 5.2).
    async fn read(socket: &mut TokioIo<Upgraded>) -> io::Result<Read> {
        let mut start = [0; 2];
        socket.read_exact(&mut start).await?;
        let length = match start[1] & 0x7f {
            126 => u64::from(socket.read_u16().await?),
            127 => socket.read_u64().await?,
            short => u64::from(short),
        };
        if start[0] & 0x70 != 0 || start[1] & 0x80 == 0 {
            return Ok(Read::Refused(PROTOCOL_ERROR));
        }
        if length > FRAME_MAX {
            return Ok(Read::Refused(TOO_BIG));
        }
        let mut mask = [0; 4];
        socket.read_exact(&mut mask).await?;
        let mut payload = vec![0; length as usize];
        socket.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Read::Whole(Frame { last: start[0] & 0x80 != 0, opcode: start[0] & 0x0f, payload }))
    }

    /// Writes the frame as a server does: unmasked.
    async fn write(&self, socket: &mut TokioIo<Upgraded>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 10);
        bytes.push(if self.last { 0x80 } else { 0 } | self.opcode);
        match self.payload.len() {
            length @ 0..=125 => bytes.push(length as u8),
            length @ 126..=0xffff => {
                bytes.push(126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&self.payload);
        socket.write_all(&bytes).await?;
        socket.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_value_is_the_one_of_the_standard() {
        let value = accept_value(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(value, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
