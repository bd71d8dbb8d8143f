//! What a client has read of a stream so far, as another target needs it to go on: the text, and what every further event
//! must have in common with those before. Kept while the stream runs, in the client's own dialect; bounded.

use std::borrow::Cow;

use super::{
    Untranslatable,
    event::{self, Event},
    json::{self, Object},
};
use crate::{
    model::model_route::Api,
    model_route::resume::{NotResumed, TEXT_MAX},
};

/// Longest id of an answer or name of its model that is kept, in bytes.
const NAME: usize = 256;
/// What a delta of Chat Completions may say besides text.
const NO_TEXT: [&str; 8] = [
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
    "images",
];

/// A stream as its client has read it.
#[derive(Debug)]
pub struct Transcript {
    api: Api,
    text: String,
    unfit: Option<NotResumed>,
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: u64,
    pub(super) spot: Spot,
}

/// Which block of an answer of Messages the text stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// The one of this number, to which more can be added.
    Open(u64),
    /// None; the next one has this number.
    Next(u64),
}

impl Transcript {
    /// Of a stream of this API that has not begun.
    pub fn new(api: Api) -> Transcript {
        let unfit = match api {
            Api::ChatCompletions | Api::Messages => None,
            Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => Some(NotResumed::Api),
        };
        let (text, id, model) = (String::new(), String::new(), String::new());
        Transcript { api, text, unfit, id, model, created: 0, spot: Spot::Next(0) }
    }

    /// API of the client.
    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// The client reads these events, each whole and with its blank line.
    pub fn read(&mut self, events: &[u8]) {
        let mut rest = events;
        while !rest.is_empty() && self.unfit.is_none() {
            let end = memchr::memmem::find(rest, b"\n\n").map_or(rest.len(), |at| at + 2);
            let (event, behind) = rest.split_at(end);
            rest = behind;
            // What cannot be read here was no plain text, whatever it was.
            match self.event(event) {
                Ok(()) => {}
                Err(Unread::Unfit(why)) => self.give_up(why),
                Err(Unread::Malformed) => self.give_up(NotResumed::Said),
            }
        }
    }

    /// The text so far.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub fn text(&self) -> Result<&str, NotResumed> {
        match self.unfit {
            Some(why) => Err(why),
            None if self.text.trim().is_empty() => Err(NotResumed::Blank),
            None => Ok(&self.text),
        }
    }

    /// Whether it cannot be gone on with, whatever comes.
    pub fn is_unfit(&self) -> bool {
        self.unfit.is_some()
    }

    /// The text as it stands in a request to this API of a target: Messages takes none that ends in white space.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub fn text_for(&self, target: Api) -> Result<&str, NotResumed> {
        let text = self.text()?;
        Ok(match target {
            Api::Messages => text.trim_end(),
            Api::ChatCompletions | Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => text,
        })
    }

    fn give_up(&mut self, why: NotResumed) {
        self.unfit = Some(why);
        self.text = String::new();
    }

    fn event(&mut self, event: &[u8]) -> Result<(), Unread> {
        let Event::Data(data) = event::read(event)? else { return Ok(()) };
        match self.api {
            Api::ChatCompletions => self.chunk(&data),
            Api::Messages => self.message(&data),
            Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => {
                Err(Unread::Unfit(NotResumed::Api))
            }
        }
    }

    fn chunk(&mut self, data: &str) -> Result<(), Unread> {
        if data.trim() == "[DONE]" {
            return Ok(());
        }
        let chunk = json::document(data.as_bytes())?;
        for raw in chunk.list("choices")? {
            let choice = json::object_of(raw).ok_or(Unread::Malformed)?;
            if choice.count("index").unwrap_or(0) != 0 {
                return Err(Unread::Unfit(NotResumed::Choices));
            }
            if self.id.is_empty() {
                self.heading(&chunk)?;
            }
            if let Some(delta) = choice.object("delta")? {
                let is_other = |name: &str| delta.get(name).is_some_and(|raw| !json::says_nothing(raw));
                if NO_TEXT.iter().any(|name| is_other(name)) {
                    return Err(Unread::Unfit(NotResumed::Said));
                }
                self.say(delta.text("content")?)?;
            }
            if choice.text("finish_reason")?.is_some_and(|reason| !reason.is_empty()) {
                return Err(Unread::Unfit(NotResumed::Ended));
            }
        }
        Ok(())
    }

    fn message(&mut self, data: &str) -> Result<(), Unread> {
        let event = json::document(data.as_bytes())?;
        match event.needed("type")?.as_ref() {
            "message_start" => {
                let message = event.object("message")?.ok_or(Unread::Malformed)?;
                if message.get("content").is_some_and(|raw| !json::says_nothing(raw)) {
                    return Err(Unread::Unfit(NotResumed::Said));
                }
                self.heading(&message)
            }
            "content_block_start" => {
                let block = event.object("content_block")?.ok_or(Unread::Malformed)?;
                if block.needed("type")? != "text" || !matches!(self.spot, Spot::Next(_)) {
                    return Err(Unread::Unfit(NotResumed::Said));
                }
                self.spot = Spot::Open(event.count("index").ok_or(Unread::Malformed)?);
                self.say(block.text("text")?)
            }
            "content_block_delta" => {
                let delta = event.object("delta")?.ok_or(Unread::Malformed)?;
                if delta.needed("type")? != "text_delta" {
                    return Err(Unread::Unfit(NotResumed::Said));
                }
                self.say(delta.text("text")?)
            }
            "content_block_stop" => {
                if let Spot::Open(index) = self.spot {
                    self.spot = Spot::Next(index.saturating_add(1));
                }
                Ok(())
            }
            "message_delta" | "message_stop" => Err(Unread::Unfit(NotResumed::Ended)),
            _ => Ok(()),
        }
    }

    fn heading(&mut self, of: &Object<'_>) -> Result<(), Unread> {
        let short = |text: Option<Cow<'_, str>>| match text {
            Some(text) if text.len() > NAME => Err(Unread::Malformed),
            Some(text) => Ok(text.into_owned()),
            None => Ok(String::new()),
        };
        (self.id, self.model) = (short(of.text("id")?)?, short(of.text("model")?)?);
        self.created = of.count("created").unwrap_or(0);
        Ok(())
    }

    fn say(&mut self, text: Option<Cow<'_, str>>) -> Result<(), Unread> {
        let Some(text) = text else { return Ok(()) };
        if self.text.len() + text.len() > TEXT_MAX {
            return Err(Unread::Unfit(NotResumed::Long));
        }
        self.text.push_str(&text);
        Ok(())
    }
}

/// Why an event was not read.
enum Unread {
    Unfit(NotResumed),
    Malformed,
}

impl From<Untranslatable> for Unread {
    fn from(_: Untranslatable) -> Self {
        Unread::Malformed
    }
}
