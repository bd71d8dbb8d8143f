//! The entry: every kind of condition as a table, and the layout of shares against a second, simple statement of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use mesh_core::{
    identity::Identity,
    lane::{
        entry::{Asked, BUCKETS, Place, Prepared, Stained, bucket, decide, decided},
        trace::TraceId,
    },
    model::lane::{
        Condition, Curve, KeySource, Lane, LaneGroup, LaneName, LaneState, Match, Operator, Ramp, Share, Subject,
    },
    route::RequestParts,
};
use proptest::prelude::*;

const GATE: Place<'_> = Place::Gateway { own: &[], called: "a.demo" };
const NOW: u64 = 1_700_000_000_000;

fn name(text: &str) -> LaneName {
    text.parse().expect("names of this test are well-formed")
}

fn group(lanes: Vec<Lane>) -> LaneGroup {
    LaneGroup { revision: 1, lanes, ..LaneGroup::new(name("shop")) }
}

fn lane(text: &str) -> Lane {
    Lane::new(name(text))
}

fn with_rule(text: &str, rule: Match) -> Lane {
    Lane { rule: Some(rule), ..lane(text) }
}

fn with_share(text: &str, value: u32, created: u64) -> Lane {
    let share = Share { value, keys: vec![KeySource::Header("x-user".to_owned())], ramp: None };
    Lane { share: Some(share), created, ..lane(text) }
}

fn asked<'a>(fields: &'a &'a [(&'a str, &'a str)]) -> Asked<'a> {
    let parts = RequestParts { method: "GET", host: "a", path: "/", query: None, fields };
    Asked::new(parts, None, None, None)
}

fn lane_of(found: Option<Stained<'_>>) -> Option<String> {
    found.map(|stained| stained.carried.lane.to_string())
}

/// The claims `{"sub":"alice","level":3,"admin":true,"groups":["dev","ops"],"realm":{"roles":["tester"]},"a.b":"dotted"}`.
const TOKEN: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImxldmVsIjozLCJhZG1pbiI6dHJ1ZSwiZ3JvdXBzIjpbImRldiIsIm9wcyJdLCJyZWFsbSI6eyJyb2xlcyI6WyJ0ZXN0ZXIiXX0sImEuYiI6ImRvdHRlZCJ9.";

#[test]
fn each_condition_holds_for_what_it_says_and_nothing_else() {
    use Operator::{Equal, In, NotEqual, NotIn, Percentage, Prefix, Present, Regex};
    use Subject::{Claim, Cookie, Header, Identity as Who, Method, Path, Query, SourceIp};
    let text = |text: &str| text.to_owned();
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let regex = |text: &str| Regex(text.to_owned().try_into().expect("a pattern"));
    let cases = [
        (Header, "x-user", Equal(text("alice")), true),
        (Header, "X-User", Equal(text("bob")), true),
        (Header, "x-user", Equal(text("Alice")), false),
        (Header, "x-user", Equal(text("alice, bob")), false),
        (Header, "x-user", NotEqual(text("alice")), false),
        (Header, "x-user", NotEqual(text("carol")), true),
        (Header, "x-absent", NotEqual(text("alice")), true),
        (Header, "x-absent", NotIn(list(&["alice"])), true),
        (Header, "x-absent", Equal(text("")), false),
        (Header, "x-empty", Equal(text("")), true),
        (Header, "x-empty", Present, true),
        (Header, "x-absent", Present, false),
        (Header, "x-user", In(list(&["carol", "bob"])), true),
        (Header, "x-user", In(list(&["carol"])), false),
        (Header, "x-user", NotIn(list(&["carol", "bob"])), false),
        (Header, "x-user", NotIn(list(&["carol"])), true),
        (Header, "x-user", Prefix(text("al")), true),
        (Header, "x-user", Prefix(text("lice")), false),
        (Header, "x-user", regex("b.b"), true),
        (Header, "x-user", regex("li"), false),
        (Header, "x-user", Percentage(10_000), true),
        (Header, "x-user", Percentage(0), false),
        (Header, "x-absent", Percentage(10_000), false),
        (Cookie, "user", Equal(text("alice")), true),
        (Cookie, "user", Equal(text("second")), true),
        (Cookie, "user", Equal(text("third")), true),
        (Cookie, "quoted", Equal(text("a b")), true),
        (Cookie, "User", Present, false),
        (Cookie, "novalue", Present, false),
        (Cookie, "with", Equal(text("an=sign")), true),
        (Query, "user", Equal(text("alice smith")), true),
        (Query, "user", Equal(text("bob")), true),
        (Query, "käse", Equal(text("ü&")), true),
        (Query, "flag", Present, true),
        (Query, "absent", Present, false),
        (Path, "", Equal(text("/shop/cart")), true),
        (Path, "", Prefix(text("/shop")), true),
        (Path, "", Prefix(text("/admin")), false),
        (Path, "", regex("/[a-z]+/cart"), true),
        (Method, "", Equal(text("POST")), true),
        (Method, "", Equal(text("post")), false),
        (SourceIp, "", Equal(text("10.1.2.3")), true),
        (SourceIp, "", In(list(&["192.168.0.0/16", "10.0.0.0/8"])), true),
        (SourceIp, "", NotIn(list(&["10.0.0.0/8"])), false),
        (SourceIp, "", NotEqual(text("10.1.2.4")), true),
        (SourceIp, "", Equal(text("::ffff:10.1.2.3")), true),
        (SourceIp, "", Present, true),
        (Who, "", Equal(text("spiffe://mesh.test/ns/demo/sa/alice")), true),
        (Who, "", Prefix(text("spiffe://mesh.test/ns/other/")), false),
        (Claim, "sub", Equal(text("alice")), true),
        (Claim, "level", Equal(text("3")), true),
        (Claim, "admin", Equal(text("true")), true),
        (Claim, "groups", Equal(text("ops")), true),
        (Claim, "groups", NotEqual(text("ops")), false),
        (Claim, "realm.roles", Equal(text("tester")), true),
        (Claim, "a.b", Equal(text("dotted")), true),
        (Claim, "realm", Present, false),
        (Claim, "absent", Present, false),
    ];
    let fields: &[(&str, &str)] = &[
        ("x-user", " alice "),
        ("x-user", "bob"),
        ("x-empty", ""),
        ("cookie", "user=alice; novalue; with=an=sign; user=second"),
        ("cookie", "quoted=\"a b\"; user=third"),
        ("authorization", TOKEN),
    ];
    let who = Identity::new("mesh.test", "demo", "alice").expect("an identity");
    for (subject, named, operator, expected) in cases {
        let parts = RequestParts {
            method: "POST",
            host: "a",
            path: "/x/../shop/%2E/cart",
            query: Some("user=alice+smith&user=bob&k%C3%A4se=%C3%BC%26&flag"),
            fields: &fields,
        };
        let asked = Asked::new(parts, Some("::ffff:10.1.2.3".parse().expect("an address")), Some(&who), None);
        let condition = Condition { subject, name: named.to_owned(), operator };
        for rule in [Match::Any(vec![condition.clone()]), Match::All(vec![condition.clone()])] {
            let groups = [group(vec![with_rule("canary", rule)])];
            let found = decide(&groups, &Prepared::new(&groups), GATE, &asked, NOW);
            assert_eq!(found.is_some(), expected, "{condition}");
        }
    }
}

#[test]
fn malformed_tokens_have_no_claims() {
    let long = format!("Bearer {}.{}.", "e30", "A".repeat(20_000));
    let tokens = [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer a.!.c",
        "Bearer a.e.c",
        "Bearer a.W10.c",
        &long,
    ];
    let condition = Condition { subject: Subject::Claim, name: "sub".to_owned(), operator: Operator::Present };
    let groups = [group(vec![with_rule("canary", Match::Any(vec![condition]))])];
    for token in tokens {
        let fields: &[(&str, &str)] = &[("authorization", token)];
        assert_eq!(decide(&groups, &Prepared::new(&groups), GATE, &asked(&fields), NOW), None, "{token:.40}");
    }
}

fn user_is(user: &str) -> Condition {
    Condition { subject: Subject::Header, name: "x-user".to_owned(), operator: Operator::Equal(user.to_owned()) }
}

#[test]
fn rules_go_by_priority_then_name_and_before_shares() {
    let everyone = || Match::Any(vec![user_is("alice")]);
    let mut groups = [group(vec![
        with_share("all", 10_000, 0),
        with_rule("b", everyone()),
        with_rule("a", everyone()),
        Lane { priority: 5, ..with_rule("z", everyone()) },
    ])];
    let fields: &[(&str, &str)] = &[("x-user", "alice")];
    let mut came = Vec::new();
    for _ in 0..4 {
        let found =
            lane_of(decide(&groups, &Prepared::new(&groups), GATE, &asked(&fields), NOW)).expect("a lane is left");
        groups[0].lanes.iter_mut().find(|lane| lane.name.as_str() == found).expect("one of ours").state =
            LaneState::Draining;
        came.push(found);
    }
    assert_eq!(came, ["z", "a", "b", "all"]);
    assert_eq!(decide(&groups, &Prepared::new(&groups), GATE, &asked(&fields), NOW), None);
}

#[test]
fn rule_with_all_needs_all_and_one_with_any_says_which_held() {
    let fields: &[(&str, &str)] = &[("x-user", "alice")];
    let conditions = || vec![user_is("bob"), user_is("alice")];
    let groups = [group(vec![with_rule("l", Match::All(conditions()))])];
    assert_eq!(decide(&groups, &Prepared::default(), GATE, &asked(&fields), NOW), None);
    let groups = [group(vec![with_rule("l", Match::Any(conditions()))])];
    let stained = decide(&groups, &Prepared::default(), GATE, &asked(&fields), NOW).expect("alice is named");
    assert_eq!(stained.why.to_string(), "rule of l: header x-user is \"alice\"");
    for empty in [Match::All(Vec::new()), Match::Any(Vec::new())] {
        let groups = [group(vec![with_rule("l", empty)])];
        assert_eq!(decide(&groups, &Prepared::default(), GATE, &asked(&fields), NOW), None);
    }
}

/// Fields, query, and what the key is with its value.
type KeyCase = (&'static [(&'static str, &'static str)], Option<&'static str>, Option<(&'static str, &'static str)>);

#[test]
fn key_is_the_first_that_is_present_then_the_trace_id_and_else_nobody() {
    let keys = vec![
        KeySource::Cookie("user".to_owned()),
        KeySource::Header("x-user".to_owned()),
        KeySource::Query("u".to_owned()),
    ];
    let share = Share { value: 10_000, keys, ramp: None };
    let groups = [group(vec![Lane { share: Some(share), ..lane("canary") }])];
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let cases: [KeyCase; 5] = [
        (&[("cookie", "user=c"), ("x-user", "h")], None, Some(("key cookie:user", "c"))),
        (&[("cookie", "user="), ("x-user", "h")], None, Some(("key header:x-user", "h"))),
        (&[], Some("u=q"), Some(("key query:u", "q"))),
        (&[("x-user", "")], None, Some(("no key, trace id instead", trace))),
        (&[("x-user", "h"), ("x-user", "second")], None, Some(("key header:x-user", "h"))),
    ];
    for (fields, query, expected) in cases {
        let parts = || RequestParts { method: "GET", host: "a", path: "/", query, fields: &fields };
        let with_trace = Asked::new(parts(), None, None, TraceId::from_text(trace.as_bytes()));
        let why = decide(&groups, &Prepared::default(), GATE, &with_trace, NOW).map(|stained| stained.why.to_string());
        let expected = expected.map(|(key, value)| {
            format!("share of canary: {key}, bucket {}, share 100.00 %", bucket("shop", value.as_bytes()))
        });
        assert_eq!(why, expected);
    }
    assert_eq!(decide(&groups, &Prepared::default(), GATE, &asked(&(&[] as &[(&str, &str)])), NOW), None);
}

#[test]
fn requests_are_decided_at_entries_only_and_never_twice() {
    let own = ["a.demo".to_owned()];
    let other = ["b.demo".to_owned()];
    let mut named = group(vec![with_share("all", 10_000, 0)]);
    named.entries.insert("a.demo".to_owned());
    let open = group(vec![with_share("all", 10_000, 0)]);
    let cases = [
        (Place::Gateway { own: &own, called: "x.demo" }, true, true),
        (Place::Gateway { own: &other, called: "a.demo" }, true, true),
        (Place::Gateway { own: &other, called: "x.demo" }, false, true),
        (Place::Service { own: &own, decided: "" }, true, false),
        (Place::Service { own: &own, decided: "other" }, true, false),
        (Place::Service { own: &own, decided: "other, shop" }, false, false),
        (Place::Service { own: &other, decided: "" }, false, false),
    ];
    let fields: &[(&str, &str)] = &[("x-user", "alice")];
    for (place, of_named, of_open) in cases {
        for (group, expected) in [(&named, of_named), (&open, of_open)] {
            let groups = [group.clone()];
            let found = decide(&groups, &Prepared::new(&groups), place, &asked(&fields), NOW);
            assert_eq!(found.is_some(), expected, "{place:?}");
            assert_eq!(decided(&groups, place), expected.then(|| "shop".to_owned()), "{place:?}");
        }
    }
}

/// One user for every bucket of a group whose salt is `shop`.
static USERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut users = vec![None; usize::from(BUCKETS)];
    let mut left = users.len();
    for user in 0.. {
        let user = format!("user-{user}");
        let place = &mut users[usize::from(bucket("shop", user.as_bytes()))];
        if place.is_none() {
            *place = Some(user);
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    users.into_iter().flatten().collect()
});

/// Buckets by lane, as decided.
fn layout(lanes: &[Lane], now: u64) -> BTreeMap<String, BTreeSet<u16>> {
    let groups = [group(lanes.to_vec())];
    let prepared = Prepared::new(&groups);
    let mut found: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (user, bucket) in USERS.iter().zip(0..) {
        let fields: &[(&str, &str)] = &[("x-user", user)];
        if let Some(lane) = lane_of(decide(&groups, &prepared, GATE, &asked(&fields), now)) {
            found.entry(lane).or_default().insert(bucket);
        }
    }
    found
}

/// The layout as plainly as it can be said.
fn expected(lanes: &[Lane]) -> BTreeMap<String, BTreeSet<u16>> {
    let mut ranked: Vec<&Lane> = lanes.iter().filter(|lane| lane.share.is_some()).collect();
    ranked.sort_by_key(|lane| (lane.created, lane.name.clone()));
    let mut free: BTreeSet<u16> = (0..BUCKETS).collect();
    let mut found = BTreeMap::new();
    for (rank, lane) in ranked.into_iter().enumerate() {
        let share = lane.share.as_ref().expect("filtered above").value as usize;
        let start = match rank {
            0 => 0,
            1 => 9_999,
            2 => 5_000,
            3 => 2_500,
            4 => 7_500,
            5 => 1_250,
            6 => 6_250,
            _ => unreachable!("no more lanes in this test"),
        };
        let up: Vec<u16> = (start..BUCKETS).chain(0..start).collect();
        let down: Vec<u16> = (0..=start).rev().chain((start + 1..BUCKETS).rev()).collect();
        let sequence = if rank % 2 == 0 { up } else { down };
        let taken: BTreeSet<u16> = sequence.into_iter().filter(|bucket| free.contains(bucket)).take(share).collect();
        free.retain(|bucket| !taken.contains(bucket));
        if !taken.is_empty() {
            found.insert(lane.name.to_string(), taken);
        }
    }
    found
}

/// Shares that fit into the whole.
fn any_shares(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0_u32..=5_000, count).prop_map(|mut shares| {
        let mut left = u32::from(BUCKETS);
        for share in &mut shares {
            *share = (*share).min(left);
            left -= *share;
        }
        shares
    })
}

fn lanes_of(shares: &[u32]) -> Vec<Lane> {
    // Names in another order than ages.
    let name = |age: usize| format!("lane-{}", (age * 5 + 3) % 7);
    shares.iter().enumerate().map(|(age, share)| with_share(&name(age), *share, 1_000 + age as u64)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layout_is_the_one_that_is_documented(shares in any_shares(0..=7)) {
        let lanes = lanes_of(&shares);
        let found = layout(&lanes, NOW);
        prop_assert_eq!(&found, &expected(&lanes));
        for (lane, share) in lanes.iter().zip(&shares) {
            let count = found.get(lane.name.as_str()).map_or(0, BTreeSet::len);
            prop_assert_eq!(count, *share as usize, "every lane gets exactly its share");
        }
    }

    #[test]
    fn one_or_two_lanes_never_move_a_user_while_their_shares_grow(
        first in any_shares(1..=2),
        more in any_shares(1..=2),
    ) {
        prop_assume!(first.len() == more.len());
        let grown: Vec<u32> = first.iter().zip(&more).map(|(a, b)| a.max(b)).copied().collect();
        prop_assume!(grown.iter().sum::<u32>() <= u32::from(BUCKETS));
        let (before, after) = (layout(&lanes_of(&first), NOW), layout(&lanes_of(&grown), NOW));
        for (lane, users) in before {
            prop_assert!(users.is_subset(&after[&lane]), "{lane}");
        }
    }

    #[test]
    fn lane_that_is_made_later_moves_nobody(shares in any_shares(1..=7)) {
        let lanes = lanes_of(&shares);
        let (_, older) = lanes.split_last().expect("at least one");
        let (before, after) = (layout(older, NOW), layout(&lanes, NOW));
        for (lane, users) in before {
            prop_assert_eq!(&users, &after[&lane]);
        }
    }

    #[test]
    fn ramps_only_add_users_at_any_number_of_lanes(
        shares in any_shares(1..=5),
        moments in prop::collection::vec(0_u64..=60_000, 3),
    ) {
        let ramp = |lane: Lane| {
            let share = lane.share.clone().expect("each has one");
            let ramp = Ramp { from: 0, to: share.value, start: NOW, over: Duration::from_secs(60), curve: Curve::Exponential };
            Lane { share: Some(Share { ramp: Some(ramp), ..share }), ..lane }
        };
        let lanes: Vec<Lane> = lanes_of(&shares).into_iter().map(ramp).collect();
        let mut moments = moments;
        moments.sort_unstable();
        let layouts: Vec<_> = moments.iter().map(|moment| layout(&lanes, NOW + moment)).collect();
        for pair in layouts.windows(2) {
            for (lane, users) in &pair[0] {
                prop_assert!(users.is_subset(&pair[1][lane]), "{lane}");
            }
        }
    }
}

#[test]
fn closed_lane_keeps_the_others_where_they_are() {
    let mut lanes = lanes_of(&[3_000, 3_000, 1_000]);
    let before = layout(&lanes, NOW);
    lanes[0].state = LaneState::Closed;
    let after = layout(&lanes, NOW);
    assert_eq!(after.len(), 2);
    for (lane, users) in after {
        assert_eq!(users, before[&lane], "{lane}");
    }
}

#[test]
fn ten_thousand_users_are_within_a_point_of_each_share_and_none_leaves() {
    let mut before = BTreeSet::new();
    for percent in [10_u32, 25, 50] {
        let groups = [group(vec![with_share("canary", percent * 100, 0)])];
        let prepared = Prepared::new(&groups);
        let is_in = |user: &u32| {
            let user = format!("u{user}");
            let fields: &[(&str, &str)] = &[("x-user", &user)];
            decide(&groups, &prepared, GATE, &asked(&fields), NOW).is_some()
        };
        let users: BTreeSet<u32> = (0..10_000).filter(is_in).collect();
        assert!(users.is_superset(&before));
        assert!(users.len().abs_diff(percent as usize * 100) <= 100, "{percent} %: {}", users.len());
        before = users;
    }
}

#[test]
fn thousand_lanes_are_laid_out_at_once_and_in_little_memory() {
    let lanes: Vec<Lane> = (0..1_000).map(|number| with_share(&format!("lane-{number}"), 10, number)).collect();
    let found = layout(&lanes, NOW);
    assert_eq!(found.len(), 1_000);
    assert!(found.values().all(|users| users.len() == 10));
}
