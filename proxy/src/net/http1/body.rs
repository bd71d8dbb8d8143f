//! Bodies: the end of a message found in a stream of bytes (RFC 9112 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};

use super::{
    Framing, Malformed,
    fields::FieldTable,
    reader::{check_line_breaks, collect, is_due},
    trailers::Trailers,
};

/// Bytes of chunk extensions in one body: nobody uses them, and a peer could send little else.
const EXTENSIONS_MAX: u32 = 16 * 1024;
/// Digits of a chunk size, leading zeros included: what fits 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Longest trailer section, bytes, and most fields in it.
const TRAILERS_MAX: usize = 16 * 1024;
const TRAILER_FIELDS_MAX: usize = 64;

/// What the decoder found next.
#[derive(Clone, Debug)]
pub enum BodyEvent {
    /// The buffer holds nothing more: read, then call again.
    More,
    /// Bytes of the body, never none.
    Data(Bytes),
    /// Trailer fields; [`BodyEvent::End`] follows.
    Trailers(Trailers),
    /// The message is whole; what is left in the buffer belongs to the next one.
    End,
}

/// What the end of the connection means for the message being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEof {
    /// The message is whole.
    Whole,
    /// Part of it is missing.
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Digits of a chunk size.
    Size {
        size: u64,
        digits: u8,
    },
    /// Extension of a chunk, until CR.
    Extension {
        size: u64,
    },
    /// LF after a chunk size.
    SizeBreak {
        size: u64,
    },
    /// Bytes left of a chunk.
    Chunk(u64),
    /// CR after a chunk.
    ChunkReturn,
    /// LF after a chunk.
    ChunkBreak,
    /// Trailer section; so many bytes of it were looked at.
    Trailers {
        searched: usize,
    },
    /// Bytes left of a body with a length.
    Length(u64),
    /// Until the connection closes.
    Endless,
    Done,
}

/// Reads one body. Made anew for each message.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    extensions: u32,
}

const NEXT_SIZE: State = State::Size { size: 0, digits: 0 };

impl BodyDecoder {
    /// A decoder for a body framed like this.
    pub fn new(framing: Framing) -> BodyDecoder {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => NEXT_SIZE,
            Framing::UntilClose | Framing::Tunnel => State::Endless,
        };
        BodyDecoder { state, extensions: 0 }
    }

    /// Whether the message is whole.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are still to be read of a body whose length was said; `None` of another.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            State::Size { .. } | State::Extension { .. } | State::SizeBreak { .. } | State::Chunk(_) => None,
            State::ChunkReturn | State::ChunkBreak | State::Trailers { .. } | State::Endless => None,
        }
    }

    /// What the end of the connection would mean now.
    pub fn at_eof(&self) -> AtEof {
        if matches!(self.state, State::Endless | State::Done) { AtEof::Whole } else { AtEof::Truncated }
    }

    /// Takes the next part of the body off the front of `buffer`. Between calls the caller may only append to it.
    ///
    /// # Errors
    /// The body is malformed: what was forwarded of it must not be ended as if it were whole, and the connection must
    /// be closed.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<BodyEvent, Malformed> {
        loop {
            match self.state {
                State::Done => return Ok(BodyEvent::End),
                State::Trailers { searched } => return self.trailers(buffer, searched),
                _ if buffer.is_empty() => return Ok(BodyEvent::More),
                State::Endless => return Ok(BodyEvent::Data(buffer.split().freeze())),
                State::Length(left) => {
                    let (data, left) = take(buffer, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(BodyEvent::Data(data));
                }
                State::Chunk(left) => {
                    let (data, left) = take(buffer, left);
                    self.state = if left == 0 { State::ChunkReturn } else { State::Chunk(left) };
                    return Ok(BodyEvent::Data(data));
                }
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeBreak { .. }
                | State::ChunkReturn
                | State::ChunkBreak => self.chunk_line(buffer)?,
            }
        }
    }

    /// Walks through what stands between two chunks, until data or trailers begin or the buffer ends.
    fn chunk_line(&mut self, buffer: &mut BytesMut) -> Result<(), Malformed> {
        let mut walked = 0;
        for byte in buffer.iter() {
            self.state = self.after(*byte)?;
            walked += 1;
            if matches!(self.state, State::Chunk(_) | State::Trailers { .. }) {
                break;
            }
        }
        buffer.advance(walked);
        Ok(())
    }

    fn after(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => Ok(State::SizeBreak { size }),
            (State::Size { digits: 1.., size }, b';') => Ok(State::Extension { size }),
            (State::Size { size, digits }, _) => {
                let digit = char::from(byte).to_digit(16).filter(|_| digits < SIZE_DIGITS_MAX);
                let digit = digit.ok_or(Malformed::ChunkSize)?;
                Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
            }
            (State::Extension { size }, b'\r') => Ok(State::SizeBreak { size }),
            (State::Extension { .. }, b'\t' | b' '..=b'~' | 0x80..) if self.extensions < EXTENSIONS_MAX => {
                self.extensions += 1;
                Ok(self.state)
            }
            (State::Extension { .. }, _) => Err(Malformed::ChunkExtension),
            (State::SizeBreak { size: 0 }, b'\n') => Ok(State::Trailers { searched: 0 }),
            (State::SizeBreak { size }, b'\n') => Ok(State::Chunk(size)),
            (State::SizeBreak { .. }, _) => Err(Malformed::LineBreak),
            (State::ChunkReturn, b'\r') => Ok(State::ChunkBreak),
            (State::ChunkBreak, b'\n') => Ok(NEXT_SIZE),
            (State::ChunkReturn | State::ChunkBreak, _) => Err(Malformed::ChunkEnd),
            (State::Chunk(_) | State::Trailers { .. } | State::Length(_) | State::Endless | State::Done, _) => {
                Ok(self.state)
            }
        }
    }

    fn trailers(&mut self, buffer: &mut BytesMut, searched: usize) -> Result<BodyEvent, Malformed> {
        match &buffer[..] {
            [] | [b'\r'] => return Ok(BodyEvent::More),
            [b'\r', b'\n', ..] => {
                buffer.advance(2);
                self.state = State::Done;
                return Ok(BodyEvent::End);
            }
            [b'\r' | b'\n', ..] => return Err(Malformed::LineBreak),
            _ => {}
        }
        if !is_due(buffer, searched, TRAILERS_MAX) {
            return Ok(BodyEvent::More);
        }
        let Some(trailers) = section(buffer)? else {
            self.state = State::Trailers { searched: buffer.len() };
            return Ok(BodyEvent::More);
        };
        self.state = State::Done;
        Ok(if trailers.is_empty() { BodyEvent::End } else { BodyEvent::Trailers(trailers) })
    }
}

fn take(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
    (buffer.split_to(length).freeze(), left - length as u64)
}

/// Takes a whole trailer section off the buffer.
fn section(buffer: &mut BytesMut) -> Result<Option<Trailers>, Malformed> {
    let window = &buffer[..buffer.len().min(TRAILERS_MAX)];
    let mut slots = [EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let (length, headers) = match httparse::parse_headers(window, &mut slots) {
        Ok(Status::Complete(parsed)) => parsed,
        Ok(Status::Partial) if buffer.len() >= TRAILERS_MAX => return Err(Malformed::TrailersTooLarge),
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::HeaderName) => return Err(Malformed::FieldName),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TrailersTooLarge),
        Err(httparse::Error::NewLine) => return Err(Malformed::LineBreak),
        Err(_) => return Err(Malformed::FieldValue),
    };
    let fields = collect(Vec::new(), window, headers);
    check_line_breaks(window, fields.iter().skip(1), length)?;
    let bytes = buffer.split_to(length).freeze();
    Ok(Some(Trailers::new(FieldTable::new(bytes, fields, (length - 2) as u32))))
}
