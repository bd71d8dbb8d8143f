//! Bodies of HTTP/2 streams, the same in both roles: parts received, parts sent as the peer's window allows.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};

use super::{Last, Part};

/// Pieces shorter than this, bytes, are put together where several have come.
const SMALL: usize = 1024;
/// Bytes that are put together at most, apart from the last piece.
const GATHERED_MAX: usize = 8 * 1024;

/// The next part of a received body. What is taken counts as used: the window opens again when the other side took it,
/// since a part is only asked for when there is room for it.
pub(super) fn poll_part(receive: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Part, h2::Error>> {
    loop {
        match ready!(receive.poll_data(cx)) {
            Some(Ok(bytes)) => {
                receive.flow_control().release_capacity(bytes.len())?;
                let end = receive.is_end_stream();
                if bytes.is_empty() && !end {
                    continue;
                }
                if bytes.len() < SMALL && !end {
                    return Poll::Ready(gather(receive, cx, bytes));
                }
                return Poll::Ready(Ok(Part::Data(bytes, if end { Last::Yes } else { Last::Unknown })));
            }
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => {
                return match ready!(receive.poll_trailers(cx))? {
                    Some(trailers) => Poll::Ready(Ok(Part::Trailers(trailers))),
                    None => Poll::Ready(Ok(Part::End)),
                };
            }
        }
    }
}

/// Puts what has come already behind a small piece. One who sends byte by byte would otherwise have the same done to the next
/// hop, on a connection that others use, too.
fn gather(receive: &mut RecvStream, cx: &mut Context<'_>, first: Bytes) -> Result<Part, h2::Error> {
    let mut gathered: Option<BytesMut> = None;
    while gathered.as_ref().is_none_or(|gathered| gathered.len() < GATHERED_MAX) {
        // What failed, or what follows the last piece, is told with the next part.
        let Poll::Ready(Some(Ok(bytes))) = receive.poll_data(cx) else { break };
        receive.flow_control().release_capacity(bytes.len())?;
        gathered.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&bytes);
        if receive.is_end_stream() {
            break;
        }
    }
    let last = if receive.is_end_stream() { Last::Yes } else { Last::Unknown };
    Ok(Part::Data(gathered.map_or(first, BytesMut::freeze), last))
}

/// Sends a body.
#[derive(Debug)]
pub(super) struct Sender {
    stream: SendStream<Bytes>,
    waiting: Option<(Bytes, Last)>,
    sent: u64,
}

impl Sender {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Sender { stream, waiting: None, sent: 0 }
    }

    /// Bytes handed to the connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes a part; the one before must have been flushed.
    pub(super) fn give(&mut self, part: Part) -> Result<(), h2::Error> {
        match part {
            Part::Data(bytes, Last::Yes) if bytes.is_empty() => self.stream.send_data(bytes, true),
            Part::Data(bytes, last) => {
                self.stream.reserve_capacity(bytes.len());
                self.waiting = Some((bytes, last));
                Ok(())
            }
            Part::Trailers(trailers) => self.stream.send_trailers(trailers),
            Part::End => self.stream.send_data(Bytes::new(), true),
        }
    }

    /// Hands what waits to the connection, as far as the windows allow.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while let Some((bytes, last)) = &mut self.waiting {
            let capacity = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(capacity) => capacity?,
                    None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
                },
                capacity => capacity,
            };
            let chunk = bytes.split_to(capacity.min(bytes.len()));
            self.sent += chunk.len() as u64;
            let is_all = bytes.is_empty();
            let ends = is_all && *last == Last::Yes;
            if is_all {
                self.waiting = None;
            }
            self.stream.send_data(chunk, ends)?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.stream.poll_reset(cx)
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}
