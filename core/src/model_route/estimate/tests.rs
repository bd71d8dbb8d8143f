//! What is estimated before and after something was learned.

use proptest::prelude::*;

use super::*;

fn sample(input_bytes: u64, input: u64, output_bytes: u64, output: u64) -> Sample {
    Sample { input_bytes, input, output_bytes, output }
}

#[test]
fn four_bytes_are_a_token_until_something_is_learned() {
    let estimates = Estimates::default();
    assert_eq!(estimates.estimate_input("m", 0), 0);
    assert_eq!(estimates.estimate_input("m", 1), 1);
    assert_eq!(estimates.estimate_written("m", 400), 100);
    assert_eq!(estimates.estimate_output("m", None), UNKNOWN_OUTPUT);
    assert_eq!(estimates.estimate_output("m", Some(20)), 20);
}

#[test]
fn ratios_are_learned_by_model_and_direction_and_follow_a_change() {
    let mut estimates = Estimates::default();
    for _ in 0..100 {
        estimates.learn("chinese", sample(2_000, 1_000, 6_000, 1_000));
    }
    assert_eq!(estimates.estimate_input("chinese", 2_000), 1_000);
    assert!((999..=1_001).contains(&estimates.estimate_written("chinese", 6_000)));
    assert_eq!(estimates.estimate_input("other", 2_000), 500);
    for _ in 0..100 {
        estimates.learn("chinese", sample(5_000, 1_000, 6_000, 1_000));
    }
    assert!((999..=1_001).contains(&estimates.estimate_input("chinese", 5_000)));
}

#[test]
fn images_and_tiny_answers_do_not_spoil_a_ratio() {
    let mut ratio = Ratio::default();
    ratio.learn(10_000, LEAST_TOKENS - 1);
    assert_eq!(ratio, Ratio::default());
    for _ in 0..1_000 {
        ratio.learn(10_000_000, 1_000);
    }
    assert!(ratio.bytes_per_token() <= MOST_BYTES);
    for _ in 0..1_000 {
        ratio.learn(0, 1_000);
    }
    assert!(ratio.bytes_per_token() >= LEAST_BYTES);
}

#[test]
fn nine_of_ten_answers_are_no_longer_than_the_estimate() {
    let mut estimates = Estimates::default();
    for length in 1..=1_000 {
        estimates.learn("m", sample(100, 25, 4 * length, length));
    }
    let estimate = estimates.estimate_output("m", None);
    assert!((900..=1_080).contains(&estimate), "{estimate}");
    assert_eq!(estimates.estimate_output("m", Some(64)), 64);
}

#[test]
fn old_lengths_fade() {
    let mut lengths = Lengths::default();
    for tokens in [10_000, 100] {
        for _ in 0..20 * HALVING {
            lengths.learn(tokens);
        }
    }
    assert!(lengths.ninth_tenth().is_some_and(|length| length < 128), "{:?}", lengths.ninth_tenth());
    assert!(lengths.total <= HALVING);
}

#[test]
fn no_more_models_are_remembered_than_allowed() {
    let mut estimates = Estimates::default();
    for model in 0..2 * MODELS_MAX {
        estimates.learn(&format!("m{model}"), sample(1_000, 500, 1_000, 500));
    }
    assert_eq!(estimates.models.len(), MODELS_MAX);
}

proptest! {
    #[test]
    fn a_class_holds_its_lengths_and_is_narrow(tokens in 1..2_000_000_u64) {
        let tokens = tokens.min(1 << 20);
        let longest = longest(class(tokens));
        prop_assert!(longest >= tokens && longest <= tokens + tokens / 4 + 1, "{tokens}: {longest}");
    }
}
