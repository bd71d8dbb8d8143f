//! Writes answers and events of Messages.
//!
//! What a model thought is left out: blocks of thoughts must be signed by Anthropic, and a client that sends an unsigned
//! one back with its next request is refused.

use std::borrow::Cow;

use super::super::{
    Untranslatable, event,
    json::{self, Json, object},
    piece::{Answer, Block, End, Piece, Tokens, call_id},
    prompt::plain_id,
    stream::Heading,
    transcript::Spot,
};

/// Writes an answer.
///
/// # Errors
/// The input of a call is no JSON object.
pub(crate) fn write(answer: Answer, model: &str) -> Result<Vec<u8>, Untranslatable> {
    let mut content = Vec::new();
    for block in answer.blocks {
        content.push(match block {
            Block::Text(text) => object([("type", "text".into()), ("text", text.into())]),
            Block::Call { id, name, input, .. } => {
                let input = match json::object_in(Cow::Owned(input)) {
                    Some(input) => input,
                    // Cut off in the middle; whoever sees why the answer ended does not call.
                    None if answer.end == End::Length => Cow::Owned(json::empty_object()),
                    None => return Err(Untranslatable::malformed("choices[0].message.tool_calls")),
                };
                object([
                    ("type", "tool_use".into()),
                    ("id", plain_id(id.into()).into_owned().into()),
                    ("name", name.into()),
                    ("input", input.into()),
                ])
            }
        });
    }
    let refused = !answer.refusal.is_empty();
    if refused {
        content.push(object([("type", "text".into()), ("text", answer.refusal.into())]));
    }
    let end = if refused { End::Filtered } else { answer.end };
    let message = object([
        ("id", answer.id.into()),
        ("type", "message".into()),
        ("role", "assistant".into()),
        ("model", model.into()),
        ("content", content.into()),
        ("stop_reason", stop_reason(end).into()),
        ("stop_sequence", Json::Null),
        ("usage", usage(&answer.tokens)),
    ]);
    Ok(message.bytes())
}

fn stop_reason(end: End) -> &'static str {
    match end {
        End::Stop => "end_turn",
        End::Length => "max_tokens",
        End::Calls => "tool_use",
        End::Filtered => "refusal",
    }
}

fn usage(tokens: &Tokens) -> Json<'static> {
    object([
        ("input_tokens", tokens.fresh.unwrap_or(0).into()),
        ("cache_creation_input_tokens", tokens.stored.unwrap_or(0).into()),
        ("cache_read_input_tokens", tokens.cached.unwrap_or(0).into()),
        ("output_tokens", tokens.output.unwrap_or(0).into()),
        ("output_tokens_details", tokens.thinking.map(|count| object([("thinking_tokens", count.into())])).into()),
    ])
}

/// Writes the events of one answer.
pub(crate) struct Blocks {
    /// Blocks begun.
    begun: u64,
    open: Open,
    calls: usize,
    end: Option<End>,
    refusal: Refusal,
    tokens: Tokens,
    /// Of the targets that broke before.
    before: Tokens,
}

/// The block to which more can be added: one at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    None,
    Text,
    Call,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    None,
    Said,
}

impl Blocks {
    /// Before the first event.
    pub(crate) fn new() -> Self {
        Blocks::resumed(Spot::Next(0), Tokens::default())
    }

    /// Behind events of targets that used so much.
    pub(crate) fn resumed(spot: Spot, before: Tokens) -> Self {
        let (begun, open) = match spot {
            Spot::Open(index) => (index.saturating_add(1), Open::Text),
            Spot::Next(index) => (index, Open::None),
        };
        Blocks { begun, open, calls: 0, end: None, refusal: Refusal::None, tokens: Tokens::default(), before }
    }

    /// Writes what a piece adds.
    pub(crate) fn write(&mut self, piece: Piece<'_>, heading: &Heading, out: &mut Vec<u8>) {
        match piece {
            Piece::Begin { .. } => self.start(heading, out),
            Piece::Text(text) => self.text(text, out),
            Piece::Refusal(text) => {
                self.refusal = Refusal::Said;
                self.text(text, out);
            }
            Piece::Call { id, name, .. } => {
                let id = plain_id(call_id(id, heading.id(), self.calls)).into_owned();
                self.calls += 1;
                let block = object([
                    ("type", "tool_use".into()),
                    ("id", id.into()),
                    ("name", name.into()),
                    ("input", object([])),
                ]);
                self.open(Open::Call, block, out);
            }
            Piece::Input(text) => {
                if self.open == Open::Call {
                    self.delta(object([("type", "input_json_delta".into()), ("partial_json", text.into())]), out);
                }
            }
            Piece::End(end) => self.end = Some(end),
            Piece::Usage(tokens) => self.tokens.update(tokens),
            Piece::Thinking(_) | Piece::Alive => {
                event::write_named("ping", &object([("type", "ping".into())]), out);
            }
        }
    }

    /// Writes the end of a stream whose target ended it; nothing if it did not.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let Some(end) = self.end.take() else { return };
        self.close(out);
        let end = if self.refusal == Refusal::Said { End::Filtered } else { end.with_calls(self.calls) };
        let delta = object([("stop_reason", stop_reason(end).into()), ("stop_sequence", Json::Null)]);
        let last = object([
            ("type", "message_delta".into()),
            ("delta", delta),
            ("usage", usage(&self.before.plus(&self.tokens))),
        ]);
        event::write_named("message_delta", &last, out);
        event::write_named("message_stop", &object([("type", "message_stop".into())]), out);
    }

    fn start(&self, heading: &Heading, out: &mut Vec<u8>) {
        let message = object([
            ("id", heading.id().into()),
            ("type", "message".into()),
            ("role", "assistant".into()),
            ("model", heading.model().into()),
            ("content", Vec::new().into()),
            ("stop_reason", Json::Null),
            ("stop_sequence", Json::Null),
            ("usage", usage(&self.tokens)),
        ]);
        event::write_named("message_start", &object([("type", "message_start".into()), ("message", message)]), out);
    }

    fn text(&mut self, text: Cow<'_, str>, out: &mut Vec<u8>) {
        if self.open != Open::Text {
            self.open(Open::Text, object([("type", "text".into()), ("text", "".into())]), out);
        }
        self.delta(object([("type", "text_delta".into()), ("text", text.into())]), out);
    }

    fn open(&mut self, kind: Open, block: Json<'_>, out: &mut Vec<u8>) {
        self.close(out);
        let event =
            object([("type", "content_block_start".into()), ("index", self.begun.into()), ("content_block", block)]);
        event::write_named("content_block_start", &event, out);
        self.open = kind;
        self.begun += 1;
    }

    fn delta(&self, delta: Json<'_>, out: &mut Vec<u8>) {
        let index = self.begun.saturating_sub(1);
        let event = object([("type", "content_block_delta".into()), ("index", index.into()), ("delta", delta)]);
        event::write_named("content_block_delta", &event, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open == Open::None {
            return;
        }
        self.open = Open::None;
        let index = self.begun.saturating_sub(1);
        let event = object([("type", "content_block_stop".into()), ("index", index.into())]);
        event::write_named("content_block_stop", &event, out);
    }
}
