//! What a request calls, and what it asks for, read from its bytes without building a tree: prompts have hundreds of
//! kilobytes, and most of them go on unchanged.
//!
//! Only the top of the body is read closely. What lies deeper is checked as far as it must be so that every JSON parser
//! finds the same members at the top; the rest is for the target to judge.

mod call;
mod json;
mod long;
mod members;
mod resumed;

use std::ops::Range;

pub use self::{
    call::{Call, Generate, InPath, Listing, Method, call},
    long::Long,
    resumed::Resumable,
};
use self::{
    json::Image,
    members::{Member, Members},
};
use crate::model::model_route::{Api, Dialect, MODEL_NAME_MAX};

/// What a request asks a model for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// API that it calls.
    pub api: Api,
    /// Model as the caller names it; never empty.
    pub model: String,
    /// How the answer comes.
    pub delivery: Delivery,
    /// Most tokens of an answer that the caller lets it have.
    pub max_output: Option<u64>,
    /// Answers that are written to one prompt, and paid; at least 1.
    pub choices: u32,
    /// What a target must be able to do.
    pub needs: Needs,
    /// Whether the caller itself asks for usage at the end of a stream of OpenAI's shape.
    pub usage_asked: UsageAsked,
    pub(super) places: Places,
}

/// How an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// As server-sent events.
    Stream,
    /// In one piece.
    Whole,
}

/// What a target must be able to do for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Call tools.
    pub tools: bool,
    /// Answer as JSON.
    pub json: bool,
    /// Read images.
    pub vision: bool,
}

/// Whether the caller asks for usage in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageAsked {
    /// It does, and gets the chunk that says it.
    Yes,
    /// It does not; such a chunk is not for it.
    No,
}

/// Where in the body the members stand that are rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Value of `model`; `None` where the path names it.
    pub model: Option<Range<usize>>,
    /// Right behind the `{` of the body.
    pub top: usize,
    /// Value of `messages`.
    pub messages: Option<Range<usize>>,
    pub stream_options: StreamOptions,
}

/// `stream_options` of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StreamOptions {
    Absent,
    /// Something that is no object: `null`, or a mistake that is the target's to refuse.
    Other(Range<usize>),
    Object {
        /// The whole object.
        value: Range<usize>,
        /// Whether it has members.
        filled: bool,
        include_usage: Option<Range<usize>>,
        continuous: Option<Range<usize>>,
    },
}

/// Why a body cannot be served at all; the caller's mistake (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Sentence for people.
    pub message: String,
    /// Member that is to blame.
    pub parameter: Option<&'static str>,
}

impl Refused {
    fn whole(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), parameter: None }
    }

    fn of(parameter: &'static str, problem: &str) -> Refused {
        Refused { message: format!("`{parameter}` {problem}"), parameter: Some(parameter) }
    }
}

/// Whether a request may call a model so: what is longer than any configured name would only fill tables.
fn check_name(model: &str) -> Result<(), Refused> {
    match model.len() {
        0 => Err(Refused::of("model", "is empty")),
        1..=MODEL_NAME_MAX => Ok(()),
        _ => Err(Refused::of("model", "is too long")),
    }
}

/// Reads what the body of a call asks for.
///
/// # Errors
/// Where the body is no JSON object, names no model, or gives a member that decides about routing or cost in a form that
/// servers read differently: twice, with other capitals, or with another type.
pub fn read(generate: &Generate, body: &[u8]) -> Result<Asked, Refused> {
    let api = generate.api;
    let members = Members::whole(body, names(api))?;
    let streamed = members.flag("stream")?.unwrap_or(false);
    let (model, delivery) = match &generate.in_path {
        Some(InPath { method: Method::List, .. }) => {
            return Err(Refused::of("alt", "must be `sse`: streams are served as server-sent events only"));
        }
        Some(InPath { model, method: Method::Stream }) => (model.clone(), Delivery::Stream),
        Some(InPath { model, method: Method::Whole }) => (model.clone(), Delivery::Whole),
        None => {
            let model = members.text("model")?.ok_or_else(|| Refused::of("model", "is missing"))?;
            (model, if streamed { Delivery::Stream } else { Delivery::Whole })
        }
    };
    check_name(&model)?;
    let config = members.object_of(CONFIG, CONFIG_NAMES)?;
    let (stream_options, usage_asked) = stream_options(&members)?;
    Ok(Asked {
        api,
        model,
        delivery,
        max_output: max_output(api, &members, config.as_ref())?,
        choices: choices(&members, config.as_ref())?,
        needs: Needs {
            tools: ["tools", "functions"].iter().any(|name| members.given(name).is_some_and(|tools| tools.filled)),
            json: asks_json(api, &members, config.as_ref())?,
            vision: ["messages", "input", "contents"]
                .iter()
                .any(|name| members.given(name).is_some_and(|prompt| prompt.image == Image::Seen)),
        },
        usage_asked,
        places: Places {
            model: generate
                .in_path
                .is_none()
                .then(|| members.get("model").map(|member| member.value.clone()))
                .flatten(),
            top: members.begin,
            messages: members.get("messages").map(|member| member.value.clone()),
            stream_options,
        },
    })
}

/// Gemini's members of the same meaning in both spellings, as its parser takes them.
const CONFIG: [&str; 2] = ["generationConfig", "generation_config"];
const MAX_OUTPUT: [&str; 2] = ["maxOutputTokens", "max_output_tokens"];
const CANDIDATES: [&str; 2] = ["candidateCount", "candidate_count"];
const MIME_TYPE: [&str; 2] = ["responseMimeType", "response_mime_type"];
const SCHEMAS: [&str; 4] = ["responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"];
const CONFIG_NAMES: &[&str] = &[
    MAX_OUTPUT[0],
    MAX_OUTPUT[1],
    CANDIDATES[0],
    CANDIDATES[1],
    MIME_TYPE[0],
    MIME_TYPE[1],
    SCHEMAS[0],
    SCHEMAS[1],
    SCHEMAS[2],
    SCHEMAS[3],
];

/// Members at the top of a body that are read.
fn names(api: Api) -> &'static [&'static str] {
    match api {
        Api::ChatCompletions => &[
            "model",
            "stream",
            "stream_options",
            "max_completion_tokens",
            "max_tokens",
            "n",
            "tools",
            "functions",
            "response_format",
            "messages",
        ],
        Api::Completions => &["model", "stream", "stream_options", "max_tokens", "n", "best_of", "response_format"],
        Api::Responses => &["model", "stream", "max_output_tokens", "tools", "text", "input"],
        Api::Embeddings => &["model"],
        Api::Messages => &["model", "stream", "max_tokens", "tools", "output_format", "output_config", "messages"],
        Api::GenerateContent => &[CONFIG[0], CONFIG[1], "tools", "contents"],
    }
}

fn max_output(api: Api, members: &Members<'_>, config: Option<&Members<'_>>) -> Result<Option<u64>, Refused> {
    match api {
        Api::ChatCompletions => Ok(members.number("max_completion_tokens")?.or(members.number("max_tokens")?)),
        Api::Completions | Api::Messages => members.number("max_tokens"),
        Api::Responses => members.number("max_output_tokens"),
        Api::Embeddings => Ok(None),
        Api::GenerateContent => config.map_or(Ok(None), |config| config.number_of(MAX_OUTPUT)),
    }
}

fn choices(members: &Members<'_>, config: Option<&Members<'_>>) -> Result<u32, Refused> {
    let candidates = config.map_or(Ok(None), |config| config.number_of(CANDIDATES))?;
    // `best_of` answers are written and paid, `n` of them are shown.
    let most = [members.number("n")?, members.number("best_of")?, candidates].into_iter().flatten().max();
    match u32::try_from(most.unwrap_or(1)) {
        Ok(choices) => Ok(choices.max(1)),
        Err(_) => Err(Refused::of("n", "is too large")),
    }
}

fn asks_json(api: Api, members: &Members<'_>, config: Option<&Members<'_>>) -> Result<bool, Refused> {
    let shaped = |format: Option<Members<'_>>| -> Result<bool, Refused> {
        let kind = format.map_or(Ok(None), |format| format.text("type"))?;
        Ok(kind.is_some_and(|kind| kind == "json_object" || kind == "json_schema"))
    };
    match api {
        Api::ChatCompletions | Api::Completions => shaped(members.object("response_format", &["type"])?),
        Api::Responses => match members.object("text", &["format"])? {
            Some(text) => shaped(text.object("format", &["type"])?),
            None => Ok(false),
        },
        Api::Messages => {
            let config = members.object("output_config", &["format"])?;
            let format = config.as_ref().and_then(|config| config.given("format"));
            Ok(format.or(members.given("output_format")).is_some())
        }
        Api::GenerateContent => {
            let Some(config) = config else { return Ok(false) };
            let schema = SCHEMAS.iter().any(|name| config.given(name).is_some());
            Ok(schema || config.text_of(MIME_TYPE)?.is_some_and(|kind| kind == "application/json"))
        }
        Api::Embeddings => Ok(false),
    }
}

fn stream_options(members: &Members<'_>) -> Result<(StreamOptions, UsageAsked), Refused> {
    let Some(Member { value, filled, .. }) = members.get("stream_options") else {
        return Ok((StreamOptions::Absent, UsageAsked::No));
    };
    let Some(options) = members.object("stream_options", &["include_usage", "continuous_usage_stats"])? else {
        return Ok((StreamOptions::Other(value.clone()), UsageAsked::No));
    };
    let asked = options.flag("include_usage")?.unwrap_or(false);
    let place = |name| options.get(name).map(|member| member.value.clone());
    let found = StreamOptions::Object {
        value: value.clone(),
        filled: *filled,
        include_usage: place("include_usage"),
        continuous: place("continuous_usage_stats"),
    };
    Ok((found, if asked { UsageAsked::Yes } else { UsageAsked::No }))
}

#[cfg(test)]
mod tests;
