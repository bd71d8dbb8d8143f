//! What a request needs, as questions to proxies and controllers write it.

use thiserror::Error;

use crate::{
    lane::{Carried, Source},
    model::{
        lane::InvalidName,
        model_route::{Api, Can, Word},
    },
    model_route::choice::Want,
    query,
};

/// A request that is only thought of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Name of the model, as a caller would write it.
    pub model: String,
    /// Host that it would call; `None` = any.
    pub host: Option<String>,
    /// What it would call; `None` = whatever a target speaks.
    pub api: Option<Api>,
    /// Whether tools are to be called.
    pub tools: Can,
    /// Whether a JSON shape is asked for.
    pub json: Can,
    /// Whether images are sent.
    pub vision: Can,
    /// Tokens of prompt and answer together; 0 = unknown.
    pub tokens: u64,
    /// Lane of the request.
    pub lane: Option<Carried>,
}

/// Why a question cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotAQuestion {
    /// No model is named.
    #[error("expected ?model=NAME, and as wanted host, lane, api, tools, json, vision, tokens")]
    NoModel,
    /// A field that there is not.
    #[error("{0} is no field of the question; there are model, host, lane, api, tools, json, vision, tokens")]
    Unknown(String),
    /// A value that is none of its field.
    #[error("{field}: expected {expected}, not {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        value: String,
    },
    /// A lane that could not be one.
    #[error("lane: {0}")]
    Lane(#[source] InvalidName),
}

impl Question {
    /// About a request for `model` that needs nothing.
    pub fn about(model: &str) -> Question {
        Question {
            model: model.to_owned(),
            host: None,
            api: None,
            tools: Can::No,
            json: Can::No,
            vision: Can::No,
            tokens: 0,
            lane: None,
        }
    }

    /// Reads the query of a URL, without question mark.
    ///
    /// # Errors
    /// Names the field that is wrong, or says that no model is named.
    pub fn read(text: &str) -> Result<Question, NotAQuestion> {
        let mut question = Question::about("");
        for (name, value) in query::fields(text) {
            match name.as_str() {
                "model" => question.model = value,
                "host" => question.host = Some(value).filter(|host| !host.is_empty()),
                "api" => {
                    let expected = "chatCompletions, responses, completions, embeddings, messages or generateContent";
                    let api = Api::of_word(&value);
                    question.api = Some(api.ok_or(NotAQuestion::Value { field: "api", expected, value })?);
                }
                "tools" => question.tools = can("tools", value)?,
                "json" => question.json = can("json", value)?,
                "vision" => question.vision = can("vision", value)?,
                "tokens" => {
                    let tokens = value.parse().ok();
                    let wrong = NotAQuestion::Value { field: "tokens", expected: "a number", value };
                    question.tokens = tokens.ok_or(wrong)?;
                }
                "lane" => question = question.in_lane(&value)?,
                _ => return Err(NotAQuestion::Unknown(name)),
            }
        }
        if question.model.is_empty() { Err(NotAQuestion::NoModel) } else { Ok(question) }
    }

    /// The same with the lane `<lane>` or `<group>/<lane>`.
    ///
    /// # Errors
    /// When that is no name of a lane.
    pub fn in_lane(self, text: &str) -> Result<Question, NotAQuestion> {
        let lane = label(text).map_err(NotAQuestion::Lane)?;
        Ok(Question { lane: Some(lane), ..self })
    }

    /// The query that reads back as this.
    pub fn to_query(&self) -> String {
        let (lane, tokens) = (self.lane.as_ref().map(ToString::to_string), self.tokens.to_string());
        let mut fields = vec![("model", self.model.as_str())];
        fields.extend(self.host.as_deref().map(|host| ("host", host)));
        fields.extend(lane.as_deref().map(|lane| ("lane", lane)));
        fields.extend(self.api.map(|api| ("api", api.word())));
        let needs = [("tools", self.tools), ("json", self.json), ("vision", self.vision)];
        fields.extend(needs.into_iter().filter(|(_, can)| *can == Can::Yes).map(|(name, _)| (name, "true")));
        fields.extend((self.tokens > 0).then_some(("tokens", tokens.as_str())));
        query::query(fields)
    }

    /// What is needed of a target.
    pub fn want(&self) -> Want<'_> {
        Want {
            model: &self.model,
            tools: self.tools,
            json: self.json,
            vision: self.vision,
            tokens: self.tokens,
            lane: self.lane.as_ref(),
        }
    }
}

fn can(field: &'static str, value: String) -> Result<Can, NotAQuestion> {
    match value.as_str() {
        "" | "true" => Ok(Can::Yes),
        "false" => Ok(Can::No),
        _ => Err(NotAQuestion::Value { field, expected: "true or false", value }),
    }
}

/// A label as it stands in a message: `<lane>` or `<group>/<lane>`.
fn label(text: &str) -> Result<Carried, InvalidName> {
    let (group, lane) = match text.split_once('/') {
        Some((group, lane)) => (Some(group.parse()?), lane),
        None => (None, text),
    };
    Ok(Carried { group, lane: lane.parse()?, source: Source::Header })
}
