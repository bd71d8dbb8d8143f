//! What goes wrong at a target before its first token, how it is called, and what the application is told of it.

use serde_json::{Value, json};

use crate::world::Streaming;

/// Names of every reason, as the specification has them and as metrics write them.
pub(crate) const REASONS: [&str; 16] = [
    "connect",
    "reset",
    "timeout_headers",
    "timeout_first_token",
    "stall",
    "rate",
    "quota",
    "overloaded",
    "server",
    "auth",
    "not_found",
    "context",
    "content_filter",
    "bad_request",
    "empty",
    "decode",
];

/// What goes wrong at a target before its first token.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What the stand-in does; null where it refuses connections.
    pub(crate) behaviour: Value,
    /// What it is called.
    pub(crate) reason: &'static str,
    /// Status of the answer when nobody is left, or who is left is not asked.
    pub(crate) shows: Shows,
    /// Who is asked then.
    pub(crate) next: Next,
    /// Calls to which it can happen.
    pub(crate) asked: &'static [Streaming],
    /// Timers that the model has besides those of all.
    pub(crate) timers: Value,
}

/// Status of the answer when nobody is left, or who is left is not asked.
#[derive(Clone, Copy)]
pub(crate) enum Shows {
    /// That of the target: in OpenAI's, Anthropic's and Gemini's words.
    Its([u16; 3]),
    /// The target said none: what is usual for the reason.
    Unsaid,
}

/// Who is asked after the fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The other target.
    Other,
    /// The other target, if it has declared this.
    Able(&'static str),
    /// Nobody: another target would say the same.
    Nobody,
}

impl Fault {
    /// Status that the client sees when nobody is left.
    pub(crate) fn status(&self, dialect: usize) -> u16 {
        match (self.shows, self.reason) {
            (Shows::Its(statuses), _) => statuses[dialect],
            (Shows::Unsaid, "connect") => 503,
            (Shows::Unsaid, "timeout_headers" | "timeout_first_token" | "stall") => 504,
            (Shows::Unsaid, _) => 502,
        }
    }
}

const BOTH: &[Streaming] = &Streaming::BOTH;
const STREAMED: &[Streaming] = &[Streaming::Yes];
const WHOLE: &[Streaming] = &[Streaming::No];

fn fault(name: &'static str, behaviour: Value, reason: &'static str) -> Fault {
    Fault { name, behaviour, reason, shows: Shows::Unsaid, next: Next::Other, asked: BOTH, timers: json!({}) }
}

impl Fault {
    fn says(self, statuses: [u16; 3]) -> Fault {
        Fault { shows: Shows::Its(statuses), ..self }
    }

    fn next(self, next: Next) -> Fault {
        Fault { next, ..self }
    }

    fn streamed(self) -> Fault {
        Fault { asked: STREAMED, ..self }
    }

    fn whole(self) -> Fault {
        Fault { asked: WHOLE, ..self }
    }

    fn timers(self, timers: Value) -> Fault {
        Fault { timers, ..self }
    }
}

/// All of them: those in which the target says what is wrong, and those in which it does not.
pub(crate) fn faults() -> Vec<Fault> {
    let mut all = said();
    all.extend(unsaid());
    all.extend(late());
    all
}

fn said() -> Vec<Fault> {
    let embedded = |instead: &str, error: &str| json!({"instead": instead, "error": error});
    let context = || fault("context", json!({"error": "context"}), "context").says([400; 3]);
    // Gemini's refusal is 200 without an answer: no status that could be shown.
    let filter = || fault("filter", json!({"error": "content_filter"}), "content_filter").says([400, 400, 502]);
    vec![
        fault("rate", json!({"error": "rate", "headers": {"retry-after": "7"}}), "rate").says([429; 3]),
        fault("rate-unsaid", json!({"error": "rate"}), "rate").says([429; 3]),
        fault("quota", json!({"error": "quota"}), "quota").says([429, 400, 429]),
        fault("overloaded", json!({"error": "overloaded"}), "overloaded").says([503, 529, 503]),
        fault("server", json!({"error": "server"}), "server").says([500; 3]),
        fault("auth", json!({"error": "auth"}), "auth").says([401, 401, 400]),
        fault("permission", json!({"error": "permission"}), "auth").says([403; 3]),
        fault("not-found", json!({"error": "not_found"}), "not_found").says([404; 3]),
        fault("bad-request", json!({"error": "bad_request"}), "bad_request").says([400; 3]).next(Next::Nobody),
        context().next(Next::Able("longContext")),
        Fault { name: "context-of-all", ..context() }.next(Next::Nobody),
        filter().next(Next::Able("refusedContent")),
        Fault { name: "filter-of-all", ..filter() }.next(Next::Nobody),
        fault("error-first", embedded("error", "rate"), "rate").says([429; 3]),
        fault("error-object", embedded("error_object", "rate"), "rate").says([429; 3]),
        fault("overloaded-first", embedded("error", "overloaded"), "overloaded").says([503, 529, 503]),
    ]
}

fn unsaid() -> Vec<Fault> {
    vec![
        fault("connect", Value::Null, "connect"),
        fault("reset", json!({"cut": -1, "how": "reset"}), "reset"),
        fault("closed", json!({"cut": 0, "how": "close"}), "reset"),
        fault("ended", json!({"cut": 0, "how": "end"}), "empty").streamed(),
        fault("half", json!({"cut": 0, "how": "end"}), "decode").whole(),
        fault("empty", json!({"instead": "empty"}), "empty"),
        fault("only-pings", json!({"instead": "pings"}), "empty"),
        fault("only-done", json!({"instead": "done"}), "empty").streamed(),
        fault("no-json", json!({"instead": "done"}), "decode").whole(),
        fault("only-head", json!({"instead": "head"}), "empty"),
        fault("only-end", json!({"instead": "finish"}), "empty"),
        fault("null-choices", json!({"instead": "null_choices"}), "empty"),
        fault("no-choices", json!({"instead": "empty_choices"}), "empty"),
        fault("html", json!({"instead": "html"}), "decode"),
        fault("no-event", json!({"bad": "json", "stall": 0}), "decode").streamed(),
        fault("half-an-event", json!({"bad": "half"}), "empty").streamed(),
        fault("endless-event", json!({"bad": "endless"}), "decode").streamed(),
    ]
}

fn late() -> Vec<Fault> {
    let headers = || json!({"headers": "1s"});
    vec![
        fault("no-head", json!({"hang": "headers"}), "timeout_headers").timers(headers()),
        fault("silent", json!({"hang": "headers"}), "timeout_first_token").streamed(),
        fault("behind-headers", json!({"hang": "body"}), "timeout_first_token").streamed(),
        fault("behind-pings", json!({"hang": "pings", "ping_ms": 100}), "timeout_first_token").streamed(),
        fault("behind-role", json!({"hang": "role", "ping_ms": 100}), "timeout_first_token").streamed(),
        // A whole answer has no first token: what stops behind its head has stopped in the middle.
        fault("stopped", json!({"hang": "body"}), "stall").whole(),
    ]
}
