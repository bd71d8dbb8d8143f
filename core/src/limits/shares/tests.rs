//! Shares add up to the amount at most, and sharers have most of it.

use proptest::prelude::*;

use super::*;

fn shares(proxies: u64, sharers: u64, part: Part) -> Shares {
    Shares { proxies, sharers, part }
}

proptest! {
    #[test]
    fn shares_of_all_proxies_are_no_more_than_the_amount(
        amount in 0..(1u64 << 48),
        proxies in 1..2_000u64,
        sharing in 0..2_000u64,
    ) {
        let sharers = sharing.min(proxies);
        let (idle, sharing) = (shares(proxies, sharers, Part::Idle), shares(proxies, sharers, Part::Sharing));
        let sum = |idle: u64, sharing: u64| (proxies - sharers) * idle + sharers * sharing;
        prop_assert!(sum(idle.of_window(amount), sharing.of_window(amount)) <= amount);
        prop_assert!(sum(idle.of_key(amount), sharing.of_key(amount)) <= amount);
        // Who shares is counted: without sharers nobody has such a part.
        prop_assert!(sharers == 0 || sharing.of_key(amount) <= sharing.of_window(amount));
        prop_assert!(idle.of_key(amount) <= idle.of_window(amount));
        let asking = shares(proxies, sharers, Part::Asking);
        prop_assert_eq!(asking.of_window(amount), idle.of_window(amount), "not before all others know");
    }
}

#[test]
fn sharers_have_what_idle_proxies_do_not_need() {
    let rows = [
        ((3, 3, Part::Sharing), 300, 187),
        ((3, 0, Part::Idle), 300, 150),
        ((100, 0, Part::Idle), 9, 4),
        ((100, 3, Part::Sharing), 227, 114),
        ((100, 1, Part::Sharing), 677, 677),
        ((100, 3, Part::Idle), 2, 2),
        ((1, 1, Part::Sharing), 900, 900),
        ((0, 0, Part::Idle), 0, 0),
    ];
    for ((proxies, sharers, part), of_window, of_key) in rows {
        let shares = shares(proxies, sharers, part);
        assert_eq!((shares.of_window(900), shares.of_key(900)), (of_window, of_key), "{shares:?}");
    }
}
