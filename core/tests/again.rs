//! The entry's rules evaluated again on a call: never anything else than what the entry decided.

use mesh_core::{
    lane::entry::{Asked, Place, Prepared, again, decide},
    model::lane::{Condition, KeySource, Lane, LaneGroup, LaneName, Match, Operator, Share, Subject},
    route::RequestParts,
};
use proptest::prelude::*;

const GATE: Place<'_> = Place::Gateway { own: &[], called: "a.demo" };
const NOW: u64 = 1_700_000_000_000;

/// The claims `{"sub":"alice","level":3,"admin":true,"groups":["dev","ops"],"realm":{"roles":["tester"]},"a.b":"dotted"}`.
const TOKEN: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImxldmVsIjozLCJhZG1pbiI6dHJ1ZSwiZ3JvdXBzIjpbImRldiIsIm9wcyJdLCJyZWFsbSI6eyJyb2xlcyI6WyJ0ZXN0ZXIiXX0sImEuYiI6ImRvdHRlZCJ9.";

fn name(text: &str) -> LaneName {
    text.parse().expect("names of this test are well-formed")
}

fn group(lanes: Vec<Lane>) -> LaneGroup {
    LaneGroup { revision: 1, lanes, ..LaneGroup::new(name("shop")) }
}

fn with_rule(text: &str, rule: Match) -> Lane {
    Lane { rule: Some(rule), ..Lane::new(name(text)) }
}

fn with_share(text: &str, value: u32, created: u64) -> Lane {
    let share = Share { value, keys: vec![KeySource::Header("x-user".to_owned())], ramp: None };
    Lane { share: Some(share), created, ..Lane::new(name(text)) }
}

/// What a gateway decides for a request with these fields.
fn decided(group: &LaneGroup, fields: &[(&str, &str)]) -> Option<String> {
    let parts = RequestParts { method: "GET", host: "a", path: "/", query: None, fields: &fields };
    let groups = std::slice::from_ref(group);
    let found = decide(groups, &Prepared::new(groups), GATE, &Asked::new(parts, None, None, None), NOW);
    found.map(|stained| stained.carried.lane.to_string())
}

fn condition(subject: Subject, name: &str, operator: Operator) -> Condition {
    Condition { subject, name: name.to_owned(), operator }
}

fn found_again(group: &LaneGroup, fields: &[(&str, &str)]) -> Option<String> {
    again((0, group), &Prepared::new(std::slice::from_ref(group)), &fields, NOW).map(|label| label.lane.to_string())
}

#[test]
fn rules_are_evaluated_again_only_on_what_the_call_carries() {
    let beta = condition(Subject::Header, "x-beta", Operator::Equal("1".to_owned()));
    let not_old = condition(Subject::Header, "x-client", Operator::NotEqual("old".to_owned()));
    let alice = condition(Subject::Claim, "sub", Operator::Equal("alice".to_owned()));
    let path = condition(Subject::Path, "", Operator::Prefix("/v2".to_owned()));
    let group_of = |rules: Vec<(&str, u32, Match)>| {
        let lane = |(name, priority, rule)| Lane { priority, ..with_rule(name, rule) };
        group(rules.into_iter().map(lane).collect())
    };
    let one = |rule| group_of(vec![("canary", 0, rule)]);
    let cases = [
        (one(Match::Any(vec![beta.clone()])), &[("x-beta", "1")][..], Some("canary")),
        (one(Match::Any(vec![beta.clone()])), &[("x-beta", "2")], None),
        (one(Match::Any(vec![beta.clone()])), &[], None),
        (one(Match::All(vec![alice.clone()])), &[("authorization", TOKEN)], Some("canary")),
        // What is absent here may have been there at the entry.
        (one(Match::All(vec![not_old.clone()])), &[], None),
        (one(Match::All(vec![not_old.clone()])), &[("x-client", "new")], Some("canary")),
        (one(Match::All(vec![])), &[("x-beta", "1")], None),
        (one(Match::All(vec![path.clone()])), &[("x-beta", "1")], None),
        // A rule before it that cannot be judged here leaves everything open.
        (
            group_of(vec![("v2", 9, Match::Any(vec![path])), ("canary", 0, Match::Any(vec![beta.clone()]))]),
            &[("x-beta", "1")],
            None,
        ),
        (
            group_of(vec![("dev", 9, Match::Any(vec![alice])), ("canary", 0, Match::Any(vec![beta]))]),
            &[("x-beta", "1"), ("authorization", TOKEN)],
            Some("dev"),
        ),
    ];
    for (group, fields, expected) in cases {
        assert_eq!(found_again(&group, fields).as_deref(), expected, "{group:?} {fields:?}");
    }
}

proptest! {
    #[test]
    fn what_is_found_again_is_what_the_entry_decided(
        shares in (0..=10_000_u32, 0..=5_000_u32),
        user in "[a-z]{1,6}",
        beta in prop::option::of("[01]"),
        forwards in any::<[bool; 2]>(),
    ) {
        let rule = Match::Any(vec![condition(Subject::Header, "x-beta", Operator::Equal("1".to_owned()))]);
        let second = shares.1.min(10_000 - shares.0);
        let group = group(vec![with_rule("beta", rule), with_share("one", shares.0, 1), with_share("two", second, 2)]);
        let mut entered = vec![("x-user", user.as_str())];
        entered.extend(beta.as_deref().map(|beta| ("x-beta", beta)));
        let decided = decided(&group, &entered);
        let keeps = |(name, _): &&(&str, &str)| if *name == "x-user" { forwards[0] } else { forwards[1] };
        let forwarded: Vec<_> = entered.iter().filter(keeps).copied().collect();
        let found = found_again(&group, &forwarded);
        prop_assert!(found.is_none() || found == decided, "{found:?} instead of {decided:?}");
        if beta.is_some() && forwards == [true, true] {
            prop_assert_eq!(found, decided);
        }
    }
}
