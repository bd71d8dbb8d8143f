//! Reading an error object: where providers put message, codes, status and details.

use serde_json::Value;

use crate::model::model_route::Dialect;

/// What stands in an error object.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    /// Sentence for people; never empty.
    pub message: Option<&'a str>,
    code: Option<&'a str>,
    kind: Option<&'a str>,
    name: Option<&'a str>,
    inner: Option<&'a str>,
    number: Option<u64>,
    /// Google's list of typed details.
    pub details: &'a [Value],
}

impl<'a> Said<'a> {
    pub(super) fn read(value: &'a Value) -> Said<'a> {
        let value = innermost(value);
        if let Some(message) = value.as_str() {
            return Said { message: filled(message), ..Said::default() };
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).and_then(filled);
        let number = |name: &str| value.get(name).and_then(as_number);
        Said {
            // A bare string stands in `error` (Ollama, llama.cpp) or in `detail` (FastAPI); FastAPI's list of
            // broken fields has `msg`.
            message: text("message").or_else(|| text("error")).or_else(|| text("detail")).or_else(|| text("msg")),
            code: text("code"),
            // `error` is the type of the whole event at Anthropic, and `object` that of vLLM's older form.
            kind: text("type").filter(|kind| *kind != "error"),
            name: text("status"),
            inner: value
                .pointer("/innererror/code")
                .or_else(|| value.pointer("/innererror/type"))
                .and_then(Value::as_str)
                .and_then(filled),
            number: number("code").or_else(|| number("status")).or_else(|| number("status_code")),
            details: value.get("details").and_then(Value::as_array).map_or(&[], Vec::as_slice),
        }
    }

    /// Everything that may name the reason, most exact first.
    pub(super) fn codes(&self) -> impl Iterator<Item = &'a str> {
        let details = self.details.iter().filter_map(|detail| detail.get("reason").and_then(Value::as_str));
        self.inner.into_iter().chain(self.code).chain(details).chain(self.kind).chain(self.name)
    }

    /// The provider's word for it, as a reader of its documentation knows it.
    pub(super) fn own_code(&self, dialect: Dialect) -> Option<&'a str> {
        let code = self.code.filter(|code| code.parse::<u64>().is_err());
        match dialect {
            Dialect::Openai => code.or(self.kind).or(self.name),
            Dialect::Anthropic => self.kind.or(code).or(self.name),
            Dialect::Gemini => self.name.or(code).or(self.kind),
        }
    }

    /// HTTP status that the object says itself.
    pub(super) fn status(&self) -> Option<u16> {
        self.number.and_then(|number| u16::try_from(number).ok()).filter(|status| (400..=599).contains(status))
    }
}

/// The object that says it, inside of what is wrapped around it.
fn innermost(value: &Value) -> &Value {
    // Gemini answers a stream that is no SSE with a list.
    let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    // `response` is that of the event `response.failed`.
    for pointer in ["/error", "/response/error"] {
        if let Some(inner) = value.pointer(pointer).filter(|inner| inner.is_object()) {
            return inner;
        }
    }
    match value.get("detail") {
        Some(inner) if inner.is_object() => inner,
        Some(Value::Array(list)) => list.first().unwrap_or(value),
        Some(_) | None => value,
    }
}

fn filled(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}

/// A number, also one in quotes (Azure).
fn as_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}
