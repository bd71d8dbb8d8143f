//! Streams that break behind a token and go on at another target (`midStream: continue`).

use mesh_core::model::model_route::{Can, MidStream, ModelTarget, Provider, Reason, TokenLimits};

use super::{
    DONE, ONE, ROLE, STOP, STREAMED, USAGE,
    scripted::Say,
    stage::{Answer, Stage, target},
    timers,
};

const TWO: &str = "data: {\"id\":\"other\",\"object\":\"chat.completion.chunk\",\"created\":2,\"model\":\"y\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" two\"},\"finish_reason\":null}]}\n\n";
const HALF: &str = "data: {\"cho";

/// A target at this address that is declared able to go on.
fn able(name: &str, address: std::net::SocketAddr) -> ModelTarget {
    let mut able = target(name, address);
    able.capabilities.prefill = Can::Yes;
    able
}

/// These targets in order, streams of which go on.
fn going_on(stage: &Stage, targets: Vec<ModelTarget>, first_token: u64) {
    stage.changed_route(targets, timers(first_token), TokenLimits::default(), |model| {
        model.mid_stream = MidStream::Continue;
    });
}

/// What the chunks behind the first answer's say; each must belong to that.
fn said(answer: &Answer) -> String {
    let data = answer.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let chunks = data.filter(|data| data.starts_with("{\"id\"")).map(|data| {
        let chunk: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((&chunk["id"], &chunk["model"], &chunk["created"]), (&"c".into(), &"x".into(), &1.into()), "{data}");
        chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
    });
    chunks.collect()
}

fn assert_cut(answer: &Answer) {
    assert_eq!((answer.status, answer.is_whole), (200, false), "{}", answer.body);
    let last = answer.body.trim_end().rsplit("\n\n").next().unwrap_or_default();
    assert!(last.starts_with("data: {\"error\":{"), "{}", answer.body);
    assert_eq!(said(answer), "one", "{}", answer.body);
}

#[test]
fn stream_that_breaks_goes_on_at_the_next_target_as_the_same_answer() {
    for breaks in [
        Say::cut(&[ROLE, ONE, HALF]),
        Say::events(&[ROLE, ONE]),
        Say::events(&[ROLE, ONE, "data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\"}}\n\n"]),
    ] {
        Stage::run(async |stage| {
            let a = stage.target(vec![breaks.clone()]).await;
            let b = stage.target(vec![Say::events(&[ROLE, TWO, STOP, USAGE, DONE])]).await;
            going_on(stage, vec![target("a", a.address), able("b", b.address)], 8_000);
            let answer = stage.chat(STREAMED).await;
            assert_eq!((answer.status, answer.is_whole), (200, true), "{}", answer.body);
            assert_eq!(said(&answer), "one two", "{}", answer.body);
            let count = |text: &str| answer.body.matches(text).count();
            assert_eq!(
                [
                    count("\"role\""),
                    count("\"finish_reason\":\"stop\""),
                    count("[DONE]"),
                    count("prompt_tokens"),
                    count("error")
                ],
                [1, 1, 1, 0, 0],
                "{}",
                answer.body
            );
            let asked = &b.seen()[0].body;
            assert!(
                asked.contains(r#"{"role":"user","content":"say one"},{"role":"assistant","content":"one"}]"#),
                "{asked}"
            );
            assert_eq!((stage.estimated("a").1, stage.tokens("b")), (1, (3, 1)));
            let [(from, to, _, committed)] = &stage.fallbacks()[..] else { panic!("one fallback") };
            assert_eq!((from.as_str(), to.as_str(), *committed), ("a", "b", "true"));
        });
    }
}

#[test]
fn client_that_asks_what_was_used_is_told_of_both_targets_together() {
    Stage::run(async |stage| {
        let used = USAGE
            .replace("\"prompt_tokens\":3,\"completion_tokens\":1", "\"prompt_tokens\":20,\"completion_tokens\":2");
        let told = ONE.replace(",\"choices\"", ",\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1},\"choices\"");
        let a = stage.target(vec![Say::cut(&[ROLE, &told])]).await;
        let b = stage.target(vec![Say::events(&[TWO, STOP, &used, DONE])]).await;
        going_on(stage, vec![target("a", a.address), able("b", b.address)], 8_000);
        let asks = STREAMED.replace('}', "").replacen("]", "}]", 1);
        let answer = stage.chat(&format!("{asks},\"stream_options\":{{\"include_usage\":true}}}}")).await;
        assert!(answer.body.contains("\"prompt_tokens\":25,\"completion_tokens\":3,"), "{}", answer.body);
        assert_eq!((stage.tokens("a"), stage.tokens("b")), ((5, 1), (20, 2)));
    });
}

#[test]
fn stream_ends_with_an_error_where_no_target_goes_on() {
    let served = || Say::events(&[ROLE, TWO, STOP, DONE]);
    let refused = || Say::answer(500, "application/json", "{}");
    let anew = || Say::events(&[ROLE, ONE, TWO, STOP, DONE]);
    let silent = || Say::events(&[ROLE, STOP, DONE]);
    let cases = [
        ("not declared able", Can::No, served(), 0),
        ("fails before a token", Can::Yes, refused(), 1),
        ("begins anew", Can::Yes, anew(), 1),
        ("says nothing", Can::Yes, silent(), 1),
        ("hangs", Can::Yes, Say::hang(&[ROLE]), 1),
    ];
    for (title, prefill, says, asked) in cases {
        Stage::run(async |stage| {
            let a = stage.target(vec![Say::cut(&[ROLE, ONE])]).await;
            let b = stage.target(vec![says.clone()]).await;
            let mut second = target("b", b.address);
            second.capabilities.prefill = prefill;
            going_on(stage, vec![target("a", a.address), second], 300);
            assert_cut(&stage.chat(STREAMED).await);
            assert_eq!(b.seen().len(), asked, "{title}");
            assert_eq!(stage.failures("a"), [Reason::Reset], "{title}");
        });
    }
}

#[test]
fn target_that_cannot_go_on_is_passed_over_and_one_that_fails_is_followed_by_the_next() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::cut(&[ROLE, ONE])]).await;
        let b = stage.target(Vec::new()).await;
        let c = stage.target(vec![Say::answer(503, "application/json", "{}")]).await;
        let d = stage.target(vec![Say::events(&[ROLE, TWO, STOP, DONE])]).await;
        let targets = vec![target("a", a.address), target("b", b.address), able("c", c.address), able("d", d.address)];
        going_on(stage, targets, 8_000);
        let answer = stage.chat(STREAMED).await;
        assert_eq!((said(&answer).as_str(), answer.is_whole), ("one two", true), "{}", answer.body);
        assert_eq!((b.seen().len(), c.seen().len(), d.seen().len()), (0, 1, 1));
    });
}

#[test]
fn stream_that_breaks_twice_goes_on_twice() {
    Stage::run(async |stage| {
        let three = TWO.replace(" two", " three");
        let a = stage.target(vec![Say::cut(&[ROLE, ONE])]).await;
        let b = stage.target(vec![Say::cut(&[ROLE, TWO, HALF])]).await;
        let c = stage.target(vec![Say::events(&[ROLE, &three, STOP, DONE])]).await;
        going_on(stage, vec![target("a", a.address), able("b", b.address), able("c", c.address)], 8_000);
        let answer = stage.chat(STREAMED).await;
        assert_eq!((said(&answer).as_str(), answer.is_whole), ("one two three", true), "{}", answer.body);
        assert!(c.seen()[0].body.contains(r#"{"role":"assistant","content":"one two"}]"#), "{}", c.seen()[0].body);
    });
}

#[test]
fn target_of_another_dialect_goes_on_without_the_white_space_that_it_would_refuse() {
    Stage::run(async |stage| {
        let blank = ONE.replace("\"one\"", "\"one \\n\"");
        let a = stage.target(vec![Say::cut(&[ROLE, &blank])]).await;
        let event = |data: &str| {
            let kind = data.split('"').nth(3).unwrap_or_default();
            format!("event: {kind}\ndata: {data}\n\n")
        };
        let events = [
            event(
                r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#,
            ),
            event(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
            event(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" \n"}}"#),
            event(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"two"}}"#),
            event(r#"{"type":"content_block_stop","index":0}"#),
            event(r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#),
            event(r#"{"type":"message_stop"}"#),
        ];
        let b = stage.target(vec![Say::events(&events.each_ref().map(String::as_str))]).await;
        let mut claude = able("b", b.address);
        claude.provider = Provider::Anthropic;
        going_on(stage, vec![target("a", a.address), claude], 8_000);
        let answer = stage.chat(STREAMED).await;
        assert_eq!((said(&answer).as_str(), answer.is_whole), ("one \ntwo", true), "{}", answer.body);
        let asked: serde_json::Value = serde_json::from_str(&b.seen()[0].body).expect("JSON");
        let last = &asked["messages"][1];
        assert_eq!((&last["role"], &last["content"][0]["text"]), (&"assistant".into(), &"one".into()), "{asked}");
        assert_eq!(stage.tokens("b"), (9, 2));
    });
}

#[test]
fn request_for_tools_ends_with_an_error_although_a_target_could_go_on() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::cut(&[ROLE, ONE])]).await;
        let b = stage.target(Vec::new()).await;
        going_on(stage, vec![target("a", a.address), able("b", b.address)], 8_000);
        let tools = r#""stream":true,"tools":[{"type":"function","function":{"name":"f"}}]"#;
        assert_cut(&stage.chat(&STREAMED.replace("\"stream\":true", tools)).await);
        assert!(b.seen().is_empty());
    });
}
