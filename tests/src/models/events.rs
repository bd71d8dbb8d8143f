//! Streams of events as bytes: a client without any SDK between the wire and the test, which sees how a stream ends.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::raw;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With its last chunk, or all bytes of its length.
    Properly,
    /// The connection closed in order before that.
    Cut,
    /// The connection was reset before that.
    Reset,
    /// Not at all, as long as the client listened.
    Open,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its data, lines joined.
    pub data: String,
}

impl Event {
    /// The data as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status; 0 where there was no head.
    pub status: u16,
    /// Names in lower case, values.
    pub headers: Vec<(String, String)>,
    /// The body, without the chunks' frames.
    pub body: Vec<u8>,
    /// How it ended.
    pub ended: Ended,
}

impl Answer {
    /// First value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Whole events of the body; what follows the last blank line is none.
    pub fn events(&self) -> Vec<Event> {
        let text = self.text().replace("\r\n", "\n").replace('\r', "\n");
        let Some(end) = text.rfind("\n\n") else { return Vec::new() };
        text[..end].split("\n\n").filter_map(event).collect()
    }

    /// Bytes after the last blank line: an event that was begun and not ended.
    pub fn unfinished(&self) -> String {
        let text = self.text().replace("\r\n", "\n");
        text.rfind("\n\n").map_or(text.clone(), |end| text[end + 2..].to_owned())
    }

    /// The text of all deltas of OpenAI's chat, Responses and completions, Anthropic's messages and Gemini.
    pub fn generated(&self) -> String {
        self.events().iter().map(|event| delta(&event.json())).collect()
    }

    /// The text of an answer that is not a stream, in any of these APIs; empty where the body has none.
    pub fn body_text(&self) -> String {
        delta(&serde_json::from_slice(&self.body).unwrap_or_default())
    }
}

/// Text that an event or a whole answer of any API has.
fn delta(data: &Value) -> String {
    let places = [
        "/choices/0/delta/content",
        "/choices/0/message/content",
        "/content/0/text",
        "/output/0/content/0/text",
        "/choices/0/text",
        "/delta",
        "/delta/text",
        "/candidates/0/content/parts/0/text",
    ];
    places.iter().find_map(|place| data.pointer(place)?.as_str()).unwrap_or_default().to_owned()
}

fn event(lines: &str) -> Option<Event> {
    let field = |name: &str| {
        let values = lines.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
    };
    let data = field("data");
    let name = field("event").last().map(|name| (*name).to_owned());
    (!data.is_empty()).then(|| Event { name, data: data.join("\n") })
}

/// Sends a request with a JSON body on a connection of its own and reads until the answer ends, or for `limit`.
pub async fn post(to: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    post_within(to, host, path, headers, body, raw::LISTEN).await
}

/// As [`post`], listening no longer than `limit`.
pub async fn post_within(
    to: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
    limit: Duration,
) -> Answer {
    let body = body.to_string();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{headers}");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let is_whole = |bytes: &[u8]| parse(bytes).is_some_and(|answer| answer.ended == Ended::Properly);
    let received = raw::exchange(to, request.as_bytes(), limit, is_whole).await;
    let nothing = Answer { status: 0, headers: Vec::new(), body: Vec::new(), ended: Ended::Open };
    let mut answer = parse(&received.bytes).unwrap_or(nothing);
    if answer.ended != Ended::Properly {
        answer.ended = match received.end {
            raw::End::Closed => Ended::Cut,
            raw::End::Reset => Ended::Reset,
            raw::End::Open => Ended::Open,
        };
    }
    answer
}

/// What has come so far; `Open` where more must come. `None` before the end of the head.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let (body, is_whole) = if value("transfer-encoding").is_some() {
        unchunk(rest)
    } else {
        let length = value("content-length").and_then(|length| length.parse::<usize>().ok());
        (rest.to_vec(), length.is_some_and(|length| rest.len() >= length))
    };
    Some(Answer { status, headers, body, ended: if is_whole { Ended::Properly } else { Ended::Open } })
}

/// The body within chunks, and whether the last chunk was among them.
fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Ok(length) = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16) else { break };
        if length == 0 {
            return (body, true);
        }
        let chunk = &bytes[end + 2..];
        body.extend_from_slice(&chunk[..length.min(chunk.len())]);
        if chunk.len() < length + 2 {
            break;
        }
        bytes = &chunk[length + 2..];
    }
    (body, false)
}
