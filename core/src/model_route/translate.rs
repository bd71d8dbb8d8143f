//! Between the dialects of providers, so that fallback can cross them: requests, answers, and streams of answers.
//!
//! | client speaks | target speaks |
//! |---|---|
//! | OpenAI Chat Completions | Anthropic Messages, Gemini generateContent |
//! | Anthropic Messages | OpenAI Chat Completions, Gemini generateContent |
//!
//! A reader per dialect makes of what it reads a form that no dialect has (`prompt` for requests, `piece` for answers), a
//! writer per dialect writes that. The rule for what has no counterpart: a parameter that changes what the answer means is
//! refused, and the request goes to another target; a hint is dropped. `docs/models-dialects.md` lists both.
//!
//! Errors, whether answers or inside streams, are not translated here.

mod chat;
mod event;
mod gemini;
mod json;
mod messages;
mod piece;
mod prompt;
mod seam;
mod stream;
mod transcript;

pub use self::{
    stream::{GoesOn, Stream, UsageChunk},
    transcript::Transcript,
};

use self::piece::Answer;
use crate::model::model_route::{Api, Dialect};

/// What cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` {cause}")]
pub struct Untranslatable {
    /// Path of the member, as in `messages[3].content[0].input_audio`; `body` for all of it.
    pub member: String,
    /// Why.
    pub cause: Cause,
}

/// Why something cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The other dialect has no word for it. Of a request: another target may.
    Unsupported,
    /// It is not what its own API documents. Of a request: no target of another dialect can be asked.
    Malformed,
    /// A target that was to go on with a text says its beginning once more.
    Repeated,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Cause::Unsupported => "has no counterpart in the other dialect",
            Cause::Malformed => "is missing, or not what its API documents",
            Cause::Repeated => "begins anew instead of going on",
        })
    }
}

impl Untranslatable {
    fn unsupported(member: &str) -> Self {
        Untranslatable { member: member.to_owned(), cause: Cause::Unsupported }
    }

    fn malformed(member: &str) -> Self {
        Untranslatable { member: member.to_owned(), cause: Cause::Malformed }
    }
}

/// Says where an error's member stands.
trait Within {
    /// Puts the path of what the member is in before its name.
    fn within(self, outer: impl FnOnce() -> String) -> Self;
}

impl<T> Within for Result<T, Untranslatable> {
    fn within(self, outer: impl FnOnce() -> String) -> Self {
        self.map_err(|error| {
            let outer = outer();
            let member = if error.member.is_empty() { outer } else { format!("{outer}.{}", error.member) };
            Untranslatable { member, cause: error.cause }
        })
    }
}

/// How the client asked, and what stands in for what its target does not say. Made from the name of a model alone it
/// has no id and the time 0.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Model, as the client named it.
    pub model: &'a str,
    /// Id of the answer where the target gives none.
    pub id: &'a str,
    /// Time of the answer where the target gives none, in seconds since 1970.
    pub created: u64,
}

impl<'a> From<&'a str> for Asked<'a> {
    fn from(model: &'a str) -> Self {
        Asked { model, id: "", created: 0 }
    }
}

/// Which API of a target that speaks `to` can serve a request of `from`: `from` itself if it is of that dialect, None where
/// there is no translation.
pub fn toward(from: Api, to: Dialect) -> Option<Api> {
    match (from, to) {
        (Api::ChatCompletions, Dialect::Anthropic) => Some(Api::Messages),
        (Api::Messages, Dialect::Openai) => Some(Api::ChatCompletions),
        (Api::ChatCompletions | Api::Messages, Dialect::Gemini) => Some(Api::GenerateContent),
        (Api::ChatCompletions, Dialect::Openai)
        | (Api::Messages, Dialect::Anthropic)
        | (
            Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent,
            Dialect::Openai | Dialect::Anthropic | Dialect::Gemini,
        ) => (from.dialect() == to).then_some(from),
    }
}

/// Requests of one dialect are passed on as they are, not through here: it would lose what has no counterpart.
fn between(client: Api, target: Api) -> Result<(), Untranslatable> {
    if client != target && toward(client, target.dialect()) == Some(target) {
        return Ok(());
    }
    Err(Untranslatable::unsupported("body"))
}

/// Body for the target's API `to` of a request of `from`. `model` is the target's name of it.
///
/// Whether an answer is streamed is carried over, but not `stream_options`; for Gemini, both it and the model belong into
/// the path.
///
/// # Errors
/// Names the member that is refused.
pub fn request(from: Api, to: Api, body: &[u8], model: &str) -> Result<Vec<u8>, Untranslatable> {
    between(from, to)?;
    let prompt = match from {
        Api::ChatCompletions => chat::read_request(body)?,
        Api::Messages => messages::read_request(body)?,
        Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => {
            return Err(Untranslatable::unsupported("body"));
        }
    };
    match to {
        Api::ChatCompletions => chat::write_request(prompt, model),
        Api::Messages => messages::write_request(prompt, model),
        Api::GenerateContent => gemini::write_request(prompt, model),
        Api::Responses | Api::Completions | Api::Embeddings => Err(Untranslatable::unsupported("body")),
    }
}

/// Body for the client's API `to` of an answer of the target's API `from` that is not streamed.
///
/// # Errors
/// Names the member of the answer that is malformed, or that the client's dialect cannot say.
pub fn answer<'a>(from: Api, to: Api, body: &[u8], asked: impl Into<Asked<'a>>) -> Result<Vec<u8>, Untranslatable> {
    between(to, from)?;
    let asked = asked.into();
    let pieces = match from {
        Api::ChatCompletions => chat::read_answer(body)?,
        Api::Messages => messages::read_answer(body)?,
        Api::GenerateContent => gemini::read_answer(body)?,
        Api::Responses | Api::Completions | Api::Embeddings => return Err(Untranslatable::unsupported("body")),
    };
    let answer = Answer::of(pieces, &asked);
    match to {
        Api::ChatCompletions => Ok(chat::write_answer(answer, asked.model)),
        Api::Messages => messages::write_answer(answer, asked.model),
        Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => {
            Err(Untranslatable::unsupported("body"))
        }
    }
}

#[cfg(test)]
mod tests;
