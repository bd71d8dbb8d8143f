//! Behaviour of the codec: what is refused and why, what is understood, and that nothing changes when it is forwarded
//! or arrives in other pieces.

mod bodies;
mod forwarding;
mod pieces;
mod requests;
mod responses;
mod second_reader;

use bytes::BytesMut;

use super::{Asked, HeadLimits, HeadReader, Malformed, RequestHead, ResponseHead};

/// Reads the one request head in `text`.
fn request(text: &str) -> Result<RequestHead, Malformed> {
    request_within(text.as_bytes(), HeadLimits::default())
}

fn request_within(text: &[u8], limits: HeadLimits) -> Result<RequestHead, Malformed> {
    let mut buffer = BytesMut::from(text);
    Ok(HeadReader::new(limits).request(&mut buffer)?.expect("the test gives a whole head"))
}

/// Reads the one response head in `text`.
fn response(text: &str, asked: Asked) -> Result<ResponseHead, Malformed> {
    let mut buffer = BytesMut::from(text);
    Ok(HeadReader::new(HeadLimits::default()).response(&mut buffer, asked)?.expect("the test gives a whole head"))
}

/// A GET with these field lines, each ended by CRLF, after a valid Host.
fn with_fields(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}
