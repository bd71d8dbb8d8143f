//! What the values of a document mean together: notes of the event at hand, and of the stream as a whole.

use super::{
    counts::Counts,
    grammar::{Meaning, Place},
};
use crate::model::model_route::Api;

/// Choices that are told apart; OpenAI allows 128.
const CHOICES_MAX: u64 = 128;

/// What the event at hand has said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    /// A part of the answer, and its bytes.
    pub(super) token: bool,
    pub(super) written: u64,
    /// All of the answer at once.
    pub(super) output: bool,
    pub(super) error: bool,
    pub(super) blocked: bool,
    pub(super) usage: bool,
    pub(super) kind: Kind,
    pub(super) sequence: Option<u64>,
    /// Choices begun.
    pub(super) choices: u64,
    /// The one at hand.
    index: u64,
    /// Whether it ends.
    ends: bool,
    /// Numbers of the usage object at hand.
    counts: Counts,
}

/// `type` of an event, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any that says nothing by itself.
    #[default]
    Other,
    /// `response.completed`, `response.incomplete`, `message_stop`.
    Final,
    /// `response.failed`, `response.cancelled`.
    Failed,
    /// `error`.
    Error,
}

impl Kind {
    fn of(name: &[u8]) -> Kind {
        match name {
            b"response.completed" | b"response.incomplete" | b"message_stop" => Kind::Final,
            b"response.failed" | b"response.cancelled" => Kind::Failed,
            b"error" => Kind::Error,
            _ => Kind::Other,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// No more tokens were allowed.
    Length,
    /// Its content was refused.
    Filter,
    /// Any other.
    Other,
}

impl Finish {
    /// `None` where the word means that the answer goes on.
    fn of(name: Option<&[u8]>) -> Option<Finish> {
        match name {
            // Some write the word instead of JSON's null.
            Some(b"" | b"null" | b"FINISH_REASON_UNSPECIFIED") => None,
            Some(
                b"length" | b"max_tokens" | b"max_output_tokens" | b"MAX_TOKENS" | b"model_context_window_exceeded",
            ) => Some(Finish::Length),
            Some(
                b"content_filter"
                | b"refusal"
                | b"SAFETY"
                | b"RECITATION"
                | b"BLOCKLIST"
                | b"PROHIBITED_CONTENT"
                | b"SPII"
                | b"IMAGE_SAFETY",
            ) => Some(Finish::Filter),
            Some(_) | None => Some(Finish::Other),
        }
    }
}

/// What is known of the answer as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Choices that were asked for.
    wanted: u32,
    /// Bit per choice: seen.
    seen: u128,
    /// Bit per choice: ended.
    ended: u128,
    pub(super) finished: bool,
    pub(super) any_token: bool,
    /// Whether a choice ended for its length, or for its content.
    pub(super) length: bool,
    pub(super) filtered: bool,
    /// Whether a reason to end was given at all.
    pub(super) reasoned: bool,
    pub(super) counts: Counts,
}

impl Progress {
    pub(super) fn new(choices: u32) -> Progress {
        Progress {
            wanted: choices.clamp(1, CHOICES_MAX as u32),
            seen: 0,
            ended: 0,
            finished: false,
            any_token: false,
            length: false,
            filtered: false,
            reasoned: false,
            counts: Counts::default(),
        }
    }

    /// Whether every choice has ended: as many as were asked for.
    pub(super) fn all_ended(&self) -> bool {
        self.ended.count_ones() >= self.wanted && self.seen_ended()
    }

    /// Whether every choice that was seen has ended.
    pub(super) fn seen_ended(&self) -> bool {
        self.ended != 0 && self.seen & !self.ended == 0
    }
}

impl Notes {
    /// A container begins.
    pub(super) fn enter(&mut self, place: Place) {
        if matches!(place, Place::Choice | Place::Candidate) {
            (self.index, self.ends) = (self.choices, false);
            self.choices += 1;
        } else if matches!(place, Place::Usage | Place::FirstUsage) {
            self.counts = Counts::default();
        }
    }

    /// A container is complete.
    pub(super) fn leave(&mut self, place: Place, progress: &mut Progress) {
        if matches!(place, Place::Choice | Place::Candidate) {
            let bit = 1 << self.index.min(CHOICES_MAX - 1);
            progress.seen |= bit;
            progress.ended |= if self.ends { bit } else { 0 };
        } else if matches!(place, Place::Usage | Place::FirstUsage) && !self.counts.is_empty() {
            progress.counts.overwrite(&self.counts);
            self.usage = true;
        }
    }

    /// A string is complete. Its text is known where it is short and `meaning` needs it.
    pub(super) fn string(&mut self, meaning: Meaning, text: Option<&[u8]>, length: u64, progress: &mut Progress) {
        match meaning {
            Meaning::Written if length > 0 => self.write(length),
            Meaning::Output if length > 0 => self.say(length),
            Meaning::OutputKind => self.output |= text != Some(b"message"),
            Meaning::Kind => self.kind = text.map_or(Kind::Other, Kind::of),
            // vLLM's older errors are flat: `{"object":"error","message":…}`.
            Meaning::Object if text == Some(b"error") => self.kind = Kind::Error,
            // Other blocks are tool calls and their results: their beginning says something already.
            Meaning::BlockKind => self.token |= !matches!(text, Some(b"text" | b"thinking")),
            Meaning::Finish => {
                if let Some(finish) = Finish::of(text) {
                    self.ends = true;
                    progress.reasoned = true;
                    progress.length |= finish == Finish::Length;
                    progress.filtered |= finish == Finish::Filter;
                }
            }
            Meaning::Blocked => self.blocked |= !matches!(text, Some(b"" | b"BLOCK_REASON_UNSPECIFIED")),
            Meaning::Error => self.error = true,
            Meaning::Written
            | Meaning::Output
            | Meaning::Object
            | Meaning::Nothing
            | Meaning::Inside(_)
            | Meaning::Index
            | Meaning::Sequence
            | Meaning::Count(_) => {}
        }
    }

    /// A number is complete.
    pub(super) fn number(&mut self, meaning: Meaning, value: u64) {
        match meaning {
            Meaning::Index => self.index = value,
            Meaning::Sequence => self.sequence = Some(value),
            Meaning::Count(count) => self.counts.set(count, value),
            Meaning::Nothing
            | Meaning::Inside(_)
            | Meaning::Written
            | Meaning::Output
            | Meaning::Kind
            | Meaning::Object
            | Meaning::BlockKind
            | Meaning::OutputKind
            | Meaning::Finish
            | Meaning::Error
            | Meaning::Blocked => {}
        }
    }

    /// A container that is not looked into is not empty.
    pub(super) fn filled(&mut self, meaning: Meaning) {
        self.token |= meaning == Meaning::Written;
        self.output |= meaning == Meaning::Output;
    }

    /// Bytes of an answer that is told all at once.
    pub(super) fn say(&mut self, bytes: u64) {
        self.output = true;
        self.written += bytes;
    }

    /// Bytes of the answer.
    pub(super) fn write(&mut self, bytes: u64) {
        self.token = true;
        self.written += bytes;
    }

    /// Whether the event says what was used and nothing else.
    pub(super) fn is_usage_only(&self, api: Api) -> bool {
        let chunks = match api {
            Api::ChatCompletions | Api::Completions => true,
            Api::Responses | Api::Embeddings | Api::Messages | Api::GenerateContent => false,
        };
        chunks && self.usage && self.choices == 0
    }
}
