//! Marks of time that applied lanes get, and orders.

use super::*;

const HEAD: &str = "apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {name: canary, namespace: demo}\n";

fn resource(spec: &str) -> Resource {
    let text = format!("{HEAD}spec: {{group: shop{spec}}}\n");
    parse("lane.yaml", &text).unwrap_or_else(|problems| panic!("{problems:?}")).remove(0)
}

fn applied(old: Option<&Resource>, fresh: &str, now: u64) -> (Resource, Lane) {
    let in_place: Vec<_> = old.map(|old| (PathBuf::from("/x/lane.yaml"), old.clone())).into_iter().collect();
    let mut marked = marked(Path::new("/x"), &in_place, vec![resource(fresh)], now).unwrap();
    let resource = marked.remove(0);
    let lane = resource.spec.lane().unwrap().clone();
    (resource, lane)
}

#[test]
fn lane_that_is_applied_again_keeps_its_times() {
    let (first, lane) = applied(None, ", ttl: 8h", 1_000);
    assert_eq!((lane.created, lane.state_since), (Some(1_000), Some(1_000)));
    let (_, lane) = applied(Some(&first), ", ttl: 9h", 2_000);
    assert_eq!((lane.created, lane.state_since, lane.history), (Some(1_000), Some(1_000), Vec::new()));
}

#[test]
fn stage_that_is_applied_is_a_change_with_history() {
    let (first, _) = applied(None, "", 1_000);
    let (second, lane) = applied(Some(&first), ", state: draining", 2_000);
    assert_eq!((lane.state_since, lane.history.len()), (Some(2_000), 1));
    assert_eq!((lane.history[0].state, lane.history[0].until), (LaneState::Active, 2_000));
    // The same text again, and the written text with another stage.
    let (_, lane) = applied(Some(&second), ", state: draining", 3_000);
    assert_eq!((lane.state_since, lane.history.len()), (Some(2_000), 1));
    let text = second.text.replace("state: draining", "state: closed");
    let fresh = parse("", &text).unwrap();
    let in_place = vec![(PathBuf::from("/x/lane.yaml"), second)];
    let marked = marked(Path::new("/x"), &in_place, fresh, 4_000).unwrap();
    let lane = marked[0].spec.lane().unwrap();
    assert_eq!((lane.state, lane.state_since, lane.history.len()), (LaneState::Closed, Some(4_000), 2));
}

#[test]
fn order_for_a_lane_that_is_not_there_or_not_able_says_so() {
    let in_place = vec![(PathBuf::from("/x/lane.yaml"), resource(", state: closed"))];
    let order = |verb| Order::Move { verb, reason: String::new() };
    let said = |lane: &str, verb| ordered(&in_place, &lane.parse().unwrap(), &order(verb), 1).unwrap_err().to_string();
    assert_eq!(said("shop/green", Verb::Drain), "there is no lane shop/green");
    assert!(said("shop/canary", Verb::Promote).contains("activate it first"));
    let set = Order::Set { fields: Map::new(), state: Some(LaneState::Active), reason: "again".to_owned() };
    let text = ordered(&in_place, &"shop/canary".parse().unwrap(), &set, 1).unwrap();
    assert!(text.contains("state: active") && text.contains("reason: again"), "{text}");
}
