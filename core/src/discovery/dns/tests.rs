//! Tests of what answers come to.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ip(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

fn ip6(number: u16) -> IpAddr {
    [0xfd00, 0, 0, 0, 0, 0, 0, number].into()
}

fn records(numbers: &[u8], seconds: u64) -> Answer<IpAddr> {
    Answer::Records { records: numbers.iter().copied().map(ip).collect(), ttl: SECOND * seconds as u32 }
}

const NOTHING: Answer<IpAddr> = Answer::Nothing { ttl: None };

fn host(v4: Answer<IpAddr>) -> Answered {
    Answered::Host(Addresses { v4, v6: NOTHING })
}

fn failed() -> Answer<IpAddr> {
    Answer::Failed("SERVFAIL".to_owned())
}

fn places(known: &Known) -> Vec<String> {
    let text = |place: &Place| match place.port {
        Some(port) => format!("{} {}", SocketAddr::new(place.ip, port), place.weight),
        None => place.ip.to_string(),
    };
    known.places().iter().map(text).collect()
}

#[test]
fn a_name_is_asked_for_again_when_its_ttl_is_over_within_bounds() {
    for (ttl, least, most) in [(0, 1.0, 1.1), (1, 1.0, 1.1), (60, 60.0, 66.0), (86_400, 300.0, 330.0)] {
        for random in [0, u64::MAX / 2, u64::MAX] {
            let next = Known::default().take(&host(records(&[1], ttl)), random);
            let seconds = next.ask_again.as_secs_f64();
            assert!((least..=most).contains(&seconds), "TTL {ttl}: {seconds} s");
            assert_eq!(next.reason, Reason::Changed);
        }
    }
}

#[test]
fn the_last_good_answer_stays_whatever_comes_that_says_nothing() {
    let nothing = Reason::Nothing;
    let cases = [
        (host(failed()), Reason::Failed("SERVFAIL".to_owned())),
        (Answered::Host(Addresses { v4: failed(), v6: failed() }), Reason::Failed("SERVFAIL".to_owned())),
        (host(NOTHING), nothing.clone()),
        (host(Answer::NoSuchName { ttl: Some(SECOND) }), Reason::NoSuchName),
        (host(Answer::Records { records: vec![[0, 0, 0, 0].into()], ttl: SECOND }), nothing),
        (Answered::Targets(Answer::Failed("x".to_owned()), BTreeMap::new()), Reason::Failed("x".to_owned())),
    ];
    for (answered, reason) in cases {
        let mut known = Known::default();
        known.take(&host(records(&[1, 2], 60)), 0);
        let next = known.take(&answered, u64::MAX);
        assert_eq!(places(&known), ["10.0.0.1", "10.0.0.2"], "{answered:?}");
        assert_eq!(next.reason, reason);
        assert!(!next.reason.to_string().is_empty());
        assert!((FLOOR..=BACK_OFF_MAX).contains(&next.ask_again));
        assert_eq!(known.take(&host(records(&[1, 2], 60)), 0).reason, Reason::Same);
    }
}

#[test]
fn pauses_after_failures_grow_to_a_bound_and_a_good_answer_ends_them() {
    let mut known = Known::default();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(known.take(&host(failed()), u64::MAX).ask_again.as_secs_f64().round());
    }
    assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    known.take(&host(records(&[1], 5)), 0);
    assert_eq!(known.take(&host(failed()), u64::MAX).ask_again.as_secs_f64().round(), 1.0);
}

#[test]
fn a_family_without_answer_keeps_its_addresses_beside_the_other_family() {
    let v6 = Answer::Records { records: vec![ip6(1)], ttl: SECOND * 9 };
    let mut known = Known::default();
    let next = known.take(&Answered::Host(Addresses { v4: records(&[1], 60), v6 }), 0);
    assert_eq!((places(&known), next.ask_again), (vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()], SECOND * 9));
    let next = known.take(&Answered::Host(Addresses { v4: records(&[2], 60), v6: failed() }), 0);
    assert_eq!(places(&known), ["10.0.0.2", "fd00::1"]);
    assert!(matches!(next.reason, Reason::Partly(_)));
    known.take(&host(records(&[2], 60)), 0);
    assert_eq!(places(&known), ["10.0.0.2"], "a family without records has none");
    // A server that never answers for one family is no news.
    assert_eq!(known.take(&Answered::Host(Addresses { v4: records(&[2], 60), v6: failed() }), 0).reason, Reason::Same);
}

fn target(priority: u16, weight: u16, host: &str) -> Target {
    Target { priority, weight, port: 8_000 + priority, host: host.to_owned() }
}

fn targets(list: &[Target], hosts: &[(&str, Answer<IpAddr>)]) -> Answered {
    let records = Answer::Records { records: list.to_vec(), ttl: SECOND * 60 };
    let of = |(host, v4): &(&str, Answer<IpAddr>)| ((*host).to_owned(), Addresses { v4: v4.clone(), v6: NOTHING });
    Answered::Targets(records, hosts.iter().map(of).collect())
}

#[test]
fn targets_of_the_lowest_priority_that_has_an_address_serve_by_weight() {
    let (a, b) = (("a", records(&[1], 30)), ("b", records(&[2, 3], 90)));
    let cases: [(Answered, &[&str]); 5] = [
        (targets(&[target(1, 3, "a"), target(2, 1, "b")], &[a.clone(), b.clone()]), &["10.0.0.1:8001 10000"]),
        (
            targets(&[target(1, 1, "a"), target(1, 4, "b")], &[a.clone(), b.clone()]),
            &["10.0.0.1:8001 2500", "10.0.0.2:8001 5000", "10.0.0.3:8001 5000"],
        ),
        (
            targets(&[target(1, 0, "a"), target(1, 0, "b")], &[a.clone(), b.clone()]),
            &["10.0.0.1:8001 10000", "10.0.0.2:8001 5000", "10.0.0.3:8001 5000"],
        ),
        (
            targets(&[target(1, 0, "a"), target(1, 9, "b")], &[a.clone(), b.clone()]),
            &["10.0.0.1:8001 1", "10.0.0.2:8001 5000", "10.0.0.3:8001 5000"],
        ),
        (
            targets(&[target(1, 1, "a"), target(2, 1, "b")], &[("a", Answer::NoSuchName { ttl: None }), b]),
            &["10.0.0.2:8002 5000", "10.0.0.3:8002 5000"],
        ),
    ];
    for (answered, expected) in cases {
        let mut known = Known::default();
        known.take(&answered, 0);
        assert_eq!(places(&known), expected, "{answered:?}");
    }
    let next = Known::default().take(&targets(&[target(1, 1, "a")], &[a]), 0);
    assert_eq!(next.ask_again, SECOND * 30, "the least TTL counts");
}

#[test]
fn a_target_without_answer_keeps_its_addresses_and_one_that_is_not_offered_takes_nothing_away() {
    let list = [target(1, 1, "a"), target(1, 1, "b")];
    let mut known = Known::default();
    known.take(&targets(&list, &[("a", records(&[1], 60)), ("b", records(&[2], 60))]), 0);
    let next = known.take(&targets(&list, &[("a", records(&[3], 60)), ("b", failed())]), 0);
    assert_eq!(places(&known), ["10.0.0.2:8001 10000", "10.0.0.3:8001 10000"]);
    assert!(matches!(next.reason, Reason::Partly(_)) && next.ask_again <= BACK_OFF_MAX * 2);
    assert_eq!(known.take(&targets(&[target(0, 0, ".")], &[]), 0).reason, Reason::NotOffered);
    assert_eq!(known.places().len(), 2);
}

#[test]
fn hosts_of_targets_are_asked_for_once_in_order_of_priority_and_not_without_end() {
    let Answered::Targets(answer, _) = targets(&[target(2, 1, "c"), target(1, 1, "a"), target(2, 1, "a")], &[]) else {
        panic!("targets are targets")
    };
    assert_eq!(to_ask(&answer), ["a", "c"]);
    let many = (0..100).map(|number| target(1, 1, &format!("h{number}"))).collect();
    assert_eq!(to_ask(&Answer::Records { records: many, ttl: SECOND }).len(), TARGETS_MAX);
    assert_eq!(to_ask(&Answer::Failed("x".to_owned())), Vec::<&str>::new());
}

#[test]
fn questions_are_read_as_people_write_hosts() {
    for (text, expected, kind) in [
        ("API.example.", "api.example", Kind::Host),
        ("api.example:443", "api.example:443", Kind::Host),
        ("_http._tcp.api.example", "_http._tcp.api.example", Kind::Service),
        ("_dmarc.api.example", "_dmarc.api.example", Kind::Host),
    ] {
        let question: Question = text.parse().unwrap();
        assert_eq!((question.to_string().as_str(), question.kind()), (expected, kind));
        assert_eq!(question.to_string().parse(), Ok(question));
    }
    let (name, namespace) = "api.example:443".parse::<Question>().unwrap().service();
    assert!(name.starts_with("api-example-443-") && namespace == "dns", "{name}");
    for (text, expected) in [
        ("", NoQuestion::Empty),
        (".", NoQuestion::Empty),
        ("10.0.0.1", NoQuestion::Address(ip(1))),
        ("10.0.0.1:80", NoQuestion::Address(ip(1))),
        ("[fd00::1]", NoQuestion::Address(ip6(1))),
        ("a:b", NoQuestion::Port("b".to_owned())),
        ("a:0", NoQuestion::Port("0".to_owned())),
        ("a b", NoQuestion::Character(' ')),
        ("a..b", NoQuestion::Form),
    ] {
        assert_eq!(text.parse::<Question>(), Err(expected), "{text:?}");
    }
}

#[test]
fn a_service_has_the_ports_that_callers_write() {
    let place = |port| Place { ip: ip(1), port, weight: WEIGHT_ONE };
    for (question, port, expected) in [
        ("api.example", None, &[(80, "10.0.0.1:80"), (443, "10.0.0.1:443")][..]),
        ("api.example:8443", None, &[(8_443, "10.0.0.1:8443")]),
        ("_http._tcp.api.example", Some(9), &[(80, "10.0.0.1:9")]),
        ("_http._tcp.api.example:8080", Some(9), &[(8_080, "10.0.0.1:9")]),
    ] {
        let service = service(&question.parse().unwrap(), &[place(port)]);
        let found: Vec<_> = service.endpoints.iter().map(|one| (one.port, one.address.to_string())).collect();
        let expected: Vec<_> = expected.iter().map(|(port, address)| (*port, (*address).to_owned())).collect();
        assert_eq!(found, expected);
        assert!(service.endpoints.iter().all(|endpoint| endpoint.identity.is_none()));
    }
}

fn answers() -> impl Strategy<Value = Answer<IpAddr>> {
    let ttl = || prop::option::of(0..1_000_u64).prop_map(|seconds| seconds.map(Duration::from_secs));
    prop_oneof![
        3 => (prop::collection::vec(0..6_u8, 1..5), 0..1_000_u64).prop_map(|(numbers, ttl)| records(&numbers, ttl)),
        1 => ttl().prop_map(|ttl| Answer::Nothing { ttl }),
        1 => ttl().prop_map(|ttl| Answer::NoSuchName { ttl }),
        1 => Just(failed()),
    ]
}

proptest! {
    #[test]
    fn whatever_is_answered_a_known_name_stays_known_and_is_asked_for_neither_at_once_nor_never(
        answers in prop::collection::vec((answers(), answers(), any::<bool>()), 1..40), random in any::<u64>(),
    ) {
        let mut known = Known::default();
        for (v4, v6, is_service) in answers {
            let addresses = Addresses { v4, v6 };
            let answered = if is_service {
                let records = vec![target(1, 1, "a"), target(2, 0, "b")];
                let targets = Answer::Records { records, ttl: SECOND };
                Answered::Targets(targets, [("a".to_owned(), addresses)].into())
            } else {
                Answered::Host(addresses)
            };
            let knew = !known.places().is_empty();
            let next = known.take(&answered, random);
            prop_assert!(!knew || !known.places().is_empty());
            prop_assert!((FLOOR..=CEILING + CEILING / 10).contains(&next.ask_again));
            prop_assert!(known.places().iter().all(|place| place.weight > 0));
        }
    }

    #[test]
    fn no_text_panics_as_a_question(text in any::<String>()) {
        if let Ok(question) = text.parse::<Question>() {
            prop_assert_eq!(question.to_string().parse::<Question>(), Ok(question));
        }
    }
}
