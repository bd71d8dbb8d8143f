//! A request as no dialect writes it: what a reader of one dialect leaves for the writer of another.
//!
//! What every target refuses is refused by the reader. What only some cannot say carries its `place`, the path of the
//! member in the client's own words, so that a writer can name it.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// A request.
#[derive(Default)]
pub(super) struct Prompt<'a> {
    /// Instructions of the system, in order.
    pub(super) system: Vec<Cow<'a, str>>,
    /// The conversation.
    pub(super) turns: Vec<Turn<'a>>,
    /// Tools that may be called.
    pub(super) tools: Vec<Tool<'a>>,
    /// Which of them must be called.
    pub(super) choice: Option<Choice<'a>>,
    /// Place of the member that asks for at most one call at a time.
    pub(super) one_call: Option<&'static str>,
    /// Most tokens to be written.
    pub(super) max_tokens: Option<&'a RawValue>,
    /// Sampling, as written.
    pub(super) sampling: Sampling<'a>,
    /// Texts that end the answer.
    pub(super) stop: Vec<Cow<'a, str>>,
    /// Their place.
    pub(super) stop_place: &'static str,
    /// Whom the application serves.
    pub(super) user: Option<Cow<'a, str>>,
    /// What the answer must look like.
    pub(super) shape: Shape<'a>,
    /// Whether it is to be streamed, as written.
    pub(super) stream: Option<&'a RawValue>,
}

/// How tokens are drawn; numbers as written.
#[derive(Default)]
pub(super) struct Sampling<'a> {
    pub(super) temperature: Option<&'a RawValue>,
    pub(super) top_p: Option<&'a RawValue>,
    pub(super) top_k: Option<&'a RawValue>,
    pub(super) seed: Option<&'a RawValue>,
    pub(super) presence_penalty: Option<&'a RawValue>,
    pub(super) frequency_penalty: Option<&'a RawValue>,
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
}

/// One message.
pub(super) struct Turn<'a> {
    pub(super) role: Role,
    pub(super) parts: Vec<Part<'a>>,
}

/// A part of a message.
pub(super) enum Part<'a> {
    /// Text; never empty.
    Text(Cow<'a, str>),
    /// A picture.
    Image { source: Source<'a>, place: String },
    /// Sound: its format (`wav`, `mp3`) and base64.
    Audio { format: Cow<'a, str>, data: Cow<'a, str>, place: String },
    /// A document.
    File { name: Option<Cow<'a, str>>, source: Source<'a>, place: String },
    /// A call of a tool by the model.
    Call { id: Cow<'a, str>, name: Cow<'a, str>, input: Cow<'a, RawValue>, signature: Option<Cow<'a, str>> },
    /// What came of a call.
    Outcome { call: Cow<'a, str>, text: Cow<'a, str>, ending: Ending, place: String },
}

/// How a call of a tool ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It gave a result, or it is not known that it did not.
    Done,
    /// It failed.
    Failed,
}

/// Where a picture or document is.
pub(super) enum Source<'a> {
    /// In the request: media type in lower case, and base64.
    Inline { media_type: Cow<'a, str>, data: Cow<'a, str> },
    /// At an `http` or `https` address.
    Address(Cow<'a, str>),
}

/// A tool.
pub(super) struct Tool<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) description: Option<Cow<'a, str>>,
    /// JSON schema of its input.
    pub(super) input: Option<&'a RawValue>,
}

/// Which tools must be called.
pub(super) enum Choice<'a> {
    /// As the model sees fit.
    Auto,
    /// None.
    Never,
    /// Any.
    Any,
    /// This one.
    Named(Cow<'a, str>),
}

/// What an answer must look like.
#[derive(Default)]
pub(super) enum Shape<'a> {
    /// Anything.
    #[default]
    Text,
    /// Any JSON object.
    Json { place: &'static str },
    /// JSON of this schema.
    Schema { name: Option<Cow<'a, str>>, schema: &'a RawValue },
}

impl<'a> Source<'a> {
    /// Of a `data:` URL in base64, or an address; None for anything else.
    pub(super) fn of_url(url: Cow<'a, str>) -> Option<Source<'a>> {
        if begins_with(&url, "http://") || begins_with(&url, "https://") {
            return Some(Source::Address(url));
        }
        if !begins_with(&url, "data:") {
            return None;
        }
        let comma = url.find(',')?;
        let head = &url["data:".len()..comma];
        let (parameters, encoding) = head.rsplit_once(';')?;
        if !encoding.eq_ignore_ascii_case("base64") {
            return None;
        }
        let media_type = parameters.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let data = match url {
            Cow::Borrowed(url) => Cow::Borrowed(&url[comma + 1..]),
            Cow::Owned(url) => Cow::Owned(url[comma + 1..].to_owned()),
        };
        Some(Source::Inline { media_type: Cow::Owned(media_type), data })
    }
}

fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Id of a call as Anthropic takes it: letters, digits, `_` and `-`.
pub(super) fn plain_id(id: Cow<'_, str>) -> Cow<'_, str> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if id.chars().all(fits) {
        return id;
    }
    Cow::Owned(id.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect())
}
