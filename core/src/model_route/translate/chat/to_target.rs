//! Writes a request for Chat Completions.

use std::borrow::Cow;

use super::super::{
    Untranslatable,
    json::{Json, object},
    prompt::{Choice, Part, Prompt, Role, Shape, Source, Tool, Turn},
};

/// Most texts at which an answer ends.
const STOPS: usize = 4;
/// Longest name of a user, in bytes.
const USER: usize = 64;

/// Writes a request for this model.
///
/// # Errors
/// Names the member that cannot be said.
pub(crate) fn write(prompt: Prompt<'_>, model: &str) -> Result<Vec<u8>, Untranslatable> {
    if prompt.stop.len() > STOPS {
        return Err(Untranslatable::unsupported(prompt.stop_place));
    }
    let mut messages = Vec::new();
    if !prompt.system.is_empty() {
        // One text: many servers of this dialect take neither several messages nor parts here.
        messages.push(object([("role", "system".into()), ("content", prompt.system.join("\n\n").into())]));
    }
    for turn in prompt.turns {
        write_turn(turn, &mut messages)?;
    }
    let has_tools = !prompt.tools.is_empty();
    let limit = if says_completion_tokens(model) { "max_completion_tokens" } else { "max_tokens" };
    let stop = prompt.stop.into_iter().map(Json::from).collect::<Vec<_>>();
    let request = object([
        ("model", model.into()),
        ("messages", messages.into()),
        (limit, prompt.max_tokens.into()),
        ("temperature", prompt.sampling.temperature.into()),
        ("top_p", prompt.sampling.top_p.into()),
        ("stop", (!stop.is_empty()).then_some(stop).into()),
        ("user", prompt.user.filter(|user| user.len() <= USER).into()),
        ("response_format", shape(prompt.shape)),
        ("tools", has_tools.then(|| prompt.tools.into_iter().map(tool).collect::<Vec<_>>()).into()),
        ("tool_choice", prompt.choice.filter(|_| has_tools).map(choice).into()),
        ("parallel_tool_calls", prompt.one_call.filter(|_| has_tools).map(|_| false).into()),
        ("stream", prompt.stream.into()),
    ]);
    Ok(request.bytes())
}

/// OpenAI's own newer models refuse `max_tokens`, which is all that many other servers know.
fn says_completion_tokens(model: &str) -> bool {
    let reasons = model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    reasons || model.starts_with("gpt-") || model.starts_with("chatgpt-")
}

fn shape(shape: Shape<'_>) -> Json<'_> {
    match shape {
        Shape::Text => Json::Absent,
        Shape::Json { .. } => object([("type", "json_object".into())]),
        Shape::Schema { name, schema } => object([
            ("type", "json_schema".into()),
            (
                "json_schema",
                object([
                    ("name", name.unwrap_or(Cow::Borrowed("answer")).into()),
                    ("strict", true.into()),
                    ("schema", schema.into()),
                ]),
            ),
        ]),
    }
}

fn tool(tool: Tool<'_>) -> Json<'_> {
    let function = object([
        ("name", tool.name.into()),
        ("description", tool.description.into()),
        ("parameters", tool.input.into()),
    ]);
    object([("type", "function".into()), ("function", function)])
}

fn choice(choice: Choice<'_>) -> Json<'_> {
    match choice {
        Choice::Auto => "auto".into(),
        Choice::Never => "none".into(),
        Choice::Any => "required".into(),
        Choice::Named(name) => object([("type", "function".into()), ("function", object([("name", name.into())]))]),
    }
}

/// Outcomes of calls are messages of their own, and stand right behind the calls.
fn write_turn<'a>(turn: Turn<'a>, messages: &mut Vec<Json<'a>>) -> Result<(), Untranslatable> {
    let mut content = Vec::new();
    let mut calls = Vec::new();
    for part in turn.parts {
        match part {
            Part::Text(text) => content.push(Content::Text(text)),
            Part::Image { source, .. } => {
                let image = object([("url", url(source).into())]);
                content.push(Content::Other(object([("type", "image_url".into()), ("image_url", image)])));
            }
            Part::File { name, source, place } => {
                let Source::Inline { .. } = source else { return Err(Untranslatable::unsupported(&place)) };
                let name = name.unwrap_or(Cow::Borrowed("document.pdf"));
                let file = object([("filename", name.into()), ("file_data", url(source).into())]);
                content.push(Content::Other(object([("type", "file".into()), ("file", file)])));
            }
            Part::Audio { place, .. } => return Err(Untranslatable::unsupported(&place)),
            Part::Call { id, name, input, .. } => {
                let function = object([("name", name.into()), ("arguments", input.get().to_owned().into())]);
                calls.push(object([("id", id.into()), ("type", "function".into()), ("function", function)]));
            }
            Part::Outcome { call, text, .. } => messages.push(object([
                ("role", "tool".into()),
                ("tool_call_id", call.into()),
                ("content", text.into()),
            ])),
        }
    }
    match turn.role {
        Role::User if content.is_empty() => {}
        Role::User => messages.push(object([("role", "user".into()), ("content", user_content(content))])),
        Role::Assistant => messages.push(assistant(content, calls)),
    }
    Ok(())
}

enum Content<'a> {
    Text(Cow<'a, str>),
    Other(Json<'a>),
}

fn user_content(mut content: Vec<Content<'_>>) -> Json<'_> {
    if let [Content::Text(text)] = content.as_mut_slice() {
        return std::mem::take(text).into();
    }
    let part = |content| match content {
        Content::Text(text) => object([("type", "text".into()), ("text", text.into())]),
        Content::Other(part) => part,
    };
    Json::List(content.into_iter().map(part).collect())
}

fn assistant<'a>(content: Vec<Content<'a>>, calls: Vec<Json<'a>>) -> Json<'a> {
    let mut text = String::new();
    for part in content {
        if let Content::Text(more) = part {
            text.push_str(&more);
        }
    }
    let text = if text.is_empty() && !calls.is_empty() { Json::Null } else { text.into() };
    object([
        ("role", "assistant".into()),
        ("content", text),
        ("tool_calls", (!calls.is_empty()).then_some(calls).into()),
    ])
}

fn url(source: Source<'_>) -> Cow<'_, str> {
    match source {
        Source::Address(url) => url,
        Source::Inline { media_type, data } => Cow::Owned(format!("data:{media_type};base64,{data}")),
    }
}
