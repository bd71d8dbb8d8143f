//! How an instance stands now, in a word: what its source, its sidecar and its callers say of it together.

use super::{Seen, State};
use crate::{
    model::{endpoint::Endpoint, policy::WarmUp},
    warm_up,
};

/// How an instance stands, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It takes calls as any other.
    Usable,
    /// It has part of its weight.
    Warming,
    /// It is used although calls to it fail.
    Kept,
    /// It asked to be left alone for a while.
    Resting,
    /// Somebody tries it by one exchange.
    OnTrial,
    /// Somebody ejected it.
    Ejected,
    /// Probes of it fail.
    FailingHealth,
    /// Its registry says so.
    Unhealthy,
    /// It takes no new exchanges.
    Draining,
    /// It has weight 0.
    OutOfTraffic,
}

impl Condition {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Condition::Usable => "usable",
            Condition::Warming => "warming",
            Condition::Kept => "kept",
            Condition::Resting => "resting",
            Condition::OnTrial => "on_trial",
            Condition::Ejected => "ejected",
            Condition::FailingHealth => "failing_health",
            Condition::Unhealthy => "unhealthy",
            Condition::Draining => "draining",
            Condition::OutOfTraffic => "out_of_traffic",
        }
    }
}

/// What is known of an instance. Times are Unix seconds.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// As callers get it.
    pub endpoint: &'a Endpoint,
    /// How far the life of its sidecar is, and since when.
    pub sidecar: Option<(State, u64)>,
    /// How callers have it that do not use it as any other, and since when.
    pub seen: &'a [(Seen, Option<u64>)],
    /// How new instances of the service take their share.
    pub warm_up: Option<WarmUp>,
    /// Now, Unix milliseconds.
    pub now: u64,
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// In a word; the worst that anybody says.
    pub condition: Condition,
    /// Its weight now, of 10,000 as 1.0, at the caller that gives it least.
    pub weight: u32,
    /// Why, for people.
    pub reason: &'static str,
    /// Since when, Unix seconds, where that is known.
    pub since: Option<u64>,
}

/// How an instance stands.
pub fn instance(facts: &Facts<'_>) -> Instance {
    let Facts { endpoint, sidecar, seen, warm_up, now } = facts;
    let leaving = sidecar.filter(|(state, _)| state.is_leaving());
    let (condition, reason, since) = match seen.iter().max() {
        _ if endpoint.weight == 0 => (Condition::OutOfTraffic, "its source gives it no weight", None),
        _ if endpoint.draining && leaving.is_some() => {
            (Condition::Draining, "its sidecar drains", leaving.map(|(_, since)| since))
        }
        _ if endpoint.draining => (Condition::Draining, "its sidecar drained, or its source says so", None),
        _ if !endpoint.healthy => (Condition::Unhealthy, "its registry says so", None),
        None => (Condition::Usable, "nobody has anything against it", endpoint.ready_since),
        Some((Seen::FailingHealth, since)) => (Condition::FailingHealth, "probes of it fail", *since),
        Some((Seen::Ejected, since)) => (Condition::Ejected, "calls to it failed", *since),
        Some((Seen::Draining, since)) => (Condition::Draining, "its sidecar told callers so", *since),
        Some((Seen::Kept, since)) => (Condition::Kept, "calls to it fail, and its level needs it", *since),
        Some((Seen::Resting, since)) => (Condition::Resting, "it asked to be left alone for a while", *since),
        Some((Seen::Trying, since)) => (Condition::OnTrial, "one exchange shows whether it is back", *since),
        Some((Seen::Warming, since)) => (Condition::Warming, "it is new", *since),
    };
    let weight = match condition {
        Condition::Usable | Condition::Kept => endpoint.weight,
        Condition::Warming => {
            let start = since.unwrap_or_default().saturating_mul(1_000);
            let share = warm_up.as_ref().map(|policy| warm_up::share(policy, now.saturating_sub(start)));
            share.map_or(endpoint.weight, |share| warm_up::weighed(endpoint.weight, share))
        }
        Condition::Resting
        | Condition::OnTrial
        | Condition::Ejected
        | Condition::FailingHealth
        | Condition::Unhealthy
        | Condition::Draining
        | Condition::OutOfTraffic => 0,
    };
    Instance { condition, weight, reason, since }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::endpoint::{ProtocolHint, WEIGHT_ONE};

    const NOW: u64 = 1_800_000_060;

    fn endpoint() -> Endpoint {
        Endpoint {
            address: ([10, 0, 0, 1], 80).into(),
            weight: WEIGHT_ONE,
            identity: None,
            server_name: None,
            inbound_port: None,
            hint: ProtocolHint::Unknown,
            lanes: Vec::new(),
            zone: None,
            ready_since: Some(NOW - 1_000),
            draining: false,
            healthy: true,
            labels: BTreeMap::new(),
        }
    }

    fn found(endpoint: &Endpoint, sidecar: Option<(State, u64)>, seen: &[(Seen, Option<u64>)]) -> (Condition, u32) {
        let warm_up = Some(WarmUp::default());
        let found = instance(&Facts { endpoint, sidecar, seen, warm_up, now: NOW * 1_000 });
        (found.condition, found.weight)
    }

    #[test]
    fn the_worst_that_anybody_says_counts_and_its_source_before_callers() {
        let since = Some(NOW - 60);
        let (fine, ready) = (endpoint(), Some((State::Ready, NOW - 1_000)));
        // Half of the two minutes: a quarter of the weight.
        for (seen, expected) in [
            (vec![], (Condition::Usable, WEIGHT_ONE)),
            (vec![(Seen::Warming, since)], (Condition::Warming, WEIGHT_ONE / 4)),
            (vec![(Seen::Warming, since), (Seen::Ejected, since)], (Condition::Ejected, 0)),
            (vec![(Seen::FailingHealth, since), (Seen::Ejected, since)], (Condition::FailingHealth, 0)),
        ] {
            assert_eq!(found(&fine, ready, &seen), expected, "{seen:?}");
        }
        let draining = Endpoint { draining: true, ..endpoint() };
        assert_eq!(found(&draining, Some((State::Drained, NOW)), &[]), (Condition::Draining, 0));
        assert_eq!(found(&draining, None, &[(Seen::Ejected, since)]), (Condition::Draining, 0));
        let weightless = Endpoint { weight: 0, ..draining };
        assert_eq!(found(&weightless, ready, &[]), (Condition::OutOfTraffic, 0));
        let unhealthy = Endpoint { healthy: false, ..endpoint() };
        assert_eq!(found(&unhealthy, ready, &[]), (Condition::Unhealthy, 0));
    }
}
