//! A stream that broke behind what the client has of it, and another target that goes on with it (`midStream: continue`).
//!
//! Plain text only: the text so far becomes the last message of the request, and the next target writes on from it. What
//! else an answer can hold (calls, thoughts, JSON of a shape, several choices) no target can be given the beginning of.
//! `request::Resumable` makes the request, `translate::Transcript` keeps what was said, `attempts` decides.

use std::fmt;

use super::attempts::Spent;

/// Bytes of text that a stream may have said and still be gone on with: so much is kept of each stream of a model with
/// `midStream: continue`. About 60,000 tokens of English.
pub const TEXT_MAX: usize = 256 * 1024;

/// Why nobody goes on with a broken stream; it ends with an error then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotResumed {
    /// `midStream` is `terminate`.
    Terminate,
    /// The request calls another API than chat completions or messages, or asks for no stream.
    Api,
    /// The request offers tools.
    Tools,
    /// The request asks for JSON.
    Json,
    /// The request asks for several choices.
    Choices,
    /// The request asks for something else that is no text of its own: thoughts, sound, probabilities of tokens.
    Kind,
    /// The conversation ends with the beginning of an answer already.
    Begun,
    /// The request is not at hand any more, or not what its API documents.
    Request,
    /// The stream said something that is no plain text.
    Said,
    /// The stream said nothing but white space.
    Blank,
    /// The stream said more than [`TEXT_MAX`].
    Long,
    /// The stream said why it ends before it broke.
    Ended,
    /// No further attempt is made.
    Spent(Spent),
}

impl NotResumed {
    /// As logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            NotResumed::Terminate => "terminate",
            NotResumed::Api => "api",
            NotResumed::Tools => "tools",
            NotResumed::Json => "json",
            NotResumed::Choices => "choices",
            NotResumed::Kind => "kind",
            NotResumed::Begun => "begun",
            NotResumed::Request => "request",
            NotResumed::Said => "said",
            NotResumed::Blank => "blank",
            NotResumed::Long => "long",
            NotResumed::Ended => "ended",
            NotResumed::Spent(spent) => spent.as_str(),
        }
    }
}

impl fmt::Display for NotResumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
