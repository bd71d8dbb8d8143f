//! Bodies in pieces: what goes on is what `rewrite` makes of the whole.

use proptest::prelude::*;

use super::*;
use crate::{
    model::model_route::Api,
    model_route::{
        request::{InPath, read},
        rewrite::{AddUsage, Changes, Prefill, body, joined},
    },
};

const CHAT: Generate = Generate { api: Api::ChatCompletions, in_path: None };

/// What goes on of a body in these pieces, or why it is refused.
fn passed(generate: &Generate, rename: Option<&str>, pieces: &[&[u8]]) -> Result<(Vec<u8>, Long), Refused> {
    let (mut long, mut out) = (Long::new(generate, rename), Vec::new());
    for piece in pieces {
        let mut now = Vec::new();
        long.pass(piece, &mut now)?;
        out.extend(joined(&now, piece));
    }
    long.end()?;
    Ok((out, long))
}

const BODIES: [&str; 6] = [
    r#"{"messages":[{"role":"user","content":"say \"model\": {[\\"}],"model":"small","stream":true}"#,
    r#" { "model" : "small" , "stream" : false , "n" : 1 , "messages" : [ ] } "#,
    r#"{"temperature":0.5,"x":null,"model":"sm\u0061ll"}"#,
    r#"{"messages":[],"tools":{"model":"not this","stream":[]},"\u006dodel":"small"}"#,
    r#"{"text":"a \\\" , \"model\":\"no\"","stream":true,"model":"small","y":"z"}"#,
    r#"{"metadata":{"a":[[{"}":"]"}]]},"model":"small"}"#,
];

#[test]
fn body_in_pieces_of_any_size_goes_on_as_the_whole_would() {
    for text in BODIES {
        let asked = read(&CHAT, text.as_bytes()).unwrap();
        for rename in [None, Some("big"), Some("s\"quoted\""), Some("small")] {
            let whole = body(
                &asked,
                text.as_bytes(),
                &Changes { model: rename, add_usage: AddUsage::No, prefill: Prefill::Place },
            );
            let expected = joined(&whole, text.as_bytes());
            for size in 1..=text.len() {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                let (out, long) = passed(&CHAT, rename, &pieces).unwrap();
                assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{text} by {size}");
                assert_eq!((long.model(), long.delivery()), (Some("small"), Some(asked.delivery)), "{text}");
            }
        }
    }
}

#[test]
fn what_is_known_grows_with_what_passed() {
    let (mut long, mut out) = (Long::new(&CHAT, None), Vec::new());
    let mut pass = |text: &'static str| {
        long.pass(text.as_bytes(), &mut out).unwrap();
        (long.model().map(str::to_owned), long.delivery())
    };
    assert_eq!(pass("{\"messages\":[],\"mod"), (None, None));
    assert_eq!(pass("el\":\"small"), (None, None));
    assert_eq!(pass("\","), (Some("small".to_owned()), None));
    assert_eq!(pass("\"stream\":true"), (Some("small".to_owned()), None));
    assert_eq!(pass(",\"n\":1"), (Some("small".to_owned()), Some(Delivery::Stream)));
    assert_eq!(pass("}"), (Some("small".to_owned()), Some(Delivery::Stream)));
}

#[test]
fn model_in_the_path_is_not_looked_for_in_the_body() {
    let path = InPath { model: "gemini-pro".to_owned(), method: Method::Stream };
    let generate = Generate { api: Api::GenerateContent, in_path: Some(path) };
    let text = br#"{"contents":[],"model":3}"#;
    let (out, long) = passed(&generate, Some("other"), &[text]).unwrap();
    assert_eq!(
        (out.as_slice(), long.model(), long.delivery()),
        (&text[..], Some("gemini-pro"), Some(Delivery::Stream))
    );
}

#[test]
fn what_servers_read_differently_is_refused() {
    for (text, problem) in [
        (r#"{"model":"a","model":"b"}"#, "`model` is given twice"),
        (r#"{"Model":"a"}"#, "`model` is written with other capitals"),
        (r#"{"model":{}}"#, "`model` has the wrong type"),
        (r#"{"model":3}"#, "`model` must be a string"),
        (r#"{"model":""}"#, "`model` is empty"),
        (r#"{"model":"a","stream":"true"}"#, "`stream` must be true or false"),
        (r#"{"messages":[]}"#, "`model` is missing"),
        (r#"{"model":"a"}x"#, "something follows the JSON object of the body"),
        (r#"["model"]"#, "the body is no JSON object"),
        (r#"{"model":"a""#, "the body ends before its JSON object does"),
    ] {
        let refused = passed(&CHAT, None, &[text.as_bytes()]).map(|_| ()).unwrap_err();
        assert_eq!(refused.to_string(), problem, "{text}");
    }
    let endless = format!("{{\"model\":\"{}", "a".repeat(READ_MAX));
    assert_eq!(passed(&CHAT, None, &[endless.as_bytes()]).unwrap_err().to_string(), "`model` is too long");
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm_and_are_never_lost(pieces in proptest::collection::vec(".{0,20}", 0..8)) {
        let all = pieces.concat();
        let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        if let Ok((out, _)) = passed(&CHAT, None, &pieces) {
            prop_assert_eq!(out, all.into_bytes());
        }
    }
}
