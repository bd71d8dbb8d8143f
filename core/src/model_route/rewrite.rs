//! Changes to a body on its way to a target of the same dialect, as splices: whatever is not changed goes on byte for
//! byte, without being copied. Numbers keep their digits, members their order, and prompts are never read.

use std::ops::Range;

use super::request::{Asked, Delivery, StreamOptions};
use crate::model::model_route::{Api, Provider};

/// A piece of a rewritten body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the original.
    Kept(Range<usize>),
    /// These instead.
    New(Vec<u8>),
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes<'a> {
    /// The model as the target names it; `None` keeps the caller's. Without effect where the path names it.
    pub model: Option<&'a str>,
    /// Whether usage is asked for.
    pub add_usage: AddUsage,
    /// Whether the target is told to go on with the last message.
    pub prefill: Prefill,
}

/// How a target is told that it goes on with the last message, which is the assistant's, instead of beginning another one.
/// Of chat completions alone; the other APIs say it by the message's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Not at all, or by the message's place.
    Place,
    /// By `continue_final_message` instead of `add_generation_prompt` (vLLM).
    Final,
    /// By `partial` in the message (DashScope).
    Partial,
}

impl Prefill {
    /// As this provider is told.
    pub fn of(provider: Provider) -> Prefill {
        match provider {
            Provider::Vllm => Prefill::Final,
            Provider::Dashscope => Prefill::Partial,
            Provider::Openai
            | Provider::Anthropic
            | Provider::Gemini
            | Provider::Azure
            | Provider::OpenaiCompatible => Prefill::Place,
        }
    }
}

/// Whether a stream of OpenAI's chat or completions is made to say what was used. Of all else it has no effect: other
/// APIs say it anyway, and answers in one piece too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddUsage {
    /// Left as the caller has it.
    No,
    /// In a chunk at the end: `stream_options.include_usage`.
    AtEnd,
    /// In every chunk as well: `stream_options.continuous_usage_stats` (vLLM).
    Continuous,
}

/// The body with the changes made, in pieces. `asked` must have been read from `body`.
pub fn body(asked: &Asked, body: &[u8], changes: &Changes<'_>) -> Vec<Piece> {
    let mut splices = Vec::new();
    if let (Some(model), Some(place)) = (changes.model, &asked.places.model)
        && asked.model != model
    {
        splices.push((place.clone(), serde_json::Value::from(model).to_string()));
    }
    if let Some(options) = usage_options(asked, changes.add_usage) {
        add_options(asked, body, options, &mut splices);
    }
    if asked.api == Api::ChatCompletions {
        tell_prefill(asked, body, changes.prefill, &mut splices);
    }
    splices.sort_by_key(|(place, _)| place.start);
    let (mut pieces, mut kept) = (Vec::with_capacity(2 * splices.len() + 1), 0);
    for (place, new) in splices {
        push_kept(&mut pieces, kept..place.start);
        pieces.push(Piece::New(new.into_bytes()));
        kept = place.end;
    }
    push_kept(&mut pieces, kept..body.len());
    pieces
}

/// Bytes of a rewritten body, for its `content-length`.
pub fn length(pieces: &[Piece]) -> usize {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Kept(range) => range.len(),
            Piece::New(bytes) => bytes.len(),
        })
        .sum()
}

/// A rewritten body in one piece, for those who need it so.
pub fn joined(pieces: &[Piece], body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(length(pieces));
    for piece in pieces {
        match piece {
            Piece::Kept(range) => whole.extend_from_slice(body.get(range.clone()).unwrap_or_default()),
            Piece::New(bytes) => whole.extend_from_slice(bytes),
        }
    }
    whole
}

fn tell_prefill(asked: &Asked, body: &[u8], prefill: Prefill, splices: &mut Vec<(Range<usize>, String)>) {
    match prefill {
        Prefill::Place => {}
        Prefill::Final => {
            let top = asked.places.top;
            splices.push((top..top, "\"add_generation_prompt\":false,\"continue_final_message\":true,".to_owned()));
        }
        Prefill::Partial => {
            // The message that was put behind the others ends right before their list does.
            let end = asked.places.messages.as_ref().and_then(|messages| messages.end.checked_sub(2));
            if let Some(end) = end.filter(|end| body.get(*end) == Some(&b'}')) {
                splices.push((end..end, ",\"partial\":true".to_owned()));
            }
        }
    }
}

fn push_kept(pieces: &mut Vec<Piece>, range: Range<usize>) {
    if !range.is_empty() {
        pieces.push(Piece::Kept(range));
    }
}

const INCLUDE_USAGE: &str = "include_usage";
const CONTINUOUS: &str = "continuous_usage_stats";

/// Members of `stream_options` that must be true.
fn usage_options(asked: &Asked, add: AddUsage) -> Option<&'static [&'static str]> {
    match (asked.api, asked.delivery) {
        (Api::ChatCompletions | Api::Completions, Delivery::Stream) => (),
        (Api::ChatCompletions | Api::Completions, Delivery::Whole)
        | (Api::Responses | Api::Embeddings | Api::Messages | Api::GenerateContent, _) => return None,
    }
    match add {
        AddUsage::No => None,
        AddUsage::AtEnd => Some(&[INCLUDE_USAGE]),
        AddUsage::Continuous => Some(&[INCLUDE_USAGE, CONTINUOUS]),
    }
}

fn add_options(asked: &Asked, body: &[u8], names: &[&str], splices: &mut Vec<(Range<usize>, String)>) {
    let members = |names: &[&str]| names.iter().map(|name| format!("\"{name}\":true")).collect::<Vec<_>>().join(",");
    match &asked.places.stream_options {
        // Something follows it always: no call is without its model.
        StreamOptions::Absent => {
            let top = asked.places.top;
            splices.push((top..top, format!("\"stream_options\":{{{}}},", members(names))));
        }
        StreamOptions::Other(value) => splices.push((value.clone(), format!("{{{}}}", members(names)))),
        StreamOptions::Object { value, filled, include_usage, continuous } => {
            let mut missing = Vec::new();
            for name in names {
                match if *name == INCLUDE_USAGE { include_usage } else { continuous } {
                    Some(place) if body.get(place.clone()) == Some(b"true") => (),
                    Some(place) => splices.push((place.clone(), "true".to_owned())),
                    None => missing.push(*name),
                }
            }
            if !missing.is_empty() {
                let comma = if *filled { "," } else { "" };
                splices.push((value.start + 1..value.start + 1, members(&missing) + comma));
            }
        }
    }
}

#[cfg(test)]
mod tests;
