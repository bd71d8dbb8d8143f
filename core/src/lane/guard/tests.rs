//! Verdicts and windows of guards.

use super::*;
use crate::model::lane::LaneRef;

fn guard(min_requests: u64, errors: Option<f64>, latency: Option<f64>) -> Guard {
    Guard { window: Duration::from_secs(60), min_requests, max_error_ratio: errors, max_latency_factor: latency }
}

fn tally(requests: u64, failures: u64, bucket: usize) -> Tally {
    let mut tally = Tally { requests, failures, ..Tally::default() };
    tally.latency[bucket] = requests;
    tally
}

#[test]
fn lane_is_judged_by_the_difference_to_baseline_with_enough_requests() {
    let guard = guard(50, Some(0.05), Some(3.0));
    let cases = [
        ("too few", tally(49, 49, 3), tally(1_000, 0, 3), "too_few"),
        ("as bad as baseline", tally(100, 30, 3), tally(1_000, 300, 3), "well"),
        ("five percent more is allowed", tally(100, 35, 3), tally(1_000, 300, 3), "well"),
        ("six percent more is not", tally(100, 36, 3), tally(1_000, 300, 3), "errors"),
        ("no baseline counts as no failure", tally(100, 6, 3), Tally::default(), "errors"),
        ("slower within the factor", tally(100, 0, 4), tally(1_000, 0, 3), "well"),
        ("slower than the factor", tally(100, 0, 5), tally(1_000, 0, 3), "latency"),
        ("latency without enough of baseline", tally(100, 0, 9), tally(10, 0, 3), "well"),
    ];
    for (case, lane, baseline, expected) in cases {
        let verdict = judge(&guard, &lane, &baseline);
        assert_eq!(verdict.label(), expected, "{case}: {verdict}");
        assert_eq!(verdict.is_breach(), matches!(expected, "errors" | "latency"), "{case}");
    }
}

#[test]
fn limits_that_are_not_given_judge_nothing() {
    let bad = tally(100, 100, 15);
    assert_eq!(judge(&guard(1, None, Some(2.0)), &bad, &Tally::default()), Verdict::Well);
    assert_eq!(judge(&guard(1, Some(1.0), None), &bad, &tally(100, 0, 0)), Verdict::Well);
}

#[test]
fn percentile_lies_in_the_bucket_of_the_slowest_hundredth() {
    let mut mixed = tally(990, 0, 2);
    let fast = mixed.percentile_99().unwrap();
    assert!(fast > Duration::from_millis(2) && fast <= Duration::from_micros(2_500), "{fast:?}");
    mixed.add(&tally(1_000, 0, 8));
    let slow = mixed.percentile_99().unwrap();
    assert!(slow > Duration::from_millis(100) && slow <= Duration::from_millis(250), "{slow:?}");
    assert_eq!(Tally::default().percentile_99(), None);
}

fn lane(text: &str) -> LaneRef {
    text.parse().unwrap()
}

#[test]
fn window_slides_and_counts_baseline_only_where_the_lane_served() {
    let mut windows = Windows::default();
    let canary = lane("shop/canary");
    windows.note("b.demo", Some(&canary), &tally(10, 1, 0), 100_000);
    windows.note("b.demo", None, &tally(100, 2, 0), 100_000);
    windows.note("c.demo", None, &tally(1_000, 3, 0), 100_000);
    windows.note("b.demo", Some(&canary), &tally(5, 0, 0), 130_000);
    let of = |windows: &Windows, from| {
        let (lane, baseline) = windows.compare(&canary, from);
        (lane.requests, lane.failures, baseline.requests)
    };
    assert_eq!(of(&windows, 0), (15, 1, 100));
    assert_eq!(of(&windows, 100_001), (5, 0, 0));
    windows.forget(100_000 + 121_000);
    assert_eq!((of(&windows, 0), windows.rows()), ((5, 0, 0), 1));
}

#[test]
fn windows_are_bounded_in_time_and_levels() {
    let mut windows = Windows::default();
    windows.keep([Duration::from_secs(3_600)]);
    for now in 0..7_200 {
        windows.note("b.demo", None, &tally(1, 0, 0), now * 1_000);
    }
    let (canary, one) = (lane("shop/canary"), tally(1, 0, 0));
    windows.note("b.demo", Some(&canary), &one, 7_200_000);
    assert_eq!(windows.compare(&canary, 0).1.requests, 7_200);
    for number in 0..ROWS_MAX {
        windows.note(&format!("s{number}.demo"), None, &one, 7_200_000);
    }
    assert_eq!(windows.rows(), ROWS_MAX);
    assert!(!windows.note("more.demo", None, &one, 7_200_000));
    assert!(windows.note("b.demo", None, &one, 7_200_000));
}
