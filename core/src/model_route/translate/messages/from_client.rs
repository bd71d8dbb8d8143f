//! Reads a request for Messages.
//!
//! Members that change what the answer means and that no other dialect has are refused here; hints are left out.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::{
    Untranslatable, Within as _,
    json::{self, Object},
    prompt::{Choice, Ending, Part, Prompt, Role, Sampling, Shape, Source, Tool, Turn},
};

/// Refused unless they ask for nothing. `inference_geo` says where prompts may be worked on; a target elsewhere must not
/// get them.
const REFUSED: [&str; 3] = ["container", "mcp_servers", "inference_geo"];

/// Reads a request.
///
/// # Errors
/// Names the member that is malformed, or that can be said to no target of another dialect.
pub(crate) fn read(body: &[u8]) -> Result<Prompt<'_>, Untranslatable> {
    let request = json::document(body)?;
    if let Some(name) = REFUSED.into_iter().find(|name| request.get(name).is_some_and(|raw| !json::says_nothing(raw))) {
        return Err(Untranslatable::unsupported(name));
    }
    let (choice, one_call) = choice(&request)?;
    let mut prompt = Prompt {
        system: texts(&request, "system")?,
        tools: tools(&request)?,
        choice,
        one_call,
        max_tokens: request.number("max_tokens")?,
        sampling: Sampling {
            temperature: request.number("temperature")?,
            top_p: request.number("top_p")?,
            top_k: request.number("top_k")?,
            ..Sampling::default()
        },
        stop: stop(&request)?,
        stop_place: "stop_sequences",
        user: request.object("metadata")?.and_then(|metadata| metadata.text("user_id").ok()?),
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

fn stop<'a>(request: &Object<'a>) -> Result<Vec<Cow<'a, str>>, Untranslatable> {
    let list = request.list("stop_sequences")?;
    let texts: Option<Vec<_>> = list.into_iter().map(json::text_of).collect();
    texts.ok_or_else(|| Untranslatable::malformed("stop_sequences"))
}

fn shape<'a>(request: &Object<'a>) -> Result<Shape<'a>, Untranslatable> {
    let config = request.object("output_config")?;
    let format = match &config {
        Some(config) => config.object("format").within(|| "output_config".to_owned())?,
        None => None,
    };
    // The name it had before it was part of `output_config`.
    let Some(format) = format.or(request.object("output_format")?) else { return Ok(Shape::Text) };
    match (format.text("type")?.as_deref(), format.get("schema")) {
        (Some("json_schema"), Some(schema)) => Ok(Shape::Schema { name: None, schema }),
        _ => Err(Untranslatable::unsupported("output_config.format")),
    }
}

fn tools<'a>(request: &Object<'a>) -> Result<Vec<Tool<'a>>, Untranslatable> {
    let list = request.list("tools")?;
    list.into_iter().enumerate().map(|(at, raw)| tool(raw).within(|| format!("tools[{at}]"))).collect()
}

fn tool(raw: &RawValue) -> Result<Tool<'_>, Untranslatable> {
    let tool = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    if tool.text("type")?.is_some_and(|kind| kind != "custom") {
        return Err(Untranslatable::unsupported("type"));
    }
    let input = tool.object("input_schema")?.and_then(|_| tool.get("input_schema"));
    Ok(Tool { name: tool.needed("name")?, description: tool.text("description")?, input })
}

type Calls<'a> = (Option<Choice<'a>>, Option<&'static str>);

fn choice<'a>(request: &Object<'a>) -> Result<Calls<'a>, Untranslatable> {
    let Some(choice) = request.object("tool_choice")? else { return Ok((None, None)) };
    let read = || match choice.needed("type")?.as_ref() {
        "auto" => Ok(Choice::Auto),
        "any" => Ok(Choice::Any),
        "none" => Ok(Choice::Never),
        "tool" => Ok(Choice::Named(choice.needed("name")?)),
        _ => Err(Untranslatable::unsupported("type")),
    };
    let one = choice.get("disable_parallel_tool_use").filter(|raw| raw.get() == "true");
    Ok((Some(read().within(|| "tool_choice".to_owned())?), one.map(|_| "tool_choice.disable_parallel_tool_use")))
}

/// A member that may only be text, or blocks of text; empty texts are left out.
fn texts<'a>(object: &Object<'a>, name: &str) -> Result<Vec<Cow<'a, str>>, Untranslatable> {
    let Some(raw) = object.get(name) else { return Ok(Vec::new()) };
    let mut texts = Vec::new();
    if let Some(text) = json::text_of(raw) {
        texts.push(text);
    } else {
        for (at, raw) in object.list(name)?.into_iter().enumerate() {
            texts.push(text_block(raw).within(|| format!("{name}[{at}]"))?);
        }
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts)
}

fn text_block(raw: &RawValue) -> Result<Cow<'_, str>, Untranslatable> {
    let block = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""))?;
    if block.needed("type")? != "text" {
        return Err(Untranslatable::unsupported("type"));
    }
    block.needed("text")
}

fn read_message<'a>(message: &Object<'a>, place: &str, prompt: &mut Prompt<'a>) -> Result<(), Untranslatable> {
    let role = match message.needed("role")?.as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => {
            prompt.system.extend(texts(message, "content")?);
            return Ok(());
        }
        _ => return Err(Untranslatable::unsupported("role")),
    };
    let raw = message.get("content").ok_or_else(|| Untranslatable::malformed("content"))?;
    let mut parts = Vec::new();
    if let Some(text) = json::text_of(raw) {
        parts.extend(Some(text).filter(|text| !text.is_empty()).map(Part::Text));
    } else {
        for (at, raw) in message.list("content")?.into_iter().enumerate() {
            let inner = format!("content[{at}]");
            let block = json::object_of(raw).ok_or_else(|| Untranslatable::malformed(""));
            let outer = format!("{place}.{inner}");
            parts.extend(block.and_then(|block| read_block(&block, role, &outer)).within(|| inner)?);
        }
    }
    prompt.turns.push(Turn { role, parts });
    Ok(())
}

fn read_block<'a>(block: &Object<'a>, role: Role, place: &str) -> Result<Option<Part<'a>>, Untranslatable> {
    let kind = block.needed("type")?;
    match (kind.as_ref(), role) {
        ("text", _) => Ok(Some(block.needed("text")?).filter(|text| !text.is_empty()).map(Part::Text)),
        // Signed for Anthropic's models alone; other models neither need nor accept them.
        ("thinking" | "redacted_thinking", Role::Assistant) => Ok(None),
        ("tool_use", Role::Assistant) => {
            block.object("input")?;
            let input = block.get("input").map_or_else(|| Cow::Owned(json::empty_object()), Cow::Borrowed);
            Ok(Some(Part::Call { id: block.needed("id")?, name: block.needed("name")?, input, signature: None }))
        }
        ("tool_result", Role::User) => outcome(block, place).map(Some),
        ("image", Role::User) => {
            let source = source(block, "image/png").within(|| "source".to_owned())?;
            Ok(Some(Part::Image { source, place: format!("{place}.source") }))
        }
        ("document", Role::User) => document(block, place).map(Some),
        _ => Err(Untranslatable::unsupported("type")),
    }
}

fn source<'a>(block: &Object<'a>, usual: &'static str) -> Result<Source<'a>, Untranslatable> {
    let source = block.object("source")?.ok_or_else(|| Untranslatable::malformed(""))?;
    match source.needed("type")?.as_ref() {
        "base64" => {
            let media_type = source.text("media_type")?.unwrap_or(Cow::Borrowed(usual));
            Ok(Source::Inline { media_type, data: source.needed("data")? })
        }
        "url" => Ok(Source::Address(source.needed("url")?)),
        _ => Err(Untranslatable::unsupported("type")),
    }
}

fn document<'a>(block: &Object<'a>, place: &str) -> Result<Part<'a>, Untranslatable> {
    let of = block.object("source")?.ok_or_else(|| Untranslatable::malformed("source"))?;
    if of.text("type").within(|| "source".to_owned())?.as_deref() == Some("text") {
        return of.needed("data").within(|| "source".to_owned()).map(Part::Text);
    }
    let source = source(block, "application/pdf").within(|| "source".to_owned())?;
    Ok(Part::File { name: block.text("title")?, source, place: format!("{place}.source") })
}

fn outcome<'a>(block: &Object<'a>, place: &str) -> Result<Part<'a>, Untranslatable> {
    let mut texts = texts(block, "content")?;
    let text = if texts.len() == 1 { texts.remove(0) } else { Cow::Owned(texts.concat()) };
    let failed = block.get("is_error").is_some_and(|raw| raw.get() == "true");
    let ending = if failed { Ending::Failed } else { Ending::Done };
    Ok(Part::Outcome { call: block.needed("tool_use_id")?, text, ending, place: format!("{place}.tool_use_id") })
}
