//! Who probes what: few move, the load is even, and the word of most counts.

use std::collections::{BTreeMap, BTreeSet};

use ProbeResult::{Failed, Succeeded};
use proptest::prelude::*;

use super::*;

fn instance(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    ([10, 1, high, low], 8_080).into()
}

fn callers(numbers: &BTreeSet<u32>) -> Vec<Prober<u32>> {
    numbers.iter().map(|number| Prober::named(&format!("demo/a-{number}"), *number)).collect()
}

fn chosen(numbers: &BTreeSet<u32>, at: u16, count: usize) -> BTreeSet<u32> {
    probers(instance(at), callers(numbers), count).into_iter().collect()
}

proptest! {
    #[test]
    fn as_many_as_are_wanted_probe_and_never_one_twice(
        numbers in prop::collection::btree_set(0_u32..500, 0..60), at: u16, count in 0_usize..6,
    ) {
        let found = probers(instance(at), callers(&numbers), count);
        prop_assert_eq!(found.len(), count.min(numbers.len()));
        prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
        prop_assert!(found.iter().all(|number| numbers.contains(number)));
    }

    #[test]
    fn order_in_which_callers_are_told_does_not_matter(
        numbers in prop::collection::btree_set(0_u32..500, 0..60), at: u16, count in 0_usize..6,
    ) {
        let backwards = callers(&numbers).into_iter().rev();
        prop_assert_eq!(probers(instance(at), callers(&numbers), count), probers(instance(at), backwards, count));
    }

    #[test]
    fn caller_that_goes_hands_over_only_what_it_had(
        numbers in prop::collection::btree_set(0_u32..500, 1..60), at: u16, count in 1_usize..6, which: prop::sample::Index,
    ) {
        let gone = *which.get(&numbers.iter().copied().collect::<Vec<_>>());
        let rest: BTreeSet<u32> = numbers.iter().copied().filter(|number| *number != gone).collect();
        let (before, after) = (chosen(&numbers, at, count), chosen(&rest, at, count));
        let stayed: BTreeSet<u32> = before.iter().copied().filter(|number| *number != gone).collect();
        prop_assert!(stayed.is_subset(&after), "{before:?} without {gone} became {after:?}");
        if !before.contains(&gone) {
            prop_assert_eq!(before, after);
        }
    }
}

#[test]
fn every_caller_has_about_the_same_number_of_instances() {
    const CALLERS: u32 = 20;
    const INSTANCES: u16 = 2_000;
    let numbers: BTreeSet<u32> = (0..CALLERS).collect();
    let mut load: BTreeMap<u32, u32> = BTreeMap::new();
    for at in 0..INSTANCES {
        for number in chosen(&numbers, at, 3) {
            *load.entry(number).or_default() += 1;
        }
    }
    // 300 on average; chance spreads that by 16.
    for number in numbers {
        let has = load.get(&number).copied().unwrap_or_default();
        assert!((225..=375).contains(&has), "{number} has {has} of 300");
    }
}

#[test]
fn word_of_most_counts_and_a_tie_changes_nothing() {
    for (before, said, expected) in [
        (None, &[][..], None),
        (None, &[Failed], Some(Failed)),
        (None, &[Failed, Succeeded], Some(Succeeded)),
        (Some(Succeeded), &[], Some(Succeeded)),
        (Some(Failed), &[], Some(Failed)),
        (Some(Succeeded), &[Failed], Some(Failed)),
        (Some(Failed), &[Succeeded], Some(Succeeded)),
        (Some(Succeeded), &[Failed, Succeeded], Some(Succeeded)),
        (Some(Failed), &[Failed, Succeeded], Some(Failed)),
        (Some(Succeeded), &[Failed, Succeeded, Failed], Some(Failed)),
        (Some(Failed), &[Failed, Succeeded, Succeeded], Some(Succeeded)),
    ] {
        assert_eq!(verdict(before, said.iter().copied()), expected, "{before:?} {said:?}");
    }
}
