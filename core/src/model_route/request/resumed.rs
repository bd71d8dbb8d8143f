//! A request that is made once more, of another target, behind what a broken stream has said of its answer: the text so far
//! is its last message, the assistant's, from which the target goes on. All else stays byte for byte.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Api, Asked, Delivery, Members};
use crate::model_route::resume::NotResumed;

/// Limits of an answer's length, by API; what was written already is taken off.
const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// Members at the top by which a request asks for more than text. Those that say nothing by their value do not count.
const KINDS: [&str; 11] = [
    "reasoning",
    "reasoning_effort",
    "thinking",
    "enable_thinking",
    "logprobs",
    "top_logprobs",
    "audio",
    "prediction",
    "web_search_options",
    "container",
    "mcp_servers",
];

/// A request whose answer another target could go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumable {
    /// Where a message can be put behind the last one.
    end: usize,
    /// Numbers that limit the answer.
    limits: Vec<(Range<usize>, u64)>,
}

/// A message, as far as it says whose it is.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
}

impl Asked {
    /// Whether the answer to this request can be plain text of one choice that another target could go on with, as far as is
    /// known before it is looked at closely ([`Resumable::of`]).
    ///
    /// # Errors
    /// Why not.
    pub fn is_plain(&self) -> Result<(), NotResumed> {
        let is_known = match self.api {
            Api::ChatCompletions | Api::Messages => self.delivery == Delivery::Stream,
            Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => false,
        };
        let cases = [
            (!is_known, NotResumed::Api),
            (self.needs.tools, NotResumed::Tools),
            (self.needs.json, NotResumed::Json),
            (self.choices != 1, NotResumed::Choices),
        ];
        cases.into_iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, why)| Err(why))
    }
}

impl Resumable {
    /// Of a request; `asked` must have been read from `body`.
    ///
    /// # Errors
    /// Why its answer cannot be gone on with.
    pub fn of(asked: &Asked, body: &[u8]) -> Result<Resumable, NotResumed> {
        asked.is_plain()?;
        let names: Vec<&'static str> = KINDS.into_iter().chain(LIMITS).chain(["messages", "modalities"]).collect();
        let members = Members::whole(body, &names).map_err(|_| NotResumed::Request)?;
        let value = |name: &str| members.given(name).map(|member| &body[member.value.clone()]);
        if KINDS.iter().any(|name| value(name).is_some_and(asks)) || value("modalities").is_some_and(is_more_than_text)
        {
            return Err(NotResumed::Kind);
        }
        let messages = members.given("messages").map(|member| member.value.clone()).ok_or(NotResumed::Request)?;
        let listed: Vec<&RawValue> =
            serde_json::from_slice(&body[messages.clone()]).map_err(|_| NotResumed::Request)?;
        let last = listed.last().ok_or(NotResumed::Request)?;
        let last: Message<'_> = serde_json::from_str(last.get()).map_err(|_| NotResumed::Request)?;
        if last.role == "assistant" {
            return Err(NotResumed::Begun);
        }
        let limit = |name: &'static str| {
            let limit = members.number(name).ok()??;
            Some((members.get(name)?.value.clone(), limit))
        };
        let mut limits: Vec<_> = LIMITS.into_iter().filter_map(limit).collect();
        limits.sort_by_key(|(place, _)| place.start);
        Ok(Resumable { end: messages.end - 1, limits })
    }

    /// The request behind `text`, for which `written` tokens were used. `body` must be that of which this is.
    pub fn body(&self, body: &[u8], text: &str, written: u64) -> Vec<u8> {
        let message = format!(",{{\"role\":\"assistant\",\"content\":{}}}", serde_json::Value::from(text));
        let left = |limit: u64| limit.saturating_sub(written).max(1).to_string();
        let limits = self.limits.iter().map(|(place, limit)| (place.clone(), left(*limit)));
        let mut splices: Vec<_> = limits.chain([(self.end..self.end, message)]).collect();
        splices.sort_by_key(|(place, _)| place.start);
        let (mut resumed, mut kept) = (Vec::with_capacity(body.len() + text.len() + 64), 0);
        for (place, new) in splices {
            resumed.extend_from_slice(body.get(kept..place.start).unwrap_or_default());
            resumed.extend_from_slice(new.as_bytes());
            kept = place.end;
        }
        resumed.extend_from_slice(body.get(kept..).unwrap_or_default());
        resumed
    }
}

/// Whether a value asks for something.
fn asks(value: &[u8]) -> bool {
    match value {
        b"false" | b"0" | b"\"\"" | b"\"none\"" | b"{}" | b"[]" => false,
        // Anthropic's way to say that it wants none.
        value => serde_json::from_slice::<serde_json::Value>(value).map_or(true, |value| value["type"] != "disabled"),
    }
}

fn is_more_than_text(value: &[u8]) -> bool {
    serde_json::from_slice::<Vec<Cow<'_, str>>>(value).map_or(true, |kinds| kinds.iter().any(|kind| kind != "text"))
}

#[cfg(test)]
mod tests;
