//! Windows against the list of all calls, verdicts against the formula.

use proptest::prelude::*;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn calls(made: u32, succeeded: u32) -> Calls {
    Calls { made, succeeded }
}

proptest! {
    #[test]
    fn window_counts_what_the_list_of_its_last_ten_seconds_counts(
        history in prop::collection::vec((0..4_000_u32, any::<bool>()), 1..300),
        wait in 0..15_000_u32,
    ) {
        let (mut window, mut list, mut now) = (Window::default(), Vec::new(), Duration::ZERO);
        for (passed, succeeds) in history {
            now += MILLISECOND * passed;
            window.count(now, if succeeds { Seen::Success } else { Seen::ServerError });
            list.push((now.as_secs(), succeeds));
        }
        now += MILLISECOND * wait;
        // The part under way and the nine before it.
        let latest: Vec<_> = list.iter().filter(|(second, _)| second + 10 > now.as_secs()).collect();
        let succeeded = latest.iter().filter(|(_, succeeds)| *succeeds).count();
        prop_assert_eq!(window.calls(now), calls(latest.len() as u32, succeeded as u32));
    }

    #[test]
    fn those_below_the_mean_less_some_deviations_are_behind_the_worst_first(
        counts in prop::collection::vec((0..400_u32, 0..=100_u32), 0..20),
        hosts in 1..8_u32,
        volume in 1..200_u32,
        factor in 100..4_000_u32,
    ) {
        let calls: Vec<Calls> = counts.iter().map(|(made, percent)| calls(*made, made * percent / 100)).collect();
        let policy = SuccessRate { minimum_hosts: hosts, request_volume: volume, standard_deviation_factor: factor };
        let judged: Vec<f64> = calls.iter().filter(|calls| calls.made >= volume).map(|calls| calls.rate()).collect();
        let Some(verdict) = judge(&calls, &policy) else {
            prop_assert!(judged.len() < hosts as usize || judged.is_empty());
            return Ok(());
        };
        prop_assert!(judged.len() >= hosts as usize);
        let n = judged.len() as f64;
        let mean = judged.iter().sum::<f64>() / n;
        // By moments, where the code sums squares of differences.
        let variance = (judged.iter().map(|rate| rate * rate).sum::<f64>() / n - mean * mean).max(0.0);
        let threshold = mean - variance.sqrt() * f64::from(factor) / 1_000.0;
        prop_assert!((verdict.mean - mean).abs() < 1e-9 && (verdict.threshold - threshold).abs() < 1e-6);
        let rates: Vec<f64> = verdict.behind.iter().map(|at| calls[*at].rate()).collect();
        prop_assert!(rates.is_sorted());
        prop_assert!(verdict.behind.iter().all(|at| calls[*at].made >= volume && calls[*at].rate() < threshold + 1e-6));
        let others = (0..calls.len()).filter(|at| !verdict.behind.contains(at) && calls[*at].made >= volume);
        prop_assert!(others.into_iter().all(|at| calls[at].rate() > threshold - 1e-6));
        prop_assert!(verdict.behind.len() < judged.len());
    }
}

#[test]
fn one_of_ten_that_fails_half_of_its_calls_is_behind_and_equal_ones_never_are() {
    let policy = SuccessRate::default();
    let mut level = vec![calls(1_000, 990); 9];
    level.push(calls(1_000, 500));
    assert_eq!(judge(&level, &policy).unwrap().behind, [9]);
    for succeeded in [0, 1, 100, 333, 999, 1_000] {
        let alike = vec![calls(1_000, succeeded); 7];
        assert_eq!(judge(&alike, &policy).unwrap().behind, [0_usize; 0], "{succeeded}");
    }
}

#[test]
fn nobody_is_judged_where_too_few_had_calls_enough() {
    let policy = SuccessRate::default();
    let few: Vec<Calls> = (0..4).map(|_| calls(1_000, 990)).chain([calls(99, 0)]).collect();
    assert_eq!(judge(&few, &policy), None);
    assert_eq!(judge(&[], &SuccessRate { minimum_hosts: 1, ..policy }), None);
}
