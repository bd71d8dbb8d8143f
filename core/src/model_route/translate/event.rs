//! Server-sent events: the data of one that came, and one to be sent.

use std::borrow::Cow;

use super::{Untranslatable, json::Json};

/// What a whole event holds.
pub(super) enum Event<'a> {
    /// Its data, lines joined.
    Data(Cow<'a, str>),
    /// A comment, which servers send to keep a connection open.
    Comment,
    /// Nothing but a blank line, or fields without meaning here.
    Nothing,
}

/// Reads one event, its blank line included; lines end in LF, CR or both.
///
/// # Errors
/// Its data is not text.
pub(super) fn read(event: &[u8]) -> Result<Event<'_>, Untranslatable> {
    let mut data: Option<Cow<'_, str>> = None;
    let mut without = Event::Nothing;
    // A byte order mark may stand before the first event of a stream.
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if line.first() == Some(&b':') {
            without = Event::Comment;
        }
        let Some(value) = line.strip_prefix(b"data") else { continue };
        let value = match value {
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            [] => value,
            _ => continue,
        };
        let value = std::str::from_utf8(value).map_err(|_| Untranslatable::malformed("data"))?;
        data = Some(match data {
            None => Cow::Borrowed(value),
            Some(before) => Cow::Owned(before.into_owned() + "\n" + value),
        });
    }
    Ok(data.map_or(without, Event::Data))
}

/// Writes an event without name.
pub(super) fn write(data: &Json<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    data.write(out);
    out.extend_from_slice(b"\n\n");
}

/// Writes an event with a name.
pub(super) fn write_named(name: &str, data: &Json<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    write(data, out);
}
