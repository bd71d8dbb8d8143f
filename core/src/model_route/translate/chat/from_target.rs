//! Reads answers and chunks of Chat Completions, of OpenAI itself and of the many servers that are nearly alike.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::{
    Untranslatable, Within as _,
    json::{self, Object},
    piece::{End, Piece, Tokens},
};

/// Longest id of a call that is kept, in bytes.
const ID: usize = 256;

/// Reads an answer.
///
/// # Errors
/// Names the member that is malformed or that no other dialect has.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Piece<'_>>, Untranslatable> {
    let answer = json::document(body)?;
    let choice = first(&answer)?.ok_or_else(|| Untranslatable::malformed("choices"))?;
    let mut pieces = vec![begin(&answer)?];
    whole_choice(&choice, &mut pieces).within(|| "choices[0]".to_owned())?;
    pieces.extend(usage(&answer)?.map(Piece::Usage));
    Ok(pieces)
}

fn whole_choice<'a>(choice: &Object<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
    let message = choice.object("message")?.ok_or_else(|| Untranslatable::malformed("message"))?;
    let mut read = || {
        said(&message, pieces)?;
        for (at, raw) in message.list("tool_calls")?.into_iter().enumerate() {
            pieces.extend(whole_call(raw).within(|| format!("tool_calls[{at}]"))?);
        }
        Ok(())
    };
    read().within(|| "message".to_owned())?;
    let end = choice.text("finish_reason")?;
    pieces.push(Piece::End(end.map_or(End::Stop, |reason| end_of(&reason))));
    Ok(())
}

/// Reads the chunks of one answer.
#[derive(Default)]
pub(crate) struct Events {
    begun: bool,
    /// The call of which more may come.
    call: Option<Open>,
}

struct Open {
    index: u64,
    id: String,
}

impl Events {
    /// Reads the data of one event.
    ///
    /// # Errors
    /// Names the member that is malformed or that no other dialect has.
    pub(crate) fn read<'a>(&mut self, data: &'a str) -> Result<Vec<Piece<'a>>, Untranslatable> {
        if data.trim() == "[DONE]" {
            return Ok(Vec::new());
        }
        let chunk = json::document(data.as_bytes())?;
        let mut pieces = Vec::new();
        if let Some(choice) = first(&chunk)? {
            // Chunks without choices come first from some servers, and without the id of the answer.
            if !self.begun {
                self.begun = true;
                pieces.push(begin(&chunk)?);
            }
            self.choice(&choice, &mut pieces).within(|| "choices[0]".to_owned())?;
        }
        pieces.extend(usage(&chunk)?.map(Piece::Usage));
        Ok(pieces)
    }

    fn choice<'a>(&mut self, choice: &Object<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
        if let Some(delta) = choice.object("delta")? {
            let mut read = || {
                said(&delta, pieces)?;
                for (at, raw) in delta.list("tool_calls")?.into_iter().enumerate() {
                    self.call(raw, pieces).within(|| format!("tool_calls[{at}]"))?;
                }
                Ok(())
            };
            read().within(|| "delta".to_owned())?;
        }
        pieces.extend(choice.text("finish_reason")?.map(|reason| Piece::End(end_of(&reason))));
        Ok(())
    }

    /// A call goes on until another index or another id comes; some servers give one index to all their calls, others
    /// repeat the id, or leave out the index.
    fn call<'a>(&mut self, raw: &'a RawValue, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
        let call = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
        let function = call.object("function")?;
        let (name, input) = match &function {
            None => (None, None),
            Some(function) => {
                let read = || Ok((function.text("name")?, function.text("arguments")?));
                read().within(|| "function".to_owned())?
            }
        };
        let id = call.text("id")?.filter(|id| !id.is_empty());
        let last = self.call.as_ref().map_or(0, |open| open.index);
        let index = call.count("index").unwrap_or(last);
        let goes_on = self.call.as_ref().is_some_and(|open| {
            index == open.index && id.as_ref().is_none_or(|id| *id == open.id || open.id.is_empty())
        });
        if !goes_on {
            self.begin_call(index, id, name, pieces)?;
        }
        pieces.extend(input.filter(|input| !input.is_empty()).map(Piece::Input));
        Ok(())
    }

    fn begin_call<'a>(
        &mut self,
        index: u64,
        id: Option<Cow<'a, str>>,
        name: Option<Cow<'a, str>>,
        pieces: &mut Vec<Piece<'a>>,
    ) -> Result<(), Untranslatable> {
        // Parts of a call that was left for a later one: no other dialect can go back.
        if self.call.as_ref().is_some_and(|open| index < open.index) {
            return Err(Untranslatable::unsupported("index"));
        }
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| Untranslatable::malformed("function.name"))?;
        if id.as_ref().is_some_and(|id| id.len() > ID) {
            return Err(Untranslatable::malformed("id"));
        }
        self.call = Some(Open { index, id: id.as_deref().unwrap_or_default().to_owned() });
        pieces.push(Piece::Call { id, name, signature: None });
        Ok(())
    }
}

/// The first choice; others were not asked for.
fn first<'a>(answer: &Object<'a>) -> Result<Option<Object<'a>>, Untranslatable> {
    for raw in answer.list("choices")? {
        let choice = json::object_of(raw).ok_or_else(|| Untranslatable::malformed("choices[0]"))?;
        if choice.count("index").unwrap_or(0) == 0 {
            return Ok(Some(choice));
        }
    }
    Ok(None)
}

fn begin<'a>(answer: &Object<'a>) -> Result<Piece<'a>, Untranslatable> {
    Ok(Piece::Begin { id: answer.text("id")?.filter(|id| !id.is_empty()), created: answer.count("created") })
}

/// What a message or a delta says, calls excepted.
fn said<'a>(of: &Object<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
    for name in ["function_call", "audio"] {
        if of.get(name).is_some_and(|raw| !json::says_nothing(raw)) {
            return Err(Untranslatable::unsupported(name));
        }
    }
    // Not OpenAI's; what DeepSeek, DashScope and older vLLM call it, and what newer vLLM does.
    let thinking = of.text("reasoning_content")?.or(of.get("reasoning").and_then(json::text_of));
    pieces.extend(thinking.filter(|text| !text.is_empty()).map(Piece::Thinking));
    pieces.extend(of.text("content")?.filter(|text| !text.is_empty()).map(Piece::Text));
    pieces.extend(of.text("refusal")?.filter(|text| !text.is_empty()).map(Piece::Refusal));
    Ok(())
}

fn whole_call(raw: &RawValue) -> Result<[Piece<'_>; 2], Untranslatable> {
    let call = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    let function = call.object("function")?.ok_or_else(|| Untranslatable::unsupported("type"))?;
    let read = || Ok((function.needed("name")?, function.text("arguments")?.unwrap_or_default()));
    let (name, input) = read().within(|| "function".to_owned())?;
    Ok([Piece::Call { id: call.text("id")?, name, signature: None }, Piece::Input(input)])
}

fn end_of(reason: &str) -> End {
    match reason {
        "length" => End::Length,
        "tool_calls" | "function_call" => End::Calls,
        "content_filter" => End::Filtered,
        _ => End::Stop,
    }
}

/// Groq and Moonshot put it into members of their own.
fn usage(answer: &Object<'_>) -> Result<Option<Tokens>, Untranslatable> {
    if let Some(usage) = answer.object("usage")? {
        return Ok(Some(tokens(&usage)));
    }
    let inside = |of: Option<Object<'_>>| of.and_then(|of| of.object("usage").ok()?).map(|usage| tokens(&usage));
    Ok(inside(answer.object("x_groq").ok().flatten()).or(inside(first(answer)?)))
}

fn tokens(usage: &Object<'_>) -> Tokens {
    let detail = |of: &str, name: &str| usage.object(of).ok().flatten().and_then(|details| details.count(name));
    // OpenAI's own name, Moonshot's, DeepSeek's.
    let cached = detail("prompt_tokens_details", "cached_tokens")
        .or(usage.count("cached_tokens"))
        .or(usage.count("prompt_cache_hit_tokens"));
    let stored = detail("prompt_tokens_details", "cache_write_tokens");
    let apart = cached.unwrap_or(0).saturating_add(stored.unwrap_or(0));
    Tokens {
        fresh: usage.count("prompt_tokens").map(|all| all.saturating_sub(apart)),
        cached,
        stored,
        output: usage.count("completion_tokens"),
        thinking: detail("completion_tokens_details", "reasoning_tokens"),
    }
}
