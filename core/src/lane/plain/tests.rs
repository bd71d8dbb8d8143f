//! When a call without label is the pod's own work.

use super::*;
use crate::lane::trace::TraceId;

const LINGER: Duration = Duration::from_secs(60);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn traced(id: u128) -> TraceIds {
    let mut ids = TraceIds::default();
    ids.add(TraceId::new(id).unwrap());
    ids
}

#[test]
fn own_lane_fills_unless_a_request_without_label_is_near() {
    let none = TraceIds::default();
    // Begin and end of one request without label, the moment of the call, and what is decided.
    let cases = [
        (None, None, 0.0, OwnLane::Fills),
        (Some(10.0), None, 10.0, OwnLane::InFlight),
        (Some(10.0), None, 39.9, OwnLane::InFlight),
        (Some(10.0), None, 40.0, OwnLane::Fills),
        (Some(10.0), Some(10.1), 10.1, OwnLane::JustEnded),
        (Some(10.0), Some(10.1), 11.0, OwnLane::JustEnded),
        (Some(10.0), Some(10.1), 11.1, OwnLane::Fills),
        (Some(10.0), Some(50.0), 50.5, OwnLane::JustEnded),
        (Some(10.0), Some(50.0), 51.0, OwnLane::Fills),
    ];
    for (began, ended, now, expected) in cases {
        let mut plain = Plain::new(RandomState::new());
        let ticket = began.map(|began| plain.begin(&none, seconds(began)));
        if let (Some(ticket), Some(ended)) = (ticket, ended) {
            plain.end(ticket, &none, LINGER, seconds(ended));
        }
        assert_eq!(plain.own_lane(&none, seconds(now)), expected, "{began:?} to {ended:?}, call at {now}");
    }
}

#[test]
fn call_with_the_trace_of_a_request_without_label_belongs_to_it_until_the_linger_is_over() {
    let mut plain = Plain::new(RandomState::new());
    assert!(!plain.has_traces());
    let ticket = plain.begin(&traced(7), seconds(0.0));
    assert_eq!(plain.own_lane(&traced(7), seconds(100.0)), OwnLane::OtherTrace, "it still is in flight");
    plain.end(ticket, &traced(7), LINGER, seconds(100.0));
    assert_eq!(plain.own_lane(&traced(7), seconds(159.0)), OwnLane::OtherTrace);
    assert_eq!(plain.own_lane(&traced(8), seconds(159.0)), OwnLane::Fills);
    assert_eq!(plain.own_lane(&traced(7), seconds(161.0)), OwnLane::Fills);
}

#[test]
fn peer_that_calls_now_and_then_without_label_keeps_the_own_lane_away_for_a_second_each_time() {
    let (mut plain, none) = (Plain::new(RandomState::new()), TraceIds::default());
    let mut filled = 0;
    for step in 0..5_000 {
        let now = Duration::from_millis(step * 10);
        // A request of 20 ms every 5 s.
        if step % 500 == 0 {
            let ticket = plain.begin(&none, now);
            plain.end(ticket, &none, LINGER, now + Duration::from_millis(20));
        }
        filled += u64::from(plain.own_lane(&none, now) == OwnLane::Fills);
    }
    assert_eq!(filled, 5_000 - 10 * 102);
}

#[test]
fn requests_that_were_missed_count_as_just_ended() {
    let mut plain = Plain::new(RandomState::new());
    plain.missed(seconds(5.0));
    assert_eq!(plain.own_lane(&TraceIds::default(), seconds(5.9)), OwnLane::JustEnded);
    assert_eq!(plain.own_lane(&TraceIds::default(), seconds(6.0)), OwnLane::Fills);
}

/// Against a list of all requests, with random beginnings and ends.
#[test]
fn decision_is_that_of_the_whole_history_whatever_came_in_which_order() {
    let mut random = 1_u64;
    let mut draw = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let (mut plain, none) = (Plain::new(RandomState::new()), TraceIds::default());
    let mut history: Vec<(Ticket, Duration, Option<Duration>)> = Vec::new();
    let mut now = Duration::ZERO;
    let mut seen = [0; 3];
    for _ in 0..5_000 {
        let longest = if draw(50) == 0 { 60_000 } else { 400 };
        now += Duration::from_millis(draw(longest));
        match draw(4) {
            0 => history.push((plain.begin(&none, now), now, None)),
            1 => {
                let open: Vec<usize> = (0..history.len()).filter(|at| history[*at].2.is_none()).collect();
                if !open.is_empty() {
                    let one = &mut history[open[draw(open.len() as u64) as usize]];
                    one.2 = Some(now);
                    plain.end(one.0, &none, LINGER, now);
                }
            }
            2 => plain.sweep(now),
            _ => {}
        }
        let expected = if history.iter().any(|(_, began, ended)| ended.is_none() && now < *began + YOUNG) {
            OwnLane::InFlight
        } else if history.iter().any(|(_, _, ended)| ended.is_some_and(|ended| now < ended + QUIET)) {
            OwnLane::JustEnded
        } else {
            OwnLane::Fills
        };
        assert_eq!(plain.own_lane(&none, now), expected, "at {now:?}");
        seen[match expected {
            OwnLane::InFlight => 0,
            OwnLane::JustEnded => 1,
            OwnLane::Fills | OwnLane::OtherTrace => 2,
        }] += 1;
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut plain = Plain::new(RandomState::new());
    for number in 0..100_000_u32 {
        plain.begin(&traced(u128::from(number) + 1), Duration::from_millis(u64::from(number)));
    }
    assert!(plain.in_flight.len() <= 30_000, "{}", plain.in_flight.len());
    assert!(plain.traces.len() <= TRACES, "{}", plain.traces.len());
}
