//! Writes answers and chunks of Chat Completions.

use std::borrow::Cow;

use super::super::{
    event,
    json::{Json, object},
    piece::{Answer, Block, End, Piece, Tokens, call_id},
    stream::{Heading, UsageChunk},
};

/// Writes an answer.
pub(crate) fn write(answer: Answer, model: &str) -> Vec<u8> {
    let mut text = String::new();
    let mut calls = Vec::new();
    for block in answer.blocks {
        match block {
            Block::Text(more) => text.push_str(&more),
            Block::Call { id, name, input, signature } => {
                let input = if input.trim().is_empty() { "{}".to_owned() } else { input };
                let function = object([("name", name.into()), ("arguments", input.into())]);
                calls.push(object([
                    ("id", id.into()),
                    ("type", "function".into()),
                    ("function", function),
                    ("extra_content", signature.map(extra).into()),
                ]));
            }
        }
    }
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    let message = object([
        ("role", "assistant".into()),
        ("content", filled(text).map_or(Json::Null, Json::from)),
        ("refusal", filled(answer.refusal).map_or(Json::Null, Json::from)),
        ("reasoning_content", filled(answer.thinking).into()),
        ("tool_calls", (!calls.is_empty()).then_some(calls).into()),
    ]);
    let choice = object([
        ("index", Json::Count(0)),
        ("message", message),
        ("logprobs", Json::Null),
        ("finish_reason", finish_reason(answer.end).into()),
    ]);
    let answer = object([
        ("id", answer.id.into()),
        ("object", "chat.completion".into()),
        ("created", answer.created.into()),
        ("model", model.into()),
        ("choices", vec![choice].into()),
        ("usage", usage(&answer.tokens)),
    ]);
    answer.bytes()
}

fn finish_reason(end: End) -> &'static str {
    match end {
        End::Stop => "stop",
        End::Length => "length",
        End::Calls => "tool_calls",
        End::Filtered => "content_filter",
    }
}

/// Where Google's own mapping of its dialect onto this one keeps the signature of a thought.
fn extra<'a>(signature: impl Into<Json<'a>>) -> Json<'a> {
    object([("google", object([("thought_signature", signature.into())]))])
}

fn usage(tokens: &Tokens) -> Json<'static> {
    let (input, output) = (tokens.input(), tokens.output.unwrap_or(0));
    let read =
        object([("cached_tokens", tokens.cached.unwrap_or(0).into()), ("cache_write_tokens", tokens.stored.into())]);
    object([
        ("prompt_tokens", input.into()),
        ("completion_tokens", output.into()),
        ("total_tokens", input.saturating_add(output).into()),
        ("prompt_tokens_details", read),
        ("completion_tokens_details", tokens.thinking.map(|count| object([("reasoning_tokens", count.into())])).into()),
    ])
}

/// Writes the chunks of one answer.
pub(crate) struct Chunks {
    last: UsageChunk,
    calls: u64,
    input: Input,
    end: Option<End>,
    tokens: Tokens,
    /// Of the targets that broke before.
    before: Tokens,
}

/// Whether the last call still waits for its first input: without any its arguments would be no JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Awaited,
    Begun,
}

impl Chunks {
    /// Before the first chunk.
    pub(crate) fn new(last: UsageChunk) -> Self {
        Chunks::resumed(last, Tokens::default())
    }

    /// Behind chunks of targets that used so much.
    pub(crate) fn resumed(last: UsageChunk, before: Tokens) -> Self {
        Chunks { last, calls: 0, input: Input::Begun, end: None, tokens: Tokens::default(), before }
    }

    /// Writes what a piece adds.
    pub(crate) fn write(&mut self, piece: Piece<'_>, heading: &Heading, out: &mut Vec<u8>) {
        match piece {
            Piece::Begin { .. } => {
                let delta = object([("role", "assistant".into()), ("content", "".into())]);
                self.chunk(delta, Json::Null, heading, out);
            }
            Piece::Text(text) => self.said("content", text, heading, out),
            Piece::Thinking(text) => self.said("reasoning_content", text, heading, out),
            Piece::Refusal(text) => self.said("refusal", text, heading, out),
            Piece::Call { id, name, signature } => {
                self.end_call(heading, out);
                let id = call_id(id, heading.id(), usize::try_from(self.calls).unwrap_or(usize::MAX));
                let function = object([("name", name.into()), ("arguments", "".into())]);
                let call = object([
                    ("index", self.calls.into()),
                    ("id", id.into()),
                    ("type", "function".into()),
                    ("function", function),
                    ("extra_content", signature.map(extra).into()),
                ]);
                self.calls += 1;
                self.input = Input::Awaited;
                self.chunk(object([("tool_calls", vec![call].into())]), Json::Null, heading, out);
            }
            Piece::Input(text) => self.input(&text, heading, out),
            Piece::End(end) => self.end = Some(end),
            Piece::Usage(tokens) => self.tokens.update(tokens),
            // SDKs skip comments; there is no event without content in this dialect.
            Piece::Alive => out.extend_from_slice(b": ping\n\n"),
        }
    }

    /// Writes the end of a stream whose target ended it; nothing if it did not.
    pub(crate) fn finish(&mut self, heading: &Heading, out: &mut Vec<u8>) {
        let Some(end) = self.end.take() else { return };
        self.end_call(heading, out);
        let end = end.with_calls(usize::try_from(self.calls).unwrap_or(usize::MAX));
        self.chunk(object([]), finish_reason(end).into(), heading, out);
        if self.last == UsageChunk::Wanted {
            event::write(&self.frame(Vec::new(), usage(&self.before.plus(&self.tokens)), heading), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn said(&mut self, member: &'static str, text: Cow<'_, str>, heading: &Heading, out: &mut Vec<u8>) {
        self.end_call(heading, out);
        self.chunk(object([(member, text.into())]), Json::Null, heading, out);
    }

    fn input(&mut self, text: &str, heading: &Heading, out: &mut Vec<u8>) {
        let Some(index) = self.calls.checked_sub(1) else { return };
        self.input = Input::Begun;
        let call = object([("index", index.into()), ("function", object([("arguments", text.into())]))]);
        self.chunk(object([("tool_calls", vec![call].into())]), Json::Null, heading, out);
    }

    fn end_call(&mut self, heading: &Heading, out: &mut Vec<u8>) {
        if self.input == Input::Awaited {
            self.input("{}", heading, out);
        }
    }

    fn chunk(&self, delta: Json<'_>, finish_reason: Json<'_>, heading: &Heading, out: &mut Vec<u8>) {
        let choice = object([("index", Json::Count(0)), ("delta", delta), ("finish_reason", finish_reason)]);
        // Who asked for usage gets the member in every chunk.
        let usage = if self.last == UsageChunk::Wanted { Json::Null } else { Json::Absent };
        event::write(&self.frame(vec![choice], usage, heading), out);
    }

    fn frame<'a>(&self, choices: Vec<Json<'a>>, usage: Json<'a>, heading: &'a Heading) -> Json<'a> {
        object([
            ("id", heading.id().into()),
            ("object", "chat.completion.chunk".into()),
            ("created", heading.created().into()),
            ("model", heading.model().into()),
            ("choices", choices.into()),
            ("usage", usage),
        ])
    }
}
