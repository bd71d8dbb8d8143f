//! The lanes of a service for which somebody lives: what the lane oracle tells consumers, who take over the work of a lane
//! that has nobody.

use super::Usable;
use crate::model::{
    lane::{LaneGroup, LaneRef, LaneState},
    service::Service,
};

/// What a service has of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strength {
    /// Instances that can be used.
    pub usable: usize,
    /// Instances that take traffic: of weight > 0 and not draining.
    pub instances: usize,
}

/// A lane that somebody lives for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living<'a> {
    /// The lane.
    pub lane: &'a LaneRef,
    /// Its stage: draft, active or draining, in which its label counts.
    pub state: LaneState,
    /// Its instances here; at least one is usable.
    pub strength: Strength,
}

/// Lanes whose label counts at this service and that have a usable instance of it, in order of their names. `minHealthy`
/// does not matter: who lives can take a message.
pub fn living<'a>(service: &'a Service, groups: &[LaneGroup], usable: Usable<'_>) -> Vec<Living<'a>> {
    let label = service.key().label();
    let state = |lane: &LaneRef| {
        let group = groups.iter().find(|group| group.name == lane.group && group.members.contains(label))?;
        group.lane(&lane.lane).map(|lane| lane.state).filter(|state| match state {
            LaneState::Draft | LaneState::Active | LaneState::Draining => true,
            LaneState::Closed | LaneState::Promoted => false,
        })
    };
    let living = service.lanes().filter_map(|lane| {
        let strength = strength(service.in_lane(lane), usable);
        (strength.usable > 0).then_some(Living { lane, state: state(lane)?, strength })
    });
    living.collect()
}

/// What a service has for baseline.
pub fn baseline_strength(service: &Service, groups: &[LaneGroup], usable: Usable<'_>) -> Strength {
    strength(&service.baseline(groups), usable)
}

fn strength(members: &[usize], usable: Usable<'_>) -> Strength {
    let able = match usable {
        Usable::All => members.len(),
        Usable::Where(allows) => members.iter().filter(|position| allows(**position)).count(),
    };
    Strength { usable: able, instances: members.len() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        endpoint::{Endpoint, ProtocolHint, WEIGHT_ONE},
        lane::{Lane, Members},
        service::ServiceKey,
    };

    fn lane(name: &str) -> LaneRef {
        LaneRef { group: "g".parse().unwrap(), lane: name.parse().unwrap() }
    }

    fn endpoint(last: u8, lanes: &[&str]) -> Endpoint {
        Endpoint {
            address: ([10, 0, 0, last], 80).into(),
            weight: WEIGHT_ONE,
            identity: None,
            server_name: None,
            inbound_port: None,
            hint: ProtocolHint::Unknown,
            lanes: lanes.iter().map(|name| lane(name)).collect(),
            zone: None,
            ready_since: None,
            draining: false,
            healthy: true,
            labels: Default::default(),
        }
    }

    fn service(endpoints: Vec<Endpoint>) -> Service {
        let key = ServiceKey("orders.demo.svc.cluster.local:80".into());
        Service::new(key, true, endpoints.into_iter().map(Arc::new).collect())
    }

    fn group(states: &[(&str, LaneState)]) -> LaneGroup {
        let mut group = LaneGroup::new("g".parse().unwrap());
        group.lanes = states.iter().map(|(name, _)| Lane::new(name.parse().unwrap())).collect();
        for (lane, (_, state)) in group.lanes.iter_mut().zip(states) {
            lane.state = *state;
        }
        group
    }

    #[test]
    fn lane_lives_in_the_stages_in_which_its_label_counts() {
        for (state, lives) in [
            (LaneState::Draft, true),
            (LaneState::Active, true),
            (LaneState::Draining, true),
            (LaneState::Closed, false),
            (LaneState::Promoted, false),
        ] {
            let service = service(vec![endpoint(1, &["canary"])]);
            assert_eq!(!living(&service, &[group(&[("canary", state)])], Usable::All).is_empty(), lives, "{state:?}");
        }
    }

    #[test]
    fn lane_without_usable_instance_does_not_live_however_many_are_registered() {
        let groups = [group(&[("canary", LaneState::Active), ("blue", LaneState::Active)])];
        let endpoints = [endpoint(1, &["canary"]), endpoint(2, &["canary"]), endpoint(3, &["blue"]), endpoint(4, &[])];
        let service = service(endpoints.into());
        let strengths = |usable: &[usize]| {
            let allows = |position| usable.contains(&position);
            let living = living(&service, &groups, Usable::Where(&allows));
            let of = |one: Living<'_>| (one.lane.lane.to_string(), one.strength.usable, one.strength.instances);
            let baseline = baseline_strength(&service, &groups, Usable::Where(&allows));
            (living.into_iter().map(of).collect::<Vec<_>>(), (baseline.usable, baseline.instances))
        };
        let canary = |usable| ("canary".to_owned(), usable, 2);
        let blue = ("blue".to_owned(), 1, 1);
        assert_eq!(strengths(&[0, 1, 2, 3]), (vec![blue.clone(), canary(2)], (1, 1)));
        assert_eq!(strengths(&[1, 2]), (vec![blue.clone(), canary(1)], (0, 1)));
        assert_eq!(strengths(&[2]), (vec![blue], (0, 1)));
        assert_eq!(strengths(&[]), (Vec::new(), (0, 1)));
    }

    #[test]
    fn instances_that_drain_or_have_no_weight_do_not_keep_a_lane_alive() {
        let groups = [group(&[("canary", LaneState::Active)])];
        let draining = Endpoint { draining: true, ..endpoint(1, &["canary"]) };
        let weightless = Endpoint { weight: 0, ..endpoint(2, &["canary"]) };
        assert_eq!(living(&service(vec![draining, weightless]), &groups, Usable::All), []);
    }

    #[test]
    fn lane_of_a_group_that_the_service_is_no_member_of_does_not_live_there() {
        let mut group = group(&[("canary", LaneState::Active)]);
        group.members = Members::Named(["other.demo".to_owned()].into());
        assert_eq!(living(&service(vec![endpoint(1, &["canary"])]), &[group], Usable::All), []);
    }
}
