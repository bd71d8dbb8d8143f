//! The body of a request that is too long to be held, read while it passes: the model that it names is found, and
//! renamed, wherever it stands.
//!
//! Divided as [`super::json`] divides what is held whole; what lies below the top is only counted. Memory does not grow
//! with the body.

#[cfg(test)]
mod tests;

use std::{mem, ops::Range};

use super::{Asked, Delivery, Generate, Method, Needs, Places, Refused, StreamOptions, UsageAsked, check_name};
use crate::model_route::rewrite::Piece;

/// Longest value of a member that is read, and longest name that is looked at, bytes; a model's name has at most 256
/// characters.
const READ_MAX: usize = 2_048;

/// A body that passes.
#[derive(Clone, Debug)]
pub struct Long {
    state: State,
    name: Vec<u8>,
    value: Vec<u8>,
    is_escaped: bool,
    is_named_in_path: bool,
    rename: Option<String>,
    model: Option<String>,
    stream: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The `{`.
    Begin,
    /// The next member, or the end.
    Name,
    InName,
    Colon,
    Value,
    /// A value that is read; it is kept back until it is whole.
    Reading(Kind),
    /// A number or word that passes.
    Plain,
    /// A text that passes.
    Text,
    /// An object or list that passes, with so many brackets open; and a text in it.
    Nested(u32),
    TextIn(u32),
    /// Behind the `}`.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Plain,
}

/// What a passing body is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Model,
    Stream,
}

impl Long {
    /// The body of this call, of which nothing passed yet. The model is called `rename`, if given, where it goes.
    pub fn new(generate: &Generate, rename: Option<&str>) -> Long {
        let (model, stream) = match &generate.in_path {
            Some(path) => (Some(path.model.clone()), Some(path.method == Method::Stream)),
            None => (None, None),
        };
        Long {
            state: State::Begin,
            name: Vec::new(),
            value: Vec::new(),
            is_escaped: false,
            is_named_in_path: generate.in_path.is_some(),
            rename: rename.map(str::to_owned),
            model,
            stream,
        }
    }

    /// Model, as far as it was named.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Bytes that came and are kept back until the value to which they belong is whole.
    pub fn kept_back(&self) -> usize {
        if let State::Reading(_) = self.state { self.value.len() } else { 0 }
    }

    /// How the answer is delivered: known where it was said, or nothing more can be.
    pub fn delivery(&self) -> Option<Delivery> {
        let stream = self.stream.or((self.state == State::End).then_some(false))?;
        Some(if stream { Delivery::Stream } else { Delivery::Whole })
    }

    /// Lets the next bytes pass: what goes on now is put behind `out`, as pieces of these bytes.
    ///
    /// # Errors
    /// As [`super::read`]. Nothing may follow then.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), Refused> {
        // What of these bytes is not given yet begins here.
        let (mut at, mut from) = (0, 0);
        while let Some(byte) = bytes.get(at).copied() {
            at += match self.state {
                State::Begin => self.step(byte, b'{', State::Name, "the body is no JSON object")?,
                State::Colon => self.step(byte, b':', State::Value, "the body is no valid JSON")?,
                State::Name => self.name(byte)?,
                State::InName => self.in_name(byte),
                State::Value => {
                    let taken = self.value(byte)?;
                    if matches!(self.state, State::Reading(_)) {
                        give(out, from..at);
                        from = at;
                    }
                    taken
                }
                State::Reading(kind) => {
                    let (taken, new) = self.read(kind, byte)?;
                    if taken {
                        from = at + 1;
                    }
                    out.extend(new.map(Piece::New));
                    usize::from(taken)
                }
                State::Plain => self.plain(&bytes[at..]),
                State::Text => self.text(&bytes[at..], State::Name),
                State::Nested(depth) => self.nested(depth, byte),
                State::TextIn(depth) => self.text(&bytes[at..], State::Nested(depth)),
                State::End if is_blank(byte) => 1,
                State::End => return Err(Refused::whole("something follows the JSON object of the body")),
            };
        }
        if !matches!(self.state, State::Reading(_)) {
            give(out, from..at);
        }
        Ok(())
    }

    /// The body is whole.
    ///
    /// # Errors
    /// Where it is not, or names no model.
    pub fn end(&self) -> Result<(), Refused> {
        match (self.state, &self.model) {
            (State::End, Some(_)) => Ok(()),
            (State::End, None) => Err(Refused::of("model", "is missing")),
            _ => Err(Refused::whole("the body ends before its JSON object does")),
        }
    }

    /// What is asked, as far as it is known before all of it has passed; `model` is that of the route where the body did
    /// not name it yet.
    pub fn asked(&self, generate: &Generate, model: &str) -> Asked {
        Asked {
            api: generate.api,
            model: self.model.clone().unwrap_or_else(|| model.to_owned()),
            delivery: self.delivery().unwrap_or(Delivery::Whole),
            max_output: None,
            choices: 1,
            needs: Needs::default(),
            // Nothing is added to it, so nothing may be kept from who asks.
            usage_asked: UsageAsked::Yes,
            places: Places { model: None, top: 0, stream_options: StreamOptions::Absent, messages: None },
        }
    }

    fn step(&mut self, byte: u8, expected: u8, next: State, problem: &str) -> Result<usize, Refused> {
        if byte == expected {
            self.state = next;
        } else if !is_blank(byte) {
            return Err(Refused::whole(problem));
        }
        Ok(1)
    }

    fn name(&mut self, byte: u8) -> Result<usize, Refused> {
        match byte {
            b'"' => {
                self.name.clear();
                self.state = State::InName;
            }
            b'}' => self.state = State::End,
            b',' => {}
            byte if is_blank(byte) => {}
            _ => return Err(Refused::whole("the body is no valid JSON")),
        }
        Ok(1)
    }

    fn in_name(&mut self, byte: u8) -> usize {
        let ends = byte == b'"' && !self.is_escaped;
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        if ends {
            self.state = State::Colon;
        } else if self.name.len() < READ_MAX {
            self.name.push(byte);
        }
        1
    }

    /// The first byte of a value; whether it is taken.
    fn value(&mut self, byte: u8) -> Result<usize, Refused> {
        if is_blank(byte) {
            return Ok(1);
        }
        let is_read = self.wanted()?.is_some();
        self.state = match byte {
            b'{' | b'[' if is_read => return Err(self.refused("has the wrong type")),
            b'"' if is_read => State::Reading(Kind::Text),
            _ if is_read => State::Reading(Kind::Plain),
            b'{' | b'[' => State::Nested(1),
            b'"' => State::Text,
            _ => State::Plain,
        };
        self.value.clear();
        Ok(usize::from(!is_read && self.state != State::Plain))
    }

    /// Whether the value of this member is read. Twice, or with other capitals, servers read it differently.
    fn wanted(&self) -> Result<Option<Read>, Refused> {
        let name = super::members::name(&self.name);
        let known = [("model", Read::Model), ("stream", Read::Stream)];
        let Some((written, read)) = known.into_iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(&name))
        else {
            return Ok(None);
        };
        if self.is_named_in_path {
            return Ok(None);
        }
        if written.as_bytes() != &*name {
            return Err(Refused::of(written, "is written with other capitals"));
        }
        let is_there = match read {
            Read::Model => self.model.is_some(),
            Read::Stream => self.stream.is_some(),
        };
        if is_there { Err(Refused::of(written, "is given twice")) } else { Ok(Some(read)) }
    }

    fn refused(&self, problem: &str) -> Refused {
        match self.wanted() {
            Ok(Some(Read::Model)) => Refused::of("model", problem),
            Ok(Some(Read::Stream)) | Ok(None) | Err(_) => Refused::of("stream", problem),
        }
    }

    /// A byte of a value that is read: whether it belongs to it, and what goes on in its place once it is whole.
    fn read(&mut self, kind: Kind, byte: u8) -> Result<(bool, Option<Vec<u8>>), Refused> {
        let ends = match kind {
            Kind::Text => byte == b'"' && !self.is_escaped && !self.value.is_empty(),
            Kind::Plain => is_blank(byte) || matches!(byte, b',' | b'}'),
        };
        if kind == Kind::Text || !ends {
            self.is_escaped = kind == Kind::Text && byte == b'\\' && !self.is_escaped;
            self.value.push(byte);
        }
        if self.value.len() > READ_MAX {
            return Err(self.refused("is too long"));
        }
        if !ends {
            return Ok((true, None));
        }
        self.state = State::Name;
        Ok((kind == Kind::Text, Some(self.whole()?)))
    }

    /// The value is whole: what goes on in its place.
    fn whole(&mut self) -> Result<Vec<u8>, Refused> {
        let value = mem::take(&mut self.value);
        match self.wanted()? {
            Some(Read::Model) => {
                let model: String =
                    serde_json::from_slice(&value).map_err(|_| Refused::of("model", "must be a string"))?;
                check_name(&model)?;
                let renamed = self.rename.as_ref().filter(|rename| **rename != model);
                let new = renamed.map(|rename| serde_json::Value::from(rename.as_str()).to_string().into_bytes());
                self.model = Some(model);
                Ok(new.unwrap_or(value))
            }
            Some(Read::Stream) => {
                self.stream = match &*value {
                    b"true" => Some(true),
                    b"false" | b"null" => Some(false),
                    _ => return Err(Refused::of("stream", "must be true or false")),
                };
                Ok(value)
            }
            None => Ok(value),
        }
    }

    /// Bytes of a number or word.
    fn plain(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.iter().take_while(|byte| !is_blank(**byte) && !matches!(byte, b',' | b'}')).count();
        if length < bytes.len() {
            self.state = State::Name;
        }
        length
    }

    fn nested(&mut self, depth: u32, byte: u8) -> usize {
        self.state = match byte {
            b'"' => State::TextIn(depth),
            b'{' | b'[' => State::Nested(depth.saturating_add(1)),
            b'}' | b']' if depth <= 1 => State::Name,
            b'}' | b']' => State::Nested(depth - 1),
            _ => State::Nested(depth),
        };
        1
    }

    /// Bytes of a text, up to its end, behind which `then` follows.
    fn text(&mut self, bytes: &[u8], then: State) -> usize {
        if self.is_escaped {
            self.is_escaped = false;
            return bytes.len().min(1);
        }
        match memchr::memchr2(b'"', b'\\', bytes) {
            Some(at) if bytes[at] == b'"' => {
                self.state = then;
                at + 1
            }
            Some(at) => {
                self.is_escaped = true;
                at + 1
            }
            None => bytes.len(),
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn give(out: &mut Vec<Piece>, range: Range<usize>) {
    if !range.is_empty() {
        out.push(Piece::Kept(range));
    }
}
