//! Streams that break anywhere in a text, and go on at another target: what the client reads is one answer.

use proptest::prelude::*;

use super::{streams::parsed, *};
use crate::model_route::resume::{NotResumed, TEXT_MAX};

const CLIENTS: [Api; 2] = [Api::ChatCompletions, Api::Messages];
const TARGETS: [Api; 3] = [Api::ChatCompletions, Api::Messages, Api::GenerateContent];
const BEFORE: crate::model::model_route::Usage = crate::model::model_route::Usage { input: 10, output: 4, cached: 2 };
const TEXT: &str = "Of rivers:\n\n the Rhine,  the R\u{e9}no\u{20ac} and\tthe \u{1f600}Po. \n\nNo more.";

fn chunk(delta: Value, finish_reason: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_009, "model": "gpt-x",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
}

/// Events of this API that say these texts: what comes before, each text, and what comes at the end.
fn events(api: Api, texts: &[&str]) -> [Vec<Value>; 3] {
    match api {
        Api::Messages => {
            let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
                "usage": {"input_tokens": 30, "cache_read_input_tokens": 5, "output_tokens": 1}});
            let block = json!({"type": "text", "text": ""});
            let text = |text: &&str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
            [
                vec![
                    json!({"type": "message_start", "message": message}),
                    json!({"type": "content_block_start", "index": 0, "content_block": block}),
                    json!({"type": "ping"}),
                ],
                texts.iter().map(text).collect(),
                vec![
                    json!({"type": "content_block_stop", "index": 0}),
                    json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
                    json!({"type": "message_stop"}),
                ],
            ]
        }
        Api::GenerateContent => {
            let parts = |text: &str| json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]});
            let end = json!({"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 35, "cachedContentTokenCount": 5, "candidatesTokenCount": 7}});
            [Vec::new(), texts.iter().map(|text| parts(text)).collect(), vec![end]]
        }
        Api::ChatCompletions | Api::Responses | Api::Completions | Api::Embeddings => [
            vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)],
            texts.iter().map(|text| chunk(json!({ "content": text }), Value::Null)).collect(),
            vec![
                chunk(json!({}), json!("stop")),
                json!({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 35, "completion_tokens": 7,
                    "prompt_tokens_details": {"cached_tokens": 5}}}),
            ],
        ],
    }
}

fn bytes(api: Api, event: &Value) -> Vec<u8> {
    let name = event["type"].as_str().filter(|_| api == Api::Messages);
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    format!("{name}data: {event}\n\n").into_bytes()
}

/// What a client of this API has read when the stream broke behind these texts.
fn broken(api: Api, texts: &[&str]) -> (Transcript, Vec<u8>) {
    let (mut transcript, mut out) = (Transcript::new(api), Vec::new());
    let [before, said, _] = events(api, texts);
    for event in before.iter().chain(&said) {
        let event = bytes(api, event);
        transcript.read(&event);
        out.extend(event);
    }
    (transcript, out)
}

/// What the client reads of a target that goes on with these texts.
fn resumed(transcript: &Transcript, target: Api, texts: &[&str]) -> Result<Vec<u8>, Untranslatable> {
    let mut stream = Stream::resumed(target, transcript, UsageChunk::Wanted, BEFORE).expect("it can be gone on with");
    let mut out = Vec::new();
    let [before, said, after] = events(target, texts);
    for event in before.iter().chain(&said).chain(&after) {
        stream.event(&bytes(target, event), &mut out)?;
    }
    stream.finish(&mut out);
    assert_eq!(stream.goes_on(), if texts.concat().is_empty() { GoesOn::Silent } else { GoesOn::Heard });
    Ok(out)
}

fn text_of(api: Api, events: &[(String, Value)]) -> String {
    let text = |(_, data): &(String, Value)| match api {
        Api::Messages => data["delta"]["text"].as_str().map(str::to_owned),
        _ => data["choices"][0]["delta"]["content"].as_str().map(str::to_owned),
    };
    events.iter().filter_map(text).collect()
}

/// The client's events are one answer: one beginning, one id, one block, one end, and what was used by both targets.
fn assert_one_answer(client: Api, events: &[(String, Value)], title: &str) {
    let count = |is: &dyn Fn(&Value) -> bool| events.iter().filter(|(_, data)| is(data)).count();
    if client == Api::Messages {
        for kind in ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"] {
            assert_eq!(count(&|data| data["type"] == kind), 1, "{kind}: {title}");
        }
        assert_eq!(count(&|data| data["index"].is_u64() && data["index"] != 0), 0, "{title}");
        let last = &events[events.len() - 2].1;
        let usage = json!({"input_tokens": 38, "cache_read_input_tokens": 7, "output_tokens": 11});
        assert_eq!(
            only(&last["usage"], &["input_tokens", "cache_read_input_tokens", "output_tokens"]),
            usage,
            "{title}"
        );
        assert_eq!(last["delta"]["stop_reason"], "end_turn", "{title}");
    } else {
        assert_eq!(count(&|data| data["choices"][0]["delta"]["role"].is_string()), 1, "{title}");
        assert_eq!(count(&|data| data["choices"][0]["finish_reason"] == "stop"), 1, "{title}");
        let chunks = events.iter().filter(|(_, data)| data.is_object());
        for (_, data) in chunks {
            let heading = (&data["id"], &data["model"], &data["created"]);
            assert_eq!(heading, (&json!("chatcmpl-1"), &json!("gpt-x"), &json!(1_700_000_009)), "{title}");
        }
        let usage = &events[events.len() - 2].1["usage"];
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(45), &json!(11)), "{title}");
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 7, "{title}");
        assert_eq!(events.last().expect("an end").1, "[DONE]", "{title}");
    }
}

fn assert_whole(client: Api, target: Api, text: &str, at: usize, size: usize) {
    let title = format!("{client:?} from {target:?} at {at}");
    let (first, _) = text.split_at(at);
    let (transcript, mut out) = broken(client, &[first]);
    let given = transcript.text_for(target).expect("it can be gone on with");
    let rest = &text[given.len()..];
    let cut: Vec<String> = rest.chars().collect::<Vec<_>>().chunks(size).map(|piece| piece.iter().collect()).collect();
    let cut: Vec<&str> = cut.iter().map(String::as_str).collect();
    out.extend(resumed(&transcript, target, &cut).unwrap_or_else(|error| panic!("{title}: {error}")));
    let events = parsed(&out);
    assert_eq!(text_of(client, &events), text, "{title}");
    assert_one_answer(client, &events, &title);
}

#[test]
fn text_that_breaks_anywhere_is_whole_and_one_answer_when_another_target_goes_on() {
    for client in CLIENTS {
        for target in TARGETS {
            for (at, _) in TEXT.char_indices().skip(1) {
                for size in [1, 3, 100] {
                    assert_whole(client, target, TEXT, at, size);
                }
            }
        }
    }
}

#[test]
fn a_second_break_goes_on_from_all_that_was_read() {
    for client in CLIENTS {
        let (mut transcript, _) = broken(client, &["one", " two"]);
        let mut second = Stream::resumed(Api::Messages, &transcript, UsageChunk::Unwanted, BEFORE).unwrap();
        let mut out = Vec::new();
        let [before, said, _] = events(Api::Messages, &[" three", " four"]);
        before.iter().chain(&said).for_each(|event| second.event(&bytes(Api::Messages, event), &mut out).unwrap());
        transcript.read(&out);
        assert_eq!(transcript.text(), Ok("one two three four"));
        let third = parsed(&resumed(&transcript, Api::ChatCompletions, &[" five"]).unwrap());
        assert_eq!(text_of(client, &third), " five");
    }
}

#[test]
fn text_behind_a_block_that_ended_is_a_block_of_its_own() {
    let (mut transcript, _) = broken(Api::Messages, &["one"]);
    transcript.read(&bytes(Api::Messages, &json!({"type": "content_block_stop", "index": 0})));
    let events = parsed(&resumed(&transcript, Api::ChatCompletions, &[" two"]).unwrap());
    let at: Vec<_> = events.iter().map(|(name, data)| (name.as_str(), data["index"].as_u64())).collect();
    assert_eq!(
        at[..3],
        [("content_block_start", Some(1)), ("content_block_delta", Some(1)), ("content_block_stop", Some(1))]
    );
}

#[test]
fn target_that_begins_anew_fails_before_the_client_reads_anything_of_it() {
    let long = "a text that is longer than what is compared of it";
    for text in ["one", "one two three", long] {
        for target in TARGETS {
            let (transcript, _) = broken(Api::ChatCompletions, &[text]);
            let words: Vec<&str> = text.split_inclusive(' ').chain([" and more"]).collect();
            let mut stream = Stream::resumed(target, &transcript, UsageChunk::Unwanted, BEFORE).unwrap();
            let mut out = Vec::new();
            let [before, said, _] = events(target, &words);
            let all = before.iter().chain(&said);
            let failed: Vec<_> = all.filter_map(|event| stream.event(&bytes(target, event), &mut out).err()).collect();
            assert_eq!(failed.first().map(|error| error.cause), Some(Cause::Repeated), "{target:?} {text}");
            assert!(
                stream.goes_on() == GoesOn::Silent && !String::from_utf8_lossy(&out).contains("one"),
                "{target:?} {text}"
            );
        }
    }
}

#[test]
fn beginning_that_is_alike_for_some_letters_is_passed_on_whole() {
    let (transcript, _) = broken(Api::ChatCompletions, &["word0 word1"]);
    for words in [&["word", "2"][..], &["wo"], &["word0 word", "2"]] {
        let events = parsed(&resumed(&transcript, Api::GenerateContent, words).unwrap());
        assert_eq!(text_of(Api::ChatCompletions, &events), words.concat());
    }
}

#[test]
fn thoughts_of_the_target_that_goes_on_are_left_out_and_calls_refused() {
    let (transcript, _) = broken(Api::ChatCompletions, &["one"]);
    let mut stream = Stream::resumed(Api::ChatCompletions, &transcript, UsageChunk::Unwanted, BEFORE).unwrap();
    let mut out = Vec::new();
    let thought = chunk(json!({"reasoning_content": "hm"}), Value::Null);
    stream.event(&bytes(Api::ChatCompletions, &thought), &mut out).unwrap();
    assert_eq!((out.as_slice(), stream.goes_on()), (b": ping\n\n".as_slice(), GoesOn::Silent));
    let call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]});
    assert!(stream.event(&bytes(Api::ChatCompletions, &chunk(call, Value::Null)), &mut out).is_err());
}

#[test]
fn what_is_no_plain_text_is_not_gone_on_with() {
    let after = |api: Api, event: Value| {
        let (mut transcript, _) = broken(api, &["one"]);
        transcript.read(&bytes(api, &event));
        transcript.text().map(str::to_owned)
    };
    let delta = |delta: Value| after(Api::ChatCompletions, chunk(delta, Value::Null));
    for said in [
        json!({"reasoning_content": "hm"}),
        json!({"reasoning": "hm"}),
        json!({"refusal": "no"}),
        json!({"tool_calls": [{"index": 0}]}),
        json!({"function_call": {"name": "f"}}),
        json!({"content": ["parts"]}),
    ] {
        assert_eq!(delta(said.clone()), Err(NotResumed::Said), "{said}");
    }
    assert_eq!(delta(json!({"content": null, "refusal": null, "tool_calls": []})), Ok("one".to_owned()));
    assert_eq!(after(Api::ChatCompletions, chunk(json!({}), json!("stop"))), Err(NotResumed::Ended));
    let mut second = chunk(json!({"content": "x"}), Value::Null);
    second["choices"][0]["index"] = json!(1);
    assert_eq!(after(Api::ChatCompletions, second), Err(NotResumed::Choices));
    let of_block = |kind: &str, inside: &str| json!({"type": kind, "index": 1, inside: {"type": "thinking"}});
    for event in [
        of_block("content_block_start", "content_block"),
        of_block("content_block_delta", "delta"),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}}),
    ] {
        assert_eq!(after(Api::Messages, event.clone()), Err(NotResumed::Said), "{event}");
    }
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    assert_eq!(after(Api::Messages, end), Err(NotResumed::Ended));
    for api in [Api::Responses, Api::Completions, Api::Embeddings, Api::GenerateContent] {
        assert_eq!(Transcript::new(api).text(), Err(NotResumed::Api));
    }
    for api in CLIENTS {
        assert_eq!(broken(api, &[" \n"]).0.text(), Err(NotResumed::Blank));
    }
}

#[test]
fn text_is_kept_up_to_its_bound_and_then_not_at_all() {
    let (mut transcript, _) = broken(Api::ChatCompletions, &[]);
    let piece = "x".repeat(1_000);
    for _ in 0..TEXT_MAX / piece.len() {
        transcript.read(&bytes(Api::ChatCompletions, &chunk(json!({ "content": piece }), Value::Null)));
    }
    assert!(transcript.text().is_ok());
    transcript.read(&bytes(Api::ChatCompletions, &chunk(json!({ "content": piece }), Value::Null)));
    assert_eq!((transcript.text(), transcript.is_unfit()), (Err(NotResumed::Long), true));
}

proptest! {
    #[test]
    fn any_text_is_whole_wherever_it_breaks(text in "[ab \n\u{e9}\u{20ac}]{2,60}", at in 1..60usize, size in 1..9usize) {
        let at = text.floor_char_boundary(at);
        let (first, rest) = text.split_at(at);
        // What says the beginning once more is taken for a new beginning, and nothing at all for no answer.
        let beginning = &first[..first.floor_char_boundary(32)];
        let is_plain = !first.trim().is_empty() && !rest.trim_start().is_empty();
        prop_assume!(is_plain && !rest.starts_with(beginning) && !rest.trim_start().starts_with(beginning));
        for client in CLIENTS {
            for target in TARGETS {
                assert_whole(client, target, &text, at, size);
            }
        }
    }

    #[test]
    fn transcripts_of_arbitrary_events_do_not_panic_and_stay_small(
        pieces in prop::collection::vec(any::<u8>(), 0..400),
        tail in "[{}\\[\\]\":,a-z\n ]{0,200}",
    ) {
        for api in Api::ALL {
            let mut transcript = Transcript::new(api);
            transcript.read(&pieces);
            transcript.read(format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}}}}]}}\n\ndata: {tail}\n\n").as_bytes());
            prop_assert!(transcript.text().map_or(0, str::len) <= TEXT_MAX);
        }
    }
}
