//! States of lanes that change by time alone: a ttl ends, a draining lane has drained. Proxies settle them when they take
//! groups in and whenever the next of these moments has come, so that the data path needs no time and no controller needs
//! to be alive.

use crate::{
    lane::entry::hash,
    model::lane::{Lane, LaneGroup, LaneState},
};

/// The groups with every lane in the state it has at `now` (Unix milliseconds); `None` where that is how they are written.
/// A group whose states changed has another revision, the same at every proxy.
pub fn settled(groups: &[LaneGroup], now: u64) -> Option<Vec<LaneGroup>> {
    let differs = |group: &LaneGroup| group.lanes.iter().any(|lane| state(group, lane, now) != lane.state);
    groups.iter().any(differs).then(|| groups.iter().map(|group| settle(group, now)).collect())
}

fn state(group: &LaneGroup, lane: &Lane, now: u64) -> LaneState {
    lane.state_at(now, group.max_request_age)
}

fn settle(group: &LaneGroup, now: u64) -> LaneGroup {
    let mut settled = group.clone();
    let mut ended = Vec::new();
    for lane in &mut settled.lanes {
        let state = state(group, lane, now);
        if state != std::mem::replace(&mut lane.state, state) {
            ended.push(lane.name.clone());
        }
    }
    if !ended.is_empty() {
        let revision = group.revision.to_be_bytes();
        settled.revision =
            hash(std::iter::once(&revision[..]).chain(ended.iter().map(|name| name.as_str().as_bytes())));
    }
    settled
}

/// The next moment after `now` (Unix milliseconds) at which a lane changes its state by itself.
pub fn next_change(groups: &[LaneGroup], now: u64) -> Option<u64> {
    let of_lane = |group: &LaneGroup, lane: &Lane| {
        let age = u64::try_from(group.max_request_age.as_millis()).unwrap_or(u64::MAX);
        let drained =
            lane.state_since.filter(|_| lane.state == LaneState::Draining).map(|since| since.saturating_add(age));
        let ends = match lane.state {
            LaneState::Draft | LaneState::Active | LaneState::Draining => lane.ends,
            LaneState::Closed | LaneState::Promoted => None,
        };
        [drained, ends].into_iter().flatten().filter(|moment| *moment > now).min()
    };
    groups.iter().flat_map(|group| group.lanes.iter().filter_map(move |lane| of_lane(group, lane))).min()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn group() -> LaneGroup {
        let lane = |name: &str| Lane::new(name.parse().expect("a lane name"));
        LaneGroup {
            revision: 9,
            max_request_age: Duration::from_secs(5),
            lanes: vec![
                Lane { ends: Some(3_000), ..lane("dev") },
                Lane { state: LaneState::Draining, state_since: Some(1_000), ..lane("old") },
                Lane { state: LaneState::Promoted, ends: Some(2_000), ..lane("won") },
                lane("plain"),
            ],
            ..LaneGroup::new("g".parse().expect("a group name"))
        }
    }

    #[test]
    fn each_moment_changes_states_and_revision_once() {
        let written = [group()];
        let (mut now, mut seen) = (0, Vec::new());
        assert_eq!(settled(&written, now), None);
        while let Some(next) = next_change(&written, now) {
            assert_eq!(settled(&written, next - 1).map(|groups| groups[0].revision), seen.last().copied());
            now = next;
            let settled = settled(&written, now).expect("a state changes at this moment");
            seen.push(settled[0].revision);
        }
        assert_eq!(now, 6_000);
        assert_eq!(seen.len(), 2);
        assert!(!seen.contains(&9) && seen[0] != seen[1], "{seen:?}");
        let last = settled(&written, now).expect("both ended");
        let states: Vec<LaneState> = last[0].lanes.iter().map(|lane| lane.state).collect();
        assert_eq!(states, [LaneState::Closed, LaneState::Closed, LaneState::Promoted, LaneState::Active]);
        assert_eq!((settled(&last, now), next_change(&last, now)), (None, None));
    }
}
