//! Reads answers of `generateContent`, and the parts of one that `streamGenerateContent` sends, which have the same shape.

use serde_json::value::RawValue;

use super::super::{
    Untranslatable, Within as _,
    json::{self, Object},
    piece::{End, Piece, Tokens},
};

/// Reads an answer.
///
/// # Errors
/// Names the member that is malformed or that no other dialect has.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Piece<'_>>, Untranslatable> {
    let answer = json::document(body)?;
    let mut pieces = vec![begin(&answer)?];
    let before = pieces.len();
    add(&answer, &mut pieces)?;
    if pieces.len() == before {
        return Err(Untranslatable::malformed("candidates"));
    }
    Ok(pieces)
}

/// Reads the events of one answer.
#[derive(Default)]
pub(crate) struct Events {
    begun: bool,
}

impl Events {
    /// Reads the data of one event.
    ///
    /// # Errors
    /// Names the member that is malformed or that no other dialect has.
    pub(crate) fn read<'a>(&mut self, data: &'a str) -> Result<Vec<Piece<'a>>, Untranslatable> {
        let chunk = json::document(data.as_bytes())?;
        let mut pieces = Vec::new();
        if !self.begun && ["candidates", "promptFeedback"].into_iter().any(|name| chunk.get(name).is_some()) {
            self.begun = true;
            pieces.push(begin(&chunk)?);
        }
        add(&chunk, &mut pieces)?;
        Ok(pieces)
    }
}

fn begin<'a>(answer: &Object<'a>) -> Result<Piece<'a>, Untranslatable> {
    Ok(Piece::Begin { id: answer.text("responseId")?.filter(|id| !id.is_empty()), created: None })
}

fn add<'a>(answer: &Object<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
    for (at, raw) in answer.list("candidates")?.into_iter().enumerate() {
        let place = || format!("candidates[{at}]");
        let candidate = json::object_of(raw).ok_or_else(|| Untranslatable::malformed("")).within(place)?;
        // Others were not asked for.
        if candidate.count("index").unwrap_or(0) == 0 {
            read_candidate(&candidate, pieces).within(place)?;
        }
    }
    let blocked = answer.object("promptFeedback")?.is_some_and(|feedback| feedback.get("blockReason").is_some());
    if blocked {
        pieces.push(Piece::End(End::Filtered));
    }
    pieces.extend(usage(answer)?.map(Piece::Usage));
    Ok(())
}

fn read_candidate<'a>(candidate: &Object<'a>, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
    if let Some(content) = candidate.object("content")? {
        let mut read = || {
            for (at, raw) in content.list("parts")?.into_iter().enumerate() {
                part(raw, pieces).within(|| format!("parts[{at}]"))?;
            }
            Ok(())
        };
        read().within(|| "content".to_owned())?;
    }
    pieces.extend(candidate.text("finishReason")?.and_then(|reason| end_of(&reason)).map(Piece::End));
    Ok(())
}

fn part<'a>(raw: &'a RawValue, pieces: &mut Vec<Piece<'a>>) -> Result<(), Untranslatable> {
    let part = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    if let Some(name) = ["inlineData", "fileData"].into_iter().find(|name| part.get(name).is_some()) {
        return Err(Untranslatable::unsupported(name));
    }
    if let Some(text) = part.text("text")?.filter(|text| !text.is_empty()) {
        let thought = part.get("thought").is_some_and(|raw| raw.get() == "true");
        pieces.push(if thought { Piece::Thinking(text) } else { Piece::Text(text) });
    }
    if let Some(call) = part.object("functionCall")? {
        let read = || Ok((call.text("id")?, call.needed("name")?, call.object("args")?.and_then(|_| call.get("args"))));
        let (id, name, args) = read().within(|| "functionCall".to_owned())?;
        pieces.push(Piece::Call { id, name, signature: part.text("thoughtSignature")? });
        pieces.push(Piece::Input(args.map_or("{}", RawValue::get).into()));
    }
    Ok(())
}

fn end_of(reason: &str) -> Option<End> {
    match reason {
        "FINISH_REASON_UNSPECIFIED" => None,
        "MAX_TOKENS" => Some(End::Length),
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
            Some(End::Filtered)
        }
        _ => Some(End::Stop),
    }
}

fn usage(answer: &Object<'_>) -> Result<Option<Tokens>, Untranslatable> {
    let Some(usage) = answer.object("usageMetadata")? else { return Ok(None) };
    let cached = usage.count("cachedContentTokenCount");
    let thinking = usage.count("thoughtsTokenCount");
    let read = [usage.count("promptTokenCount"), usage.count("toolUsePromptTokenCount")];
    let written = [usage.count("candidatesTokenCount"), thinking];
    let sum = |counts: [Option<u64>; 2]| counts.into_iter().flatten().reduce(u64::saturating_add);
    Ok(Some(Tokens {
        fresh: sum(read).map(|all| all.saturating_sub(cached.unwrap_or(0))),
        cached,
        stored: None,
        output: sum(written),
        thinking,
    }))
}
