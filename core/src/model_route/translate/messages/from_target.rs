//! Reads answers and events of Messages.

use serde_json::value::RawValue;

use super::super::{
    Untranslatable, Within as _,
    json::{self, Object},
    piece::{End, Piece, Tokens},
};

/// Blocks that call tools whose numbers are kept.
const CALLS: usize = 128;

/// Reads an answer.
///
/// # Errors
/// Names the member that is malformed or that no other dialect has.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Piece<'_>>, Untranslatable> {
    let answer = json::document(body)?;
    if answer.get("content").is_none() {
        return Err(Untranslatable::malformed("content"));
    }
    let mut pieces = vec![begin(&answer)?];
    for (at, raw) in answer.list("content")?.into_iter().enumerate() {
        block(raw).map(|block| pieces.extend(block)).within(|| format!("content[{at}]"))?;
    }
    pieces.push(Piece::End(answer.text("stop_reason")?.map_or(End::Stop, |reason| end_of(&reason))));
    pieces.extend(usage(&answer)?.map(Piece::Usage));
    Ok(pieces)
}

fn begin<'a>(answer: &Object<'a>) -> Result<Piece<'a>, Untranslatable> {
    Ok(Piece::Begin { id: answer.text("id")?.filter(|id| !id.is_empty()), created: None })
}

/// What a block says, in whole or as it begins; blocks of tools that the provider ran say nothing to the client.
fn block(raw: &RawValue) -> Result<Vec<Piece<'_>>, Untranslatable> {
    let block = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    match block.needed("type")?.as_ref() {
        "text" => Ok(block.text("text")?.filter(|text| !text.is_empty()).map(Piece::Text).into_iter().collect()),
        "thinking" => {
            Ok(block.text("thinking")?.filter(|text| !text.is_empty()).map(Piece::Thinking).into_iter().collect())
        }
        "tool_use" => {
            let mut pieces = vec![Piece::Call { id: block.text("id")?, name: block.needed("name")?, signature: None }];
            let input = block.object("input")?.and_then(|_| block.get("input"));
            let filled = input.filter(|input| !json::says_nothing(input));
            pieces.extend(filled.map(|input| Piece::Input(input.get().into())));
            Ok(pieces)
        }
        _ => Ok(Vec::new()),
    }
}

fn end_of(reason: &str) -> End {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => End::Length,
        "tool_use" => End::Calls,
        "refusal" => End::Filtered,
        _ => End::Stop,
    }
}

fn usage(of: &Object<'_>) -> Result<Option<Tokens>, Untranslatable> {
    let Some(usage) = of.object("usage")? else { return Ok(None) };
    let details = usage.object("output_tokens_details").ok().flatten();
    Ok(Some(Tokens {
        fresh: usage.count("input_tokens"),
        cached: usage.count("cache_read_input_tokens"),
        stored: usage.count("cache_creation_input_tokens"),
        output: usage.count("output_tokens"),
        thinking: details.and_then(|details| details.count("thinking_tokens")),
    }))
}

/// Reads the events of one answer.
#[derive(Default)]
pub(crate) struct Events {
    /// Numbers of the blocks that call tools; more can come only of the last.
    calls: Vec<u64>,
    end: Option<End>,
}

impl Events {
    /// Reads the data of one event.
    ///
    /// # Errors
    /// Names the member that is malformed or that no other dialect has.
    pub(crate) fn read<'a>(&mut self, data: &'a str) -> Result<Vec<Piece<'a>>, Untranslatable> {
        let event = json::document(data.as_bytes())?;
        match event.needed("type")?.as_ref() {
            "message_start" => {
                let message = event.object("message")?.ok_or_else(|| Untranslatable::malformed("message"))?;
                let mut pieces = vec![begin(&message).within(|| "message".to_owned())?];
                pieces.extend(usage(&message).within(|| "message".to_owned())?.map(Piece::Usage));
                Ok(pieces)
            }
            "content_block_start" => self.begin_block(&event),
            "content_block_delta" => self.delta(&event),
            "message_delta" => {
                let delta = event.object("delta")?;
                let reason = delta.and_then(|delta| delta.text("stop_reason").ok()?);
                self.end = reason.map(|reason| end_of(&reason)).or(self.end);
                Ok(usage(&event)?.map(Piece::Usage).into_iter().collect())
            }
            // Only this says that the answer is whole.
            "message_stop" => Ok(vec![Piece::End(self.end.unwrap_or(End::Stop))]),
            "ping" => Ok(vec![Piece::Alive]),
            _ => Ok(Vec::new()),
        }
    }

    fn begin_block<'a>(&mut self, event: &Object<'a>) -> Result<Vec<Piece<'a>>, Untranslatable> {
        let raw = event.get("content_block").ok_or_else(|| Untranslatable::malformed("content_block"))?;
        let pieces = block(raw).within(|| "content_block".to_owned())?;
        if matches!(pieces.first(), Some(Piece::Call { .. })) {
            if self.calls.len() >= CALLS {
                return Err(Untranslatable::unsupported("content_block"));
            }
            self.calls.push(event.count("index").ok_or_else(|| Untranslatable::malformed("index"))?);
        }
        Ok(pieces)
    }

    fn delta<'a>(&self, event: &Object<'a>) -> Result<Vec<Piece<'a>>, Untranslatable> {
        let delta = event.object("delta")?.ok_or_else(|| Untranslatable::malformed("delta"))?;
        let read = |member: &str| delta.text(member).within(|| "delta".to_owned());
        let piece = match delta.text("type")?.as_deref() {
            Some("text_delta") => read("text")?.map(Piece::Text),
            Some("thinking_delta") => read("thinking")?.map(Piece::Thinking),
            Some("input_json_delta") => {
                let index = event.count("index");
                let of_call = self.calls.iter().any(|call| Some(*call) == index);
                if of_call && self.calls.last().copied() != index {
                    return Err(Untranslatable::unsupported("index"));
                }
                read("partial_json")?.filter(|_| of_call).map(Piece::Input)
            }
            _ => None,
        };
        Ok(piece.filter(|piece| !says_nothing(piece)).into_iter().collect())
    }
}

fn says_nothing(piece: &Piece<'_>) -> bool {
    match piece {
        Piece::Text(text) | Piece::Thinking(text) | Piece::Refusal(text) | Piece::Input(text) => text.is_empty(),
        Piece::Begin { .. } | Piece::Call { .. } | Piece::End(_) | Piece::Usage(_) | Piece::Alive => false,
    }
}
