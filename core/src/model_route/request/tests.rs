//! Calls and bodies as the APIs document them, and arbitrary bytes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{json::Walk, *};

fn called(method: &str, path: &str) -> Option<Call> {
    call(method, path, &(&[] as &[(&str, &str)]))
}

fn of(api: Api) -> Generate {
    Generate { api, in_path: None }
}

fn asked(api: Api, body: &Value) -> Asked {
    read(&of(api), body.to_string().as_bytes()).unwrap()
}

#[test]
fn documented_paths_are_calls() {
    let gemini = |model: &str, method| {
        Some(Call::Generate(Generate {
            api: Api::GenerateContent,
            in_path: Some(InPath { model: model.to_owned(), method }),
        }))
    };
    let plain = |api| Some(Call::Generate(of(api)));
    let models =
        |dialect, model: Option<&str>| Some(Call::Models(Listing { dialect, model: model.map(str::to_owned) }));
    let cases = [
        ("POST", "/v1/chat/completions", plain(Api::ChatCompletions)),
        ("POST", "/v1/responses", plain(Api::Responses)),
        ("POST", "/v1/completions", plain(Api::Completions)),
        ("POST", "/v1/embeddings", plain(Api::Embeddings)),
        ("POST", "/v1/messages", plain(Api::Messages)),
        ("POST", "/v1/messages?beta=true", plain(Api::Messages)),
        ("POST", "/v1beta/models/m:generateContent", gemini("m", Method::Whole)),
        ("POST", "/v1/models/m:generateContent?key=k", gemini("m", Method::Whole)),
        ("POST", "/v1beta/models/a:b:streamGenerateContent?alt=sse", gemini("a:b", Method::Stream)),
        ("POST", "/v1beta/models/a%2Fb+c:streamGenerateContent?key=k&alt=sse", gemini("a/b+c", Method::Stream)),
        ("POST", "/v1beta/models/m:streamGenerateContent", gemini("m", Method::List)),
        ("POST", "/v1beta/models/m:streamGenerateContent?alt=json", gemini("m", Method::List)),
        ("POST", "/v1beta/models/m:countTokens", None),
        ("POST", "/v1beta/models/:generateContent", None),
        ("POST", "/v1beta/models/%ff:generateContent", None),
        ("GET", "/v1/models", models(Dialect::Openai, None)),
        ("GET", "/v1/models/org/m%20x", models(Dialect::Openai, Some("org/m x"))),
        ("GET", "/v1/models/", None),
        ("GET", "/v1/modelsx", None),
        ("GET", "/v1beta/models?pageSize=5", models(Dialect::Gemini, None)),
        ("GET", "/v1beta/models/m", models(Dialect::Gemini, Some("m"))),
        ("GET", "/v1/realtime?model=m%2Fx", Some(Call::Realtime { model: Some("m/x".to_owned()) })),
        ("GET", "/v1/realtime", Some(Call::Realtime { model: None })),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/chat/completions", None),
        ("POST", "/v1/messages/count_tokens", None),
        ("POST", "/v1/chat/completions/", None),
        ("DELETE", "/v1/models/m", None),
        ("POST", "", None),
    ];
    for (method, path, call) in cases {
        assert_eq!(called(method, path), call, "{method} {path}");
    }
    let fields: &[(&str, &str)] = &[("Anthropic-Version", "2023-06-01")];
    assert_eq!(call("GET", "/v1/models", &fields), models(Dialect::Anthropic, None));
    let fields: &[(&str, &str)] = &[("x-goog-api-key", "any")];
    assert_eq!(call("GET", "/v1/models/m", &fields), models(Dialect::Gemini, Some("m")));
}

#[test]
fn bodies_say_what_is_asked_for() {
    let body = asked(Api::ChatCompletions, &json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] }));
    assert_eq!((body.model.as_str(), body.delivery, body.choices), ("m", Delivery::Whole, 1));
    assert_eq!((body.max_output, body.needs, body.usage_asked), (None, Needs::default(), UsageAsked::No));
    let body = asked(
        Api::ChatCompletions,
        &json!({ "stream": true, "stream_options": { "include_usage": true }, "max_tokens": 5, "n": 3,
            "max_completion_tokens": 9, "model": "a\"b\u{e9}", "tools": [{ "type": "function" }] }),
    );
    assert_eq!((body.model.as_str(), body.delivery, body.choices), ("a\"b\u{e9}", Delivery::Stream, 3));
    assert_eq!((body.max_output, body.usage_asked, body.needs.tools), (Some(9), UsageAsked::Yes, true));
    let body =
        asked(Api::Completions, &json!({ "model": "m", "prompt": "p", "n": 2, "best_of": 5, "max_tokens": 7.0 }));
    assert_eq!((body.choices, body.max_output), (5, Some(7)));
    let body = asked(Api::Responses, &json!({ "model": "m", "input": "p", "max_output_tokens": 8, "stream": null }));
    assert_eq!((body.max_output, body.delivery), (Some(8), Delivery::Whole));
    let body = asked(Api::Messages, &json!({ "model": "m", "max_tokens": 6, "stream": true }));
    assert_eq!((body.max_output, body.delivery), (Some(6), Delivery::Stream));
    let body = asked(Api::ChatCompletions, &json!({ "model": "m", "max_tokens": -1, "n": 0 }));
    assert_eq!((body.max_output, body.choices), (None, 1));
}

#[test]
fn model_and_delivery_of_gemini_stand_in_the_path() {
    let Some(Call::Generate(stream)) = called("POST", "/v1beta/models/m:streamGenerateContent?alt=sse") else {
        panic!("a call");
    };
    let bodies = [
        r#"{"model":"other","contents":[],"generationConfig":{"maxOutputTokens":4,"candidateCount":2}}"#,
        r#"{"contents":[],"generation_config":{"max_output_tokens":4,"candidate_count":2}}"#,
    ];
    for body in bodies {
        let asked = read(&stream, body.as_bytes()).unwrap();
        assert_eq!((asked.model.as_str(), asked.delivery), ("m", Delivery::Stream));
        assert_eq!((asked.max_output, asked.choices, asked.places.model), (Some(4), 2, None));
    }
    let Some(Call::Generate(list)) = called("POST", "/v1beta/models/m:streamGenerateContent") else {
        panic!("a call");
    };
    assert_eq!(read(&list, b"{}").unwrap_err().parameter, Some("alt"));
}

#[test]
fn needs_are_seen_in_every_dialect() {
    let none = Needs::default();
    let (tools, json, vision) =
        (Needs { tools: true, ..none }, Needs { json: true, ..none }, Needs { vision: true, ..none });
    let cases = [
        (Api::ChatCompletions, r#""tools":[]"#, none),
        (Api::ChatCompletions, r#""tools":[ ]"#, none),
        (Api::ChatCompletions, r#""tools":null"#, none),
        (Api::ChatCompletions, r#""functions":[{"name":"f"}]"#, tools),
        (Api::ChatCompletions, r#""response_format":{"type":"text"}"#, none),
        (Api::ChatCompletions, r#""response_format":{"type":"json_object"}"#, json),
        (Api::ChatCompletions, r#""response_format":{"json_schema":{},"type":"json_schema"}"#, json),
        (Api::ChatCompletions, r#""messages":[{"content":[{"type" : "image_url","image_url":{}}]}]"#, vision),
        (Api::ChatCompletions, r#""messages":[{"content":"\"type\":\"image_url\""}]"#, none),
        (Api::ChatCompletions, r#""messages":[{"content":"image_url","type":"x","y":["type","image"]}]"#, none),
        (Api::ChatCompletions, r#""metadata":{"type":"image"}"#, none),
        (Api::Responses, r#""text":{"format":{"type":"json_schema"}}"#, json),
        (Api::Responses, r#""text":{"format":{"type":"text"}}"#, none),
        (Api::Responses, r#""input":[{"content":[{"type":"input_image"}]}]"#, vision),
        (Api::Responses, r#""tools":[{"type":"web_search"}]"#, tools),
        (Api::Messages, r#""messages":[{"content":[{"type":"image","source":{}}]}]"#, vision),
        (Api::Messages, r#""output_config":{"format":{"type":"json_schema"}}"#, json),
        (Api::Messages, r#""output_config":{"effort":"low"}"#, none),
        (Api::Messages, r#""tools":[{"name":"t"}]"#, tools),
        (Api::GenerateContent, r#""contents":[{"parts":[{"inlineData":{"mimeType":"image/png"}}]}]"#, vision),
        (Api::GenerateContent, r#""contents":[{"parts":[{"file_data":{"mime_type":"image/png"}}]}]"#, vision),
        (Api::GenerateContent, r#""contents":[{"parts":[{"inlineData":{"mimeType":"audio/wav"}}]}]"#, none),
        (Api::GenerateContent, r#""generationConfig":{"responseMimeType":"application/json"}"#, json),
        (Api::GenerateContent, r#""generationConfig":{"response_schema":{}}"#, json),
        (Api::GenerateContent, r#""tools":[{"functionDeclarations":[]}]"#, tools),
    ];
    for (api, members, needs) in cases {
        let in_path = (api == Api::GenerateContent).then(|| InPath { model: "m".to_owned(), method: Method::Whole });
        let body = format!(r#"{{"model":"m",{members}}}"#);
        assert_eq!(read(&Generate { api, in_path }, body.as_bytes()).unwrap().needs, needs, "{members}");
    }
}

#[test]
fn what_servers_read_differently_is_refused() {
    let cases = [
        ("", None),
        ("[]", None),
        ("null", None),
        (r#""model""#, None),
        ("{", None),
        (r#"{"model":"m""#, None),
        (r#"{"model":"m"} x"#, None),
        (r#"{"model":"m"}{"model":"n"}"#, None),
        (r#"{"model":"m",}"#, None),
        (r#"{,"model":"m"}"#, None),
        (r#"{"model" "m"}"#, None),
        (r#"{'model':"m"}"#, None),
        (r#"{"a":/*"model":"n"*/1,"model":"m"}"#, None),
        (r#"{"a":[},"model":"m"]}"#, None),
        (r#"{"a":{"b":[1}},"model":"m"}"#, None),
        ("{}", Some("model")),
        (r#"{"model":null}"#, Some("model")),
        (r#"{"model":""}"#, Some("model")),
        (r#"{"model":7}"#, Some("model")),
        (r#"{"model":["m"]}"#, Some("model")),
        (r#"{"model":"\ud800"}"#, Some("model")),
        (r#"{"model":"m","model":"n"}"#, Some("model")),
        (r#"{"model":"m","mod\u0065l":"n"}"#, Some("model")),
        (r#"{"model":"m","Model":"n"}"#, Some("model")),
        (r#"{"model":"m","stream":"true"}"#, Some("stream")),
        (r#"{"model":"m","stream":1}"#, Some("stream")),
        (r#"{"model":"m","max_tokens":"9"}"#, Some("max_tokens")),
        (r#"{"model":"m","max_tokens":1.5}"#, Some("max_tokens")),
        (r#"{"model":"m","n":4294967296}"#, Some("n")),
        (r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#, Some("include_usage")),
        (r#"{"model":"m","stream_options":{"include_usage":"yes"}}"#, Some("include_usage")),
    ];
    for (body, parameter) in cases {
        let refused = read(&of(Api::ChatCompletions), body.as_bytes()).expect_err(body);
        assert_eq!(refused.parameter, parameter, "{body}: {refused}");
    }
    let spelled_twice = br#"{"generationConfig":{},"generation_config":{"maxOutputTokens":9}}"#;
    let in_path = Some(InPath { model: "m".to_owned(), method: Method::Whole });
    let refused = read(&Generate { api: Api::GenerateContent, in_path }, spelled_twice).unwrap_err();
    assert_eq!(refused.parameter, Some("generationConfig"));
}

#[test]
fn a_name_with_escapes_is_the_name() {
    let body = read(&of(Api::ChatCompletions), br#"{"mod\u0065l":"m"}"#).unwrap();
    assert_eq!(body.model, "m");
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!(r#"{{"a":{}{},"model":"m"}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(&of(Api::ChatCompletions), nested(126).as_bytes()).is_ok());
    assert!(serde_json::from_str::<Value>(&nested(126)).is_ok());
    let refused = read(&of(Api::ChatCompletions), nested(127).as_bytes()).unwrap_err();
    assert!(refused.message.contains("levels deep"), "{refused}");
    assert!(read(&of(Api::ChatCompletions), "[".repeat(1 << 20).as_bytes()).is_err());
    assert!(read(&of(Api::ChatCompletions), format!(r#"{{"a":{}"#, "[".repeat(1 << 20)).as_bytes()).is_err());
}

#[test]
fn name_of_a_model_is_bounded() {
    let named = |length: usize| json!({"model": "m".repeat(length), "messages": []}).to_string();
    let read = |length| read(&of(Api::ChatCompletions), named(length).as_bytes());
    assert!(read(MODEL_NAME_MAX).is_ok());
    assert_eq!(read(MODEL_NAME_MAX + 1).unwrap_err().to_string(), "`model` is too long");
}

#[test]
fn every_beginning_of_a_body_is_refused() {
    let body = br#"{"messages":[{"content":"a\"\\","x":[1,-2.5e3,true,{}]}],"model":"m","stream":false}"#;
    for end in 0..body.len() {
        assert!(read(&of(Api::ChatCompletions), &body[..end]).is_err(), "{end}");
    }
    assert!(read(&of(Api::ChatCompletions), body).is_ok());
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        r#"[\\"{}\[\],:]{0,8}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(r#"[a-c\\"]{0,3}"#, inner, 0..5)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn objects() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(r#"[a-e\\"\n]{0,4}"#, values(), 0..6).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn members_are_those_that_a_parser_finds(members in objects(), pretty in any::<bool>()) {
        let tree = Value::from(members.clone());
        let body = if pretty { serde_json::to_vec_pretty(&tree) } else { serde_json::to_vec(&tree) }.unwrap();
        let mut walk = Walk::enter(&body, 0).unwrap();
        let mut found = Map::new();
        while let Some(member) = walk.next().unwrap() {
            let name = &body[member.name.start - 1..=member.name.end];
            let value: Value = serde_json::from_slice(&body[member.value.clone()]).unwrap();
            let filled = value.as_array().is_some_and(|list| !list.is_empty())
                || value.as_object().is_some_and(|object| !object.is_empty());
            prop_assert_eq!(member.filled, filled);
            found.insert(serde_json::from_slice(name).unwrap(), value);
        }
        prop_assert!(walk.is_all());
        prop_assert_eq!(found, serde_json::from_slice::<Map<String, Value>>(&body).unwrap());
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(prop::sample::select(br#"{}[]":,\ t1"#.to_vec()), 0..300),
        ],
        begun in any::<bool>(),
        api in prop::sample::select(Api::ALL.to_vec()),
    ) {
        let mut body = if begun { br#"{"model":"m","x":"#.to_vec() } else { Vec::new() };
        body.extend(bytes);
        if let Ok(asked) = read(&of(api), &body) {
            prop_assert!(!asked.model.is_empty() && asked.choices >= 1);
        }
    }

    #[test]
    fn one_wrong_byte_never_changes_which_model_a_parser_finds(at in 0_usize..110, byte in any::<u8>()) {
        let mut body = br#"{"messages":[{"role":"user","content":"say \"model\":\"x\" \\"}],"model":"m","n":1,"tools":[{"a":{}}]}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        let read = read(&of(Api::ChatCompletions), &body);
        if let Ok(tree) = serde_json::from_slice::<Value>(&body)
            && let Ok(asked) = read
        {
            prop_assert_eq!(tree["model"].as_str(), Some(asked.model.as_str()));
        }
    }

    #[test]
    fn arbitrary_paths_are_judged(method in "GET|POST", path in r"(/v1|/v1beta)?(/models|/messages)?[/:?%&=a-z+]{0,20}\PC{0,5}") {
        let _judged = called(&method, &path);
    }
}
