//! Writes a request for `generateContent` and `streamGenerateContent`; model and streaming stand in its path.

use std::{borrow::Cow, collections::HashMap};

use super::super::{
    Untranslatable,
    json::{self, Json, object},
    prompt::{Choice, Ending, Part, Prompt, Role, Shape, Source, Tool, Turn},
};

/// Most texts at which an answer ends.
const STOPS: usize = 5;
/// What Google documents as signature of a call that another model made.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// Writes a request for this model.
///
/// # Errors
/// Names the member that cannot be said.
pub(crate) fn write(prompt: Prompt<'_>, model: &str) -> Result<Vec<u8>, Untranslatable> {
    if prompt.stop.len() > STOPS {
        return Err(Untranslatable::unsupported(prompt.stop_place));
    }
    let has_tools = !prompt.tools.is_empty();
    if let Some(place) = prompt.one_call.filter(|_| has_tools && !matches!(prompt.choice, Some(Choice::Never))) {
        return Err(Untranslatable::unsupported(place));
    }
    let (media_type, schema) = match prompt.shape {
        Shape::Text => (None, None),
        Shape::Json { .. } => (Some("application/json"), None),
        Shape::Schema { schema, .. } => (Some("application/json"), Some(schema)),
    };
    let stop: Vec<Json<'_>> = prompt.stop.into_iter().map(Json::from).collect();
    let sampling = prompt.sampling;
    let generation = object([
        ("maxOutputTokens", prompt.max_tokens.into()),
        ("temperature", sampling.temperature.into()),
        ("topP", sampling.top_p.into()),
        ("topK", sampling.top_k.into()),
        ("seed", sampling.seed.into()),
        ("presencePenalty", sampling.presence_penalty.into()),
        ("frequencyPenalty", sampling.frequency_penalty.into()),
        ("stopSequences", (!stop.is_empty()).then_some(stop).into()),
        ("responseMimeType", media_type.into()),
        ("responseJsonSchema", schema.into()),
    ]);
    let system: Vec<Json<'_>> = prompt.system.into_iter().map(text).collect();
    let tools = has_tools.then(|| {
        let declarations = prompt.tools.into_iter().map(declaration).collect();
        Json::List(vec![object([("functionDeclarations", Json::List(declarations))])])
    });
    let request = object([
        ("systemInstruction", (!system.is_empty()).then(|| object([("parts", system.into())])).into()),
        ("contents", contents(prompt.turns, model)?),
        ("tools", tools.into()),
        ("toolConfig", prompt.choice.filter(|_| has_tools).map(tool_config).into()),
        ("generationConfig", generation),
    ]);
    Ok(request.bytes())
}

fn text(text: Cow<'_, str>) -> Json<'_> {
    object([("text", text.into())])
}

/// As JSON schema: the older `parameters` knows only part of it.
fn declaration(tool: Tool<'_>) -> Json<'_> {
    object([
        ("name", tool.name.into()),
        ("description", tool.description.into()),
        ("parametersJsonSchema", tool.input.into()),
    ])
}

fn tool_config(choice: Choice<'_>) -> Json<'_> {
    let (mode, names) = match choice {
        Choice::Auto => ("AUTO", None),
        Choice::Never => ("NONE", None),
        Choice::Any => ("ANY", None),
        Choice::Named(name) => ("ANY", Some(Json::List(vec![name.into()]))),
    };
    let config = object([("mode", mode.into()), ("allowedFunctionNames", names.into())]);
    object([("functionCallingConfig", config)])
}

/// One content of the conversation being built.
struct Content<'a> {
    role: Role,
    parts: Vec<Json<'a>>,
    /// Outcomes of calls must all stand in one content, alone.
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Said,
    Outcomes,
}

fn contents<'a>(turns: Vec<Turn<'a>>, model: &str) -> Result<Json<'a>, Untranslatable> {
    let mut contents: Vec<Content<'a>> = Vec::new();
    let mut names: HashMap<Cow<'a, str>, Cow<'a, str>> = HashMap::new();
    for turn in turns {
        // A content without signatures gets one at its first call.
        let mut unsigned = wants_signatures(model).then_some(Cow::Borrowed(UNSIGNED));
        for part in turn.parts {
            let kind = if matches!(part, Part::Outcome { .. }) { Kind::Outcomes } else { Kind::Said };
            if let Part::Call { id, name, .. } = &part {
                names.insert(id.clone(), name.clone());
            }
            let json = write_part(part, &names, &mut unsigned)?;
            match contents.last_mut() {
                Some(last) if last.role == turn.role && last.kind == kind => last.parts.push(json),
                Some(_) | None => contents.push(Content { role: turn.role, parts: vec![json], kind }),
            }
        }
    }
    let write = |content: Content<'a>| {
        let role = match content.role {
            Role::User => "user",
            Role::Assistant => "model",
        };
        object([("role", role.into()), ("parts", Json::List(content.parts))])
    };
    Ok(Json::List(contents.into_iter().map(write).collect()))
}

/// Since its third generation, calls without signature of a thought are refused.
fn wants_signatures(model: &str) -> bool {
    !model.contains("gemini-1") && !model.contains("gemini-2")
}

fn write_part<'a>(
    part: Part<'a>,
    names: &HashMap<Cow<'a, str>, Cow<'a, str>>,
    unsigned: &mut Option<Cow<'a, str>>,
) -> Result<Json<'a>, Untranslatable> {
    match part {
        Part::Text(said) => Ok(text(said)),
        Part::Image { source, .. } => Ok(media(source)),
        Part::File { source, .. } => Ok(media(source)),
        Part::Audio { format, data, .. } => {
            let media_type = format!("audio/{}", format.to_ascii_lowercase());
            Ok(inline(Cow::Owned(media_type), data))
        }
        Part::Call { id, name, input, signature } => {
            let signature = signature.or(unsigned.take());
            *unsigned = None;
            let call = object([("id", id.into()), ("name", name.into()), ("args", input.into())]);
            Ok(object([("functionCall", call), ("thoughtSignature", signature.into())]))
        }
        Part::Outcome { call, text, ending, place } => {
            let name = names.get(&call).cloned().ok_or_else(|| Untranslatable::malformed(&place))?;
            let response = object([("id", call.into()), ("name", name.into()), ("response", response(text, ending))]);
            Ok(object([("functionResponse", response)]))
        }
    }
}

/// An object is an outcome as it is; anything else is a member of one.
fn response(text: Cow<'_, str>, ending: Ending) -> Json<'_> {
    let name = match ending {
        Ending::Failed => "error",
        Ending::Done => "output",
    };
    let is_object = ending == Ending::Done && text.trim_start().starts_with('{');
    match is_object.then(|| json::object_in(text.clone())).flatten() {
        Some(raw) => raw.into(),
        None => object([(name, text.into())]),
    }
}

fn inline<'a>(media_type: Cow<'a, str>, data: Cow<'a, str>) -> Json<'a> {
    object([("inlineData", object([("mimeType", media_type.into()), ("data", data.into())]))])
}

fn media(source: Source<'_>) -> Json<'_> {
    match source {
        Source::Inline { media_type, data } => inline(media_type, data),
        Source::Address(url) => {
            let media_type = media_type_of(&url);
            object([("fileData", object([("mimeType", media_type.into()), ("fileUri", url.into())]))])
        }
    }
}

/// As the name of the file says it; left to the target where it does not.
fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "webp" => Some("image/webp"),
        "gif" => Some("image/gif"),
        "heic" => Some("image/heic"),
        "heif" => Some("image/heif"),
        "pdf" => Some("application/pdf"),
        _ => None,
    }
}
