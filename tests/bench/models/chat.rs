//! OpenAI's chat completions as they stand on the wire: events of a stream, and the requests that ask for one.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// What stands in front of the moment at which an event was written, in its text.
const BEFORE_STAMP: &[u8] = b"\"content\":\" ";
/// Digits of that moment.
const STAMP_DIGITS: usize = 16;
/// Head of a stream.
pub(super) const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                               cache-control: no-cache\r\ntransfer-encoding: chunked\r\n";

/// Nanoseconds since this process first asked: what both ends of a stream read.
pub(super) fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn event(choices: &str, usage: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-CbQ2vXy8mLq4Zr0TnWk7JdFh1sUea\",\"object\":\"chat.completion.chunk\",\
         \"created\":1767225600,\"model\":\"small-2026-01-01\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
    )
}

fn delta(delta: &str, finish: &str) -> String {
    event(&format!("{{\"index\":0,\"delta\":{{{delta}}},\"logprobs\":null,\"finish_reason\":{finish}}}"), "null")
}

/// The first event, which holds no token.
pub(super) fn role() -> String {
    delta("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null")
}

/// A token, whose text is the moment `stamp`.
pub(super) fn token(stamp: u64) -> String {
    delta(&format!("\"content\":\" {stamp:016x}\""), "null")
}

/// Events at the end of a stream of `tokens`: why it ends, what was used, `[DONE]`.
pub(super) fn last(tokens: u64) -> [String; 3] {
    let usage = format!(
        "{{\"prompt_tokens\":9,\"completion_tokens\":{tokens},\"total_tokens\":{},\
         \"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0}}}}",
        tokens + 9
    );
    [delta("", "\"stop\""), event("", &usage), "data: [DONE]\n\n".to_owned()]
}

/// Events around the tokens of a whole stream: [`role`] and [`last`].
pub(super) const AROUND: usize = 4;

/// Appends an event as a chunk of its own.
pub(super) fn chunk(out: &mut Vec<u8>, event: &str) {
    out.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
}

/// Appends the end of a stream of `tokens`.
pub(super) fn end(out: &mut Vec<u8>, tokens: u64) {
    last(tokens).iter().for_each(|event| chunk(out, event));
    out.extend_from_slice(b"0\r\n\r\n");
}

/// When a token was written; `None` for other events.
pub(super) fn stamp(event: &[u8]) -> Option<u64> {
    let at = event.windows(BEFORE_STAMP.len()).position(|window| window == BEFORE_STAMP)? + BEFORE_STAMP.len();
    let digits = str::from_utf8(event.get(at..at + STAMP_DIGITS)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// A request for a stream: `model` says what the provider does. The client asks for the usage itself, so that nothing is
/// added on the way and all ways carry the same bytes.
pub(super) fn request(authority: &str, model: &str, tokens: u64, prompt: &str) -> Vec<u8> {
    let body = format!(
        "{{\"model\":\"{model}\",\"stream\":true,\"max_tokens\":{tokens},\"stream_options\":{{\"include_usage\":true}},\
         \"messages\":[{{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},\
         {{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}"
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {authority}\r\nuser-agent: mesh-bench\r\n\
         accept: text/event-stream\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Between two moments of [`now`].
pub(super) fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}
