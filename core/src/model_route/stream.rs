//! Reads a target's event stream beside its bytes: where events end, what they say, and what was used.
//!
//! Events are server-sent events (WHATWG HTML 9.2) with one JSON document each. Nothing is kept of them: a byte is looked
//! at once, as it comes, so that it does not matter how the network cut the stream, and memory does not grow with it.
//! What to do about an event is not decided here.

mod capture;
mod counts;
mod document;
mod grammar;
mod lines;
mod notes;
mod number;
mod short;
#[cfg(test)]
mod tests;

pub(super) use self::document::Document;
use self::{
    lines::{Field, Lines, Piece},
    short::Short,
};
use crate::model::model_route::{Api, Failure, Usage};

/// An event, blank line included. Comments, and blank lines behind blank lines, are events that say nothing: events have
/// no gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it begins, in bytes from the beginning of the stream.
    pub from: u64,
    /// Where it ends, just behind its blank line.
    pub to: u64,
    /// What it says.
    pub says: Says,
}

/// What an event says; several at once are possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// A part of the answer: text, reasoning, a refusal, a tool call. Not: roles, pings, empty text. Also the end of an
    /// answer that was used up by thoughts nobody is shown, so that it counts as one.
    pub token: bool,
    /// The final event of the answer: the last choice has its `finish_reason`, `response.completed`,
    /// `response.incomplete`, `message_stop`. True of one event at most.
    pub finished: bool,
    /// What was used, so far or in all.
    pub usage: bool,
    /// What was used and nothing else: the event that OpenAI's APIs add for `stream_options.include_usage`.
    pub usage_only: bool,
    /// `[DONE]`.
    pub done: bool,
    /// `sequence_number` of the Responses API.
    pub sequence: Option<u64>,
    /// That the target failed: an error event or object, an answer refused for its content before its first token, or
    /// data that is no JSON object (`decode`).
    pub failed: Option<Failure>,
}

/// What a target said was used. What it did not say has to be estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Tokens read, cached ones included.
    pub input: Option<u64>,
    /// Tokens written, reasoning included.
    pub output: Option<u64>,
    /// Tokens read from the provider's cache.
    pub cached: Option<u64>,
}

/// Reads one stream.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    document: Document,
    /// Value of the `event` line.
    name: Short<8>,
    /// Whether the event at hand has a `data` line.
    has_data: bool,
    /// Where the next chunk begins.
    position: u64,
    /// Where the event at hand begins.
    border: u64,
    tokens: u64,
    written: u64,
}

impl Reader {
    /// A reader of an answer to a request of `api` that asked for `choices` answers (`n`, `candidateCount`; 1 unless it
    /// said otherwise).
    pub fn new(api: Api, choices: u32) -> Reader {
        Reader {
            lines: Lines::default(),
            document: Document::of_event(api, choices),
            name: Short::default(),
            has_data: false,
            position: 0,
            border: 0,
            tokens: 0,
            written: 0,
        }
    }

    /// Reads the next bytes and calls `on` for every event that ends in them.
    pub fn feed(&mut self, bytes: &[u8], on: &mut impl FnMut(Event)) {
        let mut at = 0;
        while let Some(piece) = self.lines.next(bytes, &mut at) {
            match piece {
                Piece::Begin(Field::Data) => self.begin_data(),
                Piece::Begin(Field::Event) => self.name.clear(),
                Piece::Text(Field::Data, text) => self.document.read(text),
                Piece::Text(Field::Event, text) => self.name.push(text),
                Piece::Begin(Field::Other) | Piece::Text(Field::Other, _) => {}
                Piece::Blank => {
                    let to = self.position + at as u64;
                    let from = std::mem::replace(&mut self.border, to);
                    let says = self.conclude();
                    on(Event { from, to, says });
                }
            }
        }
        self.position += bytes.len() as u64;
    }

    /// What was used, if the target said both what it read and what it wrote.
    pub fn usage(&self) -> Option<Usage> {
        let reported = self.reported();
        let (input, output) = (reported.input?, reported.output?);
        Some(Usage { input, output, cached: reported.cached.unwrap_or(0) })
    }

    /// What the target said of what was used, so far.
    pub fn reported(&self) -> Reported {
        self.document.reported()
    }

    /// Whether the final event has come. `[DONE]` alone is none, but shows that no further choice comes where a target
    /// gave fewer than were asked for.
    pub fn is_finished(&self) -> bool {
        self.document.is_finished()
    }

    /// Events so far that carried tokens.
    pub fn tokens_seen(&self) -> u64 {
        self.tokens
    }

    /// Bytes of what the answer says so far, as it stands in JSON: text, reasoning, tool calls; without what is around
    /// them. Tokens can be estimated from it.
    pub fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Bytes behind the last event: those of the one that has begun.
    pub fn unfinished(&self) -> u64 {
        self.position - self.border
    }

    /// Bytes of memory that this stream takes.
    pub fn memory(&self) -> usize {
        size_of::<Reader>() + self.document.heap()
    }

    fn begin_data(&mut self) {
        if self.has_data {
            // Lines of data are joined by line feeds.
            self.document.read(b"\n");
            return;
        }
        self.has_data = true;
        if self.is_named_error() {
            self.document.capture_all();
        }
    }

    fn is_named_error(&self) -> bool {
        self.name.get() == Some(b"error".as_slice())
    }

    fn conclude(&mut self) -> Says {
        let named_error = self.is_named_error();
        self.name.clear();
        if !std::mem::take(&mut self.has_data) && !named_error {
            return Says::default();
        }
        if named_error {
            self.document.call_error();
        }
        let (says, written) = self.document.conclude();
        if says.token {
            self.tokens += 1;
            self.written += written;
        }
        says
    }
}
