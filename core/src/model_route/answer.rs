//! Whole answers: whether one is an answer at all, what was used for it, and whether it is good enough to be given.
//!
//! Providers hide failures in good statuses, and a small model may end early, refuse or forget the shape it was asked for:
//! each is a failure of its target while nobody has seen the answer yet.

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{
    failure,
    stream::{Document, Reported},
};
use crate::model::model_route::{Api, Escalate, Failure, Reason, Usage};

/// Bytes of an answer's text that are compared with the beginnings of refusals.
const BEGINNING: usize = 512;

/// A whole answer that can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// What was used, if the target said it. Embeddings write nothing.
    pub usage: Option<Usage>,
    /// What the target said of it.
    pub reported: Reported,
    /// Bytes of what the answer says, as it stands in JSON.
    pub written_bytes: u64,
}

/// Whether the request asked for an answer in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFor {
    /// Text of any form.
    Text,
    /// `response_format`, `text.format` or `responseMimeType` say JSON.
    Json,
}

/// Looks at the whole answer, of a good status, to a request of `api` that was not asked to stream. Others are read by
/// [`failure::of_response`].
///
/// # Errors
/// What is wrong with it: an error object behind a good status (with the status that it says), no JSON
/// (`decode`), nothing in it (`empty`), refused content, or a check of `escalate` that it does not pass (cut off by its
/// length: `empty`; a refusal: `empty`; no such JSON: `decode`).
pub fn inspect(
    api: Api,
    content_type: Option<&[u8]>,
    body: &[u8],
    escalate: &Escalate,
    asked_for: AskedFor,
) -> Result<Whole, Failure> {
    if content_type.is_some_and(is_markup) {
        return Err(failure::without_answer(Reason::Decode));
    }
    let mut document = Document::of_answer(api);
    document.read(body);
    let said = document.conclude_answer(body)?;
    if escalate.on_length && said.is_cut {
        return Err(unfit(Reason::Empty, "the model's answer was cut off by its length"));
    }
    let looks_at_json = (escalate.json.is_some() || escalate.schema.is_some()) && asked_for == AskedFor::Json;
    let needs_text = !escalate.refusals.is_empty() || looks_at_json;
    if needs_text {
        check_text(api, body, escalate, asked_for)?;
    }
    let reported = document.reported();
    let output = reported.output.or((api == Api::Embeddings).then_some(0));
    let usage = reported.input.zip(output);
    Ok(Whole {
        usage: usage.map(|(input, output)| Usage { input, output, cached: reported.cached.unwrap_or(0) }),
        reported,
        written_bytes: said.written,
    })
}

/// Whether a type is that of a page for people.
fn is_markup(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    [b"text/html".as_slice(), b"application/xhtml+xml"].iter().any(|markup| kind.eq_ignore_ascii_case(markup))
}

fn unfit(reason: Reason, message: &str) -> Failure {
    Failure { message: message.to_owned(), ..failure::without_answer(reason) }
}

fn check_text(api: Api, body: &[u8], escalate: &Escalate, asked_for: AskedFor) -> Result<(), Failure> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| failure::without_answer(Reason::Decode))?;
    for text in texts(api, &answer) {
        let beginning = text.trim_start();
        let beginning = beginning[..beginning.floor_char_boundary(BEGINNING)].to_lowercase();
        if escalate.refusals.iter().any(|refusal| beginning.starts_with(refusal.as_str())) {
            // Not the content is at fault, as for a provider's filter: any other target may answer.
            return Err(unfit(Reason::Empty, "the model refused to answer"));
        }
        if asked_for == AskedFor::Json {
            check_json(&text, escalate)?;
        }
    }
    Ok(())
}

fn check_json(text: &str, escalate: &Escalate) -> Result<(), Failure> {
    if escalate.json.is_none() && escalate.schema.is_none() {
        return Ok(());
    }
    let other =
        |why: &str| unfit(Reason::Decode, &format!("the model's answer is not the JSON that was asked for{why}"));
    let value: Value = serde_json::from_str(text).map_err(|_| other(""))?;
    if !escalate.json.iter().flatten().all(|member| value.get(member).is_some()) {
        return Err(other(""));
    }
    let checked = escalate.schema.as_ref().map_or(Ok(()), |schema| schema.check(&value));
    checked.map_err(|wrong| other(&format!(": {wrong}")))
}

/// The text of every choice that has some; choices that call tools have none.
fn texts(api: Api, answer: &Value) -> Vec<String> {
    let each = |member: &str| answer[member].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let texts: Vec<String> = match api {
        Api::ChatCompletions => each("choices")
            .map(|choice| match &choice["message"]["content"] {
                Value::Array(parts) => joined(parts.iter()),
                // A refusal of its own takes the place of the text.
                content => content.as_str().or(choice["message"]["refusal"].as_str()).unwrap_or_default().to_owned(),
            })
            .collect(),
        Api::Completions => {
            each("choices").map(|choice| choice["text"].as_str().unwrap_or_default().to_owned()).collect()
        }
        Api::Responses => each("output")
            .filter(|item| item["type"] == "message")
            .map(|item| joined(item["content"].as_array().into_iter().flatten()))
            .collect(),
        Api::Messages => vec![joined(each("content"))],
        Api::GenerateContent => each("candidates")
            .map(|candidate| {
                let parts = candidate["content"]["parts"].as_array().into_iter().flatten();
                joined(parts.filter(|part| part["thought"] != true))
            })
            .collect(),
        Api::Embeddings => Vec::new(),
    };
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

fn joined<'a>(parts: impl Iterator<Item = &'a Value>) -> String {
    parts.filter_map(|part| part["text"].as_str().or(part["refusal"].as_str())).collect()
}
