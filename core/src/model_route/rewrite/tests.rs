//! Splices against the trees that they mean.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::model_route::request::{Generate, InPath, Method, read};

fn rewritten(api: Api, text: &str, changes: Changes<'_>) -> String {
    let asked = read(&Generate { api, in_path: None }, text.as_bytes()).unwrap();
    let pieces = body(&asked, text.as_bytes(), &changes);
    let whole = joined(&pieces, text.as_bytes());
    assert_eq!(whole.len(), length(&pieces));
    String::from_utf8(whole).unwrap()
}

#[test]
fn model_is_replaced_where_it_stands() {
    let cases = [
        (r#"{"model":"a","n":1.0}"#, r#"{"model":"b\"c","n":1.0}"#),
        (r#"{ "n":1e2, "model" : "a" }"#, r#"{ "n":1e2, "model" : "b\"c" }"#),
        (r#"{"x":{"model":"a"},"mod\u0065l":"\u0061"}"#, r#"{"x":{"model":"a"},"mod\u0065l":"b\"c"}"#),
    ];
    for (from, to) in cases {
        let changes = Changes { model: Some("b\"c"), add_usage: AddUsage::No, prefill: Prefill::Place };
        assert_eq!(rewritten(Api::Messages, from, changes), to);
    }
}

#[test]
fn usage_is_asked_for_where_the_caller_did_not() {
    let at_end = r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#;
    let cases = [
        (AddUsage::AtEnd, r#"{"model":"m","stream":true}"#, at_end),
        (
            AddUsage::AtEnd,
            r#"{"model":"m","stream":true,"stream_options":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            AddUsage::AtEnd,
            r#"{"model":"m","stream":true,"stream_options":{ }}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            AddUsage::AtEnd,
            r#"{"model":"m","stream":true,"stream_options":{"a":1}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
        ),
        (
            AddUsage::AtEnd,
            r#"{"stream_options":{"include_usage": false},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage": true},"model":"m","stream":true}"#,
        ),
        (
            AddUsage::Continuous,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"continuous_usage_stats":true,"include_usage":true}}"#,
        ),
        (
            AddUsage::Continuous,
            r#"{"model":"m","stream":true,"stream_options":{"continuous_usage_stats":false,"a":1}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true,"a":1}}"#,
        ),
    ];
    for (add_usage, from, to) in cases {
        for api in [Api::ChatCompletions, Api::Completions] {
            assert_eq!(rewritten(api, from, Changes { model: None, add_usage, prefill: Prefill::Place }), to, "{from}");
        }
    }
}

#[test]
fn nothing_is_copied_where_nothing_changes() {
    let cases = [
        (Api::ChatCompletions, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#),
        (Api::ChatCompletions, r#"{"model":"m"}"#),
        (Api::ChatCompletions, r#"{"model":"m","stream":false}"#),
        (Api::Responses, r#"{"model":"m","stream":true}"#),
        (Api::Messages, r#"{"model":"m","stream":true}"#),
    ];
    for (api, text) in cases {
        let asked = read(&Generate { api, in_path: None }, text.as_bytes()).unwrap();
        let changes = Changes { model: Some("m"), add_usage: AddUsage::AtEnd, prefill: Prefill::Place };
        assert_eq!(body(&asked, text.as_bytes(), &changes), [Piece::Kept(0..text.len())], "{text}");
    }
    let in_path = Some(InPath { model: "m".to_owned(), method: Method::Stream });
    let asked = read(&Generate { api: Api::GenerateContent, in_path }, br#"{"model":"x"}"#).unwrap();
    let changes = Changes { model: Some("n"), add_usage: AddUsage::AtEnd, prefill: Prefill::Place };
    assert_eq!(body(&asked, br#"{"model":"x"}"#, &changes), [Piece::Kept(0..13)]);
}

fn options() -> impl Strategy<Value = Option<Value>> {
    let flag = || prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)];
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!({}))),
        flag().prop_map(|usage| Some(json!({ "include_usage": usage }))),
        (flag(), flag()).prop_map(|(usage, other)| Some(
            json!({ "continuous_usage_stats": other, "include_usage": usage, "z": [1] })
        )),
    ]
}

proptest! {
    #[test]
    fn only_what_is_changed_differs(
        others in prop::collection::btree_map("[a-z]{1,3}_", ".{0,9}", 0..5),
        model in ".{1,9}",
        new in prop::option::of(".{1,9}"),
        stream in any::<bool>(),
        options in options(),
        pretty in any::<bool>(),
        add_usage in prop::sample::select(vec![AddUsage::No, AddUsage::AtEnd, AddUsage::Continuous]),
    ) {
        let mut tree: Map<String, Value> = others.into_iter().map(|(name, text)| (name, json!([text, 1.5]))).collect();
        tree.insert("model".to_owned(), model.into());
        tree.insert("stream".to_owned(), stream.into());
        tree.extend(options.map(|options| ("stream_options".to_owned(), options)));
        let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.unwrap();
        let asked = read(&Generate { api: Api::ChatCompletions, in_path: None }, text.as_bytes()).unwrap();
        let pieces = body(&asked, text.as_bytes(), &Changes { model: new.as_deref(), add_usage, prefill: Prefill::Place });

        tree.extend(new.map(|new| ("model".to_owned(), new.into())));
        let names: &[&str] = match add_usage {
            AddUsage::No => &[],
            AddUsage::AtEnd => &["include_usage"],
            AddUsage::Continuous => &["include_usage", "continuous_usage_stats"],
        };
        if stream && !names.is_empty() {
            let options = tree.entry("stream_options").or_insert_with(|| json!({}));
            if options.is_null() {
                *options = json!({});
            }
            for name in names {
                options[*name] = true.into();
            }
        }
        let whole = joined(&pieces, text.as_bytes());
        prop_assert_eq!(serde_json::from_slice::<Map<String, Value>>(&whole).unwrap(), tree);

        // The kept pieces are the original in order, and all of it but the replaced values.
        let mut at = 0;
        let mut dropped = 0;
        for piece in &pieces {
            if let Piece::Kept(range) = piece {
                prop_assert!(range.start >= at);
                dropped += range.start - at;
                at = range.end;
            }
        }
        dropped += text.len() - at;
        prop_assert!(dropped <= asked.places.model.map_or(0, |place| place.len()) + 2 * "false".len());
    }
}

#[test]
fn target_is_told_to_go_on_with_the_last_message_in_its_own_words() {
    let from =
        r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"stream":true}"#;
    let told = |api, prefill| rewritten(api, from, Changes { model: None, add_usage: AddUsage::No, prefill });
    let of = |provider| Prefill::of(provider);
    assert_eq!(told(Api::ChatCompletions, of(Provider::Openai)), from);
    assert_eq!(
        told(Api::ChatCompletions, of(Provider::Vllm)),
        from.replacen('{', r#"{"add_generation_prompt":false,"continue_final_message":true,"#, 1)
    );
    assert_eq!(
        told(Api::ChatCompletions, of(Provider::Dashscope)),
        from.replace(r#""content":"b"}"#, r#""content":"b","partial":true}"#)
    );
    assert_eq!(told(Api::Messages, Prefill::Final), from);
}
