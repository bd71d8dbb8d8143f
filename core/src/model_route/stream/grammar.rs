//! Where in a document that matters stands which counts: the members of every API's events and answers.
//!
//! Members are known by their place, not by their name alone: arguments of a Gemini function call, schemas of tools and
//! metadata in a Responses object are JSON with any names, `usage` and `error` among them.

use super::counts::Count;
use crate::model::model_route::Api;

/// A container that is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The document of an event.
    Event,
    /// The document of a whole answer.
    Answer,
    /// OpenAI `choices`.
    Choices,
    /// One of them.
    Choice,
    /// Its `delta`, or `message` in a whole answer.
    Delta,
    /// A usage object.
    Usage,
    /// Anthropic's first one, at the start of a message, whose `output_tokens` are no result.
    FirstUsage,
    /// Its `prompt_tokens_details`, `input_tokens_details`, `completion_tokens_details`, `output_tokens_details`.
    UsageDetails,
    /// Groq's `x_groq`.
    Vendor,
    /// Responses: `response`.
    Response,
    /// Its `incomplete_details`.
    Incomplete,
    /// `output` of a whole answer, or of one at the end of a stream.
    Outputs,
    /// One of them.
    Output,
    /// Its `content`.
    OutputParts,
    /// One of them.
    OutputPart,
    /// Anthropic: `message` of `message_start`.
    Message,
    /// `content_block` of `content_block_start`.
    Block,
    /// `delta` of `content_block_delta` and `message_delta`.
    BlockDelta,
    /// Gemini `candidates`.
    Candidates,
    /// One of them.
    Candidate,
    /// Its `content`.
    Content,
    /// Its `parts`.
    Parts,
    /// One of them.
    Part,
    /// `promptFeedback`.
    Feedback,
}

impl Place {
    /// Whether it is an array.
    pub(super) fn is_array(self) -> bool {
        matches!(self, Place::Choices | Place::Candidates | Place::Parts | Place::Outputs | Place::OutputParts)
    }
}

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing that counts here.
    Nothing,
    /// It is looked into.
    Inside(Place),
    /// A part of the answer, unless empty.
    Written,
    /// A part of all of the answer at once, unless empty.
    Output,
    /// `type` of an event.
    Kind,
    /// `object` of an event of OpenAI's shape.
    Object,
    /// `type` of a content block.
    BlockKind,
    /// `type` of one of the outputs of a response.
    OutputKind,
    /// Which choice this is.
    Index,
    /// Why the answer ends.
    Finish,
    /// `sequence_number`.
    Sequence,
    /// An error, unless null.
    Error,
    /// Why the prompt was refused, unless null.
    Blocked,
    /// A number of tokens.
    Count(Count),
}

impl Meaning {
    /// Whether the text of such a string has to be known, rather than that it is not empty.
    pub(super) fn is_named(self) -> bool {
        matches!(
            self,
            Meaning::Kind
                | Meaning::Object
                | Meaning::BlockKind
                | Meaning::OutputKind
                | Meaning::Finish
                | Meaning::Blocked
        )
    }

    /// Whether it says what sort of document this is.
    pub(super) fn is_sort(self) -> bool {
        matches!(self, Meaning::Kind | Meaning::Object)
    }

    /// Whether such a value is a number.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Meaning::Index | Meaning::Sequence | Meaning::Count(_))
    }
}

/// What the elements of an array mean.
pub(super) fn element(place: Place) -> Meaning {
    match place {
        Place::Choices => Meaning::Inside(Place::Choice),
        Place::Candidates => Meaning::Inside(Place::Candidate),
        Place::Parts => Meaning::Inside(Place::Part),
        Place::Outputs => Meaning::Inside(Place::Output),
        Place::OutputParts => Meaning::Inside(Place::OutputPart),
        // No arrays.
        Place::Event
        | Place::Answer
        | Place::Choice
        | Place::Delta
        | Place::Usage
        | Place::FirstUsage
        | Place::UsageDetails
        | Place::Vendor
        | Place::Response
        | Place::Incomplete
        | Place::Output
        | Place::OutputPart
        | Place::Message
        | Place::Block
        | Place::BlockDelta
        | Place::Candidate
        | Place::Content
        | Place::Part
        | Place::Feedback => Meaning::Nothing,
    }
}

/// What a member means.
pub(super) fn member(api: Api, place: Place, name: &[u8]) -> Meaning {
    match place {
        Place::Event => in_event(api, name),
        Place::Answer => in_answer(api, name),
        Place::Choice => in_choice(name),
        Place::Delta => in_delta(name),
        Place::Usage | Place::FirstUsage => in_usage(place, name),
        Place::UsageDetails => in_details(name),
        Place::Vendor | Place::Message if name == b"usage" => usage(place),
        Place::Response => in_response(name),
        Place::Incomplete if name == b"reason" => Meaning::Finish,
        Place::Output => in_output(name),
        Place::OutputPart if matches!(name, b"text" | b"refusal") => Meaning::Output,
        Place::Block => in_block(name),
        Place::BlockDelta => in_block_delta(name),
        Place::Candidate => in_candidate(name),
        Place::Content if name == b"parts" => Meaning::Inside(Place::Parts),
        Place::Part => in_part(name),
        Place::Feedback if name == b"blockReason" => Meaning::Blocked,
        Place::Vendor
        | Place::Message
        | Place::Incomplete
        | Place::Content
        | Place::Feedback
        | Place::Choices
        | Place::Candidates
        | Place::Parts
        | Place::Outputs
        | Place::OutputParts
        | Place::OutputPart => Meaning::Nothing,
    }
}

fn usage(place: Place) -> Meaning {
    Meaning::Inside(if place == Place::Message { Place::FirstUsage } else { Place::Usage })
}

fn in_event(api: Api, name: &[u8]) -> Meaning {
    match (api, name) {
        (_, b"error") => Meaning::Error,
        (Api::ChatCompletions | Api::Completions | Api::Embeddings, _) => in_chunk(name),
        (Api::Responses | Api::Messages, b"type") => Meaning::Kind,
        (Api::Responses, b"delta" | b"partial_image_b64") => Meaning::Written,
        (Api::Responses, b"sequence_number") => Meaning::Sequence,
        (Api::Responses, b"response") => Meaning::Inside(Place::Response),
        (Api::Messages, b"message") => Meaning::Inside(Place::Message),
        (Api::Messages, b"content_block") => Meaning::Inside(Place::Block),
        (Api::Messages, b"delta") => Meaning::Inside(Place::BlockDelta),
        (Api::Messages, b"usage") => Meaning::Inside(Place::Usage),
        (Api::GenerateContent, _) => in_generated(name),
        (Api::Responses | Api::Messages, _) => Meaning::Nothing,
    }
}

fn in_answer(api: Api, name: &[u8]) -> Meaning {
    match (api, name) {
        (_, b"error") => Meaning::Error,
        (Api::Embeddings, b"data") => Meaning::Written,
        (Api::ChatCompletions | Api::Completions | Api::Embeddings, _) => in_chunk(name),
        (Api::Responses, _) => in_response(name),
        (Api::Messages, b"type") => Meaning::Kind,
        (Api::Messages, b"content") => Meaning::Written,
        (Api::Messages, b"stop_reason") => Meaning::Finish,
        (Api::Messages, b"usage") => Meaning::Inside(Place::Usage),
        (Api::Messages, _) => Meaning::Nothing,
        (Api::GenerateContent, _) => in_generated(name),
    }
}

fn in_chunk(name: &[u8]) -> Meaning {
    match name {
        b"choices" => Meaning::Inside(Place::Choices),
        b"usage" => Meaning::Inside(Place::Usage),
        b"object" => Meaning::Object,
        b"x_groq" => Meaning::Inside(Place::Vendor),
        _ => Meaning::Nothing,
    }
}

fn in_choice(name: &[u8]) -> Meaning {
    match name {
        b"delta" | b"message" => Meaning::Inside(Place::Delta),
        b"text" => Meaning::Written,
        b"index" => Meaning::Index,
        b"finish_reason" => Meaning::Finish,
        // Moonshot's place.
        b"usage" => Meaning::Inside(Place::Usage),
        _ => Meaning::Nothing,
    }
}

fn in_delta(name: &[u8]) -> Meaning {
    match name {
        b"content" | b"reasoning_content" | b"reasoning" | b"reasoning_details" | b"refusal" | b"tool_calls"
        | b"function_call" | b"audio" | b"images" => Meaning::Written,
        _ => Meaning::Nothing,
    }
}

fn in_response(name: &[u8]) -> Meaning {
    match name {
        b"usage" => Meaning::Inside(Place::Usage),
        b"error" => Meaning::Error,
        b"output" => Meaning::Inside(Place::Outputs),
        b"incomplete_details" => Meaning::Inside(Place::Incomplete),
        _ => Meaning::Nothing,
    }
}

/// Messages say what their parts say; everything else (calls, reasoning, pictures) says something by being there.
fn in_output(name: &[u8]) -> Meaning {
    match name {
        b"type" => Meaning::OutputKind,
        b"content" => Meaning::Inside(Place::OutputParts),
        _ => Meaning::Nothing,
    }
}

fn in_block(name: &[u8]) -> Meaning {
    match name {
        b"type" => Meaning::BlockKind,
        b"text" | b"thinking" | b"data" | b"name" => Meaning::Written,
        _ => Meaning::Nothing,
    }
}

fn in_block_delta(name: &[u8]) -> Meaning {
    match name {
        b"text" | b"partial_json" | b"thinking" | b"signature" | b"citation" => Meaning::Written,
        b"stop_reason" => Meaning::Finish,
        _ => Meaning::Nothing,
    }
}

fn in_generated(name: &[u8]) -> Meaning {
    match name {
        b"candidates" => Meaning::Inside(Place::Candidates),
        b"promptFeedback" => Meaning::Inside(Place::Feedback),
        b"usageMetadata" => Meaning::Inside(Place::Usage),
        _ => Meaning::Nothing,
    }
}

fn in_candidate(name: &[u8]) -> Meaning {
    match name {
        b"content" => Meaning::Inside(Place::Content),
        b"index" => Meaning::Index,
        b"finishReason" => Meaning::Finish,
        _ => Meaning::Nothing,
    }
}

fn in_part(name: &[u8]) -> Meaning {
    match name {
        b"text" | b"functionCall" | b"inlineData" | b"fileData" | b"executableCode" | b"codeExecutionResult" => {
            Meaning::Written
        }
        _ => Meaning::Nothing,
    }
}

fn in_usage(place: Place, name: &[u8]) -> Meaning {
    match name {
        b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" => Meaning::Count(Count::Input),
        b"output_tokens" if place == Place::FirstUsage => Meaning::Nothing,
        b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" => Meaning::Count(Count::Output),
        b"cache_read_input_tokens" | b"cachedContentTokenCount" => Meaning::Count(Count::Cached),
        // Moonshot and DeepSeek, beside OpenAI's details.
        b"cached_tokens" | b"prompt_cache_hit_tokens" => Meaning::Count(Count::Cached),
        b"cache_creation_input_tokens" => Meaning::Count(Count::CacheWritten),
        b"thoughtsTokenCount" => Meaning::Count(Count::Reasoning),
        b"toolUsePromptTokenCount" => Meaning::Count(Count::ToolPrompt),
        b"total_tokens" => Meaning::Count(Count::Total),
        b"prompt_tokens_details"
        | b"input_tokens_details"
        | b"completion_tokens_details"
        | b"output_tokens_details" => Meaning::Inside(Place::UsageDetails),
        _ => Meaning::Nothing,
    }
}

fn in_details(name: &[u8]) -> Meaning {
    match name {
        b"cached_tokens" => Meaning::Count(Count::Cached),
        b"reasoning_tokens" => Meaning::Count(Count::Reasoning),
        _ => Meaning::Nothing,
    }
}
