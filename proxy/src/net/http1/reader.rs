//! Reads heads out of a connection's buffer, as far as it is filled.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use httparse::{Header, ParserConfig, Status};

use super::{
    Asked, Malformed, RequestHead, ResponseHead, Version,
    fields::{Field, FieldTable, Kind, Span},
};

/// Empty lines tolerated before a request line: what old clients send after a body (RFC 9112 2.2).
const EMPTY_LINES_MAX: u8 = 4;
/// Bytes up to which parsing from the start again costs less than the read that brought the last of them.
const ALWAYS_PARSED: usize = 4 * 1024;
/// Most fields a head can have whatever the limit: the parser's table lies on the stack.
const FIELDS_MAX: usize = 256;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    bytes: usize,
    fields: usize,
}

impl HeadLimits {
    /// Default length of a head, bytes: cookies and tokens of real applications fit.
    pub const BYTES_DEFAULT: usize = 64 * 1024;
    /// Longest head that can be allowed, bytes.
    pub const BYTES_MAX: usize = 1024 * 1024;
    /// Default number of fields.
    pub const FIELDS_DEFAULT: usize = 128;

    /// Limits of `bytes` (at most 1 MiB) and `fields` (at most 256); more is cut to that.
    pub fn new(bytes: usize, fields: usize) -> HeadLimits {
        HeadLimits { bytes: bytes.min(Self::BYTES_MAX), fields: fields.min(FIELDS_MAX) }
    }

    /// Longest head, bytes.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Longest list of fields that HTTP/2 takes at all, as RFC 9113 6.5.2 counts it: 32 bytes for each field besides. More
    /// than a head may have, so that one that is too long can be answered with a reason.
    pub fn list_bytes(self) -> u32 {
        // At most twice `BYTES_MAX`.
        (self.bytes * 2) as u32
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { bytes: Self::BYTES_DEFAULT, fields: Self::FIELDS_DEFAULT }
    }
}

/// Reads the heads of one direction of a connection. Between calls the caller may only append to the buffer.
#[derive(Debug)]
pub struct HeadReader {
    limits: HeadLimits,
    /// Bytes of the buffer that were looked at and hold no whole head.
    searched: usize,
    empty_lines: u8,
    /// Room for fields, from a head that was given back.
    spare: Vec<Field>,
}

impl HeadReader {
    /// A reader for one direction of one connection.
    pub fn new(limits: HeadLimits) -> HeadReader {
        HeadReader { limits, searched: 0, empty_lines: 0, spare: Vec::new() }
    }

    /// Takes the head of a request off the front of `buffer`; `None` while it is not whole. An empty buffer
    /// afterwards means that no request has begun.
    ///
    /// # Errors
    /// The request is wrong or ambiguous: answer [`Malformed::status`] and close.
    pub fn request(&mut self, buffer: &mut BytesMut) -> Result<Option<RequestHead>, Malformed> {
        self.skip_empty_lines(buffer)?;
        if !is_due(buffer, self.searched, self.limits.bytes) {
            return Ok(None);
        }
        let window = &buffer[..buffer.len().min(self.limits.bytes)];
        let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(window, &mut slots[..self.limits.fields]) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return self.more(buffer.len()),
            Err(error) => return Err(refusal(error, window, Malformed::RequestLine)),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Malformed::RequestLine);
        };
        let fields = collect(std::mem::take(&mut self.spare), window, request.headers);
        check_line_breaks(window, fields.iter(), length)?;
        let (method, target) = (Span::of(method.as_bytes(), window), Span::of(target.as_bytes(), window));
        let version = version_of(version);
        RequestHead::new(self.take(buffer, fields, length), method, target, version).map(Some)
    }

    /// Takes the head of a response off the front of `buffer`; `None` while it is not whole. After an interim
    /// response call again for the final one.
    ///
    /// # Errors
    /// The response is wrong or ambiguous: answer 502, and close the connection it came on.
    pub fn response(&mut self, buffer: &mut BytesMut, asked: Asked) -> Result<Option<ResponseHead>, Malformed> {
        if matches!(buffer.first(), Some(b'\r' | b'\n')) {
            return Err(Malformed::StatusLine);
        }
        if !is_due(buffer, self.searched, self.limits.bytes) {
            return Ok(None);
        }
        let window = &buffer[..buffer.len().min(self.limits.bytes)];
        let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let slots = &mut slots[..self.limits.fields];
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, window, slots);
        let length = match parsed {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return self.more(buffer.len()),
            Err(error) => return Err(refusal(error, window, Malformed::StatusLine)),
        };
        let (Some(version), Some(status @ 100..)) = (response.version, response.code) else {
            return Err(Malformed::StatusLine);
        };
        let fields = collect(std::mem::take(&mut self.spare), window, response.headers);
        check_line_breaks(window, fields.iter(), length)?;
        let version = version_of(version);
        let table = self.take(buffer, fields, length);
        let reason = reason(&table.bytes);
        ResponseHead::new(table, version, status, reason, asked).map(Some)
    }

    /// Takes back a request's head that is no longer needed, to use its memory for the next one.
    pub fn reclaim_request(&mut self, head: RequestHead) {
        self.reclaim(head.into_table());
    }

    /// Takes back a response's head that is no longer needed, to use its memory for the next one.
    pub fn reclaim_response(&mut self, head: ResponseHead) {
        self.reclaim(head.into_table());
    }

    fn reclaim(&mut self, mut table: FieldTable) {
        table.fields.clear();
        self.spare = table.fields;
    }

    fn skip_empty_lines(&mut self, buffer: &mut BytesMut) -> Result<(), Malformed> {
        loop {
            match &buffer[..] {
                [b'\r', b'\n', ..] if self.empty_lines == EMPTY_LINES_MAX => return Err(Malformed::EmptyLines),
                [b'\r', b'\n', ..] => {
                    self.empty_lines += 1;
                    buffer.advance(2);
                }
                [b'\r', _, ..] | [b'\n', ..] => return Err(Malformed::LineBreak),
                _ => return Ok(()),
            }
        }
    }

    fn more<T>(&mut self, length: usize) -> Result<Option<T>, Malformed> {
        if length >= self.limits.bytes {
            return Err(Malformed::HeadTooLarge);
        }
        self.searched = length;
        Ok(None)
    }

    fn take(&mut self, buffer: &mut BytesMut, fields: Vec<Field>, length: usize) -> FieldTable {
        self.searched = 0;
        self.empty_lines = 0;
        FieldTable::new(buffer.split_to(length).freeze(), fields, (length - 2) as u32)
    }
}

/// Whether parsing can learn something new: always while there is little to parse, then with every further line and at
/// the limit. Bounds the work for a head that arrives in tiny pieces by the number of its lines.
pub(super) fn is_due(buffer: &[u8], searched: usize, limit: usize) -> bool {
    let news = buffer.get(searched..).unwrap_or_default();
    !news.is_empty() && (buffer.len() <= ALWAYS_PARSED || buffer.len() >= limit || news.contains(&b'\n'))
}

fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

pub(super) fn collect(mut fields: Vec<Field>, window: &[u8], headers: &[Header<'_>]) -> Vec<Field> {
    fields.extend(headers.iter().map(|header| Field {
        name: Span::of(header.name.as_bytes(), window),
        value: Span::of(header.value, window),
        kind: Kind::of(header.name.as_bytes()),
    }));
    fields
}

/// The parser takes a bare LF for a line break; we do not (RFC 9112 2.2 lets us choose): others do not either, and see
/// one line where it sees two.
pub(super) fn check_line_breaks<'a>(
    window: &[u8],
    after_first: impl Iterator<Item = &'a Field>,
    length: usize,
) -> Result<(), Malformed> {
    let ends_in_crlf = |end: usize| end >= 2 && window[end - 2] == b'\r' && window[end - 1] == b'\n';
    let lines = after_first.map(|field| field.name.start as usize);
    let whole = lines.chain([length - 2, length]).all(ends_in_crlf);
    whole.then_some(()).ok_or(Malformed::LineBreak)
}

/// Reason phrase: from the second space of the status line to its end.
fn reason(head: &[u8]) -> Span {
    const STATUS_END: usize = "HTTP/1.1 200".len();
    let end = head.iter().position(|byte| *byte == b'\r').unwrap_or(head.len());
    Span::new((STATUS_END + 1).min(end), end)
}

fn refusal(error: httparse::Error, window: &[u8], line: Malformed) -> Malformed {
    match error {
        httparse::Error::HeaderName => Malformed::FieldName,
        httparse::Error::HeaderValue => Malformed::FieldValue,
        httparse::Error::NewLine => Malformed::LineBreak,
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        httparse::Error::Version if names_other_version(window, line) => Malformed::Version,
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => line,
    }
}

/// Whether the place of the version holds `HTTP/` and a digit: a version, though none of ours.
fn names_other_version(window: &[u8], line: Malformed) -> bool {
    let words = if line == Malformed::RequestLine { 2 } else { 0 };
    let version = window.splitn(words + 1, |byte| *byte == b' ').nth(words).unwrap_or_default();
    let ours = version.starts_with(b"HTTP/1.0") || version.starts_with(b"HTTP/1.1");
    !ours && version.strip_prefix(b"HTTP/").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}
