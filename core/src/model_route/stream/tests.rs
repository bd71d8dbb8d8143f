//! What single events say, and what does not count.

use proptest::prelude::*;

use super::*;
use crate::model::model_route::Reason;

/// Events of a stream that comes in pieces of `size` bytes.
fn events(reader: &mut Reader, stream: &[u8], size: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in stream.chunks(size.max(1)) {
        reader.feed(piece, &mut |event| events.push(event));
    }
    events
}

/// What the only event with this data says.
fn says(api: Api, data: &str) -> Says {
    let mut reader = Reader::new(api, 1);
    let events = events(&mut reader, format!("data: {data}\n\n").as_bytes(), usize::MAX);
    let [event] = events.try_into().expect("one event");
    event.says
}

fn reason(says: &Says) -> Option<Reason> {
    says.failed.as_ref().map(|failure| failure.reason)
}

#[test]
fn only_what_a_reader_would_see_is_a_token() {
    let chat = |delta: &str| (Api::ChatCompletions, format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#));
    let message = |kind: &str, rest: &str| (Api::Messages, format!(r#"{{"type":"{kind}",{rest}}}"#));
    let part = |part: &str| (Api::GenerateContent, format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#));
    let response = |kind: &str, rest: &str| (Api::Responses, format!(r#"{{"type":"{kind}",{rest}}}"#));
    let tokens = [
        chat(r#"{"content":"a"}"#),
        chat(r#"{"content":"\""}"#),
        chat(r#"{"content":[{"type":"text","text":"a"}]}"#),
        chat(r#"{"content":null,"reasoning_content":"so"}"#),
        chat(r#"{"reasoning":"so"}"#),
        chat(r#"{"refusal":"no"}"#),
        chat(r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}"#),
        (Api::Completions, r#"{"choices":[{"text":" a","index":0}]}"#.to_owned()),
        response("response.output_text.delta", r#""delta":"a""#),
        response("response.function_call_arguments.delta", r#""delta":"{""#),
        message("content_block_delta", r#""index":0,"delta":{"type":"text_delta","text":"a"}"#),
        message("content_block_delta", r#""index":0,"delta":{"type":"input_json_delta","partial_json":"{"}"#),
        message("content_block_delta", r#""index":0,"delta":{"type":"thinking_delta","thinking":"a"}"#),
        message(
            "content_block_start",
            r#""index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}"#,
        ),
        part(r#"{"text":"a"}"#),
        part(r#"{"functionCall":{"name":"f","args":{}}}"#),
    ];
    for (api, data) in tokens {
        assert!(says(api, &data).token, "{data}");
    }
    let none = [
        chat(r#"{"role":"assistant","content":""}"#),
        chat(r#"{"role":"assistant","content":null,"tool_calls":[ ]}"#),
        chat("{}"),
        response("response.created", r#""response":{"id":"r","output":[],"usage":null,"error":null}"#),
        response("response.output_item.added", r#""item":{"type":"message","content":[]}"#),
        response("response.output_text.delta", r#""delta":"""#),
        message("message_start", r#""message":{"content":[],"usage":{"input_tokens":3,"output_tokens":1}}"#),
        message("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#),
        message("content_block_delta", r#""index":0,"delta":{"type":"text_delta","text":""}"#),
        message("ping", r#""x":1"#),
        part(r#"{"text":""}"#),
    ];
    for (api, data) in none {
        let says = says(api, &data);
        assert!(!says.token && !says.finished && says.failed.is_none(), "{data} {says:?}");
    }
}

#[test]
fn names_that_count_elsewhere_do_not_count_inside_of_arguments_schemas_and_text() {
    let inside = r#"{"usage":{"input_tokens":9,"output_tokens":9},"error":{"message":"x"},"finishReason":"STOP"}"#;
    let call =
        format!(r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{inside}}}}}]}}}}]}}"#);
    let found = says(Api::GenerateContent, &call);
    assert_eq!(found, Says { token: true, ..Says::default() });
    let created = format!(
        r#"{{"type":"response.created","response":{{"tools":[{{"parameters":{inside}}}],"metadata":{inside},"usage":null}}}}"#
    );
    assert_eq!(says(Api::Responses, &created), Says::default());
    let text = r#"{"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1},\"finish_reason\":\"stop\""},"finish_reason":null}]}"#;
    assert_eq!(says(Api::ChatCompletions, text), Says { token: true, ..Says::default() });
}

#[test]
fn white_space_and_order_of_members_do_not_matter() {
    let data =
        "{ \"choices\" : [ { \"finish_reason\" : \"stop\" , \"delta\" : { \"content\" : \"a\" } ,\t\"index\" : 0 } ] }";
    let expected = Says { token: true, finished: true, ..Says::default() };
    assert_eq!(says(Api::ChatCompletions, data), expected);
    assert_eq!(says(Api::ChatCompletions, &data.replace(' ', "")), expected);
}

#[test]
fn several_lines_of_data_are_one_document() {
    let mut reader = Reader::new(Api::ChatCompletions, 1);
    let stream = b"data: {\"choices\":[{\"index\":0,\ndata:\"delta\":{\"content\":\"a\"}}]}\n\n";
    let events = events(&mut reader, stream, usize::MAX);
    assert_eq!(events, [Event { from: 0, to: stream.len() as u64, says: Says { token: true, ..Says::default() } }]);
}

#[test]
fn every_line_end_a_byte_order_mark_and_comments_are_understood() {
    let line = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    for end in ["\n", "\r\n", "\r"] {
        let stream =
            format!("\u{feff}: hello{end}{end}id: 1{end}{line}{end}retry: 5{end}data{end}{end}{line}{end}{end}");
        for size in [1, 2, 3, usize::MAX] {
            let mut reader = Reader::new(Api::ChatCompletions, 1);
            let events = events(&mut reader, stream.as_bytes(), size);
            let ends: Vec<u64> = events.iter().map(|event| event.to).collect();
            let tokens: Vec<bool> = events.iter().map(|event| event.says.token).collect();
            let first = 3 + "_: hello".len() - 1 + 2 * end.len();
            let second = first + "id: 1retry: 5data".len() + line.len() + 5 * end.len();
            assert_eq!(ends, [first as u64, second as u64, stream.len() as u64], "{end:?} by {size}");
            assert_eq!(tokens, [false, true, true], "{end:?} by {size}");
            assert_eq!(reader.unfinished(), 0);
        }
    }
}

#[test]
fn the_answer_is_finished_when_every_choice_is() {
    let ends = |index: u32| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n")
    };
    let begins = |index: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let finished = |choices: u32, stream: &str| {
        let mut reader = Reader::new(Api::ChatCompletions, choices);
        let events = events(&mut reader, stream.as_bytes(), usize::MAX);
        assert_eq!(reader.is_finished(), events.iter().any(|event| event.says.finished));
        events.iter().position(|event| event.says.finished)
    };
    assert_eq!(finished(2, &[begins(0), ends(1), ends(0)].concat()), Some(2));
    assert_eq!(finished(2, &[begins(0), begins(1), ends(1)].concat()), None);
    // More than were asked for; fewer than were asked for, which `[DONE]` shows.
    assert_eq!(finished(1, &[begins(1), ends(0)].concat()), None);
    assert_eq!(finished(3, &[begins(0), ends(0)].concat()), None);
    assert_eq!(finished(3, &[begins(0), ends(0), "data: [DONE]\n\n".to_owned()].concat()), Some(2));
    assert_eq!(finished(1, &[begins(0), "data: [DONE]\n\n".to_owned()].concat()), None);
}

#[test]
fn errors_are_found_in_every_form() {
    use Api::{ChatCompletions, Completions, GenerateContent, Messages, Responses};
    let quota = r#"{"message":"no credit","type":"insufficient_quota","code":"insufficient_quota"}"#;
    let cases = [
        (ChatCompletions, format!("data: {{\"error\":{quota}}}\n\n"), Reason::Quota),
        (ChatCompletions, format!("data: {{\"id\":1,\"error\":{quota},\"choices\":[]}}\n\n"), Reason::Quota),
        (ChatCompletions, "event: error\ndata: {\"error\":\"gone\"}\n\n".to_owned(), Reason::Server),
        (ChatCompletions, "event: error\n\n".to_owned(), Reason::Server),
        (
            ChatCompletions,
            "event:error\ndata:{\"code\":\"DataInspectionFailed\",\"message\":\"no\"}\n\n".to_owned(),
            Reason::ContentFilter,
        ),
        (
            Completions,
            "data: {\"object\":\"error\",\"message\":\"the maximum context length is 9\",\"code\":400}\n\n".to_owned(),
            Reason::Context,
        ),
        (Responses, format!("data: {{\"type\":\"response.failed\",\"response\":{{\"error\":{quota}}}}}\n\n"), Reason::Quota),
        (
            Responses,
            "data: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"slow\",\"sequence_number\":4}\n\n"
                .to_owned(),
            Reason::Rate,
        ),
        (
            Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"o\"}}\n\n"
                .to_owned(),
            Reason::Overloaded,
        ),
        (
            GenerateContent,
            "data: {\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n\n".to_owned(),
            Reason::Rate,
        ),
        (
            GenerateContent,
            "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n".to_owned(),
            Reason::ContentFilter,
        ),
    ];
    for (api, stream, expected) in cases {
        for size in [1, 7, usize::MAX] {
            let events = events(&mut Reader::new(api, 1), stream.as_bytes(), size);
            let reasons: Vec<_> = events.iter().map(|event| reason(&event.says)).collect();
            assert_eq!(reasons, [Some(expected)], "{stream} by {size}");
        }
    }
}

#[test]
fn an_answer_refused_before_its_first_token_failed_and_later_only_ended() {
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\n";
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let last = |stream: String| {
        let events = events(&mut Reader::new(Api::ChatCompletions, 1), stream.as_bytes(), usize::MAX);
        events.last().expect("an event").says.clone()
    };
    assert_eq!(reason(&last(end.to_owned())), Some(Reason::ContentFilter));
    assert_eq!(last([text, end].concat()), Says { finished: true, ..Says::default() });
}

#[test]
fn what_is_no_json_object_is_told() {
    for data in
        ["nonsense", "{\"choices\":[", "{\"a\":1}}", "[1]", "[DONE", "[DONE]]", "\"a\"", "{\"choices\":[}", "{]", "{1}"]
    {
        assert_eq!(reason(&says(Api::ChatCompletions, data)), Some(Reason::Decode), "{data}");
    }
    assert_eq!(says(Api::ChatCompletions, ""), Says::default());
    assert!(says(Api::ChatCompletions, " [DONE] ").done);
}

#[test]
fn an_error_that_is_too_long_to_keep_is_still_an_error_and_takes_no_more_memory() {
    let mut reader = Reader::new(Api::ChatCompletions, 1);
    let long = format!("data: {{\"error\":{{\"code\":\"invalid_api_key\",\"message\":\"{}\"", "x".repeat(100_000));
    let mut found = Vec::new();
    for piece in long.as_bytes().chunks(1_000) {
        reader.feed(piece, &mut |event| found.push(event));
        assert!(reader.memory() <= size_of::<Reader>() + 4_096);
    }
    reader.feed(b"}}\n\n", &mut |event| found.push(event));
    assert_eq!(found.iter().map(|event| reason(&event.says)).collect::<Vec<_>>(), [Some(Reason::Server)]);
    assert_eq!(reader.memory(), size_of::<Reader>());
}

#[test]
fn a_stream_takes_less_than_a_kibibyte_whatever_its_events_are() {
    let mut reader = Reader::new(Api::ChatCompletions, 1);
    let text = "x".repeat(1 << 20);
    let stream = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\",\"audio\":{{\"data\":\"{text}\"}}}}}}]}}\n\n"
    );
    for piece in stream.as_bytes().chunks(16_384) {
        reader.feed(piece, &mut |_| {});
        assert!(reader.memory() <= 1_024, "{} bytes", reader.memory());
    }
    assert_eq!(reader.written_bytes(), 2 * (1 << 20) + "\"data\":\"\"".len() as u64);
    assert_eq!(reader.tokens_seen(), 1);
}

#[test]
fn the_last_number_of_a_field_counts_in_the_terms_of_each_provider() {
    let usage = |api: Api, events: &[&str]| {
        let mut reader = Reader::new(api, 1);
        for data in events {
            reader.feed(format!("data: {data}\n\n").as_bytes(), &mut |_| {});
        }
        reader.usage().map(|usage| (usage.input, usage.output, usage.cached))
    };
    assert_eq!(
        usage(
            Api::ChatCompletions,
            &[
                r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#,
                r#"{"choices":[],"usage":null}"#,
                r#"{"choices":[],"usage":{"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            ]
        ),
        Some((5, 7, 4))
    );
    let anthropic = [
        r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":20,"output_tokens":1}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":25}}"#,
    ];
    assert_eq!(usage(Api::Messages, &anthropic), Some((33, 25, 20)));
    // What a message starts with says nothing about what was written.
    assert_eq!(usage(Api::Messages, &anthropic[..1]), None);
    let gemini = r#"{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":3,"thoughtsTokenCount":40,"cachedContentTokenCount":2,"totalTokenCount":51,"promptTokensDetails":[{"modality":"TEXT","tokenCount":8}]}}"#;
    assert_eq!(usage(Api::GenerateContent, &[gemini]), Some((8, 43, 2)));
    let responses = r#"{"type":"response.completed","response":{"usage":{"input_tokens":8,"input_tokens_details":{"cached_tokens":1},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":17}}}"#;
    assert_eq!(usage(Api::Responses, &[responses]), Some((8, 9, 1)));
    let beside = r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":9,"total_tokens":21,"completion_tokens_details":{"reasoning_tokens":4}}}"#;
    assert_eq!(usage(Api::ChatCompletions, &[beside]), Some((8, 13, 0)));
}

proptest! {
    #[test]
    fn borders_have_no_gaps_and_do_not_depend_on_pieces(
        stream in prop::collection::vec(prop::sample::select(b"data:event{}[]\"\\, \r\n\x00\xef\xbb\xbf1n".to_vec()), 0..400),
        size in 1..17usize,
    ) {
        for api in Api::ALL {
            let (mut whole, mut pieces) = (Reader::new(api, 1), Reader::new(api, 1));
            let expected = events(&mut whole, &stream, usize::MAX);
            let found = events(&mut pieces, &stream, size);
            prop_assert_eq!(&expected, &found);
            let mut border = 0;
            for event in &found {
                prop_assert_eq!(event.from, border);
                prop_assert!(event.to > event.from);
                border = event.to;
            }
            prop_assert_eq!(pieces.unfinished(), stream.len() as u64 - border);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_without_panic(stream in prop::collection::vec(any::<u8>(), 0..2_000), size in 1..50usize) {
        for api in Api::ALL {
            let mut reader = Reader::new(api, 3);
            events(&mut reader, &stream, size);
            prop_assert!(reader.memory() <= 1_024 + 4_096);
        }
    }
}
