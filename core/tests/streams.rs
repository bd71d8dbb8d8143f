//! Streams in the shapes that providers document, `streams/*.sse`: what they say, and that it does not matter where the
//! network cuts them.

use mesh_core::{
    model::model_route::{Api, Reason},
    model_route::stream::{Event, Reader, Reported},
};

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With its final event.
    Finished,
    /// Without.
    Cut,
    /// With a failure that it tells.
    Failed(Reason),
}

use End::{Cut, Failed, Finished};

/// File, API, choices asked for, events with tokens, end, tokens read, written and cached, events that say only what was
/// used.
type Row = (&'static str, Api, u32, usize, End, Option<(u64, u64, u64)>, usize);

const STREAMS: &[Row] = &[
    ("openai-chat", Api::ChatCompletions, 1, 3, Finished, None, 0),
    ("openai-chat-usage", Api::ChatCompletions, 1, 2, Finished, Some((19, 10, 4)), 1),
    ("openai-chat-tools", Api::ChatCompletions, 1, 3, Finished, Some((82, 17, 0)), 1),
    ("openai-chat-two-tools", Api::ChatCompletions, 1, 4, Finished, None, 0),
    ("openai-chat-two-choices", Api::ChatCompletions, 2, 3, Finished, Some((8, 5, 0)), 1),
    ("openai-chat-two-choices-one-ends", Api::ChatCompletions, 2, 2, Cut, None, 0),
    ("openai-chat-logprobs", Api::ChatCompletions, 1, 2, Finished, None, 0),
    ("openai-chat-refusal", Api::ChatCompletions, 1, 2, Finished, None, 0),
    ("openai-chat-length", Api::ChatCompletions, 1, 1, Finished, Some((7, 1, 0)), 1),
    ("openai-chat-hidden-thoughts", Api::ChatCompletions, 1, 1, Finished, Some((12, 256, 0)), 1),
    ("openai-chat-cut", Api::ChatCompletions, 1, 1, Cut, None, 0),
    ("openai-chat-cut-before-done", Api::ChatCompletions, 1, 1, Cut, None, 0),
    ("openai-chat-error-first", Api::ChatCompletions, 1, 0, Failed(Reason::Server), None, 0),
    ("openai-chat-error-later", Api::ChatCompletions, 1, 1, Failed(Reason::Rate), None, 0),
    ("openai-chat-unicode", Api::ChatCompletions, 1, 2, Finished, None, 0),
    ("openai-chat-audio", Api::ChatCompletions, 1, 3, Finished, None, 0),
    ("openai-chat-filtered", Api::ChatCompletions, 1, 0, Failed(Reason::ContentFilter), None, 0),
    ("azure-chat", Api::ChatCompletions, 1, 1, Finished, None, 0),
    ("azure-chat-usage", Api::ChatCompletions, 1, 1, Finished, Some((27, 2, 0)), 1),
    ("azure-chat-filter-behind", Api::ChatCompletions, 1, 1, Finished, None, 0),
    ("dashscope-chat", Api::ChatCompletions, 1, 2, Finished, Some((22, 17, 0)), 1),
    ("dashscope-chat-thinking", Api::ChatCompletions, 1, 2, Finished, Some((10, 360, 6)), 1),
    ("dashscope-chat-inspection", Api::ChatCompletions, 1, 1, Failed(Reason::ContentFilter), None, 0),
    ("dashscope-native-error", Api::ChatCompletions, 1, 0, Failed(Reason::Rate), None, 0),
    ("vllm-chat", Api::ChatCompletions, 1, 2, Finished, Some((11, 2, 0)), 1),
    ("vllm-chat-continuous", Api::ChatCompletions, 1, 2, Finished, Some((11, 3, 0)), 1),
    ("vllm-chat-continuous-cut", Api::ChatCompletions, 1, 2, Cut, Some((11, 2, 0)), 0),
    ("vllm-chat-spaced", Api::ChatCompletions, 1, 1, Finished, Some((5, 1, 0)), 1),
    ("vllm-chat-error", Api::ChatCompletions, 1, 0, Failed(Reason::Context), None, 0),
    ("vllm-chat-reasoning", Api::ChatCompletions, 1, 3, Finished, None, 0),
    ("groq-chat", Api::ChatCompletions, 1, 1, Finished, Some((42, 3, 0)), 0),
    ("moonshot-chat", Api::ChatCompletions, 1, 1, Finished, Some((19, 13, 8)), 0),
    ("deepseek-chat-keepalive", Api::ChatCompletions, 1, 2, Finished, Some((16, 62, 8)), 0),
    ("chat-carriage-line-feed", Api::ChatCompletions, 1, 2, Finished, None, 0),
    ("chat-carriage-return", Api::ChatCompletions, 1, 2, Finished, None, 0),
    ("chat-byte-order-mark", Api::ChatCompletions, 1, 1, Finished, None, 0),
    ("chat-several-lines", Api::ChatCompletions, 1, 1, Finished, None, 0),
    ("chat-page", Api::ChatCompletions, 1, 0, Cut, None, 0),
    ("chat-broken", Api::ChatCompletions, 1, 1, Failed(Reason::Decode), None, 0),
    ("openai-completions", Api::Completions, 1, 2, Finished, None, 0),
    ("openai-completions-usage", Api::Completions, 1, 2, Finished, Some((3, 4, 0)), 1),
    ("openai-responses", Api::Responses, 1, 3, Finished, Some((37, 11, 5)), 0),
    ("openai-responses-reasoning", Api::Responses, 1, 2, Finished, Some((20, 90, 0)), 0),
    ("openai-responses-function-call", Api::Responses, 1, 2, Finished, Some((291, 23, 0)), 0),
    ("openai-responses-incomplete", Api::Responses, 1, 1, Finished, Some((9, 16, 0)), 0),
    ("openai-responses-failed", Api::Responses, 1, 0, Failed(Reason::Server), None, 0),
    ("openai-responses-error", Api::Responses, 1, 1, Failed(Reason::Rate), None, 0),
    ("openai-responses-cut", Api::Responses, 1, 1, Cut, None, 0),
    ("anthropic-text", Api::Messages, 1, 2, Finished, Some((25, 15, 0)), 0),
    ("anthropic-cache", Api::Messages, 1, 1, Finished, Some((2104, 7, 2000)), 0),
    ("anthropic-tool-use", Api::Messages, 1, 4, Finished, Some((472, 89, 0)), 0),
    ("anthropic-tool-without-input", Api::Messages, 1, 1, Finished, Some((300, 30, 0)), 0),
    ("anthropic-thinking", Api::Messages, 1, 4, Finished, Some((40, 64, 0)), 0),
    ("anthropic-web-search", Api::Messages, 1, 5, Finished, Some((10682, 510, 0)), 0),
    ("anthropic-error-first", Api::Messages, 1, 0, Failed(Reason::Overloaded), None, 0),
    ("anthropic-error-later", Api::Messages, 1, 1, Failed(Reason::Server), None, 0),
    ("anthropic-pings-only", Api::Messages, 1, 0, Cut, None, 0),
    ("anthropic-refusal", Api::Messages, 1, 0, Failed(Reason::ContentFilter), Some((564, 1, 0)), 0),
    ("gemini-text", Api::GenerateContent, 1, 3, Finished, Some((4, 5, 0)), 0),
    ("gemini-thoughts", Api::GenerateContent, 1, 2, Finished, Some((9, 213, 3)), 0),
    ("gemini-function-call", Api::GenerateContent, 1, 1, Finished, Some((70, 18, 0)), 0),
    ("gemini-safety-prompt", Api::GenerateContent, 1, 0, Failed(Reason::ContentFilter), None, 0),
    ("gemini-safety-later", Api::GenerateContent, 1, 1, Finished, Some((13, 4, 0)), 0),
    ("gemini-safety-first", Api::GenerateContent, 1, 0, Failed(Reason::ContentFilter), None, 0),
    ("gemini-length-in-thought", Api::GenerateContent, 1, 1, Finished, Some((6, 64, 0)), 0),
    ("gemini-two-candidates", Api::GenerateContent, 2, 3, Finished, Some((5, 4, 0)), 0),
    ("gemini-error", Api::GenerateContent, 1, 1, Failed(Reason::Overloaded), Some((5, 1, 0)), 0),
    ("gemini-cut", Api::GenerateContent, 1, 2, Cut, Some((5, 2, 0)), 0),
];

/// All that a reader tells of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    events: Vec<Event>,
    reported: Reported,
    finished: bool,
    tokens: u64,
    written: u64,
    unfinished: u64,
}

fn read<'a>(api: Api, choices: u32, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut reader = Reader::new(api, choices);
    let mut events = Vec::new();
    for piece in pieces {
        reader.feed(piece, &mut |event| events.push(event));
    }
    assert!(reader.memory() <= 1_024 + 4_096);
    Read {
        events,
        reported: reader.reported(),
        finished: reader.is_finished(),
        tokens: reader.tokens_seen(),
        written: reader.written_bytes(),
        unfinished: reader.unfinished(),
    }
}

fn stream(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/streams/{name}.sse", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).expect("a stream of the table is a file")
}

#[test]
fn streams_of_every_provider_say_what_they_are_documented_to_say() {
    for (name, api, choices, tokens, end, usage, usage_only) in STREAMS {
        let stream = stream(name);
        let read = read(*api, *choices, [stream.as_slice()]);
        let count = |what: fn(&Event) -> bool| read.events.iter().filter(|event| what(event)).count();
        let failed = read.events.iter().find_map(|event| event.says.failed.as_ref()).map(|failure| failure.reason);
        let found = match failed {
            Some(reason) => Failed(reason),
            None if read.finished => Finished,
            None => Cut,
        };
        assert_eq!((count(|event| event.says.token), found), (*tokens, *end), "{name}: {:#?}", read.events);
        assert_eq!(count(|event| event.says.usage_only), *usage_only, "{name}");
        assert_eq!(count(|event| event.says.finished) == 1, read.finished, "{name}");
        let Reported { input, output, cached } = read.reported;
        let reported = input.zip(output).map(|(input, output)| (input, output, cached.unwrap_or(0)));
        assert_eq!(reported, *usage, "{name}");
        assert_eq!(read.tokens as usize, *tokens, "{name}");
        let end = read.events.last().map_or(0, |event| event.to);
        assert_eq!(read.unfinished, stream.len() as u64 - end, "{name}");
    }
}

#[test]
fn it_does_not_matter_at_which_byte_a_stream_is_cut_in_pieces() {
    for (name, api, choices, ..) in STREAMS {
        let stream = stream(name);
        let whole = read(*api, *choices, [stream.as_slice()]);
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            assert_eq!(read(*api, *choices, [first, second]), whole, "{name} cut at {at}");
        }
        for size in 1..=16 {
            assert_eq!(read(*api, *choices, stream.chunks(size)), whole, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn every_stream_that_is_kept_is_read() {
    let folder = format!("{}/tests/streams", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the streams are in a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut named: Vec<String> = STREAMS.iter().map(|row| format!("{}.sse", row.0)).collect();
    named.sort();
    assert_eq!(files, named);
    assert!(named.len() >= 50);
}
