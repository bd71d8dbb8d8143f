//! An answer as no dialect writes it: pieces in the order in which they came, whether streamed or not.

use std::borrow::Cow;

use super::Asked;
use crate::model::model_route::Usage;

/// A piece of an answer.
pub(super) enum Piece<'a> {
    /// The answer begins; what its target calls it, and when it began (seconds since 1970).
    Begin { id: Option<Cow<'a, str>>, created: Option<u64> },
    /// More text.
    Text(Cow<'a, str>),
    /// More of what the model thinks.
    Thinking(Cow<'a, str>),
    /// More of why it refuses.
    Refusal(Cow<'a, str>),
    /// A call of a tool begins.
    Call { id: Option<Cow<'a, str>>, name: Cow<'a, str>, signature: Option<Cow<'a, str>> },
    /// More of the input of the call that began last: part of a JSON text.
    Input(Cow<'a, str>),
    /// The model has finished.
    End(End),
    /// What was used so far, in whole.
    Usage(Tokens),
    /// Nothing new, but the target lives.
    Alive,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The model was done, or wrote a text at which it was to stop.
    Stop,
    /// The tokens were used up.
    Length,
    /// Tools are to be called.
    Calls,
    /// It was refused or cut for what it says.
    Filtered,
}

impl End {
    /// Targets that say `stop` though they call tools mean the calls.
    pub(super) fn with_calls(self, calls: usize) -> End {
        match self {
            End::Stop if calls > 0 => End::Calls,
            End::Stop | End::Length | End::Calls | End::Filtered => self,
        }
    }
}

/// Tokens used, by the parts that are billed apart; None where the target said nothing.
#[derive(Clone, Copy, Default)]
pub(super) struct Tokens {
    /// Read, without those of the cache.
    pub(super) fresh: Option<u64>,
    /// Read from the cache.
    pub(super) cached: Option<u64>,
    /// Read, and written to the cache.
    pub(super) stored: Option<u64>,
    /// Written, thoughts included.
    pub(super) output: Option<u64>,
    /// Of those, thoughts.
    pub(super) thinking: Option<u64>,
}

impl Tokens {
    /// Later figures replace earlier ones: they count from the beginning of the answer.
    pub(super) fn update(&mut self, later: Tokens) {
        self.fresh = later.fresh.or(self.fresh);
        self.cached = later.cached.or(self.cached);
        self.stored = later.stored.or(self.stored);
        self.output = later.output.or(self.output);
        self.thinking = later.thinking.or(self.thinking);
    }

    /// As the mesh counts them.
    pub(super) fn of(usage: Usage) -> Tokens {
        Tokens {
            fresh: Some(usage.input.saturating_sub(usage.cached)),
            cached: Some(usage.cached),
            output: Some(usage.output),
            ..Tokens::default()
        }
    }

    /// Both together.
    pub(super) fn plus(&self, other: &Tokens) -> Tokens {
        let sum = |one: Option<u64>, two: Option<u64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
        Tokens {
            fresh: sum(self.fresh, other.fresh),
            cached: sum(self.cached, other.cached),
            stored: sum(self.stored, other.stored),
            output: sum(self.output, other.output),
            thinking: sum(self.thinking, other.thinking),
        }
    }

    /// All that was read.
    pub(super) fn input(&self) -> u64 {
        [self.fresh, self.cached, self.stored].into_iter().flatten().fold(0, u64::saturating_add)
    }
}

/// An answer in whole.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) thinking: String,
    pub(super) refusal: String,
    pub(super) blocks: Vec<Block>,
    /// How many of them are calls.
    pub(super) calls: usize,
    pub(super) end: End,
    pub(super) tokens: Tokens,
}

/// What an answer consists of.
pub(super) enum Block {
    Text(String),
    Call { id: String, name: String, input: String, signature: Option<String> },
}

impl Answer {
    /// Puts pieces together.
    pub(super) fn of(pieces: Vec<Piece<'_>>, asked: &Asked<'_>) -> Answer {
        let mut answer = Answer {
            id: asked.id.to_owned(),
            created: asked.created,
            thinking: String::new(),
            refusal: String::new(),
            blocks: Vec::new(),
            calls: 0,
            end: End::Stop,
            tokens: Tokens::default(),
        };
        for piece in pieces {
            answer.add(piece);
        }
        answer.end = answer.end.with_calls(answer.calls);
        answer
    }

    fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Begin { id, created } => {
                self.id = id.map_or_else(|| std::mem::take(&mut self.id), Cow::into_owned);
                self.created = created.unwrap_or(self.created);
            }
            Piece::Text(text) => match self.blocks.last_mut() {
                Some(Block::Text(before)) => before.push_str(&text),
                Some(Block::Call { .. }) | None => self.blocks.push(Block::Text(text.into_owned())),
            },
            Piece::Thinking(text) => self.thinking.push_str(&text),
            Piece::Refusal(text) => self.refusal.push_str(&text),
            Piece::Call { id, name, signature } => {
                let id = call_id(id, &self.id, self.calls).into_owned();
                let signature = signature.map(Cow::into_owned);
                self.calls += 1;
                self.blocks.push(Block::Call { id, name: name.into_owned(), input: String::new(), signature });
            }
            Piece::Input(text) => {
                if let Some(Block::Call { input, .. }) = self.blocks.last_mut() {
                    input.push_str(&text);
                }
            }
            Piece::End(end) => self.end = end,
            Piece::Usage(tokens) => self.tokens.update(tokens),
            Piece::Alive => {}
        }
    }
}

/// Id of a call: the target's, else one that is the same whenever the same answer is translated and differs from those of
/// other answers in the conversation.
pub(super) fn call_id<'a>(given: Option<Cow<'a, str>>, answer: &str, nth: usize) -> Cow<'a, str> {
    match given {
        Some(id) if !id.is_empty() => id,
        Some(_) | None => Cow::Owned(format!("call_{answer}_{nth}")),
    }
}
