//! Lines of an event stream: the three line ends, the byte order mark, fields and blank lines (WHATWG HTML 9.2).

use memchr::memchr2;

use super::short::Short;

const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `data`.
    Data,
    /// `event`.
    Event,
    /// Comments, `id`, `retry`, and what nobody knows.
    Other,
}

/// What comes next in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A line of this field begins; its text follows in any number of pieces.
    Begin(Field),
    /// Text of the line.
    Text(Field, &'a [u8]),
    /// A blank line has ended.
    Blank,
}

/// Splits a stream into lines.
#[derive(Debug)]
pub(super) struct Lines {
    place: Place,
    /// Name of the field, as far as it has come.
    name: Short<6>,
    carriage: Carriage,
    /// Whether the line before ended with a lone carriage return.
    lone: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// At the beginning of the stream, behind this many bytes of a byte order mark.
    Mark(u8),
    /// At the beginning of a line.
    Start,
    /// In the name of the field.
    Name,
    /// Behind its colon, where one space is not part of the value.
    Colon(Field),
    /// In the value.
    Value(Field),
}

/// What the last byte was, if it was a carriage return: a line feed behind it belongs to the same line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    /// Another byte.
    None,
    /// The end of a line.
    Line,
    /// The end of a blank line, which is told when it is clear where it ends.
    Blank,
    /// The end of a blank line that was told.
    Told,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { place: Place::Mark(0), name: Short::default(), carriage: Carriage::None, lone: false }
    }
}

impl Lines {
    /// The next piece of `bytes` from `at` on, which is moved behind it; `None` at their end.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8], at: &mut usize) -> Option<Piece<'a>> {
        while let Some(byte) = bytes.get(*at).copied() {
            if self.carriage != Carriage::None && self.behind_carriage(byte, at) {
                return Some(Piece::Blank);
            }
            // A line feed that was part of the line end is used up.
            let Some(byte) = bytes.get(*at).copied() else { break };
            let piece = match self.place {
                Place::Mark(seen) => {
                    self.mark(seen, byte, at);
                    None
                }
                Place::Start => self.start(bytes, byte, at),
                Place::Name => self.name(bytes, at),
                Place::Colon(field) => {
                    *at += usize::from(byte == b' ');
                    self.place = Place::Value(field);
                    None
                }
                Place::Value(field) => self.value(field, bytes, at),
            };
            if piece.is_some() {
                return piece;
            }
        }
        None
    }

    /// Whether a blank line has ended in front of, or with, this byte.
    fn behind_carriage(&mut self, byte: u8, at: &mut usize) -> bool {
        let carriage = std::mem::replace(&mut self.carriage, Carriage::None);
        self.lone = byte != b'\n';
        *at += usize::from(byte == b'\n');
        carriage == Carriage::Blank
    }

    fn mark(&mut self, seen: u8, byte: u8, at: &mut usize) {
        let next = BYTE_ORDER_MARK.get(usize::from(seen)).copied();
        if next == Some(byte) {
            *at += 1;
            self.place = Place::Mark(seen + 1);
        } else if seen == 0 || next.is_none() {
            self.place = Place::Start;
        } else {
            self.place = Place::Value(Field::Other);
        }
    }

    fn start<'a>(&mut self, bytes: &[u8], byte: u8, at: &mut usize) -> Option<Piece<'a>> {
        match byte {
            b'\n' => {
                *at += 1;
                self.lone = false;
                Some(Piece::Blank)
            }
            // Where lines end with lone carriage returns, this is a line end; else a line feed may follow, and the event
            // ends behind that.
            b'\r' => {
                *at += 1;
                self.carriage = if self.lone { Carriage::Told } else { Carriage::Blank };
                self.lone.then_some(Piece::Blank)
            }
            b':' => {
                self.place = Place::Value(Field::Other);
                None
            }
            _ if bytes[*at..].starts_with(b"data:") => {
                *at += 5;
                self.place = Place::Colon(Field::Data);
                Some(Piece::Begin(Field::Data))
            }
            _ => {
                self.name.clear();
                self.place = Place::Name;
                None
            }
        }
    }

    fn name<'a>(&mut self, bytes: &[u8], at: &mut usize) -> Option<Piece<'a>> {
        let rest = &bytes[*at..];
        let length = rest.iter().position(|byte| matches!(byte, b':' | b'\n' | b'\r'));
        self.name.push(&rest[..length.unwrap_or(rest.len())]);
        *at += length.unwrap_or(rest.len());
        if rest.get(length?) != Some(&b':') {
            // A name without a value: nothing that matters.
            self.place = Place::Value(Field::Other);
            return None;
        }
        *at += 1;
        let field = match self.name.get() {
            Some(b"data") => Field::Data,
            Some(b"event") => Field::Event,
            Some(_) | None => Field::Other,
        };
        self.place = Place::Colon(field);
        Some(Piece::Begin(field))
    }

    fn value<'a>(&mut self, field: Field, bytes: &'a [u8], at: &mut usize) -> Option<Piece<'a>> {
        let rest = &bytes[*at..];
        let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        if length > 0 {
            *at += length;
            return Some(Piece::Text(field, &rest[..length]));
        }
        *at += 1;
        self.place = Place::Start;
        if rest[0] == b'\r' {
            self.carriage = Carriage::Line;
        } else {
            self.lone = false;
        }
        None
    }
}
