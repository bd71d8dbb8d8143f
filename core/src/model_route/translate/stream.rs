//! A stream of one dialect, event by event, as one of another.

use super::{
    Asked, Transcript, Untranslatable, between, chat, event,
    event::Event,
    gemini, messages,
    piece::{Piece, Tokens},
    seam::Seam,
};
use crate::{
    model::model_route::{Api, Usage},
    model_route::resume::NotResumed,
};

/// Calls of tools in one answer.
const CALLS: usize = 128;
/// Longest id of an answer, in bytes.
const ID: usize = 256;

/// Whether the client asked for a last chunk that says what was used (`stream_options.include_usage`); without meaning
/// for clients that speak Messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChunk {
    /// It did.
    Wanted,
    /// It did not.
    Unwanted,
}

/// Whether a stream goes on with what the client has read of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoesOn {
    /// It does not.
    No,
    /// It does, and the client has got no text of it yet.
    Silent,
    /// It does, and the client has got text of it.
    Heard,
}

/// Translates one stream. Keeps a few hundred bytes, however long the stream is.
pub struct Stream {
    reader: Reader,
    writer: Writer,
    heading: Heading,
    begun: bool,
    calls: usize,
    /// Where it goes on with what another target began.
    seam: Option<Seam>,
}

enum Reader {
    Chat(chat::Events),
    Messages(messages::Events),
    Gemini(gemini::Events),
    /// There is no such translation.
    None,
}

enum Writer {
    Chat(chat::Chunks),
    Messages(messages::Blocks),
    /// There is no such translation.
    None,
}

/// What stands in every chunk, or in the first event.
pub(super) struct Heading {
    model: String,
    id: String,
    created: u64,
}

impl Heading {
    /// Model, as the client named it.
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// Id of the answer.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// When the answer began, in seconds since 1970.
    pub(super) fn created(&self) -> u64 {
        self.created
    }
}

impl Stream {
    /// From the target's API to the client's. If there is no such translation, every event is an error.
    pub fn new<'a>(from: Api, to: Api, asked: impl Into<Asked<'a>>, usage: UsageChunk) -> Stream {
        let asked = asked.into();
        let (reader, writer) = match between(to, from) {
            Ok(()) => (Reader::of(from), Writer::of(to, usage)),
            Err(_) => (Reader::None, Writer::None),
        };
        let heading = Heading { model: asked.model.to_owned(), id: asked.id.to_owned(), created: asked.created };
        Stream { reader, writer, heading, begun: false, calls: 0, seam: None }
    }

    /// From the API `from` of a target that goes on with a stream which its client has read so far: nothing of it is said
    /// again, and all that comes belongs to the same answer. `before` is what was used for it; the client is told of that and
    /// of what this target uses together.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub fn resumed(from: Api, transcript: &Transcript, usage: UsageChunk, before: Usage) -> Result<Stream, NotResumed> {
        let (text, given) = (transcript.text()?, transcript.text_for(from)?);
        let seam = Some(Seam::new(text, &text[given.len()..]));
        let before = Tokens::of(before);
        let writer = match transcript.api() {
            Api::ChatCompletions => Writer::Chat(chat::Chunks::resumed(usage, before)),
            Api::Messages => Writer::Messages(messages::Blocks::resumed(transcript.spot, before)),
            Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => Writer::None,
        };
        let heading =
            Heading { model: transcript.model.clone(), id: transcript.id.clone(), created: transcript.created };
        Ok(Stream { reader: Reader::of(from), writer, heading, begun: true, calls: 0, seam })
    }

    /// Whether it goes on with another one.
    pub fn goes_on(&self) -> GoesOn {
        match &self.seam {
            None => GoesOn::No,
            Some(seam) if seam.has_passed() => GoesOn::Heard,
            Some(_) => GoesOn::Silent,
        }
    }

    /// Writes behind `out` what this event, whole and with its blank line, is in the client's dialect: none, one or
    /// several whole events. Unknown events and errors are skipped.
    ///
    /// # Errors
    /// Names the member that is malformed, or that the client's dialect cannot say. `out` may then hold whole events that
    /// stood before it; the stream cannot go on.
    pub fn event(&mut self, event: &[u8], out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        match event::read(event)? {
            Event::Nothing => Ok(()),
            Event::Comment => self.write(Piece::Alive, out),
            Event::Data(data) => {
                for piece in self.reader.read(&data)? {
                    self.write(piece, out)?;
                }
                Ok(())
            }
        }
    }

    /// Writes behind `out` the end that the client's dialect wants, once all events of the target were given. Nothing, if
    /// none of them was the target's final one: such a stream must not look whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match &mut self.writer {
            Writer::Chat(chunks) => chunks.finish(&self.heading, out),
            Writer::Messages(blocks) => blocks.finish(out),
            Writer::None => {}
        }
    }

    /// What becomes of a piece where text of one target ends and that of the next begins.
    fn at_seam<'p>(&mut self, piece: Piece<'p>, out: &mut Vec<u8>) -> Result<Option<Piece<'p>>, Untranslatable> {
        let Some(seam) = &mut self.seam else { return Ok(Some(piece)) };
        match piece {
            Piece::Text(text) => Ok(seam.text(text)?.map(Piece::Text)),
            Piece::End(end) => {
                if let Some(rest) = seam.rest() {
                    self.writer.write(Piece::Text(rest.into()), &self.heading, out)?;
                }
                Ok(Some(Piece::End(end)))
            }
            // Thoughts have no place behind text.
            Piece::Thinking(_) => Ok(Some(Piece::Alive)),
            Piece::Call { .. } | Piece::Input(_) => Err(Untranslatable::unsupported("tool_calls")),
            Piece::Begin { .. } | Piece::Refusal(_) | Piece::Usage(_) | Piece::Alive => Ok(Some(piece)),
        }
    }

    fn write(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        let Some(piece) = self.at_seam(piece, out)? else { return Ok(()) };
        match &piece {
            Piece::Begin { .. } if self.begun => return Ok(()),
            Piece::Begin { id, created } => self.begin(id.as_deref(), *created)?,
            Piece::Alive | Piece::Usage(_) => {}
            Piece::Text(_)
            | Piece::Thinking(_)
            | Piece::Refusal(_)
            | Piece::Call { .. }
            | Piece::Input(_)
            | Piece::End(_) => {
                if !self.begun {
                    self.begin(None, None)?;
                    self.writer.write(Piece::Begin { id: None, created: None }, &self.heading, out)?;
                }
            }
        }
        if matches!(piece, Piece::Call { .. }) {
            self.calls += 1;
            if self.calls > CALLS {
                return Err(Untranslatable::unsupported("tool_calls"));
            }
        }
        self.writer.write(piece, &self.heading, out)
    }

    fn begin(&mut self, id: Option<&str>, created: Option<u64>) -> Result<(), Untranslatable> {
        self.begun = true;
        if let Some(id) = id {
            if id.len() > ID {
                return Err(Untranslatable::malformed("id"));
            }
            id.clone_into(&mut self.heading.id);
        }
        self.heading.created = created.unwrap_or(self.heading.created);
        Ok(())
    }
}

impl Reader {
    fn of(api: Api) -> Reader {
        match api {
            Api::ChatCompletions => Reader::Chat(chat::Events::default()),
            Api::Messages => Reader::Messages(messages::Events::default()),
            Api::GenerateContent => Reader::Gemini(gemini::Events::default()),
            Api::Responses | Api::Completions | Api::Embeddings => Reader::None,
        }
    }

    fn read<'a>(&mut self, data: &'a str) -> Result<Vec<Piece<'a>>, Untranslatable> {
        match self {
            Reader::Chat(events) => events.read(data),
            Reader::Messages(events) => events.read(data),
            Reader::Gemini(events) => events.read(data),
            Reader::None => Err(Untranslatable::unsupported("body")),
        }
    }
}

impl Writer {
    fn of(api: Api, usage: UsageChunk) -> Writer {
        match api {
            Api::ChatCompletions => Writer::Chat(chat::Chunks::new(usage)),
            Api::Messages => Writer::Messages(messages::Blocks::new()),
            Api::Responses | Api::Completions | Api::Embeddings | Api::GenerateContent => Writer::None,
        }
    }

    fn write(&mut self, piece: Piece<'_>, heading: &Heading, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        match self {
            Writer::Chat(chunks) => chunks.write(piece, heading, out),
            Writer::Messages(blocks) => blocks.write(piece, heading, out),
            Writer::None => return Err(Untranslatable::unsupported("body")),
        }
        Ok(())
    }
}
