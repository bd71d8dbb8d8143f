//! Limits of one process: windows, keys, all or nothing, fields.

use std::time::Duration;

use super::{ledger::STORES_MAX, *};
use crate::model::model_route::{
    Counted, Dialect, KeyPart, Limit, LimitMode, LimitStore, NamePattern, OnStoreDown, Price, Usage,
};

const MINUTE: Duration = Duration::from_secs(60);

fn limit(of: Counted, amount: u64, window: Duration) -> Limit {
    Limit { of, amount, window, mode: LimitMode::Enforce }
}

fn quota(limits: &[Limit]) -> Quota<'_> {
    let (route, store, on_store_down) = ("chat.demo", &LimitStore::Local, OnStoreDown::Open);
    Quota { route, target: None, limits, store, on_store_down }
}

fn key(name: &str) -> Key {
    Key::of_target("chat.demo", name)
}

fn ask(input: u64, output: u64) -> Ask {
    Ask { input, output, rates: None }
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, cached: 0 }
}

/// Second of the first hour of some day.
fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_800_000_000 / 86_400 * 86_400 + seconds)
}

#[test]
fn limit_is_used_up_and_is_whole_again_in_the_next_window() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Requests, 3, MINUTE)];
    let reserve = |now| ledger.reserve(&quota(&limits), &key("a"), &ask(1, 1), at(now));
    for _ in 0..3 {
        reserve(10).expect("within the limit").settle(&usage(1, 1), None, at(11));
    }
    let refused = reserve(50).expect_err("used up");
    assert_eq!((refused.why, refused.standing.remaining), (Why::Used, 0));
    assert_eq!(refused.standing.reset, Duration::from_secs(10));
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(10)));
    assert_eq!(refused.to_string(), "limit of 3 requests in 60 s is used up: 0 left, 1 asked");
    assert!(reserve(60).is_ok());
}

#[test]
fn key_that_nobody_asked_for_in_many_windows_is_whole_again() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Requests, 1, Duration::from_secs(1))];
    let reserve = |now| ledger.reserve(&quota(&limits), &key("a"), &ask(1, 1), at(now)).is_ok();
    assert_eq!([reserve(0), reserve(0), reserve(68_400), reserve(68_400)], [true, false, true, false]);
}

#[test]
fn keys_count_apart_and_the_same_key_together() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Requests, 1, MINUTE)];
    let reserve = |name| ledger.reserve(&quota(&limits), &key(name), &ask(1, 1), at(0)).is_ok();
    assert_eq!([reserve("a"), reserve("a"), reserve("b")], [true, false, true]);
}

#[test]
fn all_limits_or_none_are_taken() {
    let ledger = Ledger::default();
    let limits = [
        limit(Counted::Input, 100, MINUTE),
        limit(Counted::Concurrent, 5, Duration::ZERO),
        limit(Counted::Output, 10, MINUTE),
    ];
    let reserve = |ask: Ask| ledger.reserve(&quota(&limits), &key("a"), &ask, at(0));
    let refused = reserve(ask(100, 11)).expect_err("more output than there ever is");
    assert_eq!((refused.why, refused.retry_after()), (Why::TooLarge, None));
    let held = reserve(ask(100, 10)).expect("nothing was taken before");
    let remaining: Vec<u64> = held.standings(at(0)).iter().map(|standing| standing.remaining).collect();
    assert_eq!(remaining, [0, 4, 0]);
}

#[test]
fn settling_counts_what_was_used() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Total, 100, MINUTE)];
    let reserve = |ask: Ask, now| ledger.reserve(&quota(&limits), &key("a"), &ask, at(now));
    let left = |now| {
        reserve(ask(0, 0), now).map_or(0, |held| {
            let left = held.standings(at(now))[0].remaining + 1;
            held.cancel();
            left
        })
    };
    reserve(ask(50, 50), 0).expect("fits").settle(&usage(20, 10), None, at(1));
    assert_eq!(left(1), 70);
    reserve(ask(1, 1), 1).expect("fits").settle(&usage(50, 50), None, at(2));
    assert_eq!(left(2), 0);
    reserve(ask(10, 10), 60).expect("a new minute").cancel();
    assert_eq!(left(60), 100);
    drop(reserve(ask(10, 40), 60).expect("fits"));
    assert_eq!(left(61), 50, "what was dropped counts as used");
    let late = reserve(ask(40, 0), 62).expect("fits");
    late.settle(&usage(1, 0), None, at(120));
    assert_eq!(left(120), 100, "nothing comes back into a window that is over");
}

#[test]
fn concurrent_streams_are_given_back_however_they_end() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Concurrent, 2, Duration::ZERO), limit(Counted::Total, u64::MAX, MINUTE)];
    let reserve = || ledger.reserve(&quota(&limits), &key("a"), &ask(1, 1), at(0));
    for round in 0..10_000 {
        let (first, second) = (reserve().expect("free"), reserve().expect("free"));
        let refused = reserve().expect_err("two are under way");
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
        match round % 3 {
            0 => drop(first),
            1 => first.cancel(),
            _ => first.settle(&usage(1, 1), None, at(0)),
        }
        drop(second);
    }
}

#[test]
fn shadow_counts_what_it_would_refuse_and_refuses_nothing() {
    let ledger = Ledger::default();
    let limits = [Limit { mode: LimitMode::Shadow, ..limit(Counted::Requests, 2, MINUTE) }];
    let shadowed: Vec<usize> = (0..4)
        .map(|_| {
            let held = ledger.reserve(&quota(&limits), &key("a"), &ask(1, 1), at(0)).expect("never refuses");
            held.shadowed().len()
        })
        .collect();
    assert_eq!(shadowed, [0, 0, 1, 1]);
}

#[test]
fn what_limits_decided_is_counted_by_limit_and_for_all_keys_together() {
    let ledger = Ledger::default();
    let shadow = Limit { mode: LimitMode::Shadow, ..limit(Counted::Total, 15, MINUTE) };
    let limits = [shadow, limit(Counted::Requests, 1, MINUTE)];
    let reserve = |name: &str, tokens: u64| ledger.reserve(&quota(&limits), &key(name), &ask(tokens, 0), at(0)).is_ok();
    assert_eq!([reserve("a", 10), reserve("a", 10), reserve("b", 20)], [true, false, true]);
    let of_target = Quota { target: Some("t"), ..quota(&limits[1..]) };
    assert!(ledger.reserve(&of_target, &key("t"), &ask(1, 1), at(0)).is_ok());
    let counted: Vec<_> = ledger
        .decisions()
        .iter()
        .map(|one| {
            let of = |decision: &Decision| (decision.as_str(), one.count(*decision));
            let counts: Vec<_> = Decision::ALL.iter().map(of).filter(|(_, count)| *count > 0).collect();
            (one.route.clone(), one.target.clone(), one.limit.clone(), counts)
        })
        .collect();
    let row = |target: &str, limit: &str, counts: &[(&'static str, u64)]| {
        ("chat.demo".to_owned(), target.to_owned(), limit.to_owned(), counts.to_vec())
    };
    let expected = [
        row("", "total/1m/shadow", &[("allowed", 1), ("shadowed", 1)]),
        row("", "requests/1m", &[("allowed", 2), ("used", 1)]),
        row("t", "requests/1m", &[("allowed", 1)]),
    ];
    assert_eq!(counted, expected);
}

#[test]
fn look_says_what_limits_would_say_and_counts_nothing() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Total, 100, MINUTE), limit(Counted::Requests, 1, MINUTE)];
    let look = |tokens: u64| -> Vec<(String, u64, Option<Why>)> {
        let looks = ledger.look(&quota(&limits), &key("a"), &ask(tokens, 0), at(0));
        looks.into_iter().map(|look| (look.name, look.standing.remaining, look.refuses)).collect()
    };
    let row = |name: &str, left, refuses| (name.to_owned(), left, refuses);
    let fresh = [row("total/1m", 100, None), row("requests/1m", 1, None)];
    assert_eq!(look(40), fresh);
    assert_eq!(look(40), fresh, "looking uses nothing");
    assert_eq!(look(101)[0], row("total/1m", 100, Some(Why::TooLarge)));
    let held = ledger.reserve(&quota(&limits), &key("a"), &ask(70, 0), at(0));
    assert_eq!(look(40), [row("total/1m", 30, Some(Why::Used)), row("requests/1m", 0, Some(Why::Used))]);
    drop(held);
    assert_eq!(ledger.decisions().len(), 2);
}

#[test]
fn limits_that_are_counted_apart_are_bounded() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Requests, 1, MINUTE)];
    for number in 0..2_000 {
        let route = format!("route-{number}.demo");
        let of_route = Quota { route: &route, ..quota(&limits) };
        assert!(ledger.reserve(&of_route, &key(&route), &ask(1, 1), at(0)).is_ok());
    }
    let decisions = ledger.decisions();
    let last = decisions.last().expect("some");
    assert_eq!((decisions.len(), last.route.as_str(), last.count(Decision::Allowed)), (1_024, "other", 977));
}

#[test]
fn amounts_change_without_counts_being_lost() {
    let ledger = Ledger::default();
    let reserve = |limits: &[Limit]| ledger.reserve(&quota(limits), &key("a"), &ask(1, 1), at(0)).is_ok();
    let (two, three) = ([limit(Counted::Requests, 2, MINUTE)], [limit(Counted::Requests, 3, MINUTE)]);
    assert_eq!([reserve(&two), reserve(&two), reserve(&two), reserve(&three)], [true, true, false, true]);
    let more = [limit(Counted::Output, 1_000, MINUTE), limit(Counted::Requests, 4, MINUTE)];
    assert_eq!([reserve(&more), reserve(&more)], [true, false], "counts follow the limit to another place");
}

#[test]
fn money_is_counted_by_the_price_of_the_model() {
    let price = |model, input| Price { model, input, cached: input / 10, output: 4 * input };
    let prices = [
        price(NamePattern::Any, 1),
        price(NamePattern::Prefix("big-".into()), 2_500_000),
        price(NamePattern::Exact("big-mini".into()), 150_000),
    ];
    let rates = |model| Rates::of(&prices, model).map(|rates| rates.input);
    assert_eq!([rates("big-1"), rates("big-mini"), rates("x")], [Some(2_500_000), Some(150_000), Some(1)]);
    assert_eq!(Rates::of(&prices[2..], "x"), None);
    let big = Rates::of(&prices, "big-1").expect("priced");
    assert_eq!(big.cost(&Usage { input: 1_000, output: 100, cached: 400 }), 1_500 + 100 + 1_000);
    let ledger = Ledger::default();
    let limits = [limit(Counted::Money, 3_000, MINUTE)];
    let asked = Ask { input: 1_000, output: 50, rates: Some(big) };
    let reserve = || ledger.reserve(&quota(&limits), &key("a"), &asked, at(0));
    let held = reserve().expect("3,000");
    assert!(reserve().is_err());
    held.settle(&usage(0, 0), Some(&big), at(0));
    // What several attempts cost, each at its own rates.
    reserve().expect("all of it came back").settle_at(&usage(1, 1), 2_999, at(0));
    assert!(reserve().is_err());
    let cheap = Ask { input: 0, output: 0, rates: Some(big) };
    assert!(ledger.reserve(&quota(&limits), &key("a"), &cheap, at(0)).is_ok(), "1 is left");
}

#[test]
fn fields_tell_the_tightest_limit_in_the_clients_dialect() {
    let ledger = Ledger::default();
    let limits = [
        limit(Counted::Requests, 60, MINUTE),
        limit(Counted::Requests, 100_000, Duration::from_secs(86_400)),
        limit(Counted::Total, 1_000, MINUTE),
        limit(Counted::Output, 500, Duration::from_secs(3_600)),
        Limit { mode: LimitMode::Shadow, ..limit(Counted::Requests, 1, MINUTE) },
    ];
    let now = at(0) + Duration::from_millis(1_500);
    let held = ledger.reserve(&quota(&limits), &key("a"), &ask(100, 50), now).expect("fits");
    let standings = held.standings(now);
    let expected = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "58.5s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "850"),
        ("x-ratelimit-reset-tokens", "58.5s"),
    ];
    let told = fields(Dialect::Openai, &standings, now);
    assert_eq!(told.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
    let told = fields(Dialect::Anthropic, &standings, now);
    let value = |name: &str| told.iter().find(|(told, _)| *told == name).map(|(_, value)| value.as_str());
    assert_eq!(value("anthropic-ratelimit-requests-remaining"), Some("59"));
    assert_eq!(value("anthropic-ratelimit-tokens-limit"), Some("1000"));
    assert_eq!(value("anthropic-ratelimit-output-tokens-remaining"), Some("450"));
    assert_eq!(value("anthropic-ratelimit-output-tokens-reset"), Some("2027-01-15T01:00:00Z"));
    assert_eq!(value("anthropic-ratelimit-input-tokens-limit"), None);
    assert!(fields(Dialect::Gemini, &standings, now).is_empty());
}

#[test]
fn keys_tell_apart_what_their_parts_say_and_nothing_else() {
    let parts = [KeyPart::Namespace, KeyPart::Header("x-team".into())];
    let caller = |namespace| Caller { namespace: Some(namespace), identity: Some("spiffe://m/ns/x/sa/y"), lane: None };
    let of = |namespace, team: Option<&'static [u8]>| Key::of_caller("r.n", &parts, &caller(namespace), |_| team);
    assert_eq!(of("a", Some(b"t")), of("a", Some(b"t")));
    assert_ne!(of("a", Some(b"t")), of("b", Some(b"t")));
    assert_ne!(of("a", None), of("a", Some(b"")));
    assert_ne!(of("a", Some(b"1;x-team1=2")), of("a;x-team1=1", Some(b"2")));
    assert!(of("a", Some(&[b'x'; 10_000])).as_str().len() < 200);
    assert_eq!(Key::of_caller("r.n", &[], &caller("a"), |_| None), Key::of_caller("r.n", &[], &caller("b"), |_| None));
}

#[test]
fn keys_beyond_the_bound_put_out_those_used_longest_ago() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Requests, 1, Duration::from_secs(86_400))];
    let reserve = |name: &str, now| ledger.reserve(&quota(&limits), &key(name), &ask(1, 1), at(now));
    let held = reserve("open", 0).expect("first");
    for number in 0..3 * KEYS_MAX {
        let _ = reserve(&format!("flood {number}"), 1 + number as u64 / 1_000);
    }
    assert!(ledger.forgotten() as usize >= 2 * KEYS_MAX - KEYS_MAX / 10);
    assert!(reserve("open", 100).is_err(), "what is under way is not forgotten");
    drop(held);
}

#[test]
fn what_is_under_way_is_still_open_when_limits_change() {
    let ledger = Ledger::default();
    let (one, two) = ([limit(Counted::Requests, 5, MINUTE)], [limit(Counted::Total, 100, MINUTE)]);
    let reserve = |limits: &[Limit]| ledger.reserve(&quota(limits), &key("a"), &ask(1, 1), at(0)).expect("fits");
    let open = || -> Vec<u64> {
        let load = |account: &std::sync::Arc<table::Account>| account.open.load(std::sync::atomic::Ordering::SeqCst);
        ledger.table.all().map(|account| load(&account)).collect()
    };
    let held = reserve(&one);
    drop(reserve(&two));
    assert_eq!(open(), [1]);
    drop(held);
    assert_eq!(open(), [0]);
}

#[test]
fn stores_that_nobody_names_make_room() {
    let ledger = Ledger::default();
    let store = |number: usize| {
        let place = LimitStore::Redis { url: format!("redis://{number}"), password: None };
        ledger.store(&Place::of_models(&place, OnStoreDown::Open))
    };
    let has = |store: &std::sync::Arc<Store>| ledger.stores().iter().any(|known| std::sync::Arc::ptr_eq(known, store));
    let first = store(0);
    assert!((1..STORES_MAX).all(|number| has(&store(number))));
    assert!(!has(&store(STORES_MAX)), "there is no room");
    ledger.retain_stores(|store| std::sync::Arc::ptr_eq(store, &first));
    assert!(has(&first) && ledger.stores().len() == 1);
    assert!(has(&store(STORES_MAX)));
}

#[test]
fn many_threads_never_take_more_than_there_is() {
    let ledger = Ledger::default();
    let limits = [limit(Counted::Requests, 10_000, MINUTE), limit(Counted::Concurrent, 3, Duration::ZERO)];
    let taken: u64 = std::thread::scope(|scope| {
        let work = || {
            let mut taken = 0;
            for _ in 0..20_000 {
                if let Ok(held) = ledger.reserve(&quota(&limits), &key("a"), &ask(1, 1), at(0)) {
                    held.settle(&usage(1, 1), None, at(0));
                    taken += 1;
                }
            }
            taken
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(taken, 10_000);
    let held = ledger.reserve(&quota(&limits[1..]), &key("b"), &ask(1, 1), at(0)).expect("free");
    assert_eq!(held.standings(at(0))[0].remaining, 2);
}
