//! What comes from one target, event by event (or whole), in the client's dialect.

mod events;
#[cfg(test)]
mod tests;

use std::mem;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use mesh_core::{
    model::model_route::{Api, Escalate, Failure, Reason, Usage},
    model_route::{
        answer::{self, AskedFor},
        failure,
        request::Delivery,
        stream::{Reader, Reported},
        translate::{self, GoesOn},
    },
};

use self::events::Events;

/// Bytes of an event that is not complete, and of everything before the first token; more is no answer.
pub(super) const HELD_MAX: usize = 1024 * 1024;
/// Longest whole answer, bytes.
const WHOLE_MAX: usize = 32 * 1024 * 1024;
/// Bytes of an error's body that are read.
const ERROR_MAX: usize = 64 * 1024;

/// How the answer of one target is read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// API of the client.
    pub(super) client: Api,
    /// API of the target.
    pub(super) target: Api,
    /// Model as the client named it.
    pub(super) model: String,
    /// Id of an answer whose target gives it none.
    pub(super) id: String,
    /// Unix time of an answer whose target gives it none, seconds.
    pub(super) created: u64,
    /// Whether the client wants a stream.
    pub(super) delivery: Delivery,
    /// Answers asked for (`n`).
    pub(super) choices: u32,
    /// Whether the event that only tells the usage is kept from the client: it did not ask for it.
    pub(super) usage: UsageEvent,
    /// Checks of whole answers.
    pub(super) escalate: Escalate,
    /// Whether JSON was asked for.
    pub(super) asked_for: AskedFor,
}

impl Reading {
    /// As translations have it.
    fn asked(&self) -> translate::Asked<'_> {
        translate::Asked { model: &self.model, id: &self.id, created: self.created }
    }
}

/// What becomes of an event that tells nothing but the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageEvent {
    /// The client asked for it.
    Passed,
    /// We asked for it.
    Kept,
}

/// What is to be done with what came.
#[derive(Debug)]
pub(super) enum Came {
    /// A good answer begins.
    Head,
    /// Bytes for the client, in its dialect, that hold no token.
    Event(Bytes),
    /// Bytes for the client that hold a token; all of the answer where it is not streamed.
    Token(Bytes),
    /// The target failed.
    Failed(Failure),
}

enum State {
    /// No head yet.
    Waiting,
    /// Events.
    Stream(Box<Events>),
    /// An answer that is read whole: asked for as such, or one that is an error.
    Whole(BytesMut),
    /// Nothing more is expected.
    Done,
}

/// What comes from one target.
pub(super) struct Incoming {
    reading: Reading,
    state: State,
    head: Option<Parts>,
    sequence: u64,
    usage: Option<Usage>,
    reported: Reported,
    tokens: u64,
    written: u64,
    finished: bool,
    /// How it is read where it goes on with another stream.
    resumed: Option<Box<translate::Stream>>,
}

impl Incoming {
    pub(super) fn new(reading: Reading) -> Incoming {
        Incoming {
            reading,
            state: State::Waiting,
            head: None,
            sequence: 0,
            usage: None,
            reported: Reported::default(),
            tokens: 0,
            written: 0,
            finished: false,
            resumed: None,
        }
    }

    /// As [`Incoming::new`], of a target that goes on with what the client has read of another one.
    pub(super) fn resumed(reading: Reading, stream: translate::Stream) -> Incoming {
        Incoming { resumed: Some(Box::new(stream)), ..Incoming::new(reading) }
    }

    /// What the client wants is known only now.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        self.reading.delivery = delivery;
    }

    /// Whether no head came yet.
    pub(super) fn awaits_head(&self) -> bool {
        match self.state {
            State::Waiting => true,
            State::Stream(_) | State::Whole(_) | State::Done => false,
        }
    }

    /// The head of the answer, once it is good.
    pub(super) fn take_head(&mut self) -> Option<Parts> {
        self.head.take()
    }

    /// What was used, as far as the target said it.
    pub(super) fn usage(&self) -> Option<Usage> {
        match &self.state {
            State::Stream(events) => events.reader.usage().or(self.usage),
            State::Waiting | State::Whole(_) | State::Done => self.usage,
        }
    }

    /// What the target said of it so far.
    pub(super) fn reported(&self) -> Reported {
        match &self.state {
            State::Stream(events) => events.reader.reported(),
            State::Waiting | State::Whole(_) | State::Done => self.reported,
        }
    }

    /// Events with tokens that came.
    pub(super) fn tokens(&self) -> u64 {
        match &self.state {
            State::Stream(events) => events.reader.tokens_seen(),
            State::Waiting | State::Whole(_) | State::Done => self.tokens,
        }
    }

    /// Bytes of what the answer says so far, as it stands in JSON.
    pub(super) fn written(&self) -> u64 {
        match &self.state {
            State::Stream(events) => events.reader.written_bytes(),
            State::Waiting | State::Whole(_) | State::Done => self.written,
        }
    }

    /// `sequence_number` that an event of ours would have.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the answer is whole, whatever still comes.
    pub(super) fn is_finished(&self) -> bool {
        match &self.state {
            State::Stream(events) => events.reader.is_finished(),
            State::Waiting | State::Whole(_) | State::Done => self.finished,
        }
    }

    /// The head came.
    pub(super) fn head(&mut self, head: Parts, on: &mut dyn FnMut(Came)) {
        let is_good = head.status.is_success();
        let is_events = is_events(&head);
        self.state = match self.reading.delivery {
            Delivery::Stream if is_good && is_events => {
                let Reading { client, target, choices, usage, .. } = &self.reading;
                let translated = || translate::Stream::new(*target, *client, self.reading.asked(), (*usage).into());
                let translation = self.resumed.take().or_else(|| (client != target).then(|| Box::new(translated())));
                let reader = Reader::new(*target, *choices);
                State::Stream(Box::new(Events { reader, translation, held: BytesMut::new() }))
            }
            Delivery::Stream | Delivery::Whole => State::Whole(BytesMut::new()),
        };
        self.head = Some(head);
        if is_good {
            on(Came::Head);
        }
    }

    /// Bytes came.
    pub(super) fn bytes(&mut self, bytes: Bytes, on: &mut dyn FnMut(Came)) {
        match &mut self.state {
            State::Waiting | State::Done => {}
            State::Whole(body) => {
                let is_good = self.head.as_ref().is_some_and(|head| head.status.is_success());
                if is_good && body.len() + bytes.len() > WHOLE_MAX {
                    self.state = State::Done;
                    return on(Came::Failed(too_much("the answer is longer than what is held")));
                }
                let room = if is_good { bytes.len() } else { ERROR_MAX.saturating_sub(body.len()).min(bytes.len()) };
                body.extend_from_slice(&bytes[..room]);
                if is_good {
                    // It comes bit by bit, or is announced by blank lines: it has not stopped.
                    on(Came::Event(Bytes::new()));
                }
            }
            State::Stream(events) => {
                if let Err(failure) = events.read(&bytes, &self.reading, &mut self.sequence, on) {
                    self.leave();
                    on(Came::Failed(failure));
                }
            }
        }
    }

    /// The answer ended in order.
    pub(super) fn end(&mut self, now: std::time::Duration, on: &mut dyn FnMut(Came)) {
        match mem::replace(&mut self.state, State::Done) {
            State::Waiting | State::Done => {}
            State::Stream(events) => {
                self.keep(&events.reader);
                self.finished = events.reader.is_finished();
                let is_silent = events.translation.as_ref().is_some_and(|stream| stream.goes_on() == GoesOn::Silent);
                if let Some(failure) = cut(self.finished, if is_silent { 0 } else { self.tokens }) {
                    return on(Came::Failed(failure));
                }
                if let Some(mut translation) = events.translation {
                    let mut out = Vec::new();
                    translation.finish(&mut out);
                    on(Came::Event(out.into()));
                }
            }
            State::Whole(body) => self.whole(body.freeze(), now, on),
        }
    }

    /// What the client's dialect wants behind the final event of a target, where its connection did not end in order.
    /// Nothing where [`Incoming::end`] wrote it.
    pub(super) fn take_end(&mut self) -> Bytes {
        let mut out = Vec::new();
        match &mut self.state {
            State::Stream(events) => {
                if let Some(translation) = &mut events.translation {
                    translation.finish(&mut out);
                }
            }
            State::Waiting | State::Whole(_) | State::Done => {}
        }
        out.into()
    }

    /// What ended before it was whole leaves its numbers.
    fn leave(&mut self) {
        if let State::Stream(events) = mem::replace(&mut self.state, State::Done) {
            self.keep(&events.reader);
        }
    }

    fn keep(&mut self, reader: &Reader) {
        (self.usage, self.reported) = (reader.usage(), reader.reported());
        (self.tokens, self.written) = (reader.tokens_seen(), reader.written_bytes());
    }

    fn whole(&mut self, body: Bytes, now: std::time::Duration, on: &mut dyn FnMut(Came)) {
        let Some(head) = &self.head else { return };
        let dialect = self.reading.target.dialect();
        let status = head.status.as_u16();
        if !head.status.is_success() {
            let fields = crate::datapath::message::Headers(head.headers.clone());
            return on(Came::Failed(failure::of_response(dialect, status, &fields, &body, now)));
        }
        let media = head.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let inspected =
            answer::inspect(self.reading.target, media, &body, &self.reading.escalate, self.reading.asked_for);
        let whole = match (inspected, self.reading.delivery) {
            (Err(failure), _) => return on(Came::Failed(failure)),
            (Ok(_), Delivery::Stream) => {
                let why = "the target answered a request for a stream with something else";
                return on(Came::Failed(Failure {
                    message: why.to_owned(),
                    ..failure::without_answer(Reason::Decode)
                }));
            }
            (Ok(whole), Delivery::Whole) => whole,
        };
        (self.usage, self.reported, self.finished) = (whole.usage, whole.reported, true);
        self.written = whole.written_bytes;
        let Reading { client, target, .. } = &self.reading;
        if client == target {
            return on(Came::Token(body));
        }
        match translate::answer(*target, *client, &body, self.reading.asked()) {
            Ok(translated) => on(Came::Token(translated.into())),
            Err(error) => {
                let message = format!("the answer cannot be translated: {error}");
                on(Came::Failed(Failure { message, ..failure::without_answer(Reason::Decode) }));
            }
        }
    }
}

/// Whether an answer is a stream of events.
pub(super) fn is_events(head: &Parts) -> bool {
    head.headers.get(http::header::CONTENT_TYPE).is_some_and(|media| {
        media.as_bytes().get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

/// What an end says that came in order although the answer was not whole.
fn cut(is_finished: bool, tokens: u64) -> Option<Failure> {
    if tokens == 0 {
        return Some(failure::without_answer(Reason::Empty));
    }
    (!is_finished).then(|| {
        let message = "the target's answer ended without its final event".to_owned();
        Failure { message, ..failure::without_answer(Reason::Reset) }
    })
}

/// The failure of a target that sends more than is held.
pub(super) fn too_much(message: &str) -> Failure {
    Failure { message: message.to_owned(), ..failure::without_answer(Reason::Decode) }
}
