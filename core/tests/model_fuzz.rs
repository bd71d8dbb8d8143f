//! What models and callers send, mutated and arbitrary: nothing panics, and nothing takes memory without bound.
//!
//! A second for each target; ten minutes for each with `MESH_TEST_LENGTH=full`. A failure prints the seed of its round,
//! which is all that a round depends on.

use std::time::{Duration, Instant};

use mesh_core::{
    model::model_route::{Api, Escalate, Usage},
    model_route::{
        answer::{self, AskedFor},
        stream::Reader,
        translate::{self, Stream, Transcript, UsageChunk},
    },
    schema::Schema,
};

/// Bytes that a stream may take: state, and the copy of an error while it is made.
const STREAM_BYTES: usize = 1_024 + 4_096;
/// Pieces that break syntax where single bytes rarely do.
const PIECES: &[&[u8]] = &[
    b"\n\n",
    b"\r\n\r\n",
    b"\r",
    b"data: ",
    b"data:",
    b"event: error\n",
    b": ",
    b"\xef\xbb\xbf",
    b"[DONE]",
    b"\"usage\":{",
    b"\"usageMetadata\":{",
    b"\"error\":{",
    b"\"finish_reason\":\"stop\"",
    b"\"choices\":[",
    b"\"type\":\"error\"",
    b"null",
    b"18446744073709551616",
    b"-1e999",
    b"\\\"",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
];

/// A generator of numbers that look random; the same seed gives the same ones.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Streams in the shapes of providers.
fn samples() -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/streams", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the streams are in a folder")
        .map(|entry| entry.expect("an entry of the folder").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a stream is readable")).collect()
}

/// Arbitrary bytes, or a sample with some of it changed, removed, repeated, replaced by pieces of others or cut off.
fn input(chance: &mut Chance, samples: &[Vec<u8>]) -> Vec<u8> {
    if chance.below(8) == 0 {
        let length = chance.below(4_096);
        return (0..length).map(|_| chance.next() as u8).collect();
    }
    let mut bytes = samples[chance.below(samples.len())].clone();
    for _ in 0..=chance.below(12) {
        let from = chance.below(bytes.len() + 1);
        let to = (from + chance.below(64)).min(bytes.len());
        match chance.below(6) {
            0 if from < bytes.len() => bytes[from] = chance.next() as u8,
            1 => drop(bytes.drain(from..to)),
            2 => {
                let repeated = bytes[from..to].to_vec();
                bytes.splice(from..from, repeated);
            }
            3 => {
                let piece = PIECES[chance.below(PIECES.len())];
                let times = 1 + chance.below(3) * chance.below(40);
                bytes.splice(from..from, piece.repeat(times));
            }
            4 => {
                let other = &samples[chance.below(samples.len())];
                let begin = chance.below(other.len());
                let end = (begin + chance.below(512)).min(other.len());
                bytes.splice(from..to, other[begin..end].iter().copied());
            }
            _ if chance.below(8) == 0 => bytes.truncate(from),
            _ => {}
        }
    }
    bytes
}

/// Gives `target` inputs until its time is over.
fn fuzz(first: u64, samples: &[Vec<u8>], target: impl Fn(&mut Chance, &[u8])) {
    let full = std::env::var_os("MESH_TEST_LENGTH").is_some_and(|length| length == "full");
    let until = Instant::now() + Duration::from_secs(if full { 600 } else { 1 });
    let mut rounds = 0_u64;
    while Instant::now() < until {
        let seed = first.wrapping_add(rounds);
        let told = Told(seed);
        let mut chance = Chance(seed);
        let bytes = input(&mut chance, samples);
        target(&mut chance, &bytes);
        drop(told);
        rounds += 1;
    }
    println!("{rounds} rounds");
    assert!(rounds > 100, "only {rounds} rounds");
}

/// Prints the seed of the round in which a test panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {:#x}", self.0);
        }
    }
}

/// A seed that nobody chose.
fn chosen_by_time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64
}

#[test]
fn readers_of_streams_survive_everything_and_do_not_depend_on_pieces() {
    fuzz(chosen_by_time(), &samples(), |chance, bytes| {
        let api = Api::ALL[chance.below(Api::ALL.len())];
        let choices = chance.below(4) as u32;
        let (mut whole, mut pieces) = (Reader::new(api, choices), Reader::new(api, choices));
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        whole.feed(bytes, &mut |event| expected.push(event));
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(1 + chance.below(rest.len().min(200)));
            pieces.feed(piece, &mut |event| found.push(event));
            assert!(pieces.memory() <= STREAM_BYTES);
            rest = others;
        }
        assert_eq!(expected, found);
        assert_eq!((whole.reported(), whole.written_bytes()), (pieces.reported(), pieces.written_bytes()));
        let mut border = 0;
        for event in &found {
            assert_eq!(event.from, border);
            assert!(event.to > border);
            border = event.to;
        }
        assert_eq!(pieces.unfinished(), bytes.len() as u64 - border);
    });
}

#[test]
fn readers_of_whole_answers_survive_everything() {
    let schema = Schema::new(serde_json::json!({"properties": {"a": {"items": {"type": "string"}}}})).ok();
    let escalate =
        Escalate { on_length: true, refusals: vec!["i".to_owned()], json: Some(vec!["a".to_owned()]), schema };
    // The documents of events have the members that answers have.
    let documents: Vec<Vec<u8>> = samples()
        .iter()
        .flat_map(|stream| stream.split(|byte| *byte == b'\n'))
        .filter_map(|line| line.strip_prefix(b"data: "))
        .map(|data| String::from_utf8_lossy(data).replace("\"delta\":", "\"message\":").into_bytes())
        .filter(|data| !data.is_empty())
        .collect();
    fuzz(chosen_by_time(), &documents, |chance, bytes| {
        let api = Api::ALL[chance.below(Api::ALL.len())];
        let asked_for = if chance.below(2) == 0 { AskedFor::Text } else { AskedFor::Json };
        if let Err(failure) = answer::inspect(api, None, bytes, &escalate, asked_for) {
            assert!(failure.message.len() <= 512 && (400..600).contains(&failure.status), "{failure:?}");
        }
    });
}

/// Requests that name most members that translators look at.
const REQUESTS: [&[u8]; 2] = [
    br#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"},
{"type":"image_url","image_url":{"url":"data:image/png;base64,eA=="}},{"type":"input_audio","input_audio":{"data":"eA==",
"format":"wav"}},{"type":"file","file":{"file_data":"data:application/pdf;base64,eA=="}}]},{"role":"assistant","content":null,
"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c",
"content":"d"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{}}}}],"tool_choice":"auto",
"parallel_tool_calls":false,"stop":["x"],"max_tokens":5,"temperature":0.5,"top_p":1,"stream":true,"response_format":
{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}}"#,
    br#"{"model":"m","max_tokens":5,"system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":[{"type":"image",
"source":{"type":"base64","media_type":"image/png","data":"eA=="}},{"type":"document","source":{"type":"url","url":"https://a/"}}]},
{"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"tool_use","id":"c","name":"f","input":{"a":1}}]},
{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":[{"type":"text","text":"d"}],"is_error":true}]}],
"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
"stop_sequences":["x"],"metadata":{"user_id":"u"},"output_config":{"format":{"type":"json_schema","schema":{}}}}"#,
];

#[test]
fn translators_of_requests_survive_everything() {
    let requests = REQUESTS.map(<[u8]>::to_vec);
    fuzz(chosen_by_time(), &requests, |_, bytes| {
        for from in [Api::ChatCompletions, Api::Messages] {
            for to in [Api::ChatCompletions, Api::Messages, Api::GenerateContent] {
                if let Ok(body) = translate::request(from, to, bytes, "m") {
                    serde_json::from_slice::<serde::de::IgnoredAny>(&body).expect("a translation is JSON");
                    // What was carried over may have been damaged; nothing is repeated.
                    assert!(body.len() <= 4 * bytes.len() + 1_024);
                }
            }
        }
    });
}

#[test]
fn translators_of_answers_and_streams_survive_everything() {
    fuzz(chosen_by_time(), &samples(), |chance, bytes| {
        let from = [Api::ChatCompletions, Api::Messages, Api::GenerateContent][chance.below(3)];
        let to = [Api::ChatCompletions, Api::Messages][chance.below(2)];
        let mut stream = Stream::new(from, to, "m", UsageChunk::Wanted);
        let mut out = Vec::new();
        let mut transcript = Transcript::new(to);
        let mut at = 0;
        let mut ends = Vec::new();
        Reader::new(from, 1).feed(bytes, &mut |event| ends.push(event.to as usize));
        for end in ends {
            let event = &bytes[at..end];
            at = end;
            out.clear();
            let _ = stream.event(event, &mut out);
            // A piece of an event becomes at most three events with what stands in each.
            assert!(out.len() <= 256 * event.len() + 4_096, "{} bytes of {}", out.len(), event.len());
            assert!(out.is_empty() || out.ends_with(b"\n\n"));
            transcript.read(&out);
            // Wherever it breaks, another target may go on with anything.
            if let Ok(mut resumed) = Stream::resumed(from, &transcript, UsageChunk::Wanted, Usage::default()) {
                let mut more = Vec::new();
                let _ = resumed.event(event, &mut more);
                resumed.finish(&mut more);
                assert!(more.is_empty() || more.ends_with(b"\n\n"));
            }
            let data = String::from_utf8_lossy(event).replace("\"delta\":", "\"message\":").replace("data: ", "");
            if let Ok(body) = translate::answer(from, to, data.as_bytes(), "m") {
                serde_json::from_slice::<serde::de::IgnoredAny>(&body).expect("a translation is JSON");
            }
        }
        stream.finish(&mut out);
    });
}
