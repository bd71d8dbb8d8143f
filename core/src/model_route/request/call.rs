//! Which API a method and a path call.

use super::Dialect;
use crate::{fields::Fields, model::model_route::Api, route::decoded};

/// What a request to a model host calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Asks a model for something; the body says what.
    Generate(Generate),
    /// Asks which models there are.
    Models(Listing),
    /// OpenAI's realtime API: a WebSocket.
    Realtime {
        /// Model of the query.
        model: Option<String>,
    },
}

/// A call whose body [`super::read`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generate {
    /// API.
    pub api: Api,
    /// What the path says itself; at Gemini only.
    pub in_path: Option<InPath>,
}

/// Model and method in a path of Gemini.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPath {
    /// Model.
    pub model: String,
    /// Method.
    pub method: Method,
}

/// Method of a path of Gemini.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `:generateContent`.
    Whole,
    /// `:streamGenerateContent?alt=sse`.
    Stream,
    /// `:streamGenerateContent` without `alt=sse`: one JSON list, bit by bit. Not served.
    List,
}

/// A question for models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Whose shape the answer has. All three share the path `/v1/models`; Anthropic's clients are told by
    /// `anthropic-version`, and Google's by the fields that begin with `x-goog-api-`.
    pub dialect: Dialect,
    /// The one that is asked for; `None` = all.
    pub model: Option<String>,
}

/// What a request calls; `None` where no API is there. Only paths that providers document exist, letter by letter.
pub fn call(method: &str, path_and_query: &str, fields: &dyn Fields) -> Option<Call> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    match method {
        "POST" => generate(path, query).map(Call::Generate),
        "GET" if path == "/v1/realtime" => Some(Call::Realtime { model: parameter(query, "model") }),
        "GET" => listing(path, fields).map(Call::Models),
        _ => None,
    }
}

fn generate(path: &str, query: &str) -> Option<Generate> {
    let api = match path {
        "/v1/chat/completions" => Api::ChatCompletions,
        "/v1/responses" => Api::Responses,
        "/v1/completions" => Api::Completions,
        "/v1/embeddings" => Api::Embeddings,
        "/v1/messages" => Api::Messages,
        _ => return gemini(path, query),
    };
    Some(Generate { api, in_path: None })
}

fn gemini(path: &str, query: &str) -> Option<Generate> {
    let rest = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    // Names of models may have colons themselves (`llama3:8b`).
    let (model, method) = rest.rsplit_once(':')?;
    let method = match method {
        "generateContent" => Method::Whole,
        "streamGenerateContent" if parameter(query, "alt").as_deref() == Some("sse") => Method::Stream,
        "streamGenerateContent" => Method::List,
        _ => return None,
    };
    Some(Generate { api: Api::GenerateContent, in_path: Some(InPath { model: named(model)?, method }) })
}

/// What Google's clients send; newer ones call the stable `/v1` where older ones called `/v1beta`.
const GOOGLE: [&str; 2] = ["x-goog-api-key", "x-goog-api-client"];

fn listing(path: &str, fields: &dyn Fields) -> Option<Listing> {
    let (rest, dialect) = match (path.strip_prefix("/v1beta/models"), path.strip_prefix("/v1/models")) {
        (Some(rest), _) => (rest, Dialect::Gemini),
        (None, Some(rest)) if fields.first("anthropic-version").is_some() => (rest, Dialect::Anthropic),
        (None, Some(rest)) if GOOGLE.iter().any(|name| fields.first(name).is_some()) => (rest, Dialect::Gemini),
        (None, Some(rest)) => (rest, Dialect::Openai),
        (None, None) => return None,
    };
    let model = match rest {
        "" => None,
        // Names may have slashes (`org/model`), which clients do not escape.
        rest => Some(named(rest.strip_prefix('/')?)?),
    };
    Some(Listing { dialect, model })
}

/// A name in a path, decoded; never empty. A plus is a plus there.
fn named(text: &str) -> Option<String> {
    let name = String::from_utf8(decoded(&text.replace('+', "%2B")).into_owned()).ok()?;
    (!name.is_empty()).then_some(name)
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name)?;
    String::from_utf8(decoded(value).into_owned()).ok().filter(|value| !value.is_empty())
}
