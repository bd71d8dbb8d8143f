//! Behaviour of the module above, with the samples of `sample`.

use std::time::Duration;

use super::*;
use crate::{
    model::model_route::{ModelEndpoint, Security},
    model_route::sample::{failure, target},
};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn refused_key_rests_everywhere_and_limited_model_only_as_itself() {
    let mut standings = Standings::default();
    let (one, mut other) = (target("one", 0), target("other", 0));
    other.credential = one.credential.clone();
    standings.failed("r", &one, "m", &failure(Reason::Rate), seconds(1));
    assert!(matches!(standings.state(&one, "m", seconds(2)), State::Resting { reason: Reason::Rate, .. }));
    assert_eq!(standings.state(&one, "n", seconds(2)), State::Ready);
    assert!(matches!(standings.state(&other, "m", seconds(2)), State::Resting { .. }));
    standings.failed("r", &one, "m", &failure(Reason::Auth), seconds(1));
    assert!(matches!(standings.state(&other, "n", seconds(2)), State::Resting { reason: Reason::Auth, .. }));
    standings.renewed(one.credential.as_ref().unwrap());
    assert_eq!(standings.state(&other, "n", seconds(2)), State::Ready);
}

#[test]
fn place_that_cannot_be_reached_through_one_proxy_is_tried_through_another() {
    let through = |name: &str, proxy: Option<&str>| {
        let mut target = target(name, 0);
        target.endpoint = ModelEndpoint::External {
            security: Security::None,
            host: "model.example".to_owned(),
            port: 80,
            prefix: String::new(),
            proxy: proxy.map(str::to_owned),
        };
        target
    };
    let mut standings = Standings::default();
    standings.failed("r", &through("one", Some("a:3128")), "m", &failure(Reason::Connect), seconds(1));
    assert!(matches!(standings.state(&through("same", Some("a:3128")), "m", seconds(2)), State::Resting { .. }));
    assert_eq!(standings.state(&through("other", Some("b:3128")), "m", seconds(2)), State::Ready);
    assert_eq!(standings.state(&through("direct", None), "m", seconds(2)), State::Ready);
}

#[test]
fn rest_after_rate_is_as_long_as_asked_within_bounds() {
    for (asked, rests) in [(None, 5), (Some(1), 5), (Some(30), 30), (Some(9_000), 300)] {
        let (mut standings, one) = (Standings::default(), target("one", 0));
        let failure = Failure { retry_after: asked.map(seconds), ..failure(Reason::Rate) };
        standings.failed("r", &one, "m", &failure, seconds(100));
        let expected = State::Resting { until: seconds(100 + rests), reason: Reason::Rate };
        assert_eq!(standings.state(&one, "m", seconds(101)), expected, "{asked:?}");
        assert_eq!(standings.state(&one, "m", seconds(100 + rests)), State::Trial);
    }
}

#[test]
fn one_request_at_a_time_tries_a_target_whose_rest_is_over() {
    let (mut standings, one) = (Standings::default(), target("one", 0));
    standings.failed("r", &one, "m", &failure(Reason::Connect), seconds(0));
    assert_eq!(standings.state(&one, "m", seconds(3)), State::Trial);
    standings.begin(&one, "m", seconds(3));
    assert!(matches!(standings.state(&one, "m", seconds(4)), State::Resting { .. }));
    standings.failed("r", &one, "m", &failure(Reason::Connect), seconds(4));
    // Longer after a trial that failed.
    assert!(matches!(standings.state(&one, "m", seconds(7)), State::Resting { .. }));
    assert_eq!(standings.state(&one, "m", seconds(8)), State::Trial);
    standings.begin(&one, "m", seconds(8));
    standings.served("r", &one, "m", seconds(0), seconds(8));
    assert_eq!(standings.state(&one, "m", seconds(8)), State::Ready);
}

#[test]
fn trial_that_never_ends_leaves_the_next_one_free_again() {
    let (mut standings, one) = (Standings::default(), target("one", 0));
    standings.failed("r", &one, "m", &failure(Reason::Rate), seconds(0));
    standings.begin(&one, "m", seconds(6));
    assert!(matches!(standings.state(&one, "m", seconds(60)), State::Resting { .. }));
    assert_eq!(standings.state(&one, "m", seconds(67)), State::Trial);
    standings.begin(&one, "m", seconds(67));
    standings.withdrawn(&one, "m");
    assert_eq!(standings.state(&one, "m", seconds(68)), State::Trial);
}

#[test]
fn slow_target_loses_share_by_and_by_and_a_dead_one_is_cut() {
    let (mut standings, one) = (Standings::default(), target("one", 0));
    for _ in 0..3 {
        standings.served("r", &one, "m", seconds(6), seconds(8));
    }
    let slow = standings.share("r", &one);
    assert!(slow > 0.4 && slow < 0.6, "{slow}");
    for _ in 0..20 {
        standings.served("r", &one, "m", seconds(1), seconds(8));
    }
    assert!(standings.share("r", &one) > 0.99);
    for _ in 0..2 {
        standings.failed("r", &one, "m", &failure(Reason::Server), seconds(0));
        assert_eq!(standings.state(&one, "m", seconds(0)), State::Ready);
    }
    standings.failed("r", &one, "m", &failure(Reason::Server), seconds(0));
    assert!(matches!(standings.state(&one, "m", seconds(0)), State::Resting { .. }));
    for reason in [Reason::BadRequest, Reason::Context, Reason::ContentFilter] {
        let (mut standings, one) = (Standings::default(), target("one", 0));
        (0..9).for_each(|_| standings.failed("r", &one, "m", &failure(reason), seconds(0)));
        assert_eq!(standings.state(&one, "m", seconds(0)), State::Ready, "{reason:?}");
    }
}

#[test]
fn p95_is_known_after_enough_answers() {
    let (mut standings, one) = (Standings::default(), target("one", 0));
    for _ in 0..18 {
        standings.served("r", &one, "m", Duration::from_millis(100), seconds(8));
    }
    assert_eq!(standings.p95("r", &one), None);
    for _ in 0..2 {
        standings.served("r", &one, "m", Duration::from_millis(900), seconds(8));
    }
    let p95 = standings.p95("r", &one).unwrap();
    assert!(p95 >= Duration::from_millis(900) && p95 < Duration::from_millis(1_300), "{p95:?}");
}

#[test]
fn further_attempts_are_bounded_by_requests_of_the_last_seconds() {
    let (mut standings, model) = (Standings::default(), NamePattern::Exact("m".to_owned()));
    (0..100).for_each(|_| standings.requested("r", &model, seconds(0)));
    let taken = (0..100).filter(|_| standings.repeat("r", &model, 20, seconds(1))).count();
    assert_eq!(taken, 20);
    assert!(!standings.repeat("r", &model, 20, seconds(9)));
    assert!(standings.repeat("r", &model, 20, seconds(40)));
    let few = (0..100).filter(|_| standings.repeat("other", &model, 0, seconds(1))).count();
    assert_eq!(few, 10);
}

#[test]
fn what_is_looked_for_has_the_hash_of_what_is_kept() {
    let (state, one) = (RandomState::new(), target("one", 0));
    let mut keyless = one.clone();
    keyless.credential = None;
    for target in [&one, &keyless] {
        for part in parts(target, "m") {
            assert_eq!(state.hash_one(part), state.hash_one(part.kept()), "{part:?}");
        }
    }
}
