//! Whole exchanges in one process: a client's bytes, a worker, and targets that say exactly what a test writes.

mod drills;
mod lanes;
mod resume;
mod scripted;
mod stage;
mod told;
mod uploads;

use std::time::Duration;

use mesh_core::model::model_route::{Counted, Limit, LimitMode, ModelTimers, Provider, Reason, TokenLimits};

use self::{
    scripted::Say,
    stage::{Stage, target},
};
use crate::worker::Role;

/// Events of a short answer of OpenAI's chat.
const ROLE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const ONE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

const STREAMED: &str = r#"{"messages":[{"role":"user","content":"say one"}],"model":"small","stream":true}"#;
const WHOLE: &str = r#"{"messages":[{"role":"user","content":"say one"}],"model":"small"}"#;

fn whole(text: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"x","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}}}"#
    )
}

fn timers(first_token: u64) -> ModelTimers {
    ModelTimers { first_token: Duration::from_millis(first_token), ..ModelTimers::default() }
}

#[test]
fn stream_reaches_the_client_byte_by_byte_without_the_usage_that_it_did_not_ask_for() {
    Stage::run(async |stage| {
        let events = [ROLE, ONE, STOP, USAGE, DONE];
        let a = stage.target(vec![Say::events(&events)]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let answer = stage.chat(STREAMED).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, [ROLE, ONE, STOP, DONE].concat());
        assert!(answer.is_whole);
        assert_eq!(answer.field("x-mesh-model-target"), Some("a"));
        assert_eq!(answer.field("x-mesh-model-attempts"), Some("1"));
        let seen = a.seen();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].body.contains(r#""stream_options":{"include_usage":true}"#), "{}", seen[0].body);
        assert_eq!(stage.tokens("a"), (3, 1));
    });
}

#[test]
fn failures_before_the_first_token_are_not_seen_whatever_they_are() {
    let busy = "{\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\",\"code\":\"rate_limit_exceeded\"}}";
    let html = Say::answer(200, "text/html", "<html>proxy login</html>");
    let cases = [
        (Reason::Rate, Say::answer(429, "application/json", busy)),
        (Reason::Server, Say::answer(500, "application/json", "{}")),
        (Reason::Overloaded, Say::answer(529, "application/json", "{}")),
        (Reason::Empty, Say::events(&[ROLE, DONE])),
        (Reason::Empty, Say::events(&[])),
        (Reason::Rate, Say::events(&[&format!("data: {busy}\n\n")])),
        (Reason::Reset, Say::cut(&[ROLE])),
        (Reason::Decode, html),
        (Reason::TimeoutFirstToken, Say::hang(&[": ping\n\n", ROLE])),
    ];
    for (reason, fails) in cases {
        Stage::run(async |stage| {
            let a = stage.target(vec![fails.clone()]).await;
            let b = stage.target(vec![Say::events(&[ROLE, ONE, STOP, DONE])]).await;
            stage.route(vec![target("a", a.address), target("b", b.address)], timers(300));
            let answer = stage.chat(STREAMED).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, [ROLE, ONE, STOP, DONE].concat().as_str()),
                "{reason:?}"
            );
            assert_eq!(answer.field("x-mesh-model-target"), Some("b"), "{reason:?}");
            assert_eq!(stage.failures("a"), vec![reason], "{reason:?}");
        });
    }
}

#[test]
fn stream_that_breaks_behind_a_token_ends_with_an_error_and_without_its_last_chunk() {
    for breaks in [Say::cut(&[ROLE, ONE, "data: {\"cho"]), Say::events(&[ROLE, ONE]), Say::events(&[ROLE, ONE, DONE])] {
        Stage::run(async |stage| {
            let a = stage.target(vec![breaks.clone()]).await;
            let b = stage.target(vec![Say::events(&[ROLE, ONE, STOP, DONE])]).await;
            stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
            let answer = stage.chat(STREAMED).await;
            let rest = answer.body.strip_prefix(&[ROLE, ONE].concat()).expect("what came before is passed on");
            let rest = rest.strip_prefix(DONE).unwrap_or(rest);
            assert!(rest.starts_with("data: {\"error\":{"), "{rest}");
            assert!(rest.ends_with("\n\n"));
            assert!(!answer.is_whole, "clients that ignore errors see a cut");
            assert!(b.seen().is_empty());
        });
    }
}

#[test]
fn target_that_sends_no_token_among_more_than_is_held_has_failed() {
    let comment = format!(": {}\n\n", "x".repeat(600_000));
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::hang(&[&comment, &comment])]).await;
        let b = stage.target(vec![Say::events(&[ROLE, ONE, STOP, DONE])]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        let answer = stage.chat(STREAMED).await;
        assert_eq!(answer.body, [ROLE, ONE, STOP, DONE].concat());
        assert_eq!(stage.failures("a"), vec![Reason::Decode]);
    });
}

#[test]
fn whole_answer_of_another_target_is_given_whole() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(500, "application/json", "{}")]).await;
        let b = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        let answer = stage.chat(WHOLE).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.is_whole), (200, whole("one").as_str(), true));
        assert_eq!(answer.field("x-mesh-model-attempts"), Some("2"));
    });
}

#[test]
fn last_failure_is_told_when_nobody_is_left() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(500, "text/plain", "no")]).await;
        let busy = "{\"error\":{\"message\":\"slow\",\"type\":\"x\"}}";
        let b = stage.target(vec![Say::answer(429, "application/json", busy)]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        let answer = stage.chat(WHOLE).await;
        assert_eq!(answer.status, 429);
        assert!(answer.body.starts_with("{\"error\":{"), "{}", answer.body);
        assert!(answer.field("retry-after").is_some());
    });
}

#[test]
fn key_is_the_meshs_and_the_callers_own_never_leaves() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        let mut keyed = target("a", a.address);
        keyed.credential = Some(stage.key("sk-mesh"));
        keyed.model = Some("gpt-x".to_owned());
        stage.route(vec![keyed], timers(8_000));
        stage.chat(WHOLE).await;
        let seen = a.seen();
        assert!(seen[0].head.contains("authorization: Bearer sk-mesh\r\n"), "{}", seen[0].head);
        assert!(!seen[0].head.contains("sk-caller") && !seen[0].head.contains("accept-encoding"), "{}", seen[0].head);
        assert_eq!(seen[0].body, WHOLE.replace("small", "gpt-x"));
    });
}

#[test]
fn client_that_leaves_takes_its_request_at_the_target_with_it() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::hang(&[ROLE, ONE])]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        stage.leave_after(STREAMED, ONE).await;
        let left = a.closed_within(Duration::from_millis(200)).await;
        assert!(left, "the target's connection is closed");
        assert_eq!(stage.estimated("a").1, 1);
    });
}

#[test]
fn openai_client_is_served_by_an_anthropic_target() {
    Stage::run(async |stage| {
        let message = "{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}";
        let a = stage.target(vec![Say::answer(200, "application/json", message)]).await;
        let mut claude = target("a", a.address);
        (claude.provider, claude.model) = (Provider::Anthropic, Some("claude".to_owned()));
        stage.route(vec![claude], timers(8_000));
        let answer = stage.chat(WHOLE).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("\"content\":\"one\""), "{}", answer.body);
        assert!(a.seen()[0].head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{}", a.seen()[0].head);
        assert_eq!(stage.tokens("a"), (3, 1));
    });
}

#[test]
fn models_are_listed_and_unknown_ones_refused() {
    Stage::run(async |stage| {
        let a = stage.target(Vec::new()).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let listed = stage.ask("GET /v1/models HTTP/1.1\r\nhost: llm.demo\r\n\r\n").await;
        assert!(listed.body.contains("\"id\":\"small\""), "{}", listed.body);
        let answer = stage.chat(&WHOLE.replace("small", "huge")).await;
        assert_eq!((answer.status, answer.field("x-should-retry")), (404, Some("false")));
        let answer = stage.chat("{\"model\":").await;
        assert_eq!(answer.status, 400);
    });
}

#[test]
fn realtime_socket_becomes_a_tunnel_with_the_meshs_key() {
    Stage::run(async |stage| {
        let switched =
            Say::raw("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello");
        let a = stage.target(vec![switched]).await;
        let mut keyed = target("a", a.address);
        keyed.credential = Some(stage.key("sk-mesh"));
        stage.route(vec![keyed], timers(8_000));
        let request = "GET /v1/realtime?model=small HTTP/1.1\r\nhost: llm.demo\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       authorization: Bearer sk-caller\r\nsec-websocket-key: a\r\nsec-websocket-version: 13\r\n\r\n";
        let answer = stage.ask_until(request, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let head = &a.seen()[0].head;
        assert!(head.starts_with("GET /v1/realtime?model=small HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer sk-mesh\r\n") && !head.contains("sk-caller"), "{head}");
        assert!(head.contains("sec-websocket-key: a\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    });
}

#[test]
fn target_that_refuses_to_be_asked_for_usage_is_asked_again_without() {
    Stage::run(async |stage| {
        let refusal = "{\"error\":{\"message\":\"Unrecognized request argument supplied: stream_options\",\"type\":\"invalid_request_error\",\"code\":null}}";
        let served = || Say::events(&[ROLE, ONE, STOP, DONE]);
        let a = stage.target(vec![Say::answer(400, "application/json", refusal), served(), served()]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        for _ in 0..2 {
            assert_eq!(stage.chat(STREAMED).await.body, [ROLE, ONE, STOP, DONE].concat());
        }
        let asked: Vec<bool> = a.seen().iter().map(|seen| seen.body.contains("stream_options")).collect();
        assert_eq!(asked, [true, false, false]);
    });
}

#[test]
fn answer_without_a_body_is_a_failure_and_not_a_wait() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", "")]).await;
        let b = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        assert_eq!(stage.chat(WHOLE).await.body, whole("one"));
    });
}

/// A limit for a day, so that no test meets the end of its window.
fn limit(of: Counted, amount: u64) -> Limit {
    Limit { of, amount, window: Duration::from_secs(86_400), mode: LimitMode::Enforce }
}

#[test]
fn caller_whose_requests_are_used_up_is_told_so_in_its_dialect_and_no_target_is_asked() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        let tokens = TokenLimits { limits: vec![limit(Counted::Requests, 1)], ..TokenLimits::default() };
        stage.limited_route(vec![target("a", a.address)], timers(8_000), tokens);
        let first = stage.chat(WHOLE).await;
        assert_eq!((first.status, first.field("x-ratelimit-remaining-requests")), (200, Some("0")));
        let second = stage.chat(WHOLE).await;
        assert_eq!((second.status, second.field("x-ratelimit-limit-requests")), (429, Some("1")));
        assert!(second.body.contains("rate_limit_exceeded"), "{}", second.body);
        assert_eq!(a.seen().len(), 1);
    });
}

#[test]
fn tokens_are_settled_with_what_was_used_also_where_the_client_left() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::hang(&[ROLE, ONE]), Say::answer(200, "application/json", &whole("one"))]).await;
        let tokens = TokenLimits {
            limits: vec![limit(Counted::Output, 600), limit(Counted::Concurrent, 1)],
            ..TokenLimits::default()
        };
        stage.limited_route(vec![target("a", a.address)], timers(8_000), tokens);
        stage.leave_after(STREAMED, ONE).await;
        assert!(a.closed_within(Duration::from_millis(200)).await);
        // 512 tokens are reserved for an answer of which nothing is known: only if the first gave its own back is there room.
        let answer = stage.chat(WHOLE).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, whole("one").as_str()));
        assert_eq!(answer.field("x-ratelimit-remaining-tokens"), Some("87"));
    });
}

#[test]
fn target_whose_own_limit_is_used_up_is_passed_over() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("a"))]).await;
        let b = stage.target(vec![Say::answer(200, "application/json", &whole("b"))]).await;
        let mut limited = target("a", a.address);
        limited.limits = vec![limit(Counted::Requests, 1)];
        stage.route(vec![limited, target("b", b.address)], timers(8_000));
        assert_eq!(stage.chat(WHOLE).await.body, whole("a"));
        let second = stage.chat(WHOLE).await;
        assert_eq!((second.body.as_str(), second.field("x-mesh-model-attempts")), (whole("b").as_str(), Some("1")));
    });
}

#[test]
fn gateway_lends_the_meshs_keys_to_nobody_outside() {
    Stage::run_as(Role::Gateway, async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        let answer = stage.chat(WHOLE).await;
        assert!(answer.status >= 400, "{answer:?}");
        assert!(a.seen().is_empty());
    });
}

#[test]
fn key_that_was_replaced_is_tried_at_once_although_the_old_one_rests() {
    Stage::run(async |stage| {
        let refused = Say::answer(401, "application/json", "{\"error\":{\"message\":\"no\",\"type\":\"x\"}}");
        let served = |name: &str| Say::answer(200, "application/json", &whole(name));
        let a = stage.target(vec![refused, served("a")]).await;
        // Files are looked at once a second: until then the other one serves.
        let b = stage.target(vec![served("b"); 50_000]).await;
        let mut keyed = target("a", a.address);
        keyed.credential = Some(stage.key("sk-old"));
        stage.route(vec![keyed, target("b", b.address)], timers(8_000));
        assert_eq!(stage.chat(WHOLE).await.body, whole("b"));
        assert_eq!(stage.chat(WHOLE).await.body, whole("b"), "the refused key rests");
        stage.key("sk-new");
        while stage.chat(WHOLE).await.body != whole("a") {}
        assert!(a.seen()[1].head.contains("Bearer sk-new"), "{}", a.seen()[1].head);
    });
}

#[test]
fn connection_to_the_best_target_outside_is_kept_ready_and_nothing_is_asked_on_it() {
    Stage::run(async |stage| {
        let served = || Say::answer(200, "application/json", &whole("one"));
        let a = stage.target(vec![served(), served()]).await;
        let b = stage.target(vec![served()]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        stage.keep_warm();
        assert_eq!(a.connections(), 0, "what is not used is not dialled");
        assert_eq!(stage.chat(WHOLE).await.body, whole("one"));
        // The one of the request, and one that waits.
        while a.connections() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.chat(WHOLE).await.body, whole("one"));
        assert_eq!((a.connections(), a.seen().len(), b.connections()), (2, 2, 0));
    });
}
