//! What is repeated, when, and how often altogether.

use super::*;
use crate::model::policy::{GrpcCode, RetryBudget};

fn rules(policy: &Retries) -> Rules<'_> {
    Rules { policy, route: None, extent: Extent::All }
}

fn attempt(failure: Failure, method: &str, body: Body, made: u32) -> Attempt<'_> {
    Attempt { made, failure, method, body }
}

#[test]
fn only_what_cannot_have_had_an_effect_twice_is_repeated() {
    use Body::{Consumed, Replayable};
    use Decision::{GiveUp, Repeat};
    let default = Retries::default();
    let cases = [
        (Failure::Connect, "POST", Replayable, 1, Repeat(Reason::NotSent)),
        (Failure::NotProcessed, "POST", Replayable, 1, Repeat(Reason::NotSent)),
        (Failure::ReusedEnded, "POST", Replayable, 1, Repeat(Reason::NotSent)),
        (Failure::NotProcessed, "POST", Consumed, 1, GiveUp(Refusal::BodyTooLong)),
        (Failure::ReusedClosed, "POST", Replayable, 1, GiveUp(Refusal::MayHaveBeenProcessed)),
        (Failure::ReusedClosed, "GET", Replayable, 2, Repeat(Reason::Idempotent)),
        (Failure::Reset, "PUT", Replayable, 1, Repeat(Reason::Idempotent)),
        (Failure::Reset, "POST", Replayable, 1, GiveUp(Refusal::MayHaveBeenProcessed)),
        (Failure::Reset, "PATCH", Replayable, 1, GiveUp(Refusal::MayHaveBeenProcessed)),
        (Failure::Lost, "DELETE", Replayable, 1, Repeat(Reason::Idempotent)),
        (Failure::Lost, "POST", Replayable, 1, GiveUp(Refusal::MayHaveBeenProcessed)),
        (Failure::TryTimeout, "GET", Replayable, 1, Repeat(Reason::Idempotent)),
        (Failure::TryTimeout, "POST", Replayable, 1, GiveUp(Refusal::MayHaveBeenProcessed)),
        (Failure::Status(503), "GET", Replayable, 1, GiveUp(Refusal::NotNamed)),
        (Failure::Grpc(14), "POST", Replayable, 1, GiveUp(Refusal::NotNamed)),
        (Failure::Connect, "POST", Replayable, 3, GiveUp(Refusal::AttemptsUsed)),
        (Failure::Connect, "POST", Consumed, 3, GiveUp(Refusal::BodyTooLong)),
    ];
    for (failure, method, body, made, expected) in cases {
        let attempt = attempt(failure, method, body, made);
        assert_eq!(decide(&attempt, &rules(&default)), expected, "{attempt:?}");
    }
}

#[test]
fn failures_are_repeated_that_the_policy_names_and_no_others() {
    let unavailable = GrpcCode::of_word("unavailable").unwrap();
    let cases: [(&[RetryOn], &[Failure], &[Failure]); 7] = [
        (&[], &[], &[Failure::Connect, Failure::NotProcessed, Failure::Reset, Failure::Status(503)]),
        (&[RetryOn::ServerError], &[Failure::Status(500), Failure::Status(599)], &[Failure::Status(499)]),
        (
            &[RetryOn::GatewayError],
            &[Failure::Status(502), Failure::Status(503), Failure::Status(504)],
            &[Failure::Status(500), Failure::Status(505)],
        ),
        (&[RetryOn::Retriable4xx], &[Failure::Status(409)], &[Failure::Status(408), Failure::Status(410)]),
        (&[RetryOn::Status(429)], &[Failure::Status(429)], &[Failure::Status(430), Failure::Connect]),
        (&[RetryOn::Grpc(unavailable)], &[Failure::Grpc(14)], &[Failure::Grpc(13), Failure::Status(503)]),
        (
            &[RetryOn::Reset],
            &[Failure::Reset, Failure::Lost, Failure::ApplicationReset, Failure::TryTimeout],
            &[Failure::Connect, Failure::ReusedClosed, Failure::ReusedEnded],
        ),
    ];
    for (on, named, others) in cases {
        let policy = Retries { on: on.to_vec(), ..Retries::default() };
        for (failures, expected) in [(named, true), (others, false)] {
            for failure in failures {
                assert_eq!(rules(&policy).names(*failure), expected, "{failure:?} with {on:?}");
            }
        }
    }
}

#[test]
fn methods_that_the_policy_names_and_calls_of_grpc_by_code_are_repeated_although_not_idempotent() {
    let unavailable = RetryOn::Grpc(GrpcCode::of_word("unavailable").unwrap());
    let policy = Retries {
        on: vec![RetryOn::Reset, RetryOn::ServerError, unavailable],
        methods: vec!["POST".to_owned()],
        ..Retries::default()
    };
    for (failure, method, expected) in [
        (Failure::Reset, "POST", Decision::Repeat(Reason::Allowed)),
        (Failure::Status(500), "POST", Decision::Repeat(Reason::Allowed)),
        (Failure::Status(500), "PATCH", Decision::GiveUp(Refusal::MayHaveBeenProcessed)),
    ] {
        assert_eq!(decide(&attempt(failure, method, Body::Replayable, 1), &rules(&policy)), expected, "{method}");
    }
    let policy = Retries { methods: Vec::new(), ..policy };
    let call = attempt(Failure::Grpc(14), "POST", Body::Replayable, 1);
    assert_eq!(decide(&call, &rules(&policy)), Decision::Repeat(Reason::Allowed));
}

#[test]
fn retries_of_a_route_count_instead_of_the_policys() {
    let policy = Retries { on: vec![RetryOn::ServerError], ..Retries::default() };
    let route = RouteRetry { retries: 1, body_limit: 7, statuses: vec![(429, 431), (14, 14)], try_timeout: None };
    let rules = Rules { route: Some(&route), ..rules(&policy) };
    assert_eq!((rules.attempts(), rules.body_limit()), (2, 7));
    for (failure, expected) in [
        (Failure::Status(430), true),
        (Failure::Status(432), false),
        // What the policy names stays named.
        (Failure::Status(500), true),
        (Failure::Grpc(14), true),
        (Failure::Grpc(13), false),
        (Failure::TryTimeout, false),
    ] {
        assert_eq!(rules.names(failure), expected, "{failure:?}");
    }
    let limited = RouteRetry { try_timeout: Some(Duration::from_secs(1)), body_limit: usize::MAX, ..route.clone() };
    let rules = Rules { route: Some(&limited), ..rules };
    assert!(rules.names(Failure::TryTimeout));
    assert_eq!(rules.body_limit(), BODY_MAX);
}

#[test]
fn sidecar_of_the_application_repeats_nothing_that_may_have_reached_it() {
    let policy =
        Retries { on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset], ..Retries::default() };
    let rules = Rules { extent: Extent::Unsent, ..rules(&policy) };
    for (failure, expected) in [
        (Failure::Connect, true),
        (Failure::ReusedClosed, true),
        (Failure::NotProcessed, true),
        (Failure::Reset, false),
        (Failure::Lost, false),
        (Failure::TryTimeout, false),
    ] {
        assert_eq!(rules.names(failure), expected, "{failure:?}");
    }
}

#[test]
fn attempt_at_a_model_is_repeated_only_where_nothing_was_sent() {
    assert_eq!(decide_unsent(1, 2, Failure::Connect), Decision::Repeat(Reason::NotSent));
    assert_eq!(decide_unsent(1, 2, Failure::ReusedClosed), Decision::Repeat(Reason::NotSent));
    assert_eq!(decide_unsent(2, 2, Failure::Connect), Decision::GiveUp(Refusal::AttemptsUsed));
    assert_eq!(decide_unsent(1, 2, Failure::Reset), Decision::GiveUp(Refusal::MayHaveBeenProcessed));
}

#[test]
fn pauses_are_drawn_up_to_a_bound_that_doubles_until_its_maximum() {
    let backoff = Backoff::default();
    let longest = |repeat| pause(&backoff, repeat, u64::MAX).as_millis();
    assert_eq!([1, 2, 3, 4, 5, 40].map(longest), [25, 50, 100, 200, 250, 250]);
    assert_eq!(pause(&backoff, 1, 0), Duration::ZERO);
    let half = pause(&backoff, 2, u64::MAX / 2);
    assert!(half > Duration::from_millis(24) && half < Duration::from_millis(26), "{half:?}");
}

const BUDGET: RetryBudget = RetryBudget { percent: 20, min_per_second: 10 };

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Repeats that were paid for, where every request fails, and every repeat too, twice: `rate` requests in each second.
fn spent(budget: &mut Budget, rate: u32, seconds: u32) -> u32 {
    let mut spent = 0;
    for request in 0..rate * seconds {
        let now = at(f64::from(request) / f64::from(rate));
        budget.note();
        for _ in 0..2 {
            spent += u32::from(budget.take(BUDGET, now));
        }
    }
    spent
}

#[test]
fn repeats_never_exceed_their_share_of_requests_and_the_minimum() {
    for (rate, seconds) in [(1, 30), (10, 20), (100, 10), (1_000, 10), (10_000, 3)] {
        let requests = rate * seconds;
        let spent = spent(&mut Budget::new(BUDGET, 1, Duration::ZERO), rate, seconds);
        // A second's minimum is there from the beginning.
        let most = requests * 20 / 100 + 10 * (seconds + 1);
        assert!(spent <= most, "{spent} of at most {most} at {rate}/s");
        // Nobody gets less than what was promised, either.
        let wanted = (2 * requests).min(requests * 20 / 100 + 10 * (seconds - 1));
        assert!(spent + 1 >= wanted, "{spent} of {wanted} at {rate}/s");
    }
}

#[test]
fn workers_have_parts_of_the_minimum_that_add_up_to_it() {
    for workers in [2, 5, 10] {
        let all: u32 = (0..workers).map(|_| spent(&mut Budget::new(BUDGET, workers, Duration::ZERO), 100, 10)).sum();
        let most = 1_000 * workers * 20 / 100 + 10 * 11;
        assert!(all <= most + workers, "{all} of at most {most} with {workers} workers");
    }
}

#[test]
fn earnings_fade() {
    let mut budget = Budget::new(BUDGET, 1, Duration::ZERO);
    (0..10_000).for_each(|_| budget.note());
    budget.settle(at(1.0));
    let all_at = |seconds: f64| {
        let mut budget = budget;
        (0..3_000).filter(|_| budget.take(BUDGET, at(seconds))).count()
    };
    assert!(all_at(1.0) > 2_000);
    assert!(all_at(11.0) < 800, "{}", all_at(11.0));
    // Nothing but the minimum.
    assert_eq!(all_at(200.0), 10);
}

#[test]
fn repeat_that_was_there_a_moment_ago_is_paid_for() {
    let policy = RetryBudget { percent: 20, min_per_second: 0 };
    let mut budget = Budget::new(policy, 1, Duration::ZERO);
    for _ in 0..5 {
        budget.note();
    }
    assert!(budget.has(policy, at(1.0)));
    assert!(budget.take(policy, at(1.000_1)));
    assert!(!budget.has(policy, at(1.000_1)));
    assert!(!budget.take(policy, at(1.000_1)));
}

#[test]
fn budget_of_nothing_pays_for_nothing() {
    let nothing = RetryBudget { percent: 0, min_per_second: 0 };
    let mut budget = Budget::new(nothing, 4, Duration::ZERO);
    budget.note();
    assert!(!budget.take(nothing, at(100.0)));
    // A policy that changes counts from then on.
    assert!(budget.take(RetryBudget { percent: 0, min_per_second: 1 }, at(110.0)));
}

#[test]
fn budget_is_blank_once_it_is_as_a_new_one_would_be() {
    let mut budget = Budget::new(BUDGET, 1, Duration::ZERO);
    assert!(budget.is_blank());
    budget.note();
    assert!(!budget.is_blank());
    assert!(budget.take(BUDGET, at(0.1)));
    budget.settle(at(0.2));
    assert!(!budget.is_blank());
    budget.settle(at(100.0));
    assert!(budget.is_blank());
}
