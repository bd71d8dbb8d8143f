//! Arguments of `mesh-ctl model …`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use http::Uri;
use mesh_core::model::model_route::Api;

use super::{duration, sidecar_url};
use crate::output::Format;

/// Commands about models.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Routes with their hosts, models and targets; with --admin how each target stands for that proxy
    List {
        /// Show the models of this name alone, or those whose name begins so and ends in `*`
        name: Option<String>,
        /// What this proxy knows: pod, namespace/pod, or HOST:PORT of an admin port (loopback of its machine or namespace)
        #[arg(long, value_name = "PROXY")]
        admin: Option<String>,
        /// Format of the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// For a request given by its model and needs: which targets are asked in which order, and why the others are not
    Explain(ModelExplain),
    /// Send one real request through a sidecar: who serves it, how fast, and what it uses
    Try(Try),
    /// Tokens and money by who used them: in all, or within the last hours or days
    Usage(Usage),
}

/// Arguments of `model explain`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ModelExplain {
    /// Model, as a caller writes it
    pub(crate) model: String,
    /// Host that the caller uses (default: any)
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// What is called (default: whatever a target speaks)
    #[arg(long, value_enum)]
    pub(crate) api: Option<ModelApi>,
    /// The request has tools
    #[arg(long)]
    pub(crate) tools: bool,
    /// The request asks for a JSON shape
    #[arg(long)]
    pub(crate) json: bool,
    /// The request has images
    #[arg(long)]
    pub(crate) vision: bool,
    /// Tokens of prompt and answer together
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub(crate) tokens: u64,
    /// Lane of the request, GROUP/LANE or LANE
    #[arg(long)]
    pub(crate) lane: Option<String>,
    /// Ask this proxy, which knows how targets stand: pod, namespace/pod, or HOST:PORT of an admin port (default: the
    /// controller, which knows the route alone)
    #[arg(long, value_name = "PROXY")]
    pub(crate) admin: Option<String>,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelApi {
    /// OpenAI chat completions
    Chat,
    /// OpenAI responses
    Responses,
    /// OpenAI completions
    Completions,
    /// OpenAI embeddings
    Embeddings,
    /// Anthropic messages
    Messages,
    /// Gemini generateContent
    Gemini,
}

impl From<ModelApi> for Api {
    fn from(api: ModelApi) -> Api {
        match api {
            ModelApi::Chat => Api::ChatCompletions,
            ModelApi::Responses => Api::Responses,
            ModelApi::Completions => Api::Completions,
            ModelApi::Embeddings => Api::Embeddings,
            ModelApi::Messages => Api::Messages,
            ModelApi::Gemini => Api::GenerateContent,
        }
    }
}

/// Arguments of `model try`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Try {
    /// Model, as a caller writes it
    pub(crate) model: String,
    /// Host that the caller uses (default: one of the model's route, asked of the controller)
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// What the user says
    #[arg(long, default_value = "Say hello in one short sentence.")]
    pub(crate) message: String,
    /// Have the answer in pieces, as they are made
    #[arg(long)]
    pub(crate) stream: bool,
    /// What is called
    #[arg(long, value_enum, default_value_t)]
    pub(crate) api: TryApi,
    /// Lane of the request, GROUP/LANE or LANE
    #[arg(long)]
    pub(crate) lane: Option<String>,
    /// Sidecar through which the request goes: where applications' calls reach it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4140", value_parser = sidecar_url)]
    pub(crate) proxy: Uri,
    /// Longest wait for the whole answer
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2m")]
    pub(crate) wait: Duration,
    /// Format of the result; a table shows the text as it comes
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What `model try` can call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TryApi {
    /// OpenAI chat completions
    #[default]
    Chat,
    /// Anthropic messages
    Messages,
}

/// Arguments of `model usage`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Usage {
    /// What rows are added up by
    #[arg(long, value_enum, value_delimiter = ',', default_value = "model,target")]
    pub(crate) by: Vec<By>,
    /// Only what was used within this time, at most 31 days, for example 1h or 7d (default: all that the controller has
    /// counted)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: UsageFormat,
}

/// What usage is added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Workload that called
    Identity,
    /// Lane of the request
    Lane,
    /// Model route
    Route,
    /// Model, as callers write it
    Model,
    /// Target that was asked
    Target,
}

impl By {
    /// The field of the controller's rows.
    pub(crate) fn field(self) -> &'static str {
        match self {
            By::Identity => "identity",
            By::Lane => "lane",
            By::Route => "route",
            By::Model => "model",
            By::Target => "target",
        }
    }
}

/// Format of usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageFormat {
    /// Columns for people
    #[default]
    Table,
    /// JSON, stable names
    Json,
    /// Comma-separated values with a line of names, for spreadsheets
    Csv,
}
