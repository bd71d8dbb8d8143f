//! Reads a request for Chat Completions.
//!
//! Members that change what the answer means and that no other dialect has are refused here; hints are left out.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::{
    Untranslatable, Within as _,
    json::{self, Object},
    prompt::{Choice, Ending, Part, Prompt, Role, Sampling, Shape, Source, Tool, Turn},
};

/// Refused unless they ask for nothing.
const REFUSED: [&str; 8] = [
    "functions",
    "function_call",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "audio",
    "web_search_options",
    "moderation",
];

/// Reads a request.
///
/// # Errors
/// Names the member that is malformed, or that can be said to no target of another dialect.
pub(crate) fn read(body: &[u8]) -> Result<Prompt<'_>, Untranslatable> {
    let request = json::document(body)?;
    refuse(&request)?;
    let mut prompt = Prompt {
        tools: tools(&request)?,
        choice: choice(&request)?,
        one_call: request.get("parallel_tool_calls").filter(|raw| raw.get() == "false").map(|_| "parallel_tool_calls"),
        max_tokens: request.number("max_completion_tokens")?.or(request.number("max_tokens")?),
        sampling: Sampling {
            temperature: request.number("temperature")?,
            top_p: request.number("top_p")?,
            top_k: request.number("top_k")?,
            seed: request.number("seed")?,
            presence_penalty: request.number("presence_penalty")?,
            frequency_penalty: request.number("frequency_penalty")?,
        },
        stop: stop(&request)?,
        stop_place: "stop",
        user: request.text("safety_identifier")?.or(request.text("user")?),
        shape: shape(&request)?,
        stream: request.get("stream").filter(|raw| raw.get() == "true"),
        ..Prompt::default()
    };
    let messages = request.list("messages")?;
    if messages.is_empty() {
        return Err(Untranslatable::malformed("messages"));
    }
    for (at, raw) in messages.into_iter().enumerate() {
        let place = format!("messages[{at}]");
        json::object_of(raw)
            .ok_or_else(|| Untranslatable::malformed(""))
            .and_then(|message| read_message(&message, &place, &mut prompt))
            .within(|| place)?;
    }
    Ok(prompt)
}

fn refuse(request: &Object<'_>) -> Result<(), Untranslatable> {
    for name in REFUSED {
        if request.get(name).is_some_and(|raw| !json::says_nothing(raw)) {
            return Err(Untranslatable::unsupported(name));
        }
    }
    if request.number("n")?.is_some_and(|raw| raw.get() != "1") {
        return Err(Untranslatable::unsupported("n"));
    }
    if request.list("modalities")?.into_iter().any(|kind| json::text_of(kind).as_deref() != Some("text")) {
        return Err(Untranslatable::unsupported("modalities"));
    }
    Ok(())
}

fn stop<'a>(request: &Object<'a>) -> Result<Vec<Cow<'a, str>>, Untranslatable> {
    let Some(raw) = request.get("stop") else { return Ok(Vec::new()) };
    if let Some(text) = json::text_of(raw) {
        return Ok(vec![text]);
    }
    let list = request.list("stop")?;
    let texts: Option<Vec<_>> = list.into_iter().map(json::text_of).collect();
    texts.ok_or_else(|| Untranslatable::malformed("stop"))
}

fn shape<'a>(request: &Object<'a>) -> Result<Shape<'a>, Untranslatable> {
    let Some(format) = request.object("response_format")? else { return Ok(Shape::Text) };
    let read = || match format.needed("type")?.as_ref() {
        "text" => Ok(Shape::Text),
        "json_object" => Ok(Shape::Json { place: "response_format" }),
        "json_schema" => {
            let of = format.object("json_schema")?.ok_or_else(|| Untranslatable::malformed("json_schema"))?;
            let name = of.text("name").within(|| "json_schema".to_owned())?;
            Ok(of
                .get("schema")
                .map_or(Shape::Json { place: "response_format" }, |schema| Shape::Schema { name, schema }))
        }
        _ => Err(Untranslatable::unsupported("type")),
    };
    read().within(|| "response_format".to_owned())
}

fn tools<'a>(request: &Object<'a>) -> Result<Vec<Tool<'a>>, Untranslatable> {
    let list = request.list("tools")?;
    list.into_iter().enumerate().map(|(at, raw)| tool(raw).within(|| format!("tools[{at}]"))).collect()
}

fn tool(raw: &RawValue) -> Result<Tool<'_>, Untranslatable> {
    let tool = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    if tool.needed("type")? != "function" {
        return Err(Untranslatable::unsupported("type"));
    }
    let function = tool.object("function")?.ok_or_else(|| Untranslatable::malformed("function"))?;
    let read = || {
        let input = function.object("parameters")?.and_then(|_| function.get("parameters"));
        Ok(Tool { name: function.needed("name")?, description: function.text("description")?, input })
    };
    read().within(|| "function".to_owned())
}

fn choice<'a>(request: &Object<'a>) -> Result<Option<Choice<'a>>, Untranslatable> {
    let Some(raw) = request.get("tool_choice") else { return Ok(None) };
    if let Some(text) = json::text_of(raw) {
        return match text.as_ref() {
            "auto" => Ok(Some(Choice::Auto)),
            "none" => Ok(Some(Choice::Never)),
            "required" => Ok(Some(Choice::Any)),
            _ => Err(Untranslatable::unsupported("tool_choice")),
        };
    }
    let choice = request.object("tool_choice")?.ok_or_else(|| Untranslatable::malformed("tool_choice"))?;
    let read = || match (choice.needed("type")?.as_ref(), choice.object("function")?) {
        ("function", Some(function)) => Ok(Some(Choice::Named(function.needed("name")?))),
        ("function", None) => Err(Untranslatable::malformed("function")),
        _ => Err(Untranslatable::unsupported("type")),
    };
    read().within(|| "tool_choice".to_owned())
}

fn read_message<'a>(message: &Object<'a>, place: &str, prompt: &mut Prompt<'a>) -> Result<(), Untranslatable> {
    let turn = match message.needed("role")?.as_ref() {
        "system" | "developer" => {
            prompt.system.extend(texts(message)?);
            return Ok(());
        }
        "user" => Turn { role: Role::User, parts: user_parts(message, place)? },
        "assistant" => Turn { role: Role::Assistant, parts: assistant_parts(message)? },
        "tool" => Turn { role: Role::User, parts: vec![outcome(message, place)?] },
        _ => return Err(Untranslatable::unsupported("role")),
    };
    prompt.turns.push(turn);
    Ok(())
}

/// Content that may only be text; empty texts are left out.
fn texts<'a>(message: &Object<'a>) -> Result<Vec<Cow<'a, str>>, Untranslatable> {
    let Some(raw) = message.get("content") else { return Ok(Vec::new()) };
    let mut texts = Vec::new();
    if let Some(text) = json::text_of(raw) {
        texts.push(text);
    } else {
        for (at, raw) in message.list("content")?.into_iter().enumerate() {
            texts.push(text_part(raw).within(|| format!("content[{at}]"))?);
        }
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}

fn text_part(raw: &RawValue) -> Result<Cow<'_, str>, Untranslatable> {
    let part = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    match part.needed("type")?.as_ref() {
        "text" => part.needed("text"),
        "refusal" => part.needed("refusal"),
        _ => Err(Untranslatable::unsupported("type")),
    }
}

fn user_parts<'a>(message: &Object<'a>, place: &str) -> Result<Vec<Part<'a>>, Untranslatable> {
    let Some(raw) = message.get("content") else { return Ok(Vec::new()) };
    if let Some(text) = json::text_of(raw) {
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    let mut parts = Vec::new();
    for (at, raw) in message.list("content")?.into_iter().enumerate() {
        let inner = format!("content[{at}]");
        parts.extend(user_part(raw, &format!("{place}.{inner}")).within(|| inner)?);
    }
    Ok(parts)
}

fn user_part<'a>(raw: &'a RawValue, place: &str) -> Result<Option<Part<'a>>, Untranslatable> {
    let part = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    match part.needed("type")?.as_ref() {
        "text" => Ok(Some(part.needed("text")?).filter(|text| !text.is_empty()).map(Part::Text)),
        "image_url" => {
            let url = match part.object("image_url") {
                Ok(Some(image)) => image.needed("url").within(|| "image_url".to_owned())?,
                Ok(None) | Err(_) => part.needed("image_url")?,
            };
            let source = Source::of_url(url).ok_or_else(|| Untranslatable::unsupported("image_url.url"))?;
            Ok(Some(Part::Image { source, place: format!("{place}.image_url") }))
        }
        "input_audio" => {
            let audio = part.object("input_audio")?.ok_or_else(|| Untranslatable::malformed("input_audio"))?;
            let read = || Ok((audio.needed("format")?, audio.needed("data")?));
            let (format, data) = read().within(|| "input_audio".to_owned())?;
            Ok(Some(Part::Audio { format, data, place: format!("{place}.input_audio") }))
        }
        "file" => {
            let file = part.object("file")?.ok_or_else(|| Untranslatable::malformed("file"))?;
            file_part(&file, place).within(|| "file".to_owned()).map(Some)
        }
        _ => Err(Untranslatable::unsupported("type")),
    }
}

fn file_part<'a>(file: &Object<'a>, place: &str) -> Result<Part<'a>, Untranslatable> {
    if file.get("file_id").is_some() {
        return Err(Untranslatable::unsupported("file_id"));
    }
    match Source::of_url(file.needed("file_data")?) {
        Some(source @ Source::Inline { .. }) => {
            Ok(Part::File { name: file.text("filename")?, source, place: format!("{place}.file") })
        }
        Some(Source::Address(_)) | None => Err(Untranslatable::unsupported("file_data")),
    }
}

fn assistant_parts<'a>(message: &Object<'a>) -> Result<Vec<Part<'a>>, Untranslatable> {
    for name in ["function_call", "audio"] {
        if message.get(name).is_some() {
            return Err(Untranslatable::unsupported(name));
        }
    }
    let mut parts: Vec<Part<'a>> = texts(message)?.into_iter().map(Part::Text).collect();
    parts.extend(message.text("refusal")?.filter(|text| !text.is_empty()).map(Part::Text));
    for (at, raw) in message.list("tool_calls")?.into_iter().enumerate() {
        parts.push(call(raw).within(|| format!("tool_calls[{at}]"))?);
    }
    Ok(parts)
}

fn call(raw: &RawValue) -> Result<Part<'_>, Untranslatable> {
    let call = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    if call.text("type")?.is_some_and(|kind| kind != "function") {
        return Err(Untranslatable::unsupported("type"));
    }
    let id = call.needed("id")?;
    if id.is_empty() {
        return Err(Untranslatable::malformed("id"));
    }
    let function = call.object("function")?.ok_or_else(|| Untranslatable::malformed("function"))?;
    let read = || {
        let written = function.text("arguments")?.unwrap_or_default();
        // Models do write arguments that are no JSON; only OpenAI's dialect can say those.
        let input = json::object_in(written).ok_or_else(|| Untranslatable::unsupported("arguments"))?;
        Ok((function.needed("name")?, input))
    };
    let (name, input) = read().within(|| "function".to_owned())?;
    Ok(Part::Call { id, name, input, signature: signature(&call) })
}

/// Where Google's own mapping of its dialect onto this one keeps the signature of a thought.
fn signature<'a>(call: &Object<'a>) -> Option<Cow<'a, str>> {
    let google = call.object("extra_content").ok()??.object("google").ok()??;
    google.text("thought_signature").ok()?
}

fn outcome<'a>(message: &Object<'a>, place: &str) -> Result<Part<'a>, Untranslatable> {
    let mut texts = texts(message)?;
    let text = if texts.len() == 1 { texts.remove(0) } else { Cow::Owned(texts.concat()) };
    let call = message.needed("tool_call_id")?;
    Ok(Part::Outcome { call, text, ending: Ending::Done, place: format!("{place}.tool_call_id") })
}
