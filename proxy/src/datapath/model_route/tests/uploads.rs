//! Requests that are too long to be held.

use super::*;

/// Longer than 32 bytes, with its model in front.
const FRONT: &str = r#"{"model":"small","messages":[{"role":"user","content":"say one"}],"stream":false}"#;
/// As [`FRONT`], with its model behind what is held.
const BEHIND: &str = r#"{"messages":[{"role":"user","content":"say one"}],"stream":true,"model":"small"}"#;

fn chunked(body: &str, size: usize) -> String {
    let chunks: String = body
        .as_bytes()
        .chunks(size)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: llm.demo\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    )
}

#[test]
fn longer_request_is_passed_on_to_one_target_and_says_so() {
    Stage::run(async |stage| {
        stage.body_limit.set(32);
        let served = || Say::answer(200, "application/json", &whole("one"));
        let a = stage.target(vec![served(), served()]).await;
        let mut renamed = target("a", a.address);
        renamed.model = Some("a-longer-name".to_owned());
        stage.route(vec![renamed], timers(8_000));
        for request in [super::stage::chat(FRONT), chunked(FRONT, 5)] {
            let answer = stage.ask(&request).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, whole("one").as_str()));
            assert_eq!(answer.field("x-mesh-model-unheld"), Some("length"));
        }
        let seen = a.seen();
        assert!(seen.iter().all(|seen| seen.body == FRONT.replace("small", "a-longer-name")), "{seen:?}");
        assert!(seen[0].head.contains(&format!("content-length: {}\r\n", seen[0].body.len())), "{}", seen[0].head);
        assert!(seen[1].head.contains("transfer-encoding: chunked\r\n"), "{}", seen[1].head);
        assert_eq!(stage.unheld("length"), 2);
        assert_eq!(stage.held(), 0);
    });
}

#[test]
fn model_and_delivery_may_stand_behind_what_is_held() {
    Stage::run(async |stage| {
        stage.body_limit.set(32);
        let events = || Say::events(&[ROLE, ONE, STOP, DONE]);
        let a = stage.target(vec![events(), events()]).await;
        let mut renamed = target("a", a.address);
        renamed.model = Some("big".to_owned());
        stage.route(vec![renamed], timers(8_000));
        for request in [super::stage::chat(BEHIND), chunked(BEHIND, 7)] {
            let answer = stage.ask(&request).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, [ROLE, ONE, STOP, DONE].concat().as_str()));
        }
        assert!(a.seen().iter().all(|seen| seen.body == BEHIND.replace("small", "big")), "{:?}", a.seen());
    });
}

#[test]
fn failure_of_its_target_is_told_and_nobody_else_is_asked() {
    Stage::run(async |stage| {
        stage.body_limit.set(32);
        let busy = "{\"error\":{\"message\":\"slow\",\"type\":\"x\"}}";
        let a = stage.target(vec![Say::answer(429, "application/json", busy)]).await;
        let b = stage.target(vec![Say::answer(200, "application/json", &whole("b"))]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        let answer = stage.chat(FRONT).await;
        assert_eq!((answer.status, answer.field("x-mesh-model-attempts")), (429, Some("1")));
        assert_eq!(answer.field("x-mesh-model-unheld"), Some("length"));
        assert!(b.seen().is_empty());
        // The next request begins elsewhere: what failed rests.
        assert_eq!(stage.chat(FRONT).await.body, whole("b"));
    });
}

#[test]
fn stream_of_a_request_that_was_passed_on_ends_with_an_error_where_it_breaks() {
    Stage::run(async |stage| {
        stage.body_limit.set(32);
        let a = stage.target(vec![Say::cut(&[ROLE, ONE])]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let answer = stage.chat(BEHIND).await;
        assert!(
            answer.body.starts_with(&[ROLE, ONE].concat()) && answer.body.contains("data: {\"error\":{"),
            "{answer:?}"
        );
        assert!(!answer.is_whole);
    });
}

#[test]
fn what_cannot_be_passed_on_is_answered_413_and_what_is_wrong_with_it_400_or_404() {
    Stage::run(async |stage| {
        stage.body_limit.set(32);
        stage.models.replace(vec!["small", "other"]);
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("a"))]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let answer = stage.ask(&chunked(BEHIND, 5)).await;
        assert_eq!((answer.status, answer.field("x-should-retry")), (413, Some("false")), "{answer:?}");
        assert!(answer.body.contains("names its model behind"), "{}", answer.body);
        assert!(a.seen().is_empty());
        assert_eq!(stage.chat(FRONT).await.status, 200, "what stands in front is known");
        stage.models.replace(vec!["small"]);
        let mut claude = target("a", a.address);
        claude.provider = Provider::Anthropic;
        stage.route(vec![claude], timers(8_000));
        let answer = stage.chat(FRONT).await;
        assert_eq!(answer.status, 413);
        assert!(answer.body.contains("no target speaks"), "{}", answer.body);
        let b = stage.target(vec![Say::raw(""), Say::raw("")]).await;
        stage.route(vec![target("b", b.address)], timers(8_000));
        for size in [5, 500] {
            let answer = stage.ask(&chunked(&BEHIND.replace("small", "huge"), size)).await;
            assert_eq!(answer.status, 404, "{answer:?}");
            let twice = BEHIND.replace("\"small\"}", "\"small\",\"model\":\"small\"}");
            let answer = stage.ask(&chunked(&twice, size)).await;
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        let length = |bytes: u64| format!("content-length: {bytes}\r\n");
        let endless = super::stage::chat(FRONT).replace(&length(FRONT.len() as u64), &length(u64::MAX));
        assert_eq!(stage.ask(&endless).await.status, 400, "nothing is so long");
    });
}

#[test]
fn request_for_which_no_room_is_left_is_passed_on_too() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let long = FRONT.replace("say one", &"a".repeat(super::stage::ROOM * 3));
        let answer = stage.chat(&long).await;
        assert_eq!((answer.status, answer.field("x-mesh-model-unheld")), (200, Some("room")));
        assert_eq!(a.seen()[0].body.len(), long.len());
        assert_eq!((stage.unheld("room"), stage.held()), (1, 0));
    });
}

#[test]
fn client_that_leaves_in_the_middle_of_its_request_takes_it_along() {
    Stage::run(async |stage| {
        stage.body_limit.set(32);
        let a = stage.target(vec![Say::raw("")]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let request = super::stage::chat(FRONT);
        stage.say_and_leave(&request[..request.len() - 10]).await;
        assert!(a.closed_within(Duration::from_millis(500)).await, "the target's connection is closed");
        assert_eq!(stage.held(), 0);
    });
}
