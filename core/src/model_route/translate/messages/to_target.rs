//! Writes a request for Messages.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::value::RawValue;

use super::super::{
    Untranslatable,
    json::{self, Json, object},
    prompt::{Choice, Ending, Part, Prompt, Role, Sampling, Shape, Source, Tool, Turn, plain_id},
};

/// Tokens that may be written where the client set no limit, which this API must have: what the smallest of its models
/// can write.
const MAX_TOKENS: u64 = 4096;
/// Pictures that it reads.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// Writes a request for this model.
///
/// # Errors
/// Names the member that cannot be said.
pub(crate) fn write(prompt: Prompt<'_>, model: &str) -> Result<Vec<u8>, Untranslatable> {
    if prompt.stop.iter().any(|stop| stop.trim().is_empty()) {
        return Err(Untranslatable::unsupported(prompt.stop_place));
    }
    let format = match prompt.shape {
        Shape::Text => Json::Absent,
        Shape::Json { place } => return Err(Untranslatable::unsupported(place)),
        Shape::Schema { schema, .. } => object([("type", "json_schema".into()), ("schema", schema.into())]),
    };
    let format = if matches!(format, Json::Absent) { format } else { object([("format", format)]) };
    let (tools, choice) = tools(prompt.tools, prompt.choice, prompt.one_call, &prompt.turns);
    let (temperature, top_p) = sampling(&prompt.sampling);
    let stop: Vec<Json<'_>> = prompt.stop.into_iter().map(Json::from).collect();
    let request = object([
        ("model", model.into()),
        ("max_tokens", prompt.max_tokens.map_or(Json::Count(MAX_TOKENS), Json::from)),
        ("system", system(prompt.system)),
        ("messages", messages(prompt.turns)?),
        ("temperature", temperature),
        ("top_p", top_p.into()),
        ("top_k", prompt.sampling.top_k.into()),
        ("stop_sequences", (!stop.is_empty()).then_some(stop).into()),
        ("metadata", prompt.user.map(|user| object([("user_id", user.into())])).into()),
        ("output_config", format),
        ("tools", tools),
        ("tool_choice", choice),
        ("stream", prompt.stream.into()),
    ]);
    Ok(request.bytes())
}

/// Temperatures here end at 1. What is everybody's default is left out, and of two the temperature stays: newer models take
/// only one, the newest none but the default.
fn sampling<'a>(sampling: &Sampling<'a>) -> (Json<'a>, Option<&'a RawValue>) {
    let of = |raw: &RawValue| raw.get().parse::<f64>().unwrap_or(1.0);
    let temperature = match sampling.temperature {
        Some(raw) if of(raw) < 1.0 => Json::from(raw),
        Some(_) | None => Json::Absent,
    };
    let alone = matches!(temperature, Json::Absent);
    (temperature, sampling.top_p.filter(|raw| alone && of(raw) < 1.0))
}

fn system(mut texts: Vec<Cow<'_, str>>) -> Json<'_> {
    match texts.len() {
        0 => Json::Absent,
        1 => texts.remove(0).into(),
        _ => Json::List(texts.into_iter().map(text_block).collect()),
    }
}

fn text_block(text: Cow<'_, str>) -> Json<'_> {
    object([("type", "text".into()), ("text", text.into())])
}

/// A conversation with calls must come with tools: without any, those that were called are declared, and forbidden.
fn tools<'a>(
    tools: Vec<Tool<'a>>,
    choice: Option<Choice<'a>>,
    one_call: Option<&str>,
    turns: &[Turn<'a>],
) -> (Json<'a>, Json<'a>) {
    if !tools.is_empty() {
        return (Json::List(tools.into_iter().map(tool).collect()), tool_choice(choice, one_call));
    }
    let parts = turns.iter().flat_map(|turn| &turn.parts);
    let called: BTreeSet<&str> = parts
        .filter_map(|part| match part {
            Part::Call { name, .. } => Some(name.as_ref()),
            Part::Text(_) | Part::Image { .. } | Part::Audio { .. } | Part::File { .. } | Part::Outcome { .. } => None,
        })
        .collect();
    if called.is_empty() {
        return (Json::Absent, Json::Absent);
    }
    let declared =
        called.into_iter().map(|name| Tool { name: Cow::Owned(name.to_owned()), description: None, input: None });
    (Json::List(declared.map(tool).collect()), tool_choice(Some(Choice::Never), None))
}

fn tool(tool: Tool<'_>) -> Json<'_> {
    object([
        ("name", tool.name.into()),
        ("description", tool.description.into()),
        ("input_schema", tool.input.map_or_else(|| object([("type", "object".into())]), input_schema)),
    ])
}

/// A schema must say that it is one of an object.
fn input_schema(schema: &RawValue) -> Json<'_> {
    let says = json::object_of(schema).is_none_or(|object| object.get("type").is_some());
    if says {
        return schema.into();
    }
    let rest = schema.get().trim_start_matches('{').trim_start();
    let comma = if rest.starts_with('}') { "" } else { "," };
    let said = RawValue::from_string(format!("{{\"type\":\"object\"{comma}{rest}"));
    said.map_or_else(|_| schema.into(), |said| Json::Raw(Cow::Owned(said)))
}

fn tool_choice<'a>(choice: Option<Choice<'a>>, one_call: Option<&str>) -> Json<'a> {
    let one = one_call.map(|_| true);
    let (kind, name) = match choice {
        None if one.is_none() => return Json::Absent,
        Some(Choice::Never) => return object([("type", "none".into())]),
        None | Some(Choice::Auto) => ("auto", None),
        Some(Choice::Any) => ("any", None),
        Some(Choice::Named(name)) => ("tool", Some(name)),
    };
    object([("type", kind.into()), ("name", name.into()), ("disable_parallel_tool_use", one.into())])
}

/// Messages alternate: neighbours of one role become one, so that outcomes of several calls stand together.
fn messages(turns: Vec<Turn<'_>>) -> Result<Json<'_>, Untranslatable> {
    let mut merged: Vec<(Role, Vec<Json<'_>>)> = Vec::new();
    for turn in turns {
        let blocks = turn.parts.into_iter().map(block).collect::<Result<Vec<_>, _>>()?;
        match merged.last_mut() {
            Some((role, before)) if *role == turn.role => before.extend(blocks),
            Some(_) | None if blocks.is_empty() => {}
            Some(_) | None => merged.push((turn.role, blocks)),
        }
    }
    let message = |(role, blocks): (Role, Vec<_>)| {
        let role = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        object([("role", role.into()), ("content", Json::List(blocks))])
    };
    Ok(Json::List(merged.into_iter().map(message).collect()))
}

fn block(part: Part<'_>) -> Result<Json<'_>, Untranslatable> {
    match part {
        Part::Text(text) => Ok(text_block(text)),
        Part::Image { source, place } => image(source).ok_or_else(|| Untranslatable::unsupported(&place)),
        Part::Audio { place, .. } => Err(Untranslatable::unsupported(&place)),
        Part::File { name, source, place } => {
            let source = match source {
                Source::Inline { media_type, data } if media_type == "application/pdf" => inline(media_type, data),
                Source::Address(url) => object([("type", "url".into()), ("url", url.into())]),
                Source::Inline { .. } => return Err(Untranslatable::unsupported(&place)),
            };
            Ok(object([("type", "document".into()), ("source", source), ("title", name.into())]))
        }
        Part::Call { id, name, input, .. } => Ok(object([
            ("type", "tool_use".into()),
            ("id", plain_id(id).into()),
            ("name", name.into()),
            ("input", input.into()),
        ])),
        Part::Outcome { call, text, ending, .. } => Ok(object([
            ("type", "tool_result".into()),
            ("tool_use_id", plain_id(call).into()),
            ("content", Some(text).filter(|text| !text.is_empty()).into()),
            ("is_error", (ending == Ending::Failed).then_some(true).into()),
        ])),
    }
}

fn image(source: Source<'_>) -> Option<Json<'_>> {
    let source = match source {
        Source::Address(url) => object([("type", "url".into()), ("url", url.into())]),
        Source::Inline { media_type, data } => {
            let media_type = if media_type == "image/jpg" { Cow::Borrowed("image/jpeg") } else { media_type };
            if !IMAGES.contains(&media_type.as_ref()) {
                return None;
            }
            inline(media_type, data)
        }
    };
    Some(object([("type", "image".into()), ("source", source)]))
}

fn inline<'a>(media_type: Cow<'a, str>, data: Cow<'a, str>) -> Json<'a> {
    object([("type", "base64".into()), ("media_type", media_type.into()), ("data", data.into())])
}
