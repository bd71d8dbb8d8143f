//! What access log and spans are told of calls.

use mesh_core::{
    model::model_route::{Counted, Limit, LimitMode, Reason, TokenLimits, Usage, UsageSource},
    outcome::Outcome,
};

use super::{
    DONE, ONE, ROLE, STOP, STREAMED, USAGE, WHOLE,
    scripted::Say,
    stage::{Stage, TRACEPARENT, target},
    timers, whole,
};
use crate::telemetry::{
    model_call::{ModelCall, Part},
    models::Ended,
    worker::Record,
};

fn of(record: &Record) -> &ModelCall {
    record.model.as_deref().expect("a call to a model")
}

fn target_of(record: &Record) -> Option<&str> {
    of(record).asked.as_ref().map(|asked| asked.target.as_str())
}

/// Every attempt is of the call's trace and below it; the call is below its caller.
fn assert_below(told: &[Box<Record>]) {
    let call = told[0].trace.expect("the caller samples");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(TRACEPARENT, format!("traceparent: 00-{}-{}-01", hex(&call.trace_id), hex(&call.parent)));
    for attempt in &told[1..] {
        let span = attempt.trace.expect("an attempt of a sampled call is sampled");
        assert_eq!((span.trace_id, span.parent), (call.trace_id, call.span));
        assert_ne!(span.span, call.span);
    }
}

#[test]
fn stream_is_told_with_its_usage_and_its_one_attempt() {
    Stage::run(async |stage| {
        let answer = ONE.replace("one", "zebra");
        let a = stage.target(vec![Say::events(&[ROLE, &answer, STOP, USAGE, DONE])]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        assert_eq!(stage.traced(&STREAMED.replace("one", "zebra")).await.status, 200);
        let told = stage.told().await;
        assert_eq!(told.len(), 2);
        assert_below(&told);
        let call = of(&told[0]);
        assert_eq!((call.operation, call.model.as_str(), target_of(&told[0])), ("chat", "small", Some("a")));
        let used = Some((Usage { input: 3, output: 1, cached: 0 }, UsageSource::Reported));
        assert_eq!((call.usage, of(&told[1]).usage), (used, used));
        assert!(call.first_token.is_some() && call.overhead().is_some());
        assert_eq!((call.error_type(), call.reasons().count()), (None, 0));
        assert_eq!(of(&told[1]).part, Part::Attempt { number: 1, ended: Ended::Whole });
        assert!(!format!("{told:?}").contains("zebra"), "no word of prompt or answer");
        let header = a.seen()[0].head.lines().find(|line| line.starts_with("traceparent")).map(str::to_owned);
        let span = told[1].trace.expect("it is sampled").span;
        let own = span.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(header.as_ref().is_some_and(|header| header.contains(&own)), "the target goes on below: {header:?}");
    });
}

#[test]
fn fallback_over_two_reasons_is_told_with_both_and_an_attempt_for_each_target() {
    Stage::run(async |stage| {
        let busy = "{\"error\":{\"message\":\"slow\",\"type\":\"x\"}}";
        let a = stage.target(vec![Say::answer(429, "application/json", busy)]).await;
        let b = stage.target(vec![Say::hang(&[ROLE])]).await;
        let c = stage.target(vec![Say::events(&[ROLE, ONE, STOP, DONE])]).await;
        stage.route(vec![target("a", a.address), target("b", b.address), target("c", c.address)], timers(300));
        assert_eq!(stage.traced(STREAMED).await.field("x-mesh-model-target"), Some("c"));
        let told = stage.told().await;
        assert_below(&told);
        let asked: Vec<_> = told.iter().map(|record| target_of(record)).collect();
        assert_eq!(asked, [Some("c"), Some("a"), Some("b"), Some("c")]);
        let call = of(&told[0]);
        assert_eq!(call.reasons().collect::<Vec<_>>(), [Reason::Rate, Reason::TimeoutFirstToken]);
        assert_eq!((call.error_type(), told[0].outcome, told[0].attempts), (None, Outcome::Success, 3));
        assert_eq!(call.usage.map(|(_, source)| source), Some(UsageSource::Estimated));
        let errors: Vec<_> = told[1..].iter().map(|record| (of(record).error_type(), record.outcome)).collect();
        let expected = [
            (Some("rate"), Outcome::Overloaded),
            (Some("timeout_first_token"), Outcome::Timeout),
            (None, Outcome::Success),
        ];
        assert_eq!(errors, expected);
    });
}

#[test]
fn stream_that_breaks_is_told_with_its_reason_and_what_was_used_until_then() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::cut(&[ROLE, ONE])]).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        assert!(!stage.traced(STREAMED).await.is_whole);
        let told = stage.told().await;
        assert_below(&told);
        let call = of(&told[0]);
        assert_eq!((call.error_type(), told[0].outcome), (Some("reset"), Outcome::UpstreamIncomplete));
        let (usage, source) = call.usage.expect("something was used");
        assert_eq!((usage.output, source), (1, UsageSource::Estimated));
        assert_eq!(of(&told[1]).part, Part::Attempt { number: 1, ended: Ended::Failed(Reason::Reset) });
    });
}

#[test]
fn log_of_failures_has_attempts_that_failed_behind_a_good_head_though_their_call_did_not() {
    Stage::run(async |stage| {
        let failing = "data: {\"error\":{\"message\":\"say one again\",\"type\":\"overloaded_error\"}}\n\n";
        let a = stage.target(vec![Say::events(&[failing])]).await;
        let b = stage.target(vec![Say::events(&[ROLE, ONE, STOP, DONE]), Say::answer(500, "text/plain", "no")]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        assert_eq!(stage.chat(STREAMED).await.status, 200);
        let c = stage.target(vec![Say::answer(400, "application/json", "{}")]).await;
        stage.route(vec![target("c", c.address)], timers(8_000));
        assert_eq!(stage.chat(WHOLE).await.status, 400);
        let told = stage.told().await;
        let asked: Vec<_> = told.iter().map(|record| (target_of(record), of(record).attempt())).collect();
        assert_eq!(asked, [(Some("c"), None), (Some("a"), Some(1)), (Some("c"), Some(1))]);
        assert!(told.iter().all(|record| record.trace.is_none()));
        let detail = told[1].detail.as_deref().unwrap_or_default();
        assert!(detail.starts_with(of(&told[1]).error_type().unwrap_or("?")), "{detail}");
        assert!(!detail.contains("say one"), "what a target says may quote the prompt: {detail}");
    });
}

#[test]
fn call_that_a_limit_refuses_is_told_without_target_and_whole_answers_with_one() {
    Stage::run(async |stage| {
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("one"))]).await;
        let window = std::time::Duration::from_secs(86_400);
        let limit = Limit { of: Counted::Requests, amount: 1, window, mode: LimitMode::Enforce };
        let tokens = TokenLimits { limits: vec![limit], ..TokenLimits::default() };
        stage.limited_route(vec![target("a", a.address)], timers(8_000), tokens);
        assert_eq!((stage.traced(WHOLE).await.status, stage.traced(WHOLE).await.status), (200, 429));
        let told = stage.told().await;
        assert_eq!((target_of(&told[0]), of(&told[1]).usage.is_some()), (Some("a"), true));
        let refused = stage.told().await;
        assert_eq!(refused.len(), 1);
        let call = of(&refused[0]);
        assert_eq!((call.model.as_str(), call.error_type(), &call.asked), ("small", Some("rate"), &None));
    });
}
