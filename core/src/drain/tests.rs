//! The way down, step by step and at random.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn under_way(ordinary: usize, lasting: usize, last: Duration) -> UnderWay {
    UnderWay { ordinary, lasting, last }
}

/// Begun at 100 s.
fn descent(limits: Limits) -> Descent {
    Descent::begin(limits, SECOND * 100).0
}

/// Steps at this time after the order.
fn steps(descent: &mut Descent, after: Duration, under_way: UnderWay, application: Application) -> Vec<(Stage, Why)> {
    std::iter::from_fn(|| descent.advance(SECOND * 100 + after, under_way, application))
        .map(|step| (step.stage, step.why))
        .collect()
}

#[test]
fn idle_proxy_takes_new_exchanges_until_the_floor_and_serves_the_application_until_it_is_gone() {
    let mut descent = descent(Limits::default());
    let idle = under_way(0, 0, Duration::ZERO);
    assert_eq!(steps(&mut descent, SECOND * 4, idle, Application::Alive), []);
    let expected = [(Stage::Sessions, Why::Quiet), (Stage::Closing, Why::NothingInbound)];
    assert_eq!(steps(&mut descent, SECOND * 5, idle, Application::Alive), expected);
    // What was sent before the listener was closed has a moment to arrive.
    assert_eq!(steps(&mut descent, SECOND * 5 + SECOND / 2, idle, Application::Alive), []);
    let expected = [(Stage::Outbound, Why::NothingInbound)];
    assert_eq!(steps(&mut descent, SECOND * 6, idle, Application::Alive), expected);
    assert_eq!(steps(&mut descent, SECOND * 20, idle, Application::Alive), []);
    assert_eq!(steps(&mut descent, SECOND * 21, idle, Application::Gone), [(Stage::Done, Why::ApplicationGone)]);
    assert_eq!(descent.next(), None);
}

#[test]
fn exchanges_are_waited_for_until_websockets_must_be_told_and_streams_ended() {
    let mut descent = descent(Limits::default());
    let busy = under_way(1, 2, SECOND * 100);
    assert_eq!(steps(&mut descent, SECOND * 14, busy, Application::Alive), []);
    assert_eq!(descent.next(), Some(SECOND * 115));
    assert_eq!(steps(&mut descent, SECOND * 15, busy, Application::Alive), [(Stage::Sessions, Why::TooLong)]);
    assert_eq!(descent.next(), Some(SECOND * 120));
    assert_eq!(steps(&mut descent, SECOND * 20, busy, Application::Alive), [(Stage::Streams, Why::StreamsDue)]);
    assert_eq!(descent.next(), Some(SECOND * 124));
    assert_eq!(steps(&mut descent, SECOND * 24, busy, Application::Alive), [(Stage::Closing, Why::TooLong)]);
    assert_eq!(descent.next(), Some(SECOND * 128));
    let expected = [(Stage::Outbound, Why::TimeOver), (Stage::Done, Why::TimeOver)];
    assert_eq!(steps(&mut descent, SECOND * 28, busy, Application::Alive), expected);
}

#[test]
fn callers_that_go_on_calling_are_served_although_there_are_moments_without_exchange() {
    let mut descent = descent(Limits::default());
    let just_ended = |after: u32| under_way(0, 0, SECOND * (100 + after) - SECOND / 2);
    for after in 5..15 {
        assert_eq!(steps(&mut descent, SECOND * after, just_ended(after), Application::Alive), []);
    }
    assert_eq!(steps(&mut descent, SECOND * 15, just_ended(15), Application::Alive), [(Stage::Sessions, Why::TooLong)]);
    assert_eq!(steps(&mut descent, SECOND * 19, just_ended(19), Application::Alive), []);
    // They were told long enough. What is under way is finished.
    let calling = under_way(1, 0, SECOND * 119);
    let expected = [(Stage::Streams, Why::StreamsDue), (Stage::Closing, Why::StreamsEnded)];
    assert_eq!(steps(&mut descent, SECOND * 20, calling, Application::Alive), expected);
    assert_eq!(steps(&mut descent, SECOND * 21, calling, Application::Alive), []);
    assert_eq!(steps(&mut descent, SECOND * 22, just_ended(22), Application::Alive), []);
    let expected = [(Stage::Outbound, Why::NothingInbound)];
    assert_eq!(steps(&mut descent, SECOND * 23, just_ended(22), Application::Alive), expected);
}

#[test]
fn what_lasts_does_not_keep_websockets_from_being_told() {
    let mut descent = descent(Limits::default());
    let lasting = under_way(0, 3, Duration::ZERO);
    assert_eq!(steps(&mut descent, SECOND * 5, lasting, Application::Alive), [(Stage::Sessions, Why::Quiet)]);
    assert_eq!(steps(&mut descent, SECOND * 19, lasting, Application::Alive), []);
}

#[test]
fn application_that_has_ended_is_not_waited_for() {
    let mut descent = descent(Limits::default());
    let expected = [
        (Stage::Closing, Why::ApplicationGone),
        (Stage::Outbound, Why::NothingInbound),
        (Stage::Done, Why::ApplicationGone),
    ];
    assert_eq!(steps(&mut descent, Duration::ZERO, under_way(0, 0, Duration::ZERO), Application::Gone), expected);
}

#[test]
fn instance_is_said_to_drain_by_the_header_and_not_to_have_taken_a_request_by_the_error_besides() {
    let cases: [(&[(&str, &str)], Told); 4] = [
        (&[], Told::Nothing),
        (&[("x-mesh-error", "connect_failed")], Told::Nothing),
        (&[("x-mesh-draining", "1")], Told::Draining),
        (&[("x-mesh-draining", "1"), ("x-mesh-error", "connect_failed")], Told::NotTaken),
    ];
    for (fields, expected) in cases {
        assert_eq!(told(&fields), expected, "{fields:?}");
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let milliseconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    (milliseconds(0..100_000), milliseconds(0..100_000), milliseconds(0..100_000), milliseconds(0..100_000))
        .prop_map(|(grace, floor, window, streams)| Limits { grace, floor, window, streams })
}

proptest! {
    #[test]
    fn whatever_happens_stages_come_in_order_and_the_end_comes_in_time(
        limits in limits(),
        seen in proptest::collection::vec((0_u64..3_000, 0_usize..3, 0_usize..3, any::<bool>()), 1..80),
    ) {
        let (mut descent, first) = Descent::begin(limits, SECOND);
        prop_assert_eq!(first.stage, Stage::Leaving);
        let (mut now, mut last, mut stage) = (SECOND, SECOND, first.stage);
        for (pause, ordinary, lasting, gone) in seen {
            now += Duration::from_millis(pause);
            if ordinary > 0 {
                last = now;
            }
            let application = if gone { Application::Gone } else { Application::Alive };
            while let Some(step) = descent.advance(now, under_way(ordinary, lasting, last), application) {
                prop_assert!(step.stage > stage);
                stage = step.stage;
                let passed = now - SECOND;
                // Nothing is closed before its time, unless there is nobody left to serve, and nothing is cut before the end.
                if step.stage == Stage::Sessions {
                    prop_assert!(passed >= limits.floor());
                }
                if step.stage == Stage::Streams {
                    prop_assert!(passed >= limits.streams());
                }
                if step.stage == Stage::Outbound && step.why != Why::TimeOver {
                    prop_assert_eq!((ordinary, lasting), (0, 0));
                }
            }
            if now >= descent.end() {
                prop_assert_eq!(descent.stage(), Stage::Done);
            }
            if let Some(next) = descent.next() {
                prop_assert!(next > now || descent.stage() == Stage::Leaving, "{:?} {:?}", descent, now);
                prop_assert!(next <= descent.end());
            }
        }
        let grace = limits.grace;
        prop_assert!(limits.end() <= grace);
    }

    #[test]
    fn turns_are_spread_over_the_window(length in 0_u64..100_000, random in any::<u64>()) {
        let length = Duration::from_millis(length);
        prop_assert!(turn(length, random) <= length);
        prop_assert_eq!(turn(length, 0), Duration::ZERO);
        prop_assert!(turn(length, u64::MAX) >= length.mul_f64(0.999));
    }
}
