//! Any history of an instance, and of the instances of one level, against what a simple model says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    endpoint::{Endpoint, ProtocolHint, WEIGHT_ONE},
    service::{Service, ServiceKey},
};

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![2 => Just(Success), 1 => Just(ServerError), 4 => Just(GatewayFailure), 4 => Just(LocalOriginFailure)]
}

/// Everything that an instance went through, kept whole: what it is now is worked out from the beginning each time.
#[derive(Default)]
struct Model {
    /// What calls showed since it came into traffic last.
    calls: Vec<Seen>,
    /// Ejections that count, and until when the last one lasts.
    times: u32,
    out_until: Option<Duration>,
    in_since: Option<Duration>,
}

impl Model {
    fn cause(&self, policy: &OutlierDetection) -> Option<Cause> {
        let limit = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
        let answered = |seen: &&Seen| matches!(seen, Success | ServerError);
        // Rows of calls without an answer end with any answer; rows of gateway failures with any other answer.
        let alone = self.calls.iter().rev().take_while(|seen| **seen == LocalOriginFailure).count();
        let row = self.calls.iter().rev().take_while(|seen| !answered(seen));
        let gateway = row.filter(|seen| **seen == GatewayFailure).count();
        match self.calls.last()? {
            GatewayFailure => (gateway >= limit(policy.consecutive_gateway_failures)).then_some(Cause::GatewayFailures),
            LocalOriginFailure => {
                (alone >= limit(policy.consecutive_local_origin_failures)).then_some(Cause::LocalOriginFailures)
            }
            Success | ServerError => None,
        }
    }

    fn eject(&mut self, now: Duration, policy: &OutlierDetection) -> Duration {
        if let Some(since) = self.in_since.take() {
            let forgiven = (now - since).as_millis() / policy.max_ejection_time.as_millis();
            self.times = self.times.saturating_sub(forgiven as u32);
        }
        self.times += 1;
        let length = (policy.base_ejection_time * self.times).min(policy.max_ejection_time);
        self.out_until = Some(now + length);
        self.calls.clear();
        length
    }
}

proptest! {
    #[test]
    fn any_history_is_that_of_the_model(
        history in prop::collection::vec((0..40_000_u64, seen()), 1..300),
        gateway in 0..7_u32,
        local in 0..7_u32,
        base in 1..60_u32,
        times in 1..12_u32,
    ) {
        let policy = OutlierDetection {
            consecutive_gateway_failures: gateway,
            consecutive_local_origin_failures: local,
            base_ejection_time: SECOND * base,
            max_ejection_time: SECOND * base * times,
            ..OutlierDetection::default()
        };
        let (mut instance, mut model, mut now) = (Instance::default(), Model::default(), Duration::ZERO);
        for (passed, seen) in history {
            now += Duration::from_millis(passed);
            let usability = instance.usability(now);
            let expected = match model.out_until {
                Some(until) if now < until => Usability::Ejected,
                Some(_) => Usability::HalfOpen,
                None => Usability::Usable,
            };
            prop_assert_eq!(usability, expected);
            let granted = || Permission::Granted;
            match usability {
                Usability::HalfOpen => {
                    instance.begin_trial(now);
                    prop_assert_eq!(instance.usability(now), Usability::OnTrial);
                    let change = instance.observe(seen, Exchange::Trial, (now, 0), &policy, granted);
                    if matches!(seen, Success | ServerError) {
                        prop_assert_eq!(change, Change::Returned);
                        (model.out_until, model.in_since) = (None, Some(now));
                    } else {
                        prop_assert_eq!(change, Change::Ejected(Cause::TrialFailed, model.eject(now, &policy)));
                    }
                }
                Usability::Usable => {
                    model.calls.push(seen);
                    let change = instance.observe(seen, Exchange::Ordinary, (now, 0), &policy, granted);
                    match model.cause(&policy) {
                        Some(cause) => {
                            prop_assert_eq!(change, Change::Ejected(cause, model.eject(now, &policy)));
                        }
                        None => prop_assert_eq!(change, Change::None),
                    }
                }
                // A call that began before: shows nothing.
                Usability::Ejected => {
                    let change = instance.observe(seen, Exchange::Ordinary, (now, 0), &policy, granted);
                    prop_assert_eq!(change, Change::None);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn a_level_never_loses_more_than_its_cap_and_always_keeps_one(
        count in 1..12_usize,
        percent in 0..=100_u32,
        history in prop::collection::vec((any::<prop::sample::Index>(), 0..3_000_u64, seen(), any::<bool>()), 1..400),
    ) {
        let endpoints = (0..count).map(|number| endpoint(number).into()).collect();
        let service = Service::new(ServiceKey("b.demo.svc.x:1".into()), true, endpoints);
        let policy = OutlierDetection { max_ejection_percent: percent, ..OutlierDetection::default() };
        let (mut instances, mut now) = (vec![Instance::default(); count], Duration::ZERO);
        for (index, passed, seen, rests) in history {
            now += Duration::from_millis(passed);
            let position = index.index(count);
            let usable = |other: usize| instances[other].usability(now).is_in_traffic();
            let before = (0..count).filter(|other| !usable(*other)).count();
            let granted = permission(&service, &[], position, &usable, &policy);
            let instance = &mut instances[position];
            let ask = || granted;
            let change = match (instance.usability(now), rests) {
                (Usability::HalfOpen, _) => {
                    instance.begin_trial(now);
                    instance.observe(seen, Exchange::Trial, (now, 0), &policy, ask)
                }
                (_, true) => instance.asks_for_rest(now, SECOND * 7, ask),
                (_, false) => instance.observe(seen, Exchange::Ordinary, (now, 0), &policy, ask),
            };
            let out = instances.iter().filter(|instance| !instance.usability(now).is_in_traffic()).count();
            let most = if percent == 0 { 0 } else { (count * percent as usize / 100).max(1).min(count - 1) };
            prop_assert!(out <= most, "{out} of {count} at {percent} %");
            prop_assert!(out <= before || matches!(change, Change::Ejected(..) | Change::Resting(_)));
        }
    }
}

fn endpoint(number: usize) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, 1], 1_000 + number as u16).into(),
        weight: WEIGHT_ONE,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: ProtocolHint::Unknown,
        lanes: Vec::new(),
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: BTreeMap::new(),
    }
}
