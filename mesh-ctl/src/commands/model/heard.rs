//! An answer of a model as it comes: its text, what it used, and whether it ended as it should. Reads the answers that
//! `model try` asks for, whole or as events.

use serde_json::Value;

use crate::args::TryApi;

/// Longest line of a stream, bytes; a longer one is no event.
const LINE_MAX: usize = 1 << 20;

/// What was heard so far.
#[derive(Debug)]
pub(super) struct Heard {
    api: TryApi,
    line: Vec<u8>,
    /// All text.
    pub(super) text: String,
    /// Tokens read, if it was said.
    pub(super) input: Option<u64>,
    /// Tokens written.
    pub(super) output: Option<u64>,
    /// Of those read, from a cache.
    pub(super) cached: Option<u64>,
    /// Why the answer ended, in the provider's words; `None` = it did not.
    pub(super) finish: Option<String>,
    /// An error that was told.
    pub(super) error: Option<String>,
}

impl Heard {
    /// Nothing yet.
    pub(super) fn new(api: TryApi) -> Heard {
        Heard {
            api,
            line: Vec::new(),
            text: String::new(),
            input: None,
            output: None,
            cached: None,
            finish: None,
            error: None,
        }
    }

    /// Takes in bytes of a stream, and gives the text that came with them.
    pub(super) fn events(&mut self, bytes: &[u8]) -> String {
        let before = self.text.len();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if let Some(data) = line.trim_ascii().strip_prefix(b"data:")
                        && let Ok(event) = serde_json::from_slice(data)
                    {
                        self.event(&event);
                    }
                }
                byte if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
        self.text[before..].to_owned()
    }

    fn event(&mut self, event: &Value) {
        self.error_of(event);
        match self.api {
            TryApi::Chat => {
                let choice = &event["choices"][0];
                self.say(&choice["delta"]["content"]);
                self.finished(&choice["finish_reason"]);
                self.usage(&event["usage"]);
            }
            TryApi::Messages => {
                self.say(&event["delta"]["text"]);
                self.finished(&event["delta"]["stop_reason"]);
                self.usage(&event["message"]["usage"]);
                self.usage(&event["usage"]);
            }
        }
    }

    /// Takes in an answer that is not streamed.
    pub(super) fn whole(&mut self, body: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
            self.error = Some(format!("the answer is not JSON: {start}"));
            return;
        };
        self.error_of(&answer);
        match self.api {
            TryApi::Chat => {
                let choice = &answer["choices"][0];
                self.say(&choice["message"]["content"]);
                self.finished(&choice["finish_reason"]);
            }
            TryApi::Messages => {
                answer["content"].as_array().into_iter().flatten().for_each(|block| self.say(&block["text"]));
                self.finished(&answer["stop_reason"]);
            }
        }
        self.usage(&answer["usage"]);
    }

    fn say(&mut self, text: &Value) {
        self.text.push_str(text.as_str().unwrap_or_default());
    }

    fn finished(&mut self, reason: &Value) {
        if let Some(reason) = reason.as_str() {
            self.finish = Some(reason.to_owned());
        }
    }

    fn error_of(&mut self, event: &Value) {
        let error = &event["error"];
        if !error.is_null() {
            let message = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            self.error = Some(message);
        }
    }

    /// The last word counts: what is told in pieces is told in all.
    fn usage(&mut self, usage: &Value) {
        let first = |names: &[&str]| names.iter().find_map(|name| usage.pointer(name)?.as_u64());
        let told = [
            (first(&["/prompt_tokens", "/input_tokens"]), &mut self.input),
            (first(&["/completion_tokens", "/output_tokens"]), &mut self.output),
            (first(&["/prompt_tokens_details/cached_tokens", "/cache_read_input_tokens"]), &mut self.cached),
        ];
        for (told, known) in told {
            *known = told.or(*known);
        }
    }

    /// Why the answer is none, if so.
    pub(super) fn problem(&self) -> Option<String> {
        match (&self.error, &self.finish) {
            (Some(error), _) => Some(error.clone()),
            (None, None) => Some("the answer broke off".to_owned()),
            (None, Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        : comment\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"grü\"}}]}\r\n\r\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"ezi\"},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
        \"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n";
    const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
        {\"input_tokens\":7,\"output_tokens\":1}}}\n\n\
        data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"salut\"}}\n\n\
        data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n\
        data: {\"type\":\"message_stop\"}\n\n";

    /// The stream a byte at a time.
    fn heard(api: TryApi, stream: &str) -> (Heard, String) {
        let mut heard = Heard::new(api);
        let text = stream.as_bytes().iter().map(|byte| heard.events(&[*byte])).collect();
        (heard, text)
    }

    #[test]
    fn text_usage_and_end_of_streams_are_heard_wherever_they_are_split() {
        let (chat, text) = heard(TryApi::Chat, CHAT);
        assert_eq!((text.as_str(), chat.text.as_str(), chat.problem()), ("grüezi", "grüezi", None));
        assert_eq!((chat.input, chat.output, chat.cached), (Some(9), Some(2), Some(4)));
        let (messages, text) = heard(TryApi::Messages, MESSAGES);
        assert_eq!((text.as_str(), messages.problem()), ("salut", None));
        assert_eq!((messages.input, messages.output, messages.cached), (Some(7), Some(5), None));
    }

    #[test]
    fn stream_without_end_and_error_in_it_are_problems() {
        let (begun, _) = CHAT.split_once("ezi").unwrap();
        let (cut, _) = heard(TryApi::Chat, begun);
        assert_eq!(cut.problem().unwrap(), "the answer broke off");
        let told = "data: {\"error\":{\"message\":\"upstream went away\",\"type\":\"server_error\"}}\n\n";
        let (told, _) = heard(TryApi::Chat, &[begun, "\n\n", told].concat());
        assert_eq!(told.problem().unwrap(), "upstream went away");
    }

    #[test]
    fn whole_answers_are_read() {
        let mut chat = Heard::new(TryApi::Chat);
        chat.whole(br#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}"#);
        assert_eq!((chat.text.as_str(), chat.input, chat.problem()), ("hi", Some(3), None));
        let mut messages = Heard::new(TryApi::Messages);
        messages.whole(br#"{"content":[{"type":"text","text":"a"},{"text":"b"}],"stop_reason":"end_turn"}"#);
        assert_eq!((messages.text.as_str(), messages.problem()), ("ab", None));
        let mut error = Heard::new(TryApi::Messages);
        error.whole(br#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#);
        assert_eq!(error.problem().unwrap(), "busy");
        let mut page = Heard::new(TryApi::Chat);
        page.whole(b"<html>");
        assert_eq!(page.problem().unwrap(), "the answer is not JSON: <html>");
    }
}
