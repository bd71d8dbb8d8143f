//! Nouns of calls to language models: whose protocol a target speaks, which API a request calls, why an attempt failed,
//! and what was used.

mod drill;
mod pattern;
mod route;
mod tokens;
mod words;

use serde::{Deserialize, Serialize};

pub use self::{
    drill::{Drill, Driller, NotADriller},
    pattern::{MODEL_NAME_MAX, NotAName, model_name},
    route::{
        BODY_LIMIT, BODY_MAX, Can, Capabilities, Credential, Escalate, Hedge, MidStream, ModelEndpoint, ModelRetry,
        ModelRoute, ModelTarget, ModelTimers, NamePattern, OnExhausted, Security, UsageInStreams, VirtualModel,
    },
    tokens::{Counted, KeyPart, Limit, LimitMode, LimitStore, OnStoreDown, Price, TokenLimits},
    words::Word,
};

/// Who serves a target; says which protocol it speaks and how a credential is shown to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// OpenAI: `authorization: Bearer`.
    Openai,
    /// Anthropic: `x-api-key` and `anthropic-version`.
    Anthropic,
    /// Google Gemini: `x-goog-api-key`; the model stands in the path.
    Gemini,
    /// Azure OpenAI: `api-key`, deployments in the path.
    Azure,
    /// DashScope in its OpenAI compatible mode.
    Dashscope,
    /// vLLM: OpenAI's APIs, in the mesh or outside.
    Vllm,
    /// Anything else that speaks OpenAI's APIs.
    OpenaiCompatible,
}

impl Provider {
    /// Every provider, as resources write it.
    pub const ALL: [(&'static str, Provider); 7] = [
        ("openai", Provider::Openai),
        ("anthropic", Provider::Anthropic),
        ("gemini", Provider::Gemini),
        ("azure", Provider::Azure),
        ("dashscope", Provider::Dashscope),
        ("vllm", Provider::Vllm),
        ("openai-compatible", Provider::OpenaiCompatible),
    ];

    /// As resources write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Openai => "openai",
            Provider::Anthropic => "anthropic",
            Provider::Gemini => "gemini",
            Provider::Azure => "azure",
            Provider::Dashscope => "dashscope",
            Provider::Vllm => "vllm",
            Provider::OpenaiCompatible => "openai-compatible",
        }
    }

    /// As OpenTelemetry's conventions for generative AI call it (`gen_ai.provider.name`); the word itself where they have
    /// no name for it.
    pub fn convention_name(self) -> &'static str {
        match self {
            Provider::Gemini => "gcp.gemini",
            Provider::Azure => "azure.ai.openai",
            Provider::Openai
            | Provider::Anthropic
            | Provider::Dashscope
            | Provider::Vllm
            | Provider::OpenaiCompatible => self.as_str(),
        }
    }

    /// Whose message shapes it speaks.
    pub fn dialect(self) -> Dialect {
        match self {
            Provider::Anthropic => Dialect::Anthropic,
            Provider::Gemini => Dialect::Gemini,
            Provider::Openai | Provider::Azure | Provider::Dashscope | Provider::Vllm | Provider::OpenaiCompatible => {
                Dialect::Openai
            }
        }
    }
}

/// Shapes of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Gemini.
    Gemini,
}

/// What a request calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// OpenAI `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI `POST /v1/responses`.
    Responses,
    /// OpenAI `POST /v1/completions`.
    Completions,
    /// OpenAI `POST /v1/embeddings`.
    Embeddings,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// Gemini `POST /v1beta/models/<model>:generateContent` and `:streamGenerateContent`.
    GenerateContent,
}

impl Api {
    /// Every API.
    pub const ALL: [Api; 6] =
        [Api::ChatCompletions, Api::Responses, Api::Completions, Api::Embeddings, Api::Messages, Api::GenerateContent];

    /// Whose shapes it has.
    pub fn dialect(self) -> Dialect {
        match self {
            Api::ChatCompletions | Api::Responses | Api::Completions | Api::Embeddings => Dialect::Openai,
            Api::Messages => Dialect::Anthropic,
            Api::GenerateContent => Dialect::Gemini,
        }
    }

    /// `gen_ai.operation.name` of OpenTelemetry's conventions.
    pub fn operation(self) -> &'static str {
        match self {
            Api::ChatCompletions | Api::Responses | Api::Messages => "chat",
            Api::Completions => "text_completion",
            Api::Embeddings => "embeddings",
            Api::GenerateContent => "generate_content",
        }
    }
}

/// Why an attempt at a target came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No connection: refused, unreachable, TLS failed, or not within `timers.connect`.
    Connect,
    /// The connection broke, or the answer ended without its final event.
    Reset,
    /// No head within `timers.headers`.
    TimeoutHeaders,
    /// No token within `timers.firstToken`.
    TimeoutFirstToken,
    /// Nothing for `timers.idle` after the first token.
    Stall,
    /// Asked too often (429, `rate_limit_*`).
    Rate,
    /// Nothing left to spend (`insufficient_quota`, billing).
    Quota,
    /// 503, 529, `overloaded_error`.
    Overloaded,
    /// Any other 5xx.
    Server,
    /// 401, 403: the credential.
    Auth,
    /// 404: the model or the path.
    NotFound,
    /// The prompt is longer than the model's window.
    Context,
    /// Refused for what it says.
    ContentFilter,
    /// Any other 4xx: would fail everywhere.
    BadRequest,
    /// An answer without content.
    Empty,
    /// Not what was asked for: HTML, no JSON, broken events.
    Decode,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 16] = [
        Reason::Connect,
        Reason::Reset,
        Reason::TimeoutHeaders,
        Reason::TimeoutFirstToken,
        Reason::Stall,
        Reason::Rate,
        Reason::Quota,
        Reason::Overloaded,
        Reason::Server,
        Reason::Auth,
        Reason::NotFound,
        Reason::Context,
        Reason::ContentFilter,
        Reason::BadRequest,
        Reason::Empty,
        Reason::Decode,
    ];

    /// As metrics, logs, resources and headers write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Connect => "connect",
            Reason::Reset => "reset",
            Reason::TimeoutHeaders => "timeout_headers",
            Reason::TimeoutFirstToken => "timeout_first_token",
            Reason::Stall => "stall",
            Reason::Rate => "rate",
            Reason::Quota => "quota",
            Reason::Overloaded => "overloaded",
            Reason::Server => "server",
            Reason::Auth => "auth",
            Reason::NotFound => "not_found",
            Reason::Context => "context",
            Reason::ContentFilter => "content_filter",
            Reason::BadRequest => "bad_request",
            Reason::Empty => "empty",
            Reason::Decode => "decode",
        }
    }
}

/// A failed attempt, as far as the target said why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Status to answer with if nobody else can serve: the target's own where it gave one (also inside a 200), else 502,
    /// or 504 for a time limit.
    pub status: u16,
    /// Sentence for people; never prompt or answer text. At most 512 bytes.
    pub message: String,
    /// The provider's own type or code of the error (`rate_limit_error`, `insufficient_quota`), if it gave one.
    pub code: Option<String>,
    /// When the target wants to be asked again.
    pub retry_after: Option<std::time::Duration>,
}

/// Tokens of one exchange with one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input: u64,
    /// Tokens written, reasoning included.
    pub output: u64,
    /// Of `input`, those read from the provider's cache.
    pub cached: u64,
}

/// Where a [`Usage`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageSource {
    /// The target said it.
    Reported,
    /// Counted from bytes, because the target said nothing.
    Estimated,
}

impl UsageSource {
    /// Both, in order of declaration.
    pub const ALL: [UsageSource; 2] = [UsageSource::Reported, UsageSource::Estimated];

    /// As metrics, logs and spans write it.
    pub fn as_str(self) -> &'static str {
        match self {
            UsageSource::Reported => "reported",
            UsageSource::Estimated => "estimated",
        }
    }

    /// Of a sum: it is estimated where a part of it is.
    #[must_use]
    pub fn with(self, other: UsageSource) -> UsageSource {
        match (self, other) {
            (UsageSource::Reported, UsageSource::Reported) => UsageSource::Reported,
            (UsageSource::Estimated, _) | (UsageSource::Reported, UsageSource::Estimated) => UsageSource::Estimated,
        }
    }
}
