//! JSON, state by state. Every function takes the piece and the place of the next byte in it, and returns the place
//! behind what it has read.

use memchr::memchr2;

use super::{DEPTH_MAX, Document, State};
use crate::model_route::stream::{
    grammar::{self, Meaning, Place},
    notes::Kind,
    number::Number,
};

/// Bytes of a string that are looked at eight by eight before a search pays.
const NEAR: usize = 32;
/// Lowest bit of every byte of a word.
const LOWEST: u64 = 0x0101_0101_0101_0101;
const DONE: &[u8] = b"[DONE]";

/// Where the string ends or an escape begins; the length of `bytes` if neither.
fn until_quote(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
        if at >= NEAR {
            break;
        }
    }
    let rest = &bytes[at..];
    at + memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

/// Highest bit of every byte that equals `byte`; bits above the lowest of them mean nothing.
fn bytes_equal(word: u64, byte: u8) -> u64 {
    let differs = word ^ (LOWEST * u64::from(byte));
    differs.wrapping_sub(LOWEST) & !differs & (LOWEST << 7)
}

impl Document {
    /// Reads the next piece of the document.
    pub(in crate::model_route) fn read(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Start | State::Name | State::Colon | State::Value | State::Comma | State::End | State::Done => {
                    self.structure(bytes, at)
                }
                State::Mark(seen) => self.mark(seen, bytes[at], at),
                State::NameText => self.name(bytes, at),
                State::NameEscape => self.escaped(State::NameText, at),
                State::Text => self.string(bytes, at),
                State::TextEscape => self.escaped(State::Text, at),
                State::Word => self.word(bytes, at),
                State::SkipFirst => self.skip_first(bytes, at),
                State::Skip => self.skip(bytes, at),
                State::SkipText => self.skip_string(bytes, at),
                State::SkipEscape => self.escaped(State::SkipText, at),
                State::Broken => bytes.len(),
            };
        }
        self.capture.piece_ended(bytes);
    }

    /// White space, or a byte that stands between names and values.
    fn structure(&mut self, bytes: &[u8], at: usize) -> usize {
        let byte = bytes[at];
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return at + 1;
        }
        match (self.state, byte) {
            (State::Start, b'{') => self.begin(),
            (State::Start, b'[') => self.state = State::Mark(1),
            (State::Name, b'"') => {
                self.text.clear();
                self.state = State::NameText;
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::Value, b'"') => self.begin_string(at),
            (State::Value, b'{' | b'[') => self.open(byte, at),
            (State::Value, b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => {
                self.number = Number::default();
                self.state = State::Word;
                return at;
            }
            (State::Comma, b',') => self.next(),
            (State::Name | State::Comma, b'}') | (State::Value | State::Comma, b']') => self.close(byte),
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn begin(&mut self) {
        (self.depth, self.skipped) = (0, 0);
        self.push(self.root);
    }

    fn mark(&mut self, seen: usize, byte: u8, at: usize) -> usize {
        self.state = match DONE.get(seen) {
            Some(expected) if *expected != byte => State::Broken,
            Some(_) if seen + 1 == DONE.len() => State::Done,
            Some(_) | None => State::Mark(seen + 1),
        };
        at + 1
    }

    fn escaped(&mut self, then: State, at: usize) -> usize {
        self.length += 1;
        self.state = then;
        at + 1
    }

    fn name(&mut self, bytes: &[u8], at: usize) -> usize {
        let end = at + until_quote(&bytes[at..]);
        let place = self.place();
        match bytes.get(end) {
            None => {
                self.text.push(&bytes[at..end]);
                end
            }
            Some(b'"') => {
                let name = self.text.with(&bytes[at..end]);
                self.meaning = name.map_or(Meaning::Nothing, |name| grammar::member(self.api, place, name));
                self.state = State::Colon;
                end + 1
            }
            // None of the names that count has an escape.
            Some(_) => {
                self.text.spoil();
                self.state = State::NameEscape;
                end + 1
            }
        }
    }

    fn begin_string(&mut self, at: usize) {
        self.text.clear();
        self.length = 0;
        self.state = State::Text;
        if self.meaning == Meaning::Error {
            self.capture.value(at);
        }
    }

    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        let end = at + until_quote(&bytes[at..]);
        self.length += (end - at) as u64;
        match bytes.get(end) {
            None => {
                if self.meaning.is_named() {
                    self.text.push(&bytes[at..end]);
                }
                end
            }
            Some(b'"') => {
                self.end_string(&bytes[at..end]);
                self.capture_string(bytes, end + 1);
                end + 1
            }
            Some(_) => {
                self.text.spoil();
                self.length += 1;
                self.state = State::TextEscape;
                end + 1
            }
        }
    }

    fn end_string(&mut self, last: &[u8]) {
        self.state = State::Comma;
        if self.meaning != Meaning::Nothing {
            let text = self.text.with(last);
            self.notes.string(self.meaning, text, self.length, &mut self.progress);
        }
    }

    /// An error may be a string, or begin with one that says so.
    fn capture_string(&mut self, bytes: &[u8], end: usize) {
        if self.meaning == Meaning::Error {
            self.capture.value_ended(bytes, end);
        } else if self.meaning.is_sort() && self.notes.kind == Kind::Error {
            self.capture.rest(b"{\"type\":\"error\"", end);
        }
    }

    fn word(&mut self, bytes: &[u8], at: usize) -> usize {
        let rest = &bytes[at..];
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.iter().position(ends);
        let is_number = self.meaning.is_number();
        if is_number {
            self.number.push(&rest[..length.unwrap_or(rest.len())]);
        }
        let Some(length) = length else { return bytes.len() };
        if is_number && let Some(number) = self.number.get() {
            self.notes.number(self.meaning, number);
        }
        self.state = State::Comma;
        at + length
    }

    fn next(&mut self) {
        let place = self.place();
        if place.is_array() {
            self.meaning = grammar::element(place);
            self.state = State::Value;
        } else {
            self.state = State::Name;
        }
    }

    fn open(&mut self, bracket: u8, at: usize) {
        if let Meaning::Inside(place) = self.meaning
            && place.is_array() == (bracket == b'[')
            && self.depth < DEPTH_MAX
        {
            self.push(place);
            return;
        }
        if self.meaning == Meaning::Error {
            self.notes.error = true;
            self.capture.value(at);
        }
        (self.skipped, self.length) = (1, 0);
        self.state = State::SkipFirst;
    }

    fn push(&mut self, place: Place) {
        self.places[self.depth] = place;
        self.depth += 1;
        self.notes.enter(place);
        if place.is_array() {
            self.meaning = grammar::element(place);
            self.state = State::Value;
        } else {
            self.state = State::Name;
        }
    }

    fn close(&mut self, bracket: u8) {
        let place = self.place();
        if place.is_array() != (bracket == b']') {
            self.state = State::Broken;
            return;
        }
        self.notes.leave(place, &mut self.progress);
        self.depth -= 1;
        self.state = if self.depth == 0 { State::End } else { State::Comma };
    }

    /// In front of what a container has that is not looked into. White space there is not counted.
    fn skip_first(&mut self, bytes: &[u8], at: usize) -> usize {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' => at + 1,
            b'}' | b']' => {
                self.end_skipped(bytes, at + 1);
                at + 1
            }
            _ => {
                self.notes.filled(self.meaning);
                self.state = State::Skip;
                at
            }
        }
    }

    /// In a container that is not looked into.
    fn skip(&mut self, bytes: &[u8], from: usize) -> usize {
        let (mut at, mut open) = (from, self.skipped);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    let end = at + 1 + until_quote(&bytes[at + 1..]);
                    if bytes.get(end) != Some(&b'"') {
                        self.state = State::SkipText;
                        at += 1;
                        break;
                    }
                    at = end;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => {
                    open -= 1;
                    if open == 0 {
                        self.length += (at - from) as u64;
                        self.end_skipped(bytes, at + 1);
                        return at + 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        self.skipped = open;
        self.length += (at - from) as u64;
        at
    }

    fn skip_string(&mut self, bytes: &[u8], at: usize) -> usize {
        let end = at + until_quote(&bytes[at..]);
        self.length += (end - at) as u64;
        match bytes.get(end) {
            None => return end,
            Some(b'"') => self.state = State::Skip,
            Some(_) => self.state = State::SkipEscape,
        }
        self.length += 1;
        end + 1
    }

    fn end_skipped(&mut self, bytes: &[u8], at: usize) {
        self.state = State::Comma;
        match self.meaning {
            Meaning::Written if self.length > 0 => self.notes.write(self.length),
            Meaning::Output if self.length > 0 => self.notes.say(self.length),
            Meaning::Error => self.capture.value_ended(bytes, at),
            Meaning::Written
            | Meaning::Nothing
            | Meaning::Inside(_)
            | Meaning::Output
            | Meaning::Kind
            | Meaning::Object
            | Meaning::BlockKind
            | Meaning::OutputKind
            | Meaning::Index
            | Meaning::Finish
            | Meaning::Sequence
            | Meaning::Blocked
            | Meaning::Count(_) => {}
        }
    }

    fn place(&self) -> Place {
        self.places[self.depth.saturating_sub(1)]
    }
}
