//! What is counted of calls to models, by label.

use super::*;

const LABELS: ModelLabels<'static> = ModelLabels {
    route: "chat.ai",
    model: "chat",
    target: "a",
    target_model: "m",
    provider: "openai",
    operation: "chat",
    lane: "",
};

fn attempted(ended: Ended) -> Attempted {
    let usage = Usage { input: 100, output: 11, cached: 0 };
    Attempted {
        usage: Some((usage, UsageSource::Reported)),
        money: 7,
        ended,
        rested: false,
        served: true,
        first_chunk: Some(Duration::from_millis(100)),
        first_token: Some(Duration::from_millis(300)),
        took: Duration::from_millis(1_300),
    }
}

fn counted(distribution: &Distribution) -> u64 {
    distribution.classes.iter().map(Count::get).sum()
}

#[test]
fn whole_streams_tell_their_times_and_the_mean_between_tokens() {
    let series = ModelSeries::new(LABELS.owned());
    series.count(&attempted(Ended::Whole));
    assert_eq!((series.served.get(), series.money.get()), (1, 7));
    assert_eq!(series.first_chunk.sum.get(), 100_000);
    assert_eq!(series.first_token.sum.get(), 300_000);
    assert_eq!(series.per_token.sum.get(), 100_000, "a second for ten tokens behind the first");
    assert_eq!(series.took(Ended::Whole).map(|took| took.sum.get()), Some(1_300_000));
    assert!(series.took(Ended::GivenUp).is_none(), "what never happened takes no room");
}

#[test]
fn failures_have_durations_of_their_own_and_none_per_token() {
    let series = ModelSeries::new(LABELS.owned());
    series.count(&Attempted { rested: true, ..attempted(Ended::Failed(Reason::Rate)) });
    series.count(&attempted(Ended::Failed(Reason::Stall)));
    assert_eq!((series.served.get(), counted(&series.first_token), counted(&series.per_token)), (0, 0, 0));
    assert_eq!((series.failed[place(Reason::Rate)].get(), series.rested[place(Reason::Rate)].get()), (1, 1));
    assert_eq!((series.failed[place(Reason::Stall)].get(), series.rested[place(Reason::Stall)].get()), (1, 0));
    assert_eq!(series.took(Ended::Failed(Reason::Stall)).map(counted), Some(1));
    assert!(series.took(Ended::Whole).is_none());
}

#[test]
fn answers_in_one_piece_and_of_one_token_have_no_time_between_tokens() {
    let series = ModelSeries::new(LABELS.owned());
    let one = Usage { input: 1, output: 1, cached: 0 };
    series.count(&Attempted { usage: Some((one, UsageSource::Reported)), ..attempted(Ended::Whole) });
    series.count(&Attempted { first_chunk: None, first_token: None, ..attempted(Ended::Whole) });
    assert_eq!((series.served.get(), counted(&series.per_token), counted(&series.first_token)), (2, 0, 1));
}

#[test]
fn attempt_that_was_given_up_before_it_showed_anything_neither_served_nor_failed() {
    let series = ModelSeries::new(LABELS.owned());
    series.count(&Attempted { served: false, usage: None, first_token: None, ..attempted(Ended::GivenUp) });
    assert_eq!(series.served.get(), 0);
    assert!(series.failed.iter().all(|count| count.get() == 0));
    assert_eq!(series.took(Ended::GivenUp).map(counted), Some(1));
}

#[test]
fn every_end_has_a_place_and_a_word_of_its_own() {
    let places: Vec<usize> = Ended::all().map(Ended::place).collect();
    assert_eq!(places, (0..2 + Reason::ALL.len()).collect::<Vec<_>>());
    let words: std::collections::BTreeSet<&str> = Ended::all().map(Ended::error_type).collect();
    assert_eq!(words.len(), places.len());
}

#[test]
fn series_are_found_again_and_those_beyond_the_bound_share_one() {
    let metrics = ModelMetrics::default();
    let first = metrics.of(LABELS);
    assert!(Arc::ptr_eq(&first, &metrics.of(LABELS)));
    assert!(!Arc::ptr_eq(&first, &metrics.of(ModelLabels { lane: "canary", ..LABELS })));
    for number in 0..SERIES_MAX + 10 {
        let model = number.to_string();
        metrics.of(ModelLabels { model: &model, target: "other", ..LABELS }).count(&attempted(Ended::Whole));
    }
    assert!(metrics.series().len() <= SERIES_MAX);
    let counted: u64 = metrics.series().iter().map(|series| series.served.get()).sum();
    assert_eq!(counted, (SERIES_MAX + 10) as u64);
}
