//! Reads one JSON document after the other, byte by byte: the place of every value is known, the value itself only where
//! it counts.
//!
//! It checks no more than it needs: what is not looked into has only to have as many brackets closed as opened. A document
//! that breaks off or has something behind it is found.

mod syntax;

use super::{
    Reported, Says,
    capture::Capture,
    grammar::{Meaning, Place},
    notes::{Kind, Notes, Progress},
    number::Number,
    short::Short,
};
use crate::{
    model::model_route::{Api, Failure, Reason},
    model_route::failure,
};

/// Containers inside each other that are looked into: event, response, usage, details; Gemini's event, candidates,
/// candidate, content, parts, part.
const DEPTH_MAX: usize = 8;
/// What the client is told of an error in a stream that says no status itself.
const UNKNOWN_STATUS: u16 = 502;

/// The document at hand, and what the stream has said so far.
#[derive(Debug)]
pub(in super::super) struct Document {
    api: Api,
    state: State,
    root: Place,
    places: [Place; DEPTH_MAX],
    depth: usize,
    /// Containers open inside one that is not looked into, itself included.
    skipped: u64,
    /// Of the value at hand, or of the next.
    meaning: Meaning,
    /// Name of a member or value of a named string, as far as it has come.
    text: Short<48>,
    /// Bytes of the value at hand.
    length: u64,
    number: Number,
    notes: Notes,
    progress: Progress,
    capture: Capture,
}

/// What a whole answer said.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Said {
    /// Whether it ended for its length.
    pub(in super::super) is_cut: bool,
    /// Bytes of what it says.
    pub(in super::super) written: u64,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No document yet.
    Start,
    /// `[DONE]`, behind this many bytes.
    Mark(usize),
    /// In front of the name of a member, or the end of an object.
    Name,
    NameText,
    NameEscape,
    Colon,
    /// In front of a value, or the end of an array.
    Value,
    Text,
    TextEscape,
    /// Number, `true`, `false`, `null`.
    Word,
    /// Behind a value.
    Comma,
    /// In a container that is not looked into: in front of what it has first, then anywhere.
    SkipFirst,
    Skip,
    SkipText,
    SkipEscape,
    /// Behind the document.
    End,
    /// Behind `[DONE]`.
    Done,
    /// No JSON object.
    Broken,
}

impl Document {
    /// Reads the documents of a stream's events.
    pub(super) fn of_event(api: Api, choices: u32) -> Document {
        Document::new(api, Place::Event, choices)
    }

    /// Reads a whole answer.
    pub(in super::super) fn of_answer(api: Api) -> Document {
        Document::new(api, Place::Answer, 1)
    }

    fn new(api: Api, root: Place, choices: u32) -> Document {
        Document {
            api,
            state: State::Start,
            root,
            places: [root; DEPTH_MAX],
            depth: 0,
            skipped: 0,
            meaning: Meaning::Nothing,
            text: Short::default(),
            length: 0,
            number: Number::default(),
            notes: Notes::default(),
            progress: Progress::new(choices),
            capture: Capture::default(),
        }
    }

    /// The document at hand is an error, whatever it says: all of it is kept for the one who reads errors.
    pub(super) fn capture_all(&mut self) {
        self.capture.rest(b"", 0);
    }

    /// The document at hand is an error, whatever it says.
    pub(super) fn call_error(&mut self) {
        self.notes.error = true;
    }

    /// What the target said of what was used, so far.
    pub(in super::super) fn reported(&self) -> Reported {
        self.progress.counts.reported(self.api.dialect())
    }

    /// Whether the final event has come.
    pub(super) fn is_finished(&self) -> bool {
        self.progress.finished
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.capture.heap()
    }

    /// The document is at its end: what it said, and how many bytes of the answer. The next one may begin.
    pub(super) fn conclude(&mut self) -> (Says, u64) {
        let notes = std::mem::take(&mut self.notes);
        let state = std::mem::replace(&mut self.state, State::Start);
        let is_first_end = !self.progress.finished;
        self.progress.finished |= self.is_final(&notes, state);
        let finished = is_first_end && self.progress.finished;
        // A stream may hold back everything until its end, or spend all that it may write on thoughts that it hides.
        let whole = notes.output || self.progress.length;
        let token = notes.token || finished && whole && !self.progress.any_token;
        self.progress.any_token |= token;
        let says = Says {
            token,
            finished,
            usage: notes.usage,
            usage_only: !token && notes.is_usage_only(self.api),
            done: state == State::Done,
            sequence: notes.sequence,
            failed: self.failure(&notes, state, finished),
        };
        (says, notes.written)
    }

    /// The whole answer was read: what it said. `body` is all of it.
    ///
    /// # Errors
    /// An error object, refused content, nothing that was said, or no JSON.
    pub(in super::super) fn conclude_answer(&mut self, body: &[u8]) -> Result<Said, Failure> {
        let (notes, progress) = (self.notes, self.progress);
        if notes.error || notes.kind == Kind::Error {
            return Err(failure::of_error_object(self.api.dialect(), body, UNKNOWN_STATUS));
        }
        let is_silent = !notes.token && !notes.output && !progress.length;
        let reason = if notes.blocked || is_silent && progress.filtered {
            Reason::ContentFilter
        } else if !matches!(self.state, State::Start | State::End) {
            Reason::Decode
        } else if is_silent {
            Reason::Empty
        } else {
            return Ok(Said { is_cut: progress.length, written: notes.written });
        };
        Err(failure::without_answer(reason))
    }

    fn is_final(&self, notes: &Notes, state: State) -> bool {
        match self.api {
            Api::Responses | Api::Messages => notes.kind == Kind::Final,
            Api::ChatCompletions | Api::Completions | Api::Embeddings | Api::GenerateContent => {
                self.progress.all_ended() || state == State::Done && self.progress.seen_ended()
            }
        }
    }

    fn failure(&mut self, notes: &Notes, state: State, finished: bool) -> Option<Failure> {
        let error = self.capture.take();
        let is_refused = finished && self.progress.filtered && !self.progress.any_token;
        if notes.error || matches!(notes.kind, Kind::Failed | Kind::Error) {
            Some(failure::of_error_object(self.api.dialect(), &error, UNKNOWN_STATUS))
        } else if notes.blocked || is_refused {
            Some(failure::without_answer(Reason::ContentFilter))
        } else if matches!(state, State::Start | State::End | State::Done) {
            None
        } else {
            Some(failure::without_answer(Reason::Decode))
        }
    }
}
